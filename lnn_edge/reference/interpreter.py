"""Interpreter of step programs: one sample of any number of rows through every node.

It is slow and plain on purpose, and shares nothing with what a program is lowered to. Rows never mix, so a row alone
gives the same as in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..arrays import Array
from ..bundle import step_cores as records
from ..bundle.encoder import encoder_nodes
from ..bundle.operations import Node, Operation
from ..bundle.program import StepProgram
from .cells import cfc_cell, ltc_cell, recurrent_layer
from .operations import COMPUTED
from .timespans import check_timespan

__all__ = ["Interpreter"]

_Values = dict[str, Array]
_Run = Callable[[_Values], None]  # adds what a node makes to the values made so far


class Interpreter:
    """A program ready to step. It keeps no state, so it may be shared.

    Args:
        step: The program.
        dtype: What it computes in, "float64" or "float32". The latter shows how far rounding alone takes a model from
            exact arithmetic.
    """

    def __init__(self, step: StepProgram, dtype: str = "float64") -> None:
        self.program, self.dtype = step.program, np.dtype(dtype)
        whole = np.dtype(np.int32)
        self._tensors = {n: t if t.dtype == whole else t.astype(self.dtype) for n, t in step.tensors.items()}
        # As operands, tensors have one row, which every row of a value meets.
        self._constants = {name: tensor[None] for name, tensor in self._tensors.items()}
        self._centers = {own.name: step.tensors[own.center] for own in self.program.inputs if own.center is not None}
        early = encoder_nodes(self.program)
        known = {name for node in early for name in node.made()}
        self._late = [node for node in self.program.nodes if known.isdisjoint(node.made())]
        self._encodes, self._runs = ([self._run(node) for node in nodes] for nodes in (early, self._late))
        self._encoded = self._taken_late()

    def start(self, rows: int) -> _Values:
        """The states at the start of a sequence, by name (rows, *shape)."""
        zero = np.zeros(1, self.dtype)
        return {
            state.name: np.broadcast_to(
                zero if state.initial is None else self._tensors[state.initial], (rows, *state.shape)
            )
            for state in self.program.states
        }

    def step(
        self, inputs: Mapping[str, Array], states: Mapping[str, Array], dt_s: Array | None = None
    ) -> tuple[_Values, _Values]:
        """Advance by one sample.

        Args:
            inputs: By name, (rows, *shape).
            states: By name, (rows, *shape).
            dt_s: Seconds since the last sample, (rows, 1); only where the program takes it.

        Returns:
            Outputs and next states by name, (rows, *shape).

        Raises:
            ValueError: If the program takes `dt_s` and there is none, or gives a core a timespan that it cannot take.
        """
        return self.step_encoded(self.encode(inputs), len(next(iter(inputs.values()))), states, dt_s)

    def encode(self, inputs: Mapping[str, Array]) -> _Values:
        """What depends on samples alone, as `step_encoded` takes it.

        Args:
            inputs: By name, (rows, *shape).

        Returns:
            By name, (rows, *shape); one row where it is the same for all samples.
        """
        given = {
            name: value - self._centers[name] if name in self._centers else value for name, value in inputs.items()
        }
        values = {name: np.asarray(value, self.dtype) for name, value in given.items()} | self._constants
        for run in self._encodes:
            run(values)
        return {name: values[name] for name in self._encoded}

    def step_encoded(
        self, encoded: Mapping[str, Array], rows: int, states: Mapping[str, Array], dt_s: Array | None = None
    ) -> tuple[_Values, _Values]:
        """Advance by one sample that is encoded already; see `step`."""
        values = {name: np.asarray(value, self.dtype) for name, value in states.items()}
        values |= {self.program.elapsed.name: self._elapsed(dt_s, rows)} | self._constants | dict(encoded)
        for run in self._runs:
            run(values)
        outputs = {o.name: _rows(values[o.value], rows) for o in self.program.outputs}
        return outputs, {s.name: _rows(values[s.next], rows) for s in self.program.states}

    def _taken_late(self) -> list[str]:
        """What the nodes that depend on states or time, and the results, take of what depends on samples alone."""
        program = self.program
        taken = [name for node in self._late for name in node.taken()]
        taken += [output.value for output in program.outputs] + [state.next for state in program.states]
        late = {name for node in self._late for name in node.made()} | {state.name for state in program.states}
        return [n for n in dict.fromkeys(taken) if n not in late | self._constants.keys() | {program.elapsed.name}]

    def _elapsed(self, dt_s: Array | None, rows: int) -> Array:
        elapsed = self.program.elapsed
        if elapsed.timespan_per_s is None:
            return np.full((rows, 1), elapsed.value, self.dtype)
        if dt_s is None:
            raise ValueError(f"the program takes '{elapsed.dt}', the seconds since the last sample, (rows, 1)")
        return np.asarray(np.asarray(dt_s, self.dtype).reshape(rows, 1) * elapsed.timespan_per_s, self.dtype)

    def _run(self, node: Node) -> _Run:
        if isinstance(node, Operation):
            return self._operation(node)
        if isinstance(node, records.Ltc):
            return self._ltc(node)
        if isinstance(node, records.Cfc):
            return self._cfc(node)
        return self._recurrent(node)

    def _operation(self, node: Operation) -> _Run:
        compute = COMPUTED[node.op]

        def run(values: _Values) -> None:
            values[node.output] = compute(node, self._tensors, *(values[name] for name in node.inputs))

        return run

    def _ltc(self, node: records.Ltc) -> _Run:
        cell = None

        def run(values: _Values) -> None:
            nonlocal cell
            x, h = self._given(values, node.input, node.state)
            cell = cell or ltc_cell(node, self._tensors, x.shape[1])
            values[node.output], values[node.next] = cell.step(x, h, self._timespan(node, values))

        return run

    def _cfc(self, node: records.Cfc) -> _Run:
        cell = cfc_cell(node, self._tensors)

        def run(values: _Values) -> None:
            x, h = self._given(values, node.input, node.state)
            values[node.output], values[node.next] = cell.step(x, h, self._timespan(node, values))

        return run

    def _recurrent(self, node: Node) -> _Run:
        if not isinstance(node, (records.Gru, records.Lstm, records.Rnn)):
            raise TypeError(f"'{node.kind}' is no operation of a step program")
        layer = recurrent_layer(node, self._tensors)

        def run(values: _Values) -> None:
            x, h = self._given(values, node.input, node.state)
            before = {"h": h}
            if isinstance(node, records.Lstm):
                before |= {"c": self._given(values, node.memory)[0]}
            after = layer.step(x, before)
            values[node.next] = after["h"]
            if isinstance(node, records.Lstm):
                values[node.next_memory] = after["c"]

        return run

    def _timespan(self, node: records.Ltc | records.Cfc, values: _Values) -> Array:
        timespan = values[node.elapsed]
        if node.elapsed != self.program.elapsed.name:  # else the runtime has seen to it
            check_timespan(node.name, float(timespan.min()), divides=isinstance(node, records.Ltc))
        return timespan

    def _given(self, values: _Values, *names: str) -> list[Array]:
        """What a core takes, as many rows of each as there are."""
        rows = len(values[self.program.elapsed.name])
        return [_rows(values[name], rows) for name in names]


def _rows(value: Array, rows: int) -> Array:
    """A value that depends on no input has one row, which is that of all."""
    return value if len(value) == rows else np.broadcast_to(value, (rows, *value.shape[1:]))
