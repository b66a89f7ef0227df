"""The operations of a step program in NumPy, in the dtype of the operands: a line for each.

Every function takes the node, the tensors of the program, and the operands, (rows, *shape) each: what has the same
shape for one row has it here behind the axis of the rows. A tensor of the program among the operands has one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from ..bundle.operations import Operation
from .functions import sigmoid, softplus

__all__ = ["COMPUTED", "Compute"]

Tensors = Mapping[str, Array]
Compute = Callable[..., Array]

_erf_of_each = np.vectorize(math.erf, otypes=[np.float64])


def _erf(x: Array) -> Array:
    return np.asarray(_erf_of_each(x), x.dtype)


def _each(function: Callable[..., Array]) -> Compute:
    """Of each element; operands of different rank are aligned at their last axes, behind the rows."""
    return lambda _node, _tensors, *operands: function(*_aligned(operands))


def _aligned(operands: tuple[Array, ...]) -> list[Array]:
    rank = max(x.ndim for x in operands)
    return [x.reshape(len(x), *(1 for _ in range(rank - x.ndim)), *x.shape[1:]) for x in operands]


def _reduced(function: Callable[..., Array]) -> Compute:
    return lambda node, _tensors, x: function(x, axis=tuple(k + 1 for k in node.axes), keepdims=True)


def _softmax(node: Operation, tensors: Tensors, x: Array) -> Array:
    return np.exp(_log_softmax(node, tensors, x))


def _log_softmax(node: Operation, _tensors: Tensors, x: Array) -> Array:
    axis = node.axis + 1
    shifted = x - x.max(axis=axis, keepdims=True)  # so that no exponential overflows
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return result


def _expand(node: Operation, _tensors: Tensors, x: Array) -> Array:
    return np.broadcast_to(_behind_rows(x, len(node.shape)), (len(x), *node.shape))


def _behind_rows(x: Array, rank: int) -> Array:
    return x.reshape(len(x), *(1 for _ in range(rank + 1 - x.ndim)), *x.shape[1:])


def _slice(node: Operation, _tensors: Tensors, x: Array) -> Array:
    picked = [slice(None)] * x.ndim
    picked[node.axis + 1] = slice(node.start, node.stop, node.step)
    return x[tuple(picked)]


def _concat(node: Operation, _tensors: Tensors, *parts: Array) -> Array:
    rows = max(len(part) for part in parts)
    return np.concatenate([np.broadcast_to(part, (rows, *part.shape[1:])) for part in parts], axis=node.axis + 1)


def _gemm(node: Operation, tensors: Tensors, x: Array) -> Array:
    y: Array = x @ tensors[node.weights["B"]]
    return y if "C" not in node.weights else y + tensors[node.weights["C"]]


def _matmul(_node: Operation, _tensors: Tensors, a: Array, b: Array) -> Array:
    first, second = _aligned((a, b))
    result: Array = first @ second
    return result


def _layer_normalization(node: Operation, tensors: Tensors, x: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    plain = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + node.epsilon)
    result: Array = plain * tensors[node.weights["scale"]] + tensors[node.weights["bias"]]
    return result


def _windows(node: Operation, x: Array, reach: list[int], filler: float) -> Array:
    """The windows of the last axes, which are made anew: (..., *places, *reach)."""
    space = len(reach)
    padded = _padded(x, node.pads[:space], node.pads[space:], filler)
    axes = tuple(range(x.ndim - space, x.ndim))
    every = np.lib.stride_tricks.sliding_window_view(padded, reach, axes)
    strided = [slice(None, None, step) for step in node.strides]
    return _picked(every, [*strided, *[slice(None)] * space])


def _padded(x: Array, before: Sequence[int], behind: Sequence[int], filler: float) -> Array:
    """The last axes, longer by some of the filler; `np.pad` takes longer for it than a small product."""
    lead, size = x.shape[: -len(before)], x.shape[-len(before) :]
    padded = np.full((*lead, *(a + n + b for a, n, b in zip(before, size, behind, strict=True))), filler, x.dtype)
    _picked(padded, [slice(a, a + n) for a, n in zip(before, size, strict=True)])[...] = x
    return padded


def _picked(x: Array, last: list[slice]) -> Array:
    """A part of the last axes."""
    picked: Any = (..., *last)
    result: Array = x[picked]
    return result


def _pool(function: Callable[..., Array], filler: float) -> Compute:
    def pooled(node: Operation, _tensors: Tensors, x: Array) -> Array:
        space = len(node.kernel)
        return function(_windows(node, x, list(node.kernel), filler), axis=tuple(range(-space, 0)))

    return pooled


def _conv(node: Operation, tensors: Tensors, x: Array) -> Array:
    kernel = tensors[node.weights["W"]]
    outputs, taken, *size = kernel.shape
    space, lead = len(size), x.shape[: -len(size) - 1]
    groups = x.reshape(-1, node.group, taken, *x.shape[-space:])
    reach = [d * (k - 1) + 1 for k, d in zip(size, node.dilations, strict=True)]
    windows = _windows(node, groups, reach, 0.0)
    windows = _picked(windows, [slice(None, None, d) for d in node.dilations])
    places = windows.shape[3 : 3 + space]
    # (n, group, in, *places, *size) to (n, group, places, in size), which one matrix product per row and group takes
    flat = np.moveaxis(windows, 2, 2 + space).reshape(len(groups), node.group, math.prod(places), -1)
    weights = kernel.reshape(node.group, outputs // node.group, -1)
    y: Array = (weights @ flat.swapaxes(2, 3)).reshape(*lead, outputs, *places)
    return y if "B" not in node.weights else y + tensors[node.weights["B"]].reshape(-1, *(1 for _ in size))


COMPUTED: Mapping[str, Compute] = {
    "Abs": _each(np.abs),
    "Atan": _each(np.arctan),
    "Cos": _each(np.cos),
    "Erf": _each(_erf),
    "Exp": _each(np.exp),
    "Floor": _each(np.floor),
    "Log": _each(np.log),
    "Neg": _each(np.negative),
    "Relu": _each(lambda x: np.maximum(x, 0.0)),
    "Sigmoid": _each(sigmoid),
    "Sin": _each(np.sin),
    "Softplus": _each(softplus),
    "Sqrt": _each(np.sqrt),
    "Tanh": _each(np.tanh),
    "Add": _each(np.add),
    "Sub": _each(np.subtract),
    "Mul": _each(np.multiply),
    "Div": _each(np.divide),
    "Max": _each(np.maximum),
    "Min": _each(np.minimum),
    "Pow": _each(np.power),
    "Equal": _each(np.equal),
    "Greater": _each(np.greater),
    "GreaterOrEqual": _each(np.greater_equal),
    "Less": _each(np.less),
    "LessOrEqual": _each(np.less_equal),
    "And": _each(np.logical_and),
    "Or": _each(np.logical_or),
    "Not": _each(np.logical_not),
    "Where": _each(np.where),
    "Elu": lambda node, _, x: np.where(x > 0, x, node.alpha * np.expm1(np.minimum(x, 0.0))),
    "LeakyRelu": lambda node, _, x: np.where(x > 0, x, node.alpha * x),
    "HardSigmoid": lambda node, _, x: np.clip(node.alpha * x + node.beta, 0.0, 1.0),
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "ReduceSum": _reduced(np.sum),
    "ReduceMean": _reduced(np.mean),
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
    "Reshape": lambda node, _, x: x.reshape(len(x), *node.shape),
    "Expand": _expand,
    "Transpose": lambda node, _, x: x.transpose(0, *(k + 1 for k in node.perm)),
    "Slice": _slice,
    "Gather": lambda node, tensors, x: np.take(x, tensors[node.weights["indices"]], axis=node.axis + 1),
    "Concat": _concat,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
    "LayerNormalization": _layer_normalization,
    "MaxPool": _pool(np.max, -np.inf),
    "AveragePool": _pool(np.mean, 0.0),
}
