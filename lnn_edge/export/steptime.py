"""The timespan of a step inside the graph: a number that folds away, or `dt` scaled to the unit of training."""

from __future__ import annotations

import copy

import torch

from ..manifest import DT_INPUT, Time
from .graph import GraphBuilder, Value

__all__ = ["StepTime"]


class StepTime:
    """What the lowerings ask for the timespan.

    Attributes:
        fixed: The timespan when it is folded, else `None`.
        scale: Timespan per second of `dt`, with measured time.
        source: The graph value that is scaled: `dt`, or timespans that the network computes.
        batch: Rows per step.
    """

    def __init__(self, graph: GraphBuilder, time: Time, batch: int) -> None:
        self._graph = graph
        self.batch = batch
        self._scaled: dict[float, str] = {}
        self.source, self.scale = DT_INPUT, 1.0
        self.fixed: float | None = time.timespan
        if time.mode == "measured" and time.period_s is not None:
            self.fixed = None
            self.scale = time.timespan / time.period_s
            graph.input(DT_INPUT, (batch, 1))

    def for_core(self, timespans: Value | torch.Tensor | None) -> StepTime:
        """For a core whose timespans come out of the network's own forward: a value (batch, 1), or a constant.

        Raises:
            TypeError: If it is a constant that differs between rows.
        """
        if timespans is None:
            return self
        other = copy.copy(self)
        if isinstance(timespans, torch.Tensor):
            other.fixed = float(timespans.flatten()[0])
            if not bool((timespans == other.fixed).all()):
                raise TypeError(f"the forward gives a core other timespans in each row, {timespans.flatten().tolist()}")
        else:
            other.source, other.scale, other._scaled = timespans.name, 1.0, {}
        return other

    def times(self, factor: float) -> str:
        """The measured timespan times a constant, as a value of shape (batch, 1); made once per factor."""
        total = self.scale * factor
        if total == 1.0:
            return self.source
        if total not in self._scaled:
            self._scaled[total] = self._graph.node("Mul", self.source, self._graph.constant(total))
        return self._scaled[total]
