"""The step program of a bundle: one step apart from any runtime, as step.json and step.safetensors hold it.

What becomes of one sample: inputs, states and the time since the last sample go through nodes, in order, to outputs
and next states. Weights are float64; the rows of a batch, the samples of a call and the precision are a lowering's
business.
Reading checks all of it, as whoever changes a bundle can sign it again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from ..arrays import Array
from ..errors import BundleError
from ..format_version import newer_version
from .operations import MAX_ELEMENTS, OPERATIONS, Few, Kind, Node, Operation, Shape, refuse_unless
from .spec import DT_INPUT, PROGRAM_JSON, PROGRAM_WEIGHTS, Frozen
from .step_cores import CORES, Core

__all__ = [
    "MAX_NODES",
    "MAX_TEXT_BYTES",
    "MAX_WEIGHTS_BYTES",
    "PROGRAM_VERSION",
    "Elapsed",
    "Input",
    "Names",
    "Output",
    "Program",
    "ProgramSchema",
    "State",
    "StepProgram",
    "check_program",
    "decode_program",
    "used_tensors",
    "value_shapes",
]

PROGRAM_VERSION = 1
MAX_NODES = 4096
MAX_WEIGHTS_BYTES = 64 << 20
MAX_TEXT_BYTES = 4 << 20
_MAX_ENTRIES = 40 * MAX_NODES  # of all lists and objects in the text; an LTC has as many, most nodes a tenth of it
_MAX_TENSORS = 2 * MAX_NODES
_SOME = msgspec.Meta(max_length=1024)  # inputs, states and outputs
_MAX_HEADER_BYTES = 1 << 20  # of the safetensors file
_MAX_AXES = 16  # of a value; NumPy has room for twice as many, and the windows of a convolution need more
_LONGEST_REASON = 500  # characters; what is quoted comes from the file


class ProgramSchema(Frozen, frozen=True):
    """The format's name and version."""

    name: Literal["lnn-edge step"] = "lnn-edge step"
    version: int = PROGRAM_VERSION


class Input(Frozen, frozen=True):
    """One input, for one row."""

    name: str
    shape: Few
    dtype: Literal["float32"] = "float32"


class Elapsed(Frozen, frozen=True, omit_defaults=True):
    """The timespan since the last sample in the unit of training, a value of shape [1].

    Either a `value` that never changes, or the input `dt` in seconds times `timespan_per_s`.
    """

    name: str
    value: float | None = None
    dt: str | None = None
    timespan_per_s: float | None = None


class State(Frozen, frozen=True, omit_defaults=True):
    """A state, for one row: what a sequence starts from (a tensor; `None` for zeros), and the value that replaces it.

    It is called as the manifest calls the input that holds it, `h_in`; an input of the model may be called `h`.
    """

    name: str
    shape: Few
    next: str
    initial: str | None = None


class Output(Frozen, frozen=True):
    """One output, for one row: its name, and the value that it is."""

    name: str
    value: str
    shape: Few


class _Text(Frozen, frozen=True, kw_only=True):
    """step.json with its nodes still unread: what type a node has depends on its operation."""

    schema: ProgramSchema
    inputs: Annotated[tuple[Input, ...], _SOME]
    elapsed: Elapsed
    states: Annotated[tuple[State, ...], _SOME]
    nodes: list[msgspec.Raw]
    outputs: Annotated[tuple[Output, ...], _SOME]


class _Head(msgspec.Struct):
    op: str


@dataclass(frozen=True)
class Program:
    """What step.json holds."""

    inputs: tuple[Input, ...]
    elapsed: Elapsed
    states: tuple[State, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]

    def encode(self) -> bytes:
        """As JSON, a line for each node."""
        head = {"schema": ProgramSchema(), "inputs": self.inputs, "elapsed": self.elapsed, "states": self.states}
        lines = [f'"{name}": {msgspec.json.encode(value).decode()},' for name, value in head.items()]
        nodes = ",\n  ".join(msgspec.json.encode(node).decode() for node in self.nodes)
        outputs = msgspec.json.encode(self.outputs).decode()
        return "\n".join(
            ["{" + lines[0], *lines[1:], f'"nodes": [\n  {nodes}],', f'"outputs": {outputs}}}', ""]
        ).encode()


@dataclass(frozen=True)
class StepProgram:
    """A program and its tensors: float64 weights, int32 numbers of neurons and elements. Checked; not to be changed.

    Attributes:
        program: Inputs, states, nodes, outputs.
        tensors: By name.
    """

    program: Program
    tensors: Mapping[str, Array]

    def encode(self) -> dict[str, bytes]:
        """The files of a bundle that hold it."""
        from safetensors.numpy import save

        arrays = {name: np.asarray(value, order="C") for name, value in self.tensors.items()}
        return {PROGRAM_JSON: self.program.encode(), PROGRAM_WEIGHTS: bytes(save(arrays))}


