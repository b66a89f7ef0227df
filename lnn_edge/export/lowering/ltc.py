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

import numpy as np

from ...reference import LtcCell
from ..graph.builder import GraphBuilder
from .step_time import StepTime
from .synapses import Synapses, Term

__all__ = ["lower_ltc"]

_SMALLEST_CM = 1e-4  # below it, weights divided by Cm leave the range in which float32 sums stay accurate

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


class _Solver:
    """Holds what all unfolds share: r, what is constant in N and in r + D, and the synapses."""

    def __init__(self, graph: GraphBuilder, cell: LtcCell, x: str, time: StepTime) -> None:
        self._g, self._x, self._time = graph, x, time
        self._units, self._unfolds = cell.units, cell.unfolds
        cm, gleak = cell.cm, cell.gleak
        # Parameters that training clips instead of passing them through softplus may be exactly 0 afterwards.
        tiny = np.abs(cm) < _SMALLEST_CM
        step = 1.0 if time.fixed is None else time.fixed / cell.unfolds
        # All weights of a neuron take the factor here, once and in float64; in return no unfold multiplies the state.
        scale = np.where(tiny, 1.0, step / np.where(tiny, 1.0, cm))
        self._carry = np.where(tiny, cm / step, 1.0)
        self._current = gleak * cell.vleak * scale
        self._conductance = (gleak + cell.epsilon) * scale
        if time.fixed is not None:  # with measured time r is a value, and joins D in the graph
            self._conductance = self._conductance + self._carry
        sensory = Synapses.folded("sensory", cell.sensory, (cell.inputs, cell.units))
        self._sensory = sensory.mapped(cell.input_map.scale, cell.input_map.shift).scaled(scale)
        self._recurrent = Synapses.folded("synapses", cell.synapses, (cell.units, cell.units)).scaled(scale)

    def solve(self, v: str) -> str:
        """The state after all unfolds."""
        others, ahead = self._runs()
        if not ahead:
            return self._path(others, v, [])[-1]
        # The others' unfold k needs what the neurons ahead were before their own unfold k: all states but the last.
        v, driving = self._g.split(v, [len(others), len(ahead)])
        with self._g.scope("ahead"):
            path = self._path(ahead, driving, [])
        return self._g.concat([self._path(others, v, path[:-1])[-1], path[-1]])

    def _runs(self) -> tuple[range, range]:
        """All others, and the last neurons if they have no incoming synapses and gain from running ahead."""
        every = range(self._units)
        # ncps numbers motor, command and inter neurons in this order, so those that nobody drives are the last ones.
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
        for k, addends in enumerate(self._addends(neurons, ahead, *shared)):
            with self._g.scope(f"unfold_{k}", owns=False):
                v = self._unfolded(own, v, r, addends)
            path.append(v)
        return path

    def _unfolded(self, own: Synapses, v: str, r: str, addends: tuple[Term, Term]) -> str:
        """The state after one unfold."""
        current, conductance = own.sums(self._g, v, self._time.batch, *addends)
        with self._g.exact():  # a slow neuron moves by less than half can tell apart
            kept = self._g.node("Mul", v, r) if r else v  # fixed time: r is 1 unless a capacitance is tiny
            total = self._g.node("Add", kept, self._g.row(current, "leak.current"))
            return self._g.node("Div", total, self._g.row(conductance, "leak.conductance"))

    def _shared(self, neurons: range) -> tuple[str, Term, Term]:
        """What is the same in all unfolds: r ("" for 1), N and r + D without the recurrent synapses."""
        run = slice(neurons.start, neurons.stop)
        carry, current, conductance = self._carry[run], self._current[run], self._conductance[run]
        sensory = self._sensory.between(range(self._sensory.shape[0]), neurons)
        with self._g.scope("sensory", owns=False):
            n, d = sensory.sums(self._g, self._x, self._time.batch, current, conductance)
        if self._time.fixed is not None:
            return "" if np.all(carry == 1.0) else self._g.row(carry, "capacitance"), n, d
        with self._g.exact():
            r = self._g.node("Div", self._g.row(carry, "capacitance"), self._time.times(1.0 / self._unfolds))
            return r, n, self._g.node("Add", self._g.row(d, "leak.conductance"), r)

    def _addends(
        self, neurons: range, ahead: Sequence[str], current: Term, conductance: Term
    ) -> list[tuple[Term, Term]]:
        """N and r + D of each unfold without the neurons' own synapses; those from ahead are computed all at once."""
        unfolds, batch = self._unfolds, self._time.batch
        synapses = self._recurrent.between(range(neurons.stop, self._units), neurons)
        if len(synapses.source) == 0:
            return [(current, conductance)] * unfolds

        def repeated(value: Term) -> Term:
            if not isinstance(value, str) or batch == 1:
                return value  # one row fits all unfolds as it is
            return self._g.concat([value] * unfolds, axis=0)

        # Unfolds lie below each other as further rows, so that one product serves them all.
        states = self._g.concat(ahead, axis=0)
        sums = synapses.sums(self._g, states, unfolds * batch, repeated(current), repeated(conductance))
        pieces = (self._g.split(self._g.row(total), [batch] * unfolds, axis=0) for total in sums)
        return list(zip(*pieces, strict=True))


def _motor_output(graph: GraphBuilder, cell: LtcCell, v: str) -> str:
    """The motor neurons, mapped. Choosing and mapping are one small matrix product."""
    scale, shift = cell.output_map.scale, cell.output_map.shift
    if scale is None and cell.motor == cell.units:
        return v
    weight = np.eye(cell.units, cell.motor) * (1.0 if scale is None else scale)
    return graph.linear(v, weight, shift, "motor")
