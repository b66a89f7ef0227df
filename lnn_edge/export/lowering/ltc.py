"""The LTC step as a graph (equations: `lnn_edge.reference.ltc`).

Per neuron, the solver's fraction is divided by dt/Cm where that is known, so that a fixed step needs no product with
the state:

    v' = (Cm/dt v + N) / (Cm/dt + D)  =  (r v + N) / (r + D)

N are the currents and D the conductances: leak, synapses and epsilon. With fixed time both are scaled so that r = 1;
with measured time they are scaled by 1/Cm and r = 1/dt. A neuron whose capacitance is too small to divide by keeps its
scale, and r holds Cm/dt for it. What the inputs contribute is computed once per sample and shared by all unfolds.

In an NCP the inter neurons have no synapses from other neurons, so they need nobody's state but their own. In a large
wiring they go through all unfolds first; what they give to the others is then one computation over all unfolds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...arrays import Array
from ...reference import LtcCell
from ..graph.builder import GraphBuilder
from .step_time import StepTime

__all__ = ["lower_ltc"]

_Value = Array | str  # a constant, one per neuron, or the name of a computed value, (rows, neurons)

_SMALLEST_CM = 1e-4  # below it, weights divided by Cm leave the range in which float32 sums stay accurate

# What the two forms of `_Synapses.sums` cost in nanoseconds: a least-squares fit to 20 wirings of 14 to 140 neurons and
# 1 or 6 rows, which it meets within 20 % (onnxruntime 1.32, x86-64 with AVX2, one thread). Only ratios matter.
_LIST_NS, _LIST_WEIGHT_NS, _LIST_WEIGHT_ROW_NS = 3800.0, 0.09, 0.02
_FANS_NS, _FANS_GATHERED_NS, _FANS_WHOLE_NS = 10700.0, 3.9, 2.9
# What it costs in small nodes to run some neurons ahead: two per unfold, Concat and Split. AutoNCP gains from about 50
# units on: with 36 it would lose 17 %, with 44 nothing changes, with 52 it gains 22 %.
_AHEAD_NS = 20000.0


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
    v = _Solver(graph, cell, x, time).solve(state)
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

    def between(self, sources: range, targets: range) -> _Synapses:
        """Those from one run of neurons to another, each counted from the start of its run."""
        pick = np.isin(self.source, sources) & np.isin(self.target, targets)
        return _Synapses(
            self.source[pick] - sources.start,
            self.target[pick] - targets.start,
            self.slope[pick],
            self.offset[pick],
            self.conductance[pick],
            self.current[pick],
            (len(sources), len(targets)),
        )

    def scaled(self, scale: Array) -> _Synapses:
        """With weights scaled per target neuron."""
        factor = scale[self.target]
        return replace(self, conductance=self.conductance * factor, current=self.current * factor)

    def mapped(self, scale: Array | None, shift: Array | None) -> _Synapses:
        """With an affine map of the sources folded into slope and offset."""
        offset = self.offset if shift is None else self.offset + self.slope * shift[self.source]
        return replace(self, slope=self.slope if scale is None else self.slope * scale[self.source], offset=offset)

    def sums(
        self, graph: GraphBuilder, pre: str, rows: int, current: _Value, conductance: _Value
    ) -> tuple[_Value, _Value]:
        """Add currents and conductances of all synapses, (rows, targets) each, to the two given.

        Few synapses go as a list through three matrices, where nodes are few; many as fans, where work is little.
        """
        if len(self.source) == 0:
            return current, conductance
        if graph.half:
            return self._in_half(graph, pre, current, conductance)
        if self._fans_ns(rows) < self._list_ns(rows):
            return self._as_fans(graph, pre, rows, current, conductance)
        return self._as_list(graph, pre, current, conductance)

    def cost_ns(self, rows: int) -> float:
        """What `sums` costs, roughly."""
        return min(self._list_ns(rows), self._fans_ns(rows)) if len(self.source) else 0.0

    def _list_ns(self, rows: int) -> float:
        weights = len(self.source) * (self.shape[0] + 2 * self.shape[1])
        return _LIST_NS + weights * (_LIST_WEIGHT_NS + _LIST_WEIGHT_ROW_NS * rows)

    def _as_list(self, graph: GraphBuilder, pre: str, current: _Value, conductance: _Value) -> tuple[str, str]:
        """One matrix takes each synapse its source, two more sum them per target: three products, no gather."""
        spread, currents, conductances = self._matrices()
        active = graph.node("Sigmoid", graph.linear(pre, spread, self.offset))
        return graph.linear(active, currents, current), graph.linear(active, conductances, conductance)

    def _in_half(self, graph: GraphBuilder, pre: str, current: _Value, conductance: _Value) -> tuple[str, str]:
        """The list again: products in half, with weights brought near 1 per target, and sums in float32."""
        spread, *weights = self._matrices()
        active = graph.node("Sigmoid", graph.linear(pre, spread, self.offset))
        totals = []
        for weight, addend in zip(weights, (current, conductance), strict=True):
            largest = np.abs(weight).max(axis=0)
            scale = np.exp2(np.ceil(np.log2(np.where(largest > 0, largest, 1.0))))
            product = graph.linear(active, weight / scale)
            with graph.exact():
                scaled = graph.node("Mul", product, graph.row(scale))
                totals.append(graph.node("Add", scaled, graph.row(addend)))
        return totals[0], totals[1]

    def _matrices(self) -> tuple[Array, Array, Array]:
        """Sources to synapses with their slopes, and synapses to targets with their currents and conductances."""
        count, (sources, targets) = len(self.source), self.shape
        each = np.arange(count)
        spread, currents, conductances = np.zeros((sources, count)), *np.zeros((2, count, targets))
        spread[self.source, each] = self.slope
        currents[each, self.target] = self.current
        conductances[each, self.target] = self.conductance
        return spread, currents, conductances

    def _fans_ns(self, rows: int) -> float:
        width = self._fan_width
        synapse_ns = _FANS_WHOLE_NS if width == self.shape[0] else _FANS_GATHERED_NS
        return _FANS_NS + rows * self.shape[1] * width * synapse_ns

    @property
    def _fan_width(self) -> int:
        """Synapses of the target that has most; all sources, with nothing to gather, if those are nearly all."""
        sources, most = self.shape[0], int(np.bincount(self.target).max(initial=0))
        return sources if _FANS_WHOLE_NS * sources <= _FANS_GATHERED_NS * most else most

    def _as_fans(
        self, graph: GraphBuilder, pre: str, rows: int, current: _Value, conductance: _Value
    ) -> tuple[str, str]:
        """Each target with its fan of synapses, (rows, targets, width), summed over the last axis.

        Shorter fans are filled up with weight 0. GatherElements and not Gather: per element it takes a fifth.
        """
        (sources, targets), width = self.shape, self._fan_width
        order = np.argsort(self.target, kind="stable")
        target = self.target[order]
        slot = self.source[order] if width == sources else np.arange(len(order)) - np.searchsorted(target, target)

        def fans(values: Array) -> Array:
            grid = np.zeros((targets, width), values.dtype)
            grid[target, slot] = values[order]
            return grid

        def total(weight: Array, addend: _Value) -> str:
            weighted = graph.node("Mul", active, graph.constant(fans(weight)))
            summed = graph.node("ReduceSum", weighted, graph.integers([2]), keepdims=0)
            return graph.node("Add", summed, graph.row(addend))

        if width == sources:
            spread = graph.node("Unsqueeze", pre, graph.integers([1]))
        else:
            index = graph.integers(np.tile(fans(self.source).ravel(), (rows, 1)))
            gathered = graph.node("GatherElements", pre, index, axis=1)
            spread = graph.node("Reshape", gathered, graph.integers([rows, targets, width]))
        scaled = graph.node("Mul", spread, graph.constant(fans(self.slope)))
        active = graph.node("Sigmoid", graph.node("Add", scaled, graph.constant(fans(self.offset))))
        return total(self.current, current), total(self.conductance, conductance)


class _Solver:
    """Holds what all unfolds share: r, what is constant in N and in r + D, and the synapses."""

    def __init__(self, graph: GraphBuilder, cell: LtcCell, x: str, time: StepTime) -> None:
        self._g, self._x, self._time = graph, x, time
        self._units, self._unfolds = cell.units, cell.unfolds
        cm, gleak = cell.positive(cell.cm), cell.positive(cell.gleak)
        tiny = np.abs(cm) < _SMALLEST_CM
        step = 1.0 if time.fixed is None else time.fixed / cell.unfolds
        scale = np.where(tiny, 1.0, step / np.where(tiny, 1.0, cm))
        self._carry = np.where(tiny, cm / step, 1.0)
        self._current = gleak * cell.vleak * scale
        self._conductance = (gleak + cell.epsilon) * scale
        if time.fixed is not None:
            self._conductance = self._conductance + self._carry
        sensory = _Synapses.listed(
            cell.positive(cell.sensory_w) * cell.sensory_mask, cell.sensory_mu, cell.sensory_sigma, cell.sensory_erev
        )
        self._sensory = sensory.mapped(cell.input_w, cell.input_b).scaled(scale)
        recurrent = _Synapses.listed(cell.positive(cell.w) * cell.mask, cell.mu, cell.sigma, cell.erev)
        self._recurrent = recurrent.scaled(scale)

    def solve(self, v: str) -> str:
        """The state after all unfolds."""
        others, ahead = self._runs()
        if not ahead:
            return self._path(others, v, [])[-1]
        v, driving = self._g.split(v, [len(others), len(ahead)])
        path = self._path(ahead, driving, [])
        return self._g.concat([self._path(others, v, path[:-1])[-1], path[-1]])

    def _runs(self) -> tuple[range, range]:
        """All others, and the last neurons if they have no incoming synapses and gain from running ahead."""
        every = range(self._units)
        first = int(self._recurrent.target.max(initial=-1)) + 1
        others, ahead = every[:first], every[first:]
        batch, unfolds = self._time.batch, self._unfolds
        together = unfolds * self._recurrent.cost_ns(batch)
        apart = unfolds * self._recurrent.between(others, others).cost_ns(batch)
        apart += self._recurrent.between(ahead, others).cost_ns(unfolds * batch) + _AHEAD_NS
        return (others, ahead) if apart < together else (every, every[:0])

    def _path(self, neurons: range, v: str, ahead: Sequence[str]) -> list[str]:
        """The states of a run of neurons before and after each unfold; `ahead` are those of the neurons that follow."""
        r, *shared = self._shared(neurons)
        own = self._recurrent.between(neurons, neurons)
        path = [v]
        for addends in self._addends(neurons, ahead, *shared):
            current, conductance = own.sums(self._g, v, self._time.batch, *addends)
            with self._g.exact():  # a slow neuron moves by less than half can tell apart
                kept = self._g.node("Mul", v, r) if r else v
                v = self._g.node("Div", self._g.node("Add", kept, self._g.row(current)), self._g.row(conductance))
            path.append(v)
        return path

    def _shared(self, neurons: range) -> tuple[str, _Value, _Value]:
        """What is the same in all unfolds: r ("" for 1), N and r + D without the recurrent synapses."""
        run = slice(neurons.start, neurons.stop)
        carry, current, conductance = self._carry[run], self._current[run], self._conductance[run]
        sensory = self._sensory.between(range(self._sensory.shape[0]), neurons)
        n, d = sensory.sums(self._g, self._x, self._time.batch, current, conductance)
        if self._time.fixed is not None:
            return "" if np.all(carry == 1.0) else self._g.row(carry), n, d
        with self._g.exact():
            r = self._g.node("Div", self._g.row(carry), self._time.times(1.0 / self._unfolds))
            return r, n, self._g.node("Add", self._g.row(d), r)

    def _addends(
        self, neurons: range, ahead: Sequence[str], current: _Value, conductance: _Value
    ) -> list[tuple[_Value, _Value]]:
        """N and r + D of each unfold without the neurons' own synapses; those from ahead are computed all at once."""
        unfolds, batch = self._unfolds, self._time.batch
        synapses = self._recurrent.between(range(neurons.stop, self._units), neurons)
        if len(synapses.source) == 0:
            return [(current, conductance)] * unfolds

        def repeated(value: _Value) -> _Value:
            if not isinstance(value, str) or batch == 1:
                return value  # one row fits all unfolds as it is
            return self._g.concat([value] * unfolds, axis=0)

        states = self._g.concat(ahead, axis=0)
        sums = synapses.sums(self._g, states, unfolds * batch, repeated(current), repeated(conductance))
        pieces = (self._g.split(self._g.row(total), [batch] * unfolds, axis=0) for total in sums)
        return list(zip(*pieces, strict=True))


def _motor_output(graph: GraphBuilder, cell: LtcCell, v: str) -> str:
    """The motor neurons, mapped. Choosing and mapping are one small matrix product."""
    if cell.output_w is None and cell.motor == cell.units:
        return v
    weight = np.eye(cell.units, cell.motor) * (1.0 if cell.output_w is None else cell.output_w)
    return graph.linear(v, weight, cell.output_b)