def decode_program(text: bytes, weights: bytes) -> StepProgram:
    """Read and check the two files.

    Raises:
        BundleError: If they are no program, or hold anything that a program must not: an operation that is not known, a
            name that is not declared or declared twice, a shape that does not follow, a number that is not finite.
    """
    try:
        program = _decoded(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise _invalid(error) from error
    step = StepProgram(program, _loaded(weights))
    try:
        check_program(step)
    except ValueError as error:
        raise _invalid(error) from error
    return step


def _invalid(error: Exception) -> BundleError:
    reason = str(error)
    short = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
    return BundleError(f"{PROGRAM_JSON} is not a valid step program: {short}")


def _decoded(text: bytes) -> Program:
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError(f"it has {len(text)} bytes, more than the {MAX_TEXT_BYTES} that a program may have")
    if text.count(b",") > _MAX_ENTRIES:  # before anything is made of them
        raise ValueError(f"it has more than {_MAX_ENTRIES} entries in its lists and objects")
    newer = newer_version(text, PROGRAM_VERSION)
    if newer:
        raise ValueError(f"it {newer}")
    found = msgspec.json.decode(text, type=_Text)
    if found.schema.version < 1:
        raise ValueError(f"it has schema version {found.schema.version}, expected 1 to {PROGRAM_VERSION}")
    if len(found.nodes) > MAX_NODES:
        raise ValueError(f"it has {len(found.nodes)} nodes, more than the {MAX_NODES} that a program may have")
    nodes = tuple(_node(k, raw) for k, raw in enumerate(found.nodes))
    return Program(found.inputs, found.elapsed, found.states, nodes, found.outputs)


def _node(place: int, raw: msgspec.Raw) -> Node:
    operation = msgspec.json.decode(raw, type=_Head).op
    if operation not in CORES and operation not in OPERATIONS:
        raise ValueError(f"node {place} is the operation '{operation[:80]}', which a program does not have")
    try:
        return msgspec.json.decode(raw, type=CORES.get(operation, Operation))
    except msgspec.MsgspecError as error:
        raise ValueError(f"node {place} ({operation}): {error}") from error


def _loaded(weights: bytes) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    header = int.from_bytes(weights[:8], "little")
    if header > _MAX_HEADER_BYTES:
        raise BundleError(f"{PROGRAM_WEIGHTS} has a header of {header} bytes, more than {_MAX_HEADER_BYTES}")
    size = len(weights) - 8 - header
    if size > MAX_WEIGHTS_BYTES:  # before they are copied
        raise BundleError(f"{PROGRAM_WEIGHTS} holds {size} bytes of tensors, more than the {MAX_WEIGHTS_BYTES} allowed")
    if weights[8 : 8 + header].count(b"{") > _MAX_TENSORS + 2:
        raise BundleError(f"{PROGRAM_WEIGHTS} has more tensors than the {_MAX_TENSORS} that a program may have")
    try:
        tensors: dict[str, Array] = load(weights)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{PROGRAM_WEIGHTS} is no safetensors file that NumPy can read: {error}") from error
    return tensors


def check_program(step: StepProgram) -> None:
    """Check names, operands, shapes and tensors.

    Raises:
        ValueError: Naming the node or tensor, and what is wrong with it.
    """
    names = _walked(step.program, step.tensors)
    names.check_numbers()
    unused = sorted(set(step.tensors) - names.used)
    if unused:
        raise ValueError(f"nothing uses the tensor '{unused[0]}'")


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
    for state in program.states:
        if state.initial is not None:
            try:
                names.tensor(state.initial, state.shape)
            except ValueError as error:
                yield f"state '{state.name}': {error}"
    own = [o.name for o in program.outputs]
    if len(set(own)) != len(own) or "" in own:
        yield f"outputs must have names of their own, got {own}"


class Names:
    """The values and tensors of a program while it is checked or built; see `operations.Lookup`."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self._tensors, self._values = tensors, dict[str, Kind]()
        self.used: set[str] = set()  # of the tensors
        self._weights: set[str] = set()  # those of them that are no operands

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
        shape = self._found(name, np.float64)
        if min(shape, default=1) < 1:
            raise ValueError(f"'{name}' has shape {list(shape)}, expected sizes above 0")
        return Kind(shape)

    def tensor(self, name: str, shape: Sequence[int | None] | None = None) -> Shape:
        """See `operations.Lookup.tensor`."""
        found = self._found(name, np.float64)
        self._weights.add(name)
        if shape is not None and not _fits(found, shape):
            raise ValueError(f"'{name}' has shape {list(found)}, expected {_wanted(shape)}")
        return found

    def smallest(self, name: str) -> float | None:
        """See `operations.Lookup.smallest`."""
        return None if name in self._values else float(self._tensors[name].min(initial=np.inf))

    def indices(self, name: str, below: int) -> Shape:
        """See `operations.Lookup.indices`."""
        shape, numbers = self._found(name, np.int32), self._tensors[name]
        if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < below:
            raise ValueError(f"'{name}' holds {numbers.min()} to {numbers.max()}, expected 0 to {below - 1}")
        return shape

    def check_numbers(self) -> None:
        """Refuse what is no number, infinite weights, and more of them than a program may hold.

        An operand may be infinite: what is masked before a softmax is.

        Raises:
            ValueError: Naming the tensor.
        """
        size = sum(tensor.nbytes for tensor in self._tensors.values())
        if size > MAX_WEIGHTS_BYTES:
            raise ValueError(
                f"its weights have {size} bytes, more than the {MAX_WEIGHTS_BYTES} that a program may have"
            )
        for name, tensor in self._tensors.items():
            wrong = np.isnan(tensor).any() or (name in self._weights and not np.isfinite(tensor).all())
            if wrong:
                raise ValueError(f"the tensor '{name}' holds a number that is not finite")

    def _found(self, name: str, dtype: Any) -> Shape:
        if name not in self._tensors:
            raise ValueError(f"'{name}' is not declared before it is used")
        tensor = self._tensors[name]
        if tensor.dtype != dtype:
            raise ValueError(f"'{name}' is {tensor.dtype}, expected {np.dtype(dtype)}")
        self.used.add(name)
        return tuple(tensor.shape)


def _fits(shape: Shape, expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(e in (None, n) for n, e in zip(shape, expected, strict=True))


def _wanted(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"
