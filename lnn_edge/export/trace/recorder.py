"""The recorder of step programs: values for one row, nodes in order, constants in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...arrays import Array
from ...bundle.operations import Kind, Node, Operation, Shape
from ...bundle.program import (
    Elapsed,
    Input,
    Output,
    Program,
    State,
    StepProgram,
)
from ...bundle.program_file.checks import Names, check_program, used_tensors
from ...bundle.spec import DT_INPUT, StatePair, Tensor, Time

__all__ = ["Recorder", "Value", "for_one_row"]


def for_one_row(shape: Sequence[int]) -> Shape:
    """The shape that a program has where torch has this one for one row.

    Axes of length 1 in front, of the rows and of time, are not written, but for the last one.
    """
    whole = tuple(int(n) for n in shape)
    while len(whole) > 1 and whole[0] == 1:
        whole = whole[1:]
    return whole


class Value:
    """A value of the program, in the shape that torch sees for one row.

    Args:
        recorder: Where it is.
        root: Name of the value whose elements these are, in the same order.
        shape: The shape that torch sees; another than the root's becomes a Reshape when the name is asked for.
    """

    def __init__(self, recorder: Recorder, root: str, shape: Sequence[int]) -> None:
        self._recorder, self._root = recorder, root
        self.shape: Shape = tuple(int(n) for n in shape)

    @property
    def root(self) -> str:
        """Name of the value whose elements these are."""
        return self._root

    def name(self) -> str:
        """Its name in the program, where it has the shape for one row."""
        return self.shaped(for_one_row(self.shape))

    def shaped(self, shape: Sequence[int]) -> str:
        """Its name in another shape."""
        return self._recorder.reshaped(self.root, tuple(shape))

    def viewed(self, shape: Sequence[int]) -> Value:
        """The same value as torch sees it after a view."""
        return Value(self._recorder, self.root, shape)


class Recorder:
    """Collects nodes and tensors. What nothing uses in the end is left out.

    Attributes:
        inputs, states: The values of one sample and of the states before it, in order.
        elapsed: The timespan, a value of shape (1, 1) as torch sees it.
        timespan: That of every step; `None` where it is measured.
    """

    def __init__(self, inputs: Sequence[Tensor], states: Sequence[StatePair], time: Time) -> None:
        self._tensors: dict[str, Array] = {}
        self._names = Names(self._tensors)
        self._shapes: dict[str, Shape] = {}
        self._nodes: list[Node] = []
        self._reshaped: dict[tuple[str, Shape], str] = {}
        self._constants: dict[tuple[str, Shape, bytes], str] = {}
        self._origin = ("", "")
        self._inputs = tuple(self._input(t) for t in inputs)
        self._states = [(self._declared(s.input, s.shape[1:]), s) for s in states]
        self._elapsed = _elapsed(self.fresh("elapsed"), time)
        self._declared(self._elapsed.name, (1,))
        self.inputs = [Value(self, own.name, (1, *own.shape)) for own in self._inputs]
        self.states = [Value(self, name, (1, *state.shape[1:])) for name, state in self._states]
        self.timespan = self._elapsed.value
        self.elapsed = Value(self, self._elapsed.name, (1, 1))

    @property
    def elapsed_name(self) -> str:
        """Name of the timespan of the step."""
        return self._elapsed.name

    @property
    def origin(self) -> tuple[str, str]:
        """Where in the user's model nodes come from: a place for people, and the module's name."""
        return self._origin

    def at(self, origin: tuple[str, str]) -> None:
        """Say where the nodes that follow come from."""
        self._origin = origin

    def placed(self, origin: tuple[str, str], write: Callable[[], str]) -> str:
        """Write a node that comes from an earlier place."""
        usual, self._origin = self._origin, origin
        name = write()
        self._origin = usual
        return name

    def operation(self, op: str, *inputs: str, weights: Mapping[str, Array] | None = None, **attributes: Any) -> str:
        """Add an operation; returns the name of its result.

        Args:
            op: Its name.
            inputs: Names of its operands.
            weights: Its tensors.
            attributes: The others; see `Operation`.

        Raises:
            TypeError: If a program has no such node.
        """
        where, module = self._origin
        output = self.fresh(".".join(filter(None, [module, op.lower()])))
        named = {key: self.tensor(f"{output}.{key}", value) for key, value in (weights or {}).items()}
        node = Operation(op=op, where=where, inputs=inputs, output=output, weights=named, **attributes)
        self.add(node)
        return output

    def add(self, node: Node) -> None:
        """Add a node whose tensors are stored.

        Raises:
            TypeError: If it does not fit; the message says why.
        """
        try:
            made = node.check(self._names)
        except ValueError as error:
            raise TypeError(f"{node.kind}: {error}") from error
        self._nodes.append(node)
        for name, kind in made.items():
            self._names.declare(name, kind)
            self._shapes[name] = kind.shape

    def value(self, root: str, shape: Sequence[int]) -> Value:
        """What a node made, in the shape that torch sees."""
        return Value(self, root, shape)

    def reshaped(self, root: str, shape: Shape) -> str:
        """The name of a value in another shape; the same shape is the value itself."""
        if self.shape_of(root) == shape:
            return root
        if (root, shape) not in self._reshaped:
            self._reshaped[root, shape] = self.operation("Reshape", root, shape=shape)
        return self._reshaped[root, shape]

    def shape_of(self, name: str) -> Shape:
        """The shape of a value or tensor, for one row."""
        return self._shapes[name] if name in self._shapes else tuple(self._tensors[name].shape)

    def constant(self, value: Array | float) -> str:
        """Store a constant in float64; one that repeats is stored once."""
        array = np.asarray(value, np.float64)
        key = (str(array.dtype), tuple(array.shape), array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.tensor("constant", array)
        return self._constants[key]

    def tensor(self, name: str, value: Array) -> str:
        """Store a tensor, float64 or, if it holds whole numbers, int32; returns its name, which may be another."""
        own = self.fresh(name)
        whole = np.issubdtype(np.asarray(value).dtype, np.integer)
        self._tensors[own] = np.ascontiguousarray(value, np.int32 if whole else np.float64)
        return own

    def finish(self, outputs: Sequence[tuple[Tensor, Value]], states: Sequence[Value]) -> StepProgram:
        """The program, checked as a reader does.

        Args:
            outputs: Each output and its value.
            states: The values that replace the states.

        Raises:
            ValueError: If it holds more than a program may, or a weight that is not finite.
        """
        ends = tuple(Output(tensor.name, value.shaped(tensor.shape[1:]), tensor.shape[1:]) for tensor, value in outputs)
        pairs = zip(self._states, states, strict=True)
        after = tuple(self._state(name, pair, value) for (name, pair), value in pairs)
        nodes = _needed(self._nodes, {o.value for o in ends} | {s.next for s in after})
        program = Program(self._inputs, self._elapsed, after, tuple(nodes), ends)
        used = sorted(used_tensors(program, self._tensors))
        step = StepProgram(program, {name: self._tensors[name] for name in used})
        try:
            check_program(step)
        except ValueError as error:
            raise ValueError(f"the step of this model does not fit into a bundle: {error}") from error
        return step

    def _input(self, tensor: Tensor) -> Input:
        name, shape = self._declared(tensor.name, tensor.shape[1:]), tensor.shape[1:]
        center = self.tensor(f"{name}.center", np.array(tensor.center)) if tensor.center else None
        return Input(name, shape, tensor.dtype, center)

    def _state(self, name: str, pair: StatePair, value: Value) -> State:
        shape = pair.shape[1:]
        start = np.broadcast_to(np.asarray(pair.initial, np.float64).reshape(-1), (int(np.prod(shape)),)).reshape(shape)
        initial = self.tensor(f"{name.removesuffix('_in')}.initial", start) if np.any(start) else None
        return State(name, shape, value.shaped(shape), initial)

    def _declared(self, name: str, shape: Shape) -> str:
        own = self.fresh(name)
        self._names.declare(own, Kind(tuple(shape)))
        self._shapes[own] = tuple(shape)
        return own

    def fresh(self, name: str) -> str:
        """A name that nothing has yet: this one, or with a number behind it."""
        if name not in self._names:
            return name
        count = 2
        while f"{name}_{count}" in self._names:
            count += 1
        return f"{name}_{count}"


def _elapsed(name: str, time: Time) -> Elapsed:
    if time.mode == "fixed" or time.period_s is None:
        return Elapsed(name, value=time.timespan)
    return Elapsed(name, dt=DT_INPUT, timespan_per_s=time.timespan / time.period_s)


def _needed(nodes: Sequence[Node], results: set[str]) -> list[Node]:
    """What the results depend on: a network may read a core's state and leave its output alone."""
    kept = []
    for node in reversed(nodes):
        if results.intersection(node.made()):
            kept.append(node)
            results = results.union(node.taken())
    return kept[::-1]
