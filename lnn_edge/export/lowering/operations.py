"""The operations of a step program as ONNX nodes: a line for each.

Every function takes the lowering, the node, and its operands. Values are kept in whatever shape their producer made; a
node for reshaping appears where an operator really needs another one, so a network whose samples are vectors runs on
two axes throughout. The axis of the rows comes first, so axes are one further than in the program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ...arrays import Array
from ...bundle.operations import Operation
from ..graph.builder import Shape, Value
from .values import Values

__all__ = ["LOWERED", "Lower", "Operand"]

Operand = Value | Array  # an array is a tensor of the program, the same for every row
Lower = Callable[..., Value]


def _unary(*attributes: str) -> Lower:
    """Of each element; the shape does not matter."""

    def lower(values: Values, node: Operation, x: Operand) -> Value:
        whole, own = values.whole(x), {name: getattr(node, name) for name in attributes}
        return Value(values.graph.node(node.op, whole.name(), **own), whole.physical, whole.logical)

    return lower


def _elementwise(values: Values, node: Operation, *operands: Operand) -> Value:
    """Broadcasting, on the axis of the rows and on those where the result is longer than one."""
    logical = values.shape(node.output)
    kept = _kept(logical)
    names = [values.operand(operand, logical, kept) for operand in operands]
    return Value(values.graph.node(node.op, *names), tuple(logical[k] for k in kept), logical)


def _kept(logical: Shape, *always: int) -> list[int]:
    kept = [k for k, n in enumerate(logical) if k == 0 or n != 1 or k in always]
    return kept if len(kept) > 1 else list(range(len(logical)))[:2]


def _plain(write: Callable[[Values, Operation, str], str]) -> Lower:
    """On the shape that the program has, behind the rows."""

    def lower(values: Values, node: Operation, x: Operand) -> Value:
        shape = values.shape(node.output)
        return Value(write(values, node, values.plain(x)), shape, shape)

    return lower


def _along_axis(values: Values, node: Operation, x: str) -> str:
    return values.graph.node(node.op, x, axis=node.axis + 1)


def _reduction(values: Values, node: Operation, x: str) -> str:
    axes = [axis + 1 for axis in node.axes]
    if node.op == "ReduceSum":  # its axes became an input in opset 13
        return values.graph.node(node.op, x, values.graph.integers(axes), keepdims=1)
    return values.graph.node(node.op, x, axes=axes, keepdims=1)


def _reshape(values: Values, node: Operation, x: Operand) -> Value:
    return values.whole(x).viewed(values.shape(node.output))


def _expand(values: Values, node: Operation, x: Operand) -> Value:
    shape = values.shape(node.output)
    name = values.graph.node("Expand", values.aligned(x, len(shape)), values.graph.integers(shape))
    return Value(name, shape, shape)


def _transpose(values: Values, node: Operation, x: str) -> str:
    return values.graph.node("Transpose", x, perm=[0, *(k + 1 for k in node.perm)])


def _slice(values: Values, node: Operation, x: str) -> str:
    bounds = [values.graph.integers([n]) for n in (node.start, node.stop, node.axis + 1, node.step)]
    return values.graph.node("Slice", x, *bounds)


def _gather(values: Values, node: Operation, x: str) -> str:
    index = values.graph.integers(values.tensors[node.weights["indices"]])
    return values.graph.node("Gather", x, index, axis=node.axis + 1)


def _concat(values: Values, node: Operation, *parts: Operand) -> Value:
    logical = values.shape(node.output)
    kept = _kept(logical, node.axis + 1)
    whole = [values.whole(part) for part in parts]
    names = [values.shaped(part, [part.logical[k] for k in kept]) for part in whole]
    name = values.graph.node("Concat", *names, axis=kept.index(node.axis + 1))
    return Value(name, tuple(logical[k] for k in kept), logical)


def _gemm(values: Values, node: Operation, x: Operand) -> Value:
    logical, weight = values.shape(node.output), values.tensors[node.weights["B"]]
    rows = math.prod(logical[:-1])
    addend = values.tensors[node.weights["C"]] if "C" in node.weights else None
    name = values.graph.linear(values.shaped(values.whole(x), (rows, len(weight))), weight, addend)
    return Value(name, (rows, logical[-1]), logical)


def _matmul(values: Values, node: Operation, a: Operand, b: Operand) -> Value:
    shape = values.shape(node.output)
    operands = [values.aligned(operand, len(shape)) for operand in (a, b)]
    return Value(values.graph.node("MatMul", *operands), shape, shape)


def _layer_normalization(values: Values, node: Operation, x: Operand) -> Value:
    logical = values.shape(node.output)
    rows = (math.prod(logical[:-1]), logical[-1])
    weights = [values.graph.constant(values.tensors[node.weights[name]]) for name in ("scale", "bias")]
    names = [values.shaped(values.whole(x), rows), *weights]
    return Value(values.graph.node(node.op, *names, axis=-1, epsilon=node.epsilon), rows, logical)


def _conv(values: Values, node: Operation, x: Operand) -> Value:
    kernel = values.tensors[node.weights["W"]]
    weights = [values.graph.constant(values.tensors[node.weights[name]]) for name in ("W", "B") if name in node.weights]
    attributes = {"strides": node.strides, "pads": node.pads, "dilations": node.dilations}
    return _over_space(values, node, x, weights, kernel.shape[2:], group=node.group, **attributes)


def _pool(values: Values, node: Operation, x: Operand) -> Value:
    padded = {"count_include_pad": 1} if node.op == "AveragePool" and any(node.pads) else {}
    return _over_space(values, node, x, [], node.kernel, strides=node.strides, pads=node.pads, **padded)


def _over_space(
    values: Values, node: Operation, x: Operand, weights: list[str], kernel: Shape, **attributes: Any
) -> Value:
    """An operation that takes (rows, channels, *space); whatever axes come before join the rows."""
    logical, whole = values.shape(node.output), values.whole(x)
    front = len(logical) - len(kernel) - 1
    rows = math.prod(logical[:front])
    own = {name: list(value) if isinstance(value, tuple) else value for name, value in attributes.items()}
    name = values.shaped(whole, (rows, *whole.logical[front:]))
    made = values.graph.node(node.op, name, *weights, kernel_shape=list(kernel), **own)
    return Value(made, (rows, *logical[front:]), logical)


LOWERED: Mapping[str, Lower] = {
    **dict.fromkeys(["Abs", "Atan", "Cos", "Erf", "Exp", "Floor", "Log", "Neg"], _unary()),
    **dict.fromkeys(["Relu", "Sigmoid", "Sin", "Softplus", "Sqrt", "Tanh"], _unary()),
    **dict.fromkeys(["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"], _elementwise),
    **dict.fromkeys(
        ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Not", "Where"], _elementwise
    ),
    **dict.fromkeys(["Elu", "LeakyRelu"], _unary("alpha")),
    "HardSigmoid": _unary("alpha", "beta"),
    **dict.fromkeys(["Softmax", "LogSoftmax"], _plain(_along_axis)),
    **dict.fromkeys(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"], _plain(_reduction)),
    "Reshape": _reshape,
    "Expand": _expand,
    "Transpose": _plain(_transpose),
    "Slice": _plain(_slice),
    "Gather": _plain(_gather),
    "Concat": _concat,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
    "LayerNormalization": _layer_normalization,
    **dict.fromkeys(["MaxPool", "AveragePool"], _pool),
}
