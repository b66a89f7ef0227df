"""The LTC step as a graph (equations: `lnn_edge.reference.ltc`).

Per neuron, the solver's fraction is divided by dt/Cm where that is known, so that a fixed step needs no product with
the state:

    v' = (Cm/dt v + N) / (Cm/dt + D)  =  (r v + N) / (r + D)

N are the currents and D the conductances: leak, synapses and epsilon. With fixed time both are scaled so that r = 1;
with measured time they are scaled by 1/Cm and r = 1/dt. A neuron whose capacitance is too small to divide by keeps its
scale, and r holds Cm/dt for it. What the inputs contribute is computed once per sample and shared by all unfolds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..reference import LtcCell
from .graph import GraphBuilder
from .steptime import StepTime

__all__ = ["lower_ltc"]

Array = npt.NDArray[Any]
_SMALLEST_CM = 1e-4  # below it, weights divided by Cm leave the range in which float32 sums stay accurate


def lower_ltc(graph: GraphBuilder, cell: LtcCell, x: str, state: str, time: StepTime) -> tuple[str, str]:
    """Add one step of the cell.

    Args:
        graph: Where to.
        cell: The cell.
        x: Input value, (batch, inputs).
        state: State value, (batch, units).
        time: The timespan.

    Returns:
        Values of output (batch, motor) and next state (batch, units).
    """
    solver = _Solver(graph, cell, x, time)
    v = state
    for _ in range(cell.unfolds):
        v = solver.unfold(v)
    return _motor_output(graph, cell, v), v


@dataclass(frozen=True)
class _Synapses:
    """The synapses that exist, as a list: source and target neuron and folded parameters, (synapses,) each."""

    source: Array
    target: Array
    slope: Array  # sigma
    offset: Array  # -sigma mu
    conductance: Array  # w
    current: Array  # w E
    shape: tuple[int, int]  # sources and targets that could be connected

    @classmethod
    def listed(cls, w: Array, mu: Array, sigma: Array, erev: Array) -> _Synapses:
        """List those whose weight, mask included, is not zero: the others contribute exactly nothing."""
        source, target = pick = np.nonzero(w)
        rows, columns = w.shape
        return cls(source, target, sigma[pick], (-sigma * mu)[pick], w[pick], (w * erev)[pick], (rows, columns))

    def scaled(self, scale: Array) -> _Synapses:
        """With weights scaled per target neuron."""
        factor = scale[self.target]
        return replace(self, conductance=self.conductance * factor, current=self.current * factor)

    def mapped(self, scale: Array | None, shift: Array | None) -> _Synapses:
        """With an affine map of the sources folded into slope and offset."""
        offset = self.offset if shift is None else self.offset + self.slope * shift[self.source]
        return replace(self, slope=self.slope if scale is None else self.slope * scale[self.source], offset=offset)

    def sums(self, graph: GraphBuilder, pre: str, current: Array | str, conductance: Array | str) -> tuple[str, str]:
        """Add currents and conductances of all synapses, (batch, targets) each, to the two given."""
        if len(self.source) == 0:
            rows = (
                value if isinstance(value, str) else graph.constant(value[None]) for value in (current, conductance)
            )
            return next(rows), next(rows)
        form = self._as_grid if self._dense else self._as_list
        return form(graph, pre, current, conductance)

    @property
    def _dense(self) -> bool:
        """Whether most synapses exist, and are so many that the list's matrices cost more than the whole grid.

        Measured with onnxruntime 1.32 (x86-64, one thread): the list wins up to about 900 synapses among 32 neurons,
        the grid takes a quarter of the list's time for 4096 synapses among 64.
        """
        sources, targets = self.shape
        return 2 * len(self.source) > sources * targets and len(self.source) * (sources + 2 * targets) > 90_000

    def _as_list(self, graph: GraphBuilder, pre: str, current: Any, conductance: Any) -> tuple[str, str]:
        """One matrix takes each synapse its source, two more sum them per target: three products, no gather."""
        count, (sources, targets) = len(self.source), self.shape
        each = np.arange(count)
        spread, currents, conductances = np.zeros((sources, count)), *np.zeros((2, count, targets))
        spread[self.source, each] = self.slope
        currents[each, self.target] = self.current
        conductances[each, self.target] = self.conductance
        active = graph.node("Sigmoid", graph.linear(pre, spread, self.offset))
        return graph.linear(active, currents, current), graph.linear(active, conductances, conductance)

    def _as_grid(self, graph: GraphBuilder, pre: str, current: Any, conductance: Any) -> tuple[str, str]:
        """Every source against every target, (batch, targets, sources), summed over the last axis."""
        row = graph.node("Unsqueeze", pre, graph.integers([1]))
        scaled = graph.node("Mul", row, self._grid(graph, self.slope))
        active = graph.node("Sigmoid", graph.node("Add", scaled, self._grid(graph, self.offset)))

        def total(weight: Array, addend: Array | str) -> str:
            weighted = graph.node("Mul", active, self._grid(graph, weight))
            summed = graph.node("ReduceSum", weighted, graph.integers([2]), keepdims=0)
            return graph.node("Add", summed, addend if isinstance(addend, str) else graph.constant(addend[None]))

        return total(self.current, current), total(self.conductance, conductance)

    def _grid(self, graph: GraphBuilder, values: Array) -> str:
        grid = np.zeros(self.shape[::-1])
        grid[self.target, self.source] = values
        return graph.constant(grid)


class _Solver:
    """Holds what all unfolds share: r, what is constant in N and in r + D, and the recurrent synapses."""

    def __init__(self, graph: GraphBuilder, cell: LtcCell, x: str, time: StepTime) -> None:
        self._g = graph
        cm, gleak = cell.positive(cell.cm), cell.positive(cell.gleak)
        tiny = np.abs(cm) < _SMALLEST_CM
        step = 1.0 if time.fixed is None else time.fixed / cell.unfolds
        scale = np.where(tiny, 1.0, step / np.where(tiny, 1.0, cm))
        carry = np.where(tiny, cm / step, 1.0)
        current = gleak * cell.vleak * scale
        conductance = (gleak + cell.epsilon) * scale
        if time.fixed is not None:
            conductance = conductance + carry
        sensory = _Synapses.listed(
            cell.positive(cell.sensory_w) * cell.sensory_mask, cell.sensory_mu, cell.sensory_sigma, cell.sensory_erev
        ).mapped(cell.input_w, cell.input_b)
        self._current, self._conductance = sensory.scaled(scale).sums(graph, x, current, conductance)
        self._r = "" if np.all(carry == 1.0) else graph.constant(carry[None])
        if time.fixed is None:
            self._r = graph.node("Div", graph.constant(carry[None]), time.times(1.0 / cell.unfolds))
            self._conductance = graph.node("Add", self._conductance, self._r)
        self._recurrent = _Synapses.listed(cell.positive(cell.w) * cell.mask, cell.mu, cell.sigma, cell.erev).scaled(
            scale
        )

    def unfold(self, v: str) -> str:
        """One solver step: v' = (r v + N) / (r + D)."""
        current, conductance = self._recurrent.sums(self._g, v, self._current, self._conductance)
        kept = self._g.node("Mul", v, self._r) if self._r else v
        return self._g.node("Div", self._g.node("Add", kept, current), conductance)


def _motor_output(graph: GraphBuilder, cell: LtcCell, v: str) -> str:
    """The motor neurons, mapped. Choosing and mapping are one small matrix product."""
    if cell.output_w is None and cell.motor == cell.units:
        return v
    weight = np.eye(cell.units, cell.motor) * (1.0 if cell.output_w is None else cell.output_w)
    return graph.linear(v, weight, cell.output_b)
