"""Rules of the operators of a bundle's graph: attributes, operands, types and shapes of results, and their work."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from .onnx_wire import BOOL, FLOAT, FLOAT16, INT32, UINT8, WireNode
from .operations import OPERATIONS, Operation, Shape
from .opset import OPERATORS

__all__ = ["ATTRIBUTES", "RESULTS", "Constants", "Known", "check_form", "short"]

_SHOWN = 16  # of a list in a message, which the file may have made long
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


class Known(NamedTuple):
    """A value of the graph: type and shape."""

    kind: int
    shape: Shape


_Results = list[Known]


class Constants(Protocol):
    """What a rule may ask for; each raises ValueError if there is no such constant, or it does not fit."""

    def tensor(self, name: str, shape: Sequence[int | None] | None = None) -> Shape:
        """See `Lookup.tensor`."""

    def indices(self, name: str, below: int) -> Shape:
        """See `Lookup.indices`."""

    def numbers(self, name: str) -> tuple[int, ...]:
        """The whole numbers of a constant with one axis: sizes or axes."""

    def count(self, multiplications: int) -> None:
        """Add to the work of a step."""


def check_form(node: WireNode) -> None:
    """The operator, by name, with exactly the attributes that it has in the exporter."""
    if node.operator not in ATTRIBUTES:
        raise ValueError("an operator that no step uses")
    given, needed = node.attributes.keys(), ATTRIBUTES[node.operator]
    if given != needed and not needed <= given <= needed | _OPTIONAL.get(node.operator, frozenset()):
        raise ValueError(f"attributes {short(sorted(given))}, expected {sorted(needed)}")
    for name, value in node.attributes.items():
        kind = tuple if name in _LISTS else float if name in _REALS else int
        if type(value) is not kind:
            raise ValueError(f"attribute `{name}` is {value!r}"[:200])


def short(values: Sequence[object]) -> str:
    """A list as messages show it."""
    return str(list(values[:_SHOWN]))


def _numbers(operands: Sequence[Known]) -> int:
    """The type of operands that are numbers, all of the same."""
    kinds = {operand.kind for operand in operands}
    kind = operands[0].kind
    if kind not in _NUMBERS or len(kinds) > 1:
        raise ValueError(f"operands of types {short([operand.kind for operand in operands])}")
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


def _as_in_a_program(constants: Constants, node: WireNode, operands: list[Known], /, **more: Any) -> _Results:
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
        shape = form.result(_operation(node, shapes[0], **more), constants, *shapes)
    return [Known(BOOL if form.truth else kind, shape)]


def _identity(_constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    _require(node, 1)
    _numbers(operands)
    return operands


def _cast(_constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    _require(node, 1)
    kind, to = operands[0].kind, node.attributes["to"]
    allowed = {FLOAT: FLOAT16, FLOAT16: FLOAT, INT32: FLOAT, UINT8: FLOAT}
    if allowed.get(kind) != to:
        raise ValueError(f"from type {kind} to {to}")
    return [Known(allowed[kind], operands[0].shape)]


def _gemm(constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    _require(node, 2, 3)
    kind, (a, b) = _numbers(operands), (operand.shape for operand in operands[:2])
    if len(a) != 2 or len(b) != 2 or a[1] != b[0]:
        raise ValueError(f"operands {list(a)} and {list(b)}")
    shape = (a[0], b[1])
    if len(operands) == 3:
        own = operands[2].shape
        if own != shape[1:] and (not 1 <= len(own) <= 2 or not _spreads(own, shape)):
            raise ValueError(f"an addend {list(own)} for {list(shape)}")
    constants.count(a[0] * a[1] * b[1])
    return [Known(kind, shape)]


def _spreads(own: Shape, shape: Shape) -> bool:
    return all(n in (1, m) for n, m in zip(own[::-1], shape[::-1], strict=False))


def _matmul(constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    results = _as_in_a_program(constants, node, operands)
    constants.count(math.prod(results[0].shape) * operands[0].shape[-1])
    return results


def _conv(constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    _require(node, 2, 3)
    _numbers(operands)
    names = dict(zip("WB", node.inputs[1:], strict=False))
    results = _as_in_a_program(constants, node, operands[:1], weights=names)
    kernel = operands[1].shape
    if node.attributes["kernel_shape"] != kernel[2:] or len(operands[0].shape) != len(kernel):
        raise ValueError(f"a kernel {list(kernel)} for {list(operands[0].shape)}")
    constants.count(math.prod(results[0].shape) * math.prod(kernel[1:]))
    return results


def _pool(constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    _require(node, 1)
    kernel, include = node.attributes["kernel_shape"], node.attributes.get("count_include_pad", 1)
    if not isinstance(kernel, tuple) or len(operands[0].shape) != len(kernel) + 2 or include != 1:
        raise ValueError(f"a kernel {kernel} for {short(operands[0].shape)}")
    pads = node.attributes.get("pads", (0,) * 2 * len(kernel))
    results = _as_in_a_program(constants, node, operands, kernel=kernel, pads=pads)
    constants.count(math.prod(results[0].shape) * math.prod(kernel))
    return results


def _normalization(constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
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
    return [Known(operands[0].kind, form.result(own, constants, shape))]


def _reduction(constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    if node.attributes["keepdims"] != 1:
        raise ValueError("it drops its axes")
    return _as_in_a_program(constants, node, operands)


def _sum(constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    _require(node, 2)
    axes, kept = constants.numbers(node.inputs[1]), node.attributes["keepdims"]
    ((kind, shape),) = _as_in_a_program(constants, node, operands[:1], axes=axes)
    if kept not in (0, 1):
        raise ValueError(f"attribute `keepdims` is {kept}")
    return [Known(kind, shape if kept else tuple(n for k, n in enumerate(shape) if k not in axes))]


def _shaped(constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    _require(node, 2)
    return _as_in_a_program(constants, node, operands[:1], shape=constants.numbers(node.inputs[1]))


def _slice(constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    _require(node, 5)
    bounds = [constants.numbers(name) for name in node.inputs[1:]]
    if any(len(bound) != 1 for bound in bounds):
        raise ValueError("it cuts more than one axis")
    names = ("start", "stop", "axis", "step")
    own = {name: number for name, (number,) in zip(names, bounds, strict=True)}
    return _as_in_a_program(constants, node, operands[:1], **own)


def _gather(constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    _require(node, 2)
    return _as_in_a_program(constants, node, operands[:1], weights={"indices": node.inputs[1]})


def _gather_elements(constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    _require(node, 2)
    kind, shape = _numbers(operands[:1]), operands[0].shape
    if len(shape) != 2 or node.attributes["axis"] != 1:
        raise ValueError(f"axis {node.attributes['axis']} of {list(shape)}")
    index = constants.indices(node.inputs[1], shape[1])
    if len(index) != 2 or index[0] != shape[0]:
        raise ValueError(f"indices {list(index)} into {list(shape)}")
    return [Known(kind, index)]


def _split(constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    _require(node, 2)
    kind, shape, axis = _numbers(operands[:1]), operands[0].shape, node.attributes["axis"]
    sizes = constants.numbers(node.inputs[1])
    if not isinstance(axis, int) or not 0 <= axis < len(shape) or min(sizes) < 1 or sum(sizes) != shape[axis]:
        raise ValueError(f"axis {axis} of {list(shape)} in pieces {short(sizes)}")
    return [Known(kind, (*shape[:axis], size, *shape[axis + 1 :])) for size in sizes]


def _unsqueeze(constants: Constants, node: WireNode, operands: list[Known]) -> _Results:
    _require(node, 2)
    kind, shape, axes = _numbers(operands[:1]), operands[0].shape, constants.numbers(node.inputs[1])
    if len(axes) != 1 or not 0 <= axes[0] <= len(shape):
        raise ValueError(f"axes {short(axes)} of {list(shape)}")
    return [Known(kind, (*shape[: axes[0]], 1, *shape[axes[0] :]))]


RESULTS: Mapping[str, Callable[[Constants, WireNode, list[Known]], _Results]] = {
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
