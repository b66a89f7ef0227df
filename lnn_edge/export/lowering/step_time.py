"""The timespan of a step inside the graph: a number that folds away, or `dt` scaled to the unit of training."""

from __future__ import annotations

from ...bundle.program import Elapsed
from ...bundle.spec import DT_INPUT
from ..graph.builder import GraphBuilder

__all__ = ["StepTime", "step_times"]


class _Measured:
    """A measured value per sample of a call, (batch, samples), and its products with constants, each made once."""

    def __init__(self, graph: GraphBuilder, value: str, samples: int) -> None:
        self._graph, self._value, self._samples = graph, value, samples
        self._products: dict[float, list[str]] = {}  # by factor, one value per sample

    def times(self, factor: float, place: int) -> str:
        """One sample's, (batch, 1); the whole call is scaled before it is taken apart, once."""
        if factor not in self._products:
            whole = self._value
            if factor != 1.0:
                whole = self._graph.node("Mul", whole, self._graph.constant(factor))
            self._products[factor] = self._graph.split(whole, [1] * self._samples)
        return self._products[factor][place]


class StepTime:
    """What the lowerings ask for the timespan of one sample.

    Attributes:
        batch: Rows per step.
        fixed: The timespan when it is folded, else `None`.
        scale: Timespan per unit of the measured value: per second of `dt`, or 1 if the network computes timespans.
    """

    def __init__(
        self,
        graph: GraphBuilder,
        batch: int,
        fixed: float | None,
        scale: float = 1.0,
        measured: _Measured | None = None,
        place: int = 0,
    ) -> None:
        self._graph, self._measured, self._place = graph, measured, place
        self.batch, self.fixed, self.scale = batch, fixed, scale

    def computed(self, value: str) -> StepTime:
        """A timespan that the network computes, (batch, 1), whatever the time between samples is."""
        return StepTime(self._graph, self.batch, None, 1.0, _Measured(self._graph, value, 1))

    def constant(self, timespan: float) -> StepTime:
        """A timespan that never changes, whatever the time between samples is."""
        return StepTime(self._graph, self.batch, timespan)

    @property
    def unit(self) -> tuple[str, float]:
        """A measured value (batch, 1) to multiply with, and the factor that is still missing.

        In half precision nothing is: seconds may be too small a number for it, the timespan never is.
        """
        return (self.times(1.0), 1.0) if self._graph.half else (self._piece(1.0), self.scale)

    def times(self, factor: float) -> str:
        """The measured timespan times a constant, as a value of shape (batch, 1); made once per factor."""
        return self._piece(self.scale * factor)

    def _piece(self, factor: float) -> str:
        if self._measured is None:
            raise ValueError("a timespan that is folded has no value in the graph")
        return self._measured.times(factor, self._place)


def step_times(graph: GraphBuilder, elapsed: Elapsed, batch: int, unroll: int) -> list[StepTime]:
    """The timespan of each sample of a call; with measured time `dt` becomes an input, (batch, unroll)."""
    if elapsed.timespan_per_s is None:
        return [StepTime(graph, batch, elapsed.value)] * unroll
    measured = _Measured(graph, graph.input(DT_INPUT, (batch, unroll)), unroll)
    return [StepTime(graph, batch, None, elapsed.timespan_per_s, measured, place) for place in range(unroll)]
