"""The rules that a bundle's graph keeps, checked before any library sees it: operators, types, shapes, memory, work.

All sizes are constants, so every shape follows, by the same rules as in a step program, and with it what a step costs.
Whole numbers are axes, sizes and indices in constants, and nothing is computed with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import BundleError
from .onnx_wire import (
    BOOL,
    FLOAT,
    FLOAT16,
    INT32,
    INT64,
    UINT8,
    WireGraph,
    WireNode,
    WireTensor,
    WireValue,
    node_text,
    read_graph,
    taker_text,
)
from .operations import MAX_ELEMENTS, OPERATIONS, Operation, Shape
from .opset import OPERATORS, VERSIONS, lowest_versions

__all__ = ["ATTRIBUTES", "MAX_MULTIPLICATIONS", "MAX_TOTAL_ELEMENTS", "CheckedGraph", "check_graph"]

MAX_TOTAL_ELEMENTS = 1 << 28  # of all values, a gigabyte; a runtime may keep all of them until the step is over
MAX_MULTIPLICATIONS = 1 << 36  # some seconds: whatever takes longer is no step that a robot waits for
_MAX_AXES = 16
_MAX_NUMBERS = 1024  # in a constant of sizes or axes; an unroll block has as many samples
_LONGEST_REASON = 500  # characters; what is quoted comes from the file

_BYTES = {FLOAT: 4, FLOAT16: 2, INT64: 8, BOOL: 1}  # of constants
_INPUTS = (FLOAT, INT32, UINT8)
_NUMBERS = (FLOAT, FLOAT16)

# The attributes that a node of each operator has, all of them; a pool may have more, and no other has.
ATTRIBUTES: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(sorted(OPERATORS), frozenset()),
    **dict.fromkeys(["Concat", "Gather", "GatherElements", "LogSoftmax", "Softmax", "Split"], frozenset({"axis"})),
    **dict.fromkeys(["ReduceMax", "ReduceMean", "ReduceMin"], frozenset({"axes", "keepdims"})),
    **dict.fromkeys(["Elu", "LeakyRelu"], frozenset({"alpha"})),
    **dict.fromkeys(["AveragePool", "MaxPool"], frozenset({"kernel_shape", "strides"})),
    "Cast": frozenset({"to"}),
    "Conv": frozenset({"dilations", "group", "kernel_shape", "pads", "strides"}),
    "HardSigmoid": frozenset({"alpha", "beta"}),
    "LayerNormalization": frozenset({"axis", "epsilon"}),
    "ReduceSum": frozenset({"keepdims"}),
    "Transpose": frozenset({"perm"}),
}
_OPTIONAL = {"AveragePool": frozenset({"count_include_pad", "pads"}), "MaxPool": frozenset({"pads"})}
_LISTS = frozenset({"axes", "dilations", "kernel_shape", "pads", "perm", "strides"})
_REALS = frozenset({"alpha", "beta", "epsilon"})
_SAME_IN_A_PROGRAM = (_LISTS | _REALS | {"axis", "group"}) - {"kernel_shape"}


class _Known(NamedTuple):
    """A value of the graph: type and shape."""

    kind: int
    shape: Shape


_Results = list[_Known]


class CheckedGraph(NamedTuple):
    """The nodes of a graph that passed, and the shape of every value."""

    nodes: list[WireNode]
    shapes: dict[str, Shape]


def check_graph(data: bytes) -> CheckedGraph:
    """Check model.onnx; what passes holds only what this project's exporter writes.

    Raises:
        BundleError: Saying what else it holds, or what is wrong with it.
    """
    try:
        graph = read_graph(data)
        _check_versions(graph)
        walk = _Walk(graph)
        for place, node in enumerate(graph.nodes):
            _add(walk, place, node)
        walk.check_outputs(graph.outputs)
        _check_operators(graph)
        return CheckedGraph(graph.nodes, walk.shapes())
    except ValueError as error:
        reason = str(error)
        short = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
        raise BundleError(
            f"model.onnx cannot be loaded: {short}. It is not a graph that lnn-edge writes; export the bundle again"
        ) from error


def _check_versions(graph: WireGraph) -> None:
    """One of the pairs that the exporter writes; older versions of it wrote the last alone."""
    if (graph.opset, graph.ir_version) not in VERSIONS:
        named = " or ".join(f"{ir} and {opset}" for opset, ir in VERSIONS)
        raise ValueError(f"it asks for IR {graph.ir_version} and opset {graph.opset}, not {named}")


def _check_operators(graph: WireGraph) -> None:
    if (graph.opset, graph.ir_version) < lowest_versions(node.operator for node in graph.nodes):
        raise ValueError(f"it holds an operator that opset {graph.opset} has not")


def _add(walk: _Walk, place: int, node: WireNode) -> None:
    try:
        walk.add(node)
    except ValueError as error:
        raise ValueError(f"{node_text(place, node)}: {error}") from error


class _Walk:
    """What is known of the values so far; `Form.result` looks tensors up here."""

    def __init__(self, graph: WireGraph) -> None:
        self._known: dict[str, _Known] = {}
        self._constants: dict[str, WireTensor] = {}
        self._made: set[str] = set()
        self._elements = self._work = 0
        for value in graph.inputs:
            if value.kind not in _INPUTS:
                own = f"input {value.name[:80]!r}{taker_text(value.name, graph.nodes)}"
                raise ValueError(f"{own}: it has type {value.kind}, expected float32, int32 or uint8")
            self._declare(value.name, _Known(value.kind, value.shape))
        for constant in graph.constants:
            self._declare(constant.name, _Known(constant.kind, constant.shape))
            _check_constant(constant)
            self._constants[constant.name] = constant

    def add(self, node: WireNode) -> None:
        """Check a node, and declare what it makes."""
        _check_form(node)
        try:
            operands = [self._known[name] for name in node.inputs]
        except KeyError as error:
            raise ValueError(f"it takes {error.args[0][:80]!r}, which is not made before it") from None
        results = _RESULTS[node.operator](self, node, operands)
        if len(results) != len(node.outputs):
            raise ValueError(f"it makes {len(node.outputs)} values, expected {len(results)}")
        for name, known in zip(node.outputs, results, strict=True):
            self._declare(name, known)
            self._made.add(name)

    def check_outputs(self, outputs: Sequence[WireValue]) -> None:
        """Outputs are float32 values that nodes make, of the shapes that they are said to have."""
        for value in outputs:
            if value.name not in self._made:
                raise ValueError(f"no node makes output {value.name[:80]!r}")
            self._made.remove(value.name)
            if self._known[value.name] != (FLOAT, value.shape) or value.kind != FLOAT:
                raise ValueError(f"output {value.name[:80]!r} is not float32 of the shape that it is said to have")

    def shapes(self) -> dict[str, Shape]:
        """Of all values so far, by name."""
        return {name: known.shape for name, known in self._known.items()}

    def tensor(self, name: str, shape: Sequence[int | None] | None = None) -> Shape:
        """See `Lookup.tensor`."""
        found = self._constant(name).shape
        if shape is not None and not (
            len(found) == len(shape) and all(want in (None, size) for size, want in zip(found, shape, strict=True))
        ):
            raise ValueError(f"{name[:80]!r} has shape {list(found)}, expected {list(shape)}")
        return found

    def indices(self, name: str, below: int) -> Shape:
        """See `Lookup.indices`."""
        values = self._whole(name)
        if values.min() < 0 or values.max() >= below:
            raise ValueError(f"{name[:80]!r} holds indices outside 0 to {below - 1}")
        return self._constants[name].shape

    def numbers(self, name: str) -> tuple[int, ...]:
        """The whole numbers of a constant with one axis: sizes or axes."""
        values = self._whole(name)
        if len(self._constants[name].shape) != 1 or values.size > _MAX_NUMBERS:
            raise ValueError(f"{name[:80]!r} is no short list of whole numbers")
        return tuple(values.tolist())

    def count(self, multiplications: int) -> None:
        """Add to the work of a step."""
        self._work += multiplications
        if self._work > MAX_MULTIPLICATIONS:
            raise ValueError(f"a step of more than {MAX_MULTIPLICATIONS} multiplications")

    def _declare(self, name: str, known: _Known) -> None:
        if not name or name in self._known:
            raise ValueError(f"the name {name[:80]!r} is empty, or made twice")
        size = math.prod(known.shape)
        if len(known.shape) > _MAX_AXES or min(known.shape, default=1) < 1 or size > MAX_ELEMENTS:
            raise ValueError(f"{name[:80]!r} has shape {_short(known.shape)}, expected at most {MAX_ELEMENTS} elements")
        self._elements += size
        if self._elements > MAX_TOTAL_ELEMENTS:
            raise ValueError(f"values of more than {MAX_TOTAL_ELEMENTS} elements together")
        self._known[name] = known

    def _constant(self, name: str) -> WireTensor:
        if name not in self._constants:
            raise ValueError(f"{name[:80]!r} is no constant")
        return self._constants[name]

    def _whole(self, name: str) -> Array:
        constant = self._constant(name)
        if constant.kind != INT64:
            raise ValueError(f"{name[:80]!r} is not int64")
        return np.frombuffer(constant.data, "<i8")


def _check_constant(constant: WireTensor) -> None:
    if constant.kind not in _BYTES:
        raise ValueError(f"constant {constant.name[:80]!r} has type {constant.kind}: not float, float16, int64 or bool")
    needed = math.prod(constant.shape) * _BYTES[constant.kind]
    if len(constant.data) != needed:
        raise ValueError(f"constant {constant.name[:80]!r} has {len(constant.data)} bytes, expected {needed}")
    if constant.kind == BOOL and np.frombuffer(constant.data, np.uint8).max() > 1:
        raise ValueError(f"constant {constant.name[:80]!r} is neither true nor false somewhere")


def _check_form(node: WireNode) -> None:
    """The operator, by name, with exactly the attributes that it has in the exporter."""
    if node.operator not in ATTRIBUTES:
        raise ValueError("an operator that no step uses")
    given, needed = node.attributes.keys(), ATTRIBUTES[node.operator]
    if given != needed and not needed <= given <= needed | _OPTIONAL.get(node.operator, frozenset()):
        raise ValueError(f"attributes {_short(sorted(given))}, expected {sorted(needed)}")
    for name, value in node.attributes.items():
        kind = tuple if name in _LISTS else float if name in _REALS else int
        if type(value) is not kind:
            raise ValueError(f"attribute `{name}` is {value!r}"[:200])


def _short(values: Sequence[object]) -> str:
    return str(list(values[:_MAX_AXES]))


def _numbers(operands: Sequence[_Known]) -> int:
    """The type of operands that are numbers, all of the same."""
    kinds = {operand.kind for operand in operands}
    kind = operands[0].kind
    if kind not in _NUMBERS or len(kinds) > 1:
        raise ValueError(f"operands of types {_short([operand.kind for operand in operands])}")
    return kind


def _require(node: WireNode, *counts: int) -> None:
    if len(node.inputs) not in counts:
        raise ValueError(f"{len(node.inputs)} operands, expected {' or '.join(map(str, counts))}")


def _operation(node: WireNode, shape: Shape, /, **more: Any) -> Operation:
    """The same in a step program, as far as its shape goes."""
    own = {name: value for name, value in node.attributes.items() if name in _SAME_IN_A_PROGRAM}
    if "axis" in own and own["axis"] == -1:
        own["axis"] = len(shape) - 1
    return Operation(op=node.operator, inputs=(), output="", **(own | more))


def _as_in_a_program(walk: _Walk, node: WireNode, operands: list[_Known], /, **more: Any) -> _Results:
    """By the form that the operation has in a step program."""
    form = OPERATIONS[node.operator]
    if len(operands) < 1 or form.operands not in (None, len(operands)):
        raise ValueError(f"{len(operands)} operands, expected {form.operands or '1 or more'}")
    first = operands[0].kind
    if form.truth is None:  # it moves what it is given
        kind = first if first == BOOL else _numbers(operands)
    else:
        truths, rest = operands[: form.truths], operands[form.truths :]
        if any(operand.kind != BOOL for operand in truths):
            raise ValueError("an operand is not true or false")
        kind = _numbers(rest) if rest else BOOL
    shapes = [operand.shape for operand in operands]
    if not node.attributes and not more and shapes.count(shapes[0]) == len(shapes) and node.operator != "MatMul":
        shape = shapes[0]  # all that have neither attributes nor tensors are elementwise, but for products
    else:
        shape = form.result(_operation(node, shapes[0], **more), walk, *shapes)
    return [_Known(BOOL if form.truth else kind, shape)]


def _identity(_walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    _require(node, 1)
    _numbers(operands)
    return operands


def _cast(_walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    _require(node, 1)
    kind, to = operands[0].kind, node.attributes["to"]
    allowed = {FLOAT: FLOAT16, FLOAT16: FLOAT, INT32: FLOAT, UINT8: FLOAT}
    if allowed.get(kind) != to:
        raise ValueError(f"from type {kind} to {to}")
    return [_Known(allowed[kind], operands[0].shape)]


def _gemm(walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    _require(node, 2, 3)
    kind, (a, b) = _numbers(operands), (operand.shape for operand in operands[:2])
    if len(a) != 2 or len(b) != 2 or a[1] != b[0]:
        raise ValueError(f"operands {list(a)} and {list(b)}")
    shape = (a[0], b[1])
    if len(operands) == 3:
        own = operands[2].shape
        if own != shape[1:] and (not 1 <= len(own) <= 2 or not _spreads(own, shape)):
            raise ValueError(f"an addend {list(own)} for {list(shape)}")
    walk.count(a[0] * a[1] * b[1])
    return [_Known(kind, shape)]


def _spreads(own: Shape, shape: Shape) -> bool:
    return all(n in (1, m) for n, m in zip(own[::-1], shape[::-1], strict=False))


def _matmul(walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    results = _as_in_a_program(walk, node, operands)
    walk.count(math.prod(results[0].shape) * operands[0].shape[-1])
    return results


def _conv(walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    _require(node, 2, 3)
    _numbers(operands)
    names = dict(zip("WB", node.inputs[1:], strict=False))
    results = _as_in_a_program(walk, node, operands[:1], weights=names)
    kernel = operands[1].shape
    if node.attributes["kernel_shape"] != kernel[2:] or len(operands[0].shape) != len(kernel):
        raise ValueError(f"a kernel {list(kernel)} for {list(operands[0].shape)}")
    walk.count(math.prod(results[0].shape) * math.prod(kernel[1:]))
    return results


def _pool(walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    _require(node, 1)
    kernel, include = node.attributes["kernel_shape"], node.attributes.get("count_include_pad", 1)
    if not isinstance(kernel, tuple) or len(operands[0].shape) != len(kernel) + 2 or include != 1:
        raise ValueError(f"a kernel {kernel} for {_short(operands[0].shape)}")
    pads = node.attributes.get("pads", (0,) * 2 * len(kernel))
    results = _as_in_a_program(walk, node, operands, kernel=kernel, pads=pads)
    walk.count(math.prod(results[0].shape) * math.prod(kernel))
    return results


def _normalization(walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    _require(node, 3)
    _numbers(operands)
    if node.attributes["axis"] != -1:
        raise ValueError("it does not normalise the last axis")
    names = {"scale": node.inputs[1], "bias": node.inputs[2]}
    form, shape = OPERATIONS[node.operator], operands[0].shape
    own = Operation(
        op=node.operator,
        inputs=(),
        output="",
        weights=names,
        epsilon=float(node.attributes["epsilon"]),  # type: ignore[arg-type]
    )
    return [_Known(operands[0].kind, form.result(own, walk, shape))]


def _reduction(walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    if node.attributes["keepdims"] != 1:
        raise ValueError("it drops its axes")
    return _as_in_a_program(walk, node, operands)


def _sum(walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    _require(node, 2)
    axes, kept = walk.numbers(node.inputs[1]), node.attributes["keepdims"]
    ((kind, shape),) = _as_in_a_program(walk, node, operands[:1], axes=axes)
    if kept not in (0, 1):
        raise ValueError(f"attribute `keepdims` is {kept}")
    return [_Known(kind, shape if kept else tuple(n for k, n in enumerate(shape) if k not in axes))]


def _shaped(walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    _require(node, 2)
    return _as_in_a_program(walk, node, operands[:1], shape=walk.numbers(node.inputs[1]))


def _slice(walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    _require(node, 5)
    bounds = [walk.numbers(name) for name in node.inputs[1:]]
    if any(len(bound) != 1 for bound in bounds):
        raise ValueError("it cuts more than one axis")
    names = ("start", "stop", "axis", "step")
    own = {name: number for name, (number,) in zip(names, bounds, strict=True)}
    return _as_in_a_program(walk, node, operands[:1], **own)


def _gather(walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    _require(node, 2)
    return _as_in_a_program(walk, node, operands[:1], weights={"indices": node.inputs[1]})


def _gather_elements(walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    _require(node, 2)
    kind, shape = _numbers(operands[:1]), operands[0].shape
    if len(shape) != 2 or node.attributes["axis"] != 1:
        raise ValueError(f"axis {node.attributes['axis']} of {list(shape)}")
    index = walk.indices(node.inputs[1], shape[1])
    if len(index) != 2 or index[0] != shape[0]:
        raise ValueError(f"indices {list(index)} into {list(shape)}")
    return [_Known(kind, index)]


def _split(walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    _require(node, 2)
    kind, shape, axis = _numbers(operands[:1]), operands[0].shape, node.attributes["axis"]
    sizes = walk.numbers(node.inputs[1])
    if not isinstance(axis, int) or not 0 <= axis < len(shape) or min(sizes) < 1 or sum(sizes) != shape[axis]:
        raise ValueError(f"axis {axis} of {list(shape)} in pieces {_short(sizes)}")
    return [_Known(kind, (*shape[:axis], size, *shape[axis + 1 :])) for size in sizes]


def _unsqueeze(walk: _Walk, node: WireNode, operands: list[_Known]) -> _Results:
    _require(node, 2)
    kind, shape, axes = _numbers(operands[:1]), operands[0].shape, walk.numbers(node.inputs[1])
    if len(axes) != 1 or not 0 <= axes[0] <= len(shape):
        raise ValueError(f"axes {_short(axes)} of {list(shape)}")
    return [_Known(kind, (*shape[: axes[0]], 1, *shape[axes[0] :]))]


_RESULTS: Mapping[str, Callable[[_Walk, WireNode, list[_Known]], _Results]] = {
    **dict.fromkeys(sorted(OPERATORS & set(OPERATIONS)), _as_in_a_program),
    **dict.fromkeys(["Expand", "Reshape"], _shaped),
    **dict.fromkeys(["ReduceMax", "ReduceMean", "ReduceMin"], _reduction),
    **dict.fromkeys(["AveragePool", "MaxPool"], _pool),
    "Cast": _cast,
    "Conv": _conv,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Gemm": _gemm,
    "Identity": _identity,
    "LayerNormalization": _normalization,
    "MatMul": _matmul,
    "ReduceSum": _sum,
    "Slice": _slice,
    "Split": _split,
    "Unsqueeze": _unsqueeze,
}
