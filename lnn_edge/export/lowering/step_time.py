"""The timespan of a step inside the graph: a number that folds away, or `dt` scaled to the unit of training."""

from __future__ import annotations

import copy

import torch

from ...bundle.spec import DT_INPUT, Time
from ..graph.builder import GraphBuilder, Value

__all__ = ["StepTime"]


class StepTime:
    """What the lowerings ask for the timespan.

    Attributes:
        fixed: The timespan when it is folded, else `None`.
        scale: Timespan per second of `dt`, with measured time.
        batch: Rows per step.
    """

    def __init__(self, graph: GraphBuilder, time: Time, batch: int, unroll: int = 1) -> None:
        self._graph = graph
        self.batch = batch
        self._unroll, self._place = unroll, 0
        self._scaled: dict[float, list[str]] = {}  # by factor, one value per sample of a block
        self._whole, self.scale = DT_INPUT, 1.0
        self.fixed: float | None = time.timespan
        if time.mode == "measured" and time.period_s is not None:
            self.fixed = None
            self.scale = time.timespan / time.period_s
            graph.input(DT_INPUT, (batch, unroll))

    def at(self, place: int) -> StepTime:
        """For one of the samples of a block."""
        other = copy.copy(self)
        other._place = place
        return other

    @property
    def source(self) -> str:
        """The measured value that is scaled, (batch, 1): `dt`, or timespans that the network computes."""
        return self._piece(1.0)

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
            other.fixed = None  # whatever the time between samples is
            other._whole, other.scale, other._scaled = timespans.name, 1.0, {}
            other._unroll, other._place = 1, 0
        return other

    @property
    def unit(self) -> tuple[str, float]:
        """A measured value (batch, 1) to multiply with, and the factor that is still missing.

        In half precision nothing is: seconds may be too small a number for it, the timespan never is.
        """
        return (self.times(1.0), 1.0) if self._graph.half else (self.source, self.scale)

    def times(self, factor: float) -> str:
        """The measured timespan times a constant, as a value of shape (batch, 1); made once per factor."""
        return self._piece(self.scale * factor)

    def _piece(self, factor: float) -> str:
        """One sample's; the whole block is scaled before it is taken apart, once."""
        if factor not in self._scaled:
            whole = self._whole
            if factor != 1.0:
                whole = self._graph.node("Mul", whole, self._graph.constant(factor))
            self._scaled[factor] = self._graph.split(whole, [1] * self._unroll)
        return self._scaled[factor][self._place]
