"""The checks of a step program: names, operands, shapes and numbers, as whoever changes a bundle can sign it again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...arrays import Array
from ..operations import MAX_ELEMENTS, Kind, Node, Shape, refuse_unless
from ..program import Elapsed, Program, StepProgram
from ..spec import DT_INPUT
from ..step_cores import Core
from .weights import MAX_TENSORS, MAX_WEIGHTS_BYTES

__all__ = ["MAX_CORES", "MAX_NODES", "Names", "check_program", "refuse_above", "used_tensors", "value_shapes"]

MAX_NODES = 400
MAX_CORES = 64  # of these nodes; each takes as long to check as ten others

_FLOAT64, _INT32 = np.dtype(np.float64), np.dtype(np.int32)
_MAX_INDICES = 1 << 20  # in one tensor; 1,200 inputs on 512 neurons are fewer
_PART = 1 << 15  # numbers looked at together
_ONES = np.ones(_PART)
_MAX_AXES = 16  # of a value; NumPy has room for twice as many, and the windows of a convolution need more


def check_program(step: StepProgram) -> None:
    """Check sizes, names, operands, shapes and tensors.

    Raises:
        ValueError: Naming the node or tensor, and what is wrong with it.
    """
    nodes, tensors = step.program.nodes, step.tensors.values()
    refuse_above(MAX_NODES, len(nodes), "nodes")
    refuse_above(MAX_CORES, sum(isinstance(node, Core) for node in nodes), "cores")
    refuse_above(MAX_TENSORS, len(tensors), "tensors")
    refuse_above(MAX_WEIGHTS_BYTES, sum(tensor.nbytes for tensor in tensors), "bytes of weights")
    names = _walked(step.program, step.tensors)
    unused = sorted(set(step.tensors) - names.used)
    if unused:
        raise ValueError(f"nothing uses the tensor '{unused[0]}'")
    names.check_numbers()


def refuse_above(most: int, found: int, what: str) -> None:
    """Refuse a program that has more of something than a program may have.

    Raises:
        ValueError: Saying how many it has.
    """
    if found > most:
        raise ValueError(f"it has {found} {what}, more than the {most} that a program may have")


def used_tensors(program: Program, tensors: Mapping[str, Array]) -> set[str]:
    """Walk through a program and check it; returns the names of the tensors that it uses.

    Raises:
        ValueError: As `check_program`.
    """
    return _walked(program, tensors).used


def value_shapes(step: StepProgram) -> dict[str, Shape]:
    """Shapes of all values of a program, for one row, by name."""
    return _walked(step.program, step.tensors).shapes()


def _walked(program: Program, tensors: Mapping[str, Array]) -> Names:
    names = Names(tensors)
    given = [(own.name, own.shape) for own in program.inputs] + [(own.name, own.shape) for own in program.states]
    for name, shape in given:
        names.declare(name, Kind(shape))
    _check_elapsed(program.elapsed)
    names.declare(program.elapsed.name, Kind((1,)))
    for place, node in enumerate(program.nodes):
        try:
            refuse_unless(node.where.isprintable(), "`where` cannot be printed")
            made = node.check(names)
        except ValueError as error:
            raise ValueError(f"node {place} ({_title(node)}): {error}") from error
        if len(made) < len(node.made()):
            raise ValueError(f"node {place} ({_title(node)}): the name '{node.made()[0]}' is declared twice")
        for name, kind in made.items():
            names.declare(name, kind)
    for problem in _ends(program, names):
        raise ValueError(problem)
    return names


def _title(node: Node) -> str:
    return f"{node.kind} {node.name if isinstance(node, Core) else node.made()[0]}"


def _check_elapsed(elapsed: Elapsed) -> None:
    fixed = elapsed.value is not None
    measured = elapsed.dt is not None and elapsed.timespan_per_s is not None
    partly = elapsed.dt is not None or elapsed.timespan_per_s is not None
    if fixed == measured or (fixed and partly):
        raise ValueError("`elapsed` has either a `value`, or `dt` and `timespan_per_s`")
    if measured and elapsed.dt != DT_INPUT:
        raise ValueError(f"`elapsed` comes from '{elapsed.dt}', expected '{DT_INPUT}'")
    number = elapsed.value if elapsed.value is not None else elapsed.timespan_per_s or 0.0
    if not 0 < number < math.inf:
        raise ValueError(f"`elapsed` has the number {number}, expected one above 0")


def _ends(program: Program, names: Names) -> Iterator[str]:
    if not program.inputs or not program.outputs:
        yield "it has no input or no output"
    ends: list[tuple[str, str, Shape]] = [(f"state '{s.name}'", s.next, s.shape) for s in program.states]
    ends += [(f"output '{o.name}'", o.value, o.shape) for o in program.outputs]
    for what, value, shape in ends:
        try:
            kind = names.value(value)
        except ValueError as error:
            yield f"{what}: {error}"
            return
        if kind != Kind(shape):
            yield f"{what} has shape {list(shape)}, but its value '{value}' has {list(kind.shape)}"
    held = [(f"state '{s.name}'", s.initial, s.shape) for s in program.states]
    held += [(f"input '{i.name}'", i.center, i.shape) for i in program.inputs]
    for what, name, shape in held:
        if name is not None:
            try:
                names.tensor(name, shape)
            except ValueError as error:
                yield f"{what}: {error}"
    own = [o.name for o in program.outputs]
    if len(set(own)) != len(own) or "" in own:
        yield f"outputs must have names of their own, got {own}"


class Names:
    """The values and tensors of a program while it is checked or built; see `operations.Lookup`."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self._tensors, self._values = tensors, dict[str, Kind]()
        self.used: set[str] = set()  # of the tensors
        self._weights: set[str] = set()  # those of them that are no operands
        self._numbers: dict[str, float] = {}

    def declare(self, name: str, kind: Kind) -> None:
        """Add a value.

        Raises:
            ValueError: If there is something of that name, or it is larger than a value may be.
        """
        if not name.isprintable():
            raise ValueError(f"the name {name[:80]!a} cannot be printed")
        if not name or name in self:
            raise ValueError(f"the name '{name}' is declared twice, or empty")
        if len(kind.shape) > _MAX_AXES:
            raise ValueError(f"'{name}' has {len(kind.shape)} axes, more than the {_MAX_AXES} that a value may have")
        if min(kind.shape, default=1) < 1 or math.prod(kind.shape) > MAX_ELEMENTS:
            raise ValueError(
                f"'{name}' has shape {list(kind.shape)}, expected sizes above 0, and {MAX_ELEMENTS} at most"
            )
        self._values[name] = kind

    def shapes(self) -> dict[str, Shape]:
        """Shapes of the values, by name."""
        return {name: kind.shape for name, kind in self._values.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._values or name in self._tensors

    def value(self, name: str) -> Kind:
        """See `operations.Lookup.value`."""
        if name in self._values:
            return self._values[name]
        shape = self._found(name, _FLOAT64)
        if min(shape, default=1) < 1:
            raise ValueError(f"'{name}' has shape {list(shape)}, expected sizes above 0")
        return Kind(shape)

    def tensor(self, name: str, shape: Sequence[int | None] | None = None) -> Shape:
        """See `operations.Lookup.tensor`."""
        found = self._found(name, _FLOAT64)
        self._weights.add(name)
        if shape is not None and not _fits(found, shape):
            raise ValueError(f"'{name}' has shape {list(found)}, expected {_wanted(shape)}")
        return found

    def smallest(self, name: str) -> float | None:
        """See `operations.Lookup.smallest`."""
        return None if name in self._values else self._found_once(name, lambda tensor: tensor.min(initial=np.inf))

    def indices(self, name: str, below: int) -> Shape:
        """See `operations.Lookup.indices`."""
        shape = self._found(name, _INT32)
        if math.prod(shape) > _MAX_INDICES:
            raise ValueError(f"'{name}' has shape {list(shape)}, more than the {_MAX_INDICES} numbers of a list")
        # Without their signs, the numbers below 0 are the largest.
        largest = int(self._found_once(name, lambda tensor: tensor.view(np.uint32).max(initial=0)))
        if largest >= below:
            number = largest - (largest >> 31 << 32)
            raise ValueError(f"'{name}' holds {number}, expected 0 to {below - 1}")
        return shape

    def check_numbers(self) -> None:
        """Refuse what is no number, and infinite weights.

        An operand may be infinite: what is masked before a softmax is.

        Raises:
            ValueError: Naming the tensor.
        """
        with np.errstate(all="ignore"):
            for name, tensor in self._tensors.items():
                if tensor.dtype == _INT32 or (tensor.size <= _PART and math.isfinite(tensor.sum())):
                    continue  # as nearly all are
                if not _are_sound(tensor.reshape(-1), infinite=name not in self._weights):
                    raise ValueError(f"the tensor '{name}' holds a number that is not finite")

    def _found_once(self, name: str, find: Callable[[Array], Any]) -> float:
        """A number that a tensor is asked for, found once, however many nodes ask."""
        if name not in self._numbers:
            self._numbers[name] = float(find(self._tensors[name]))
        return self._numbers[name]

    def _found(self, name: str, dtype: np.dtype[Any]) -> Shape:
        if name not in self._tensors:
            raise ValueError(f"'{name}' is not declared before it is used")
        tensor = self._tensors[name]
        if tensor.dtype != dtype:
            raise ValueError(f"'{name}' is {tensor.dtype}, expected {dtype}")
        self.used.add(name)
        return tensor.shape


def _are_sound(numbers: Array, infinite: bool) -> bool:
    """Whether none is NaN, or infinite unless these may be.

    A sum is finite only if every term is: nothing is copied, and only a part with another sum, which may also have
    overflowed, is looked at again while it is in the processor's cache.
    """
    parts = (numbers[start : start + _PART] for start in range(0, numbers.size, _PART))
    suspects = (part for part in parts if not math.isfinite(part @ _ONES[: part.size]))  # BLAS sums in half the time
    return not any(np.isnan(part).any() or not (infinite or np.isfinite(part).all()) for part in suspects)


def _fits(shape: Shape, expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(e in (None, n) for n, e in zip(shape, expected, strict=True))


def _wanted(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"
