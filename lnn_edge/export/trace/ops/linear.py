"""Linear layers, convolutions, normalisation and pooling, one small rule per torch operation; see `trace.registry`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ....arrays import Array
from ....bundle.operations import Shape
from ..folding import Product, Scaled
from ..recorder import Value
from ..registry import LeftToTorch, Refused, Rules, folds
from ..translator import Translator
from .reductions import norm, reduced
from .views import cut, padded, permuted

__all__ = ["RULES", "along", "each", "linear", "with_channels"]


RULES = Rules()


@RULES.add("linear")
@folds
def linear(t: Translator, shape: Shape, x: Value, weight: Any, bias: Any = None) -> Value:
    """A product with a matrix (out, in), which takes what constants scale and shift the value before it."""
    if isinstance(weight, Value) or isinstance(bias, Value) or not isinstance(x, Value):
        raise LeftToTorch
    if weight.ndim == 1:  # a vector gives one number, and no axis for it
        return linear(t, (*shape, 1), x, weight[None], bias).viewed(shape)
    taken = (math.prod(shape[:-1]), int(weight.shape[1]))
    matrix, addend = _double(weight), None if bias is None else _double(bias)
    if isinstance(x, Scaled):
        x, factor, shift = x.into(taken, axis=1, shifts=True)
        addend = _plus(addend, matrix @ shift)
        matrix = matrix * factor

    def write(own: Array, own_addend: Array | None) -> str:
        weights = {"B": own.T} if own_addend is None else {"B": own.T, "C": own_addend}
        return t.recorder.operation("Gemm", x.name(), weights=weights)

    return Product(t.recorder, matrix, addend, (taken[0], shape[-1]), shape, write)


def _double(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().double().numpy()
    return array


def _plus(bias: Array | None, more: Array) -> Array | None:
    if not np.any(more):
        return bias
    return more if bias is None else bias + more


@RULES.add("cumsum")
@folds
def _cumsum(t: Translator, shape: Shape, x: Value, axis: int, **_keywords: Any) -> Value:
    """Sums of all elements up to each: a product with a triangle of ones, along the last axis."""
    axis = int(axis) % len(shape) if shape else 0
    if axis == len(shape) - 1:
        return linear(t, shape, x, torch.tril(torch.ones(shape[-1], shape[-1])))
    order = [k for k in range(len(shape)) if k != axis] + [axis]
    turned = permuted(t, tuple(shape[k] for k in order), x, order)
    sums = linear(t, turned.shape, turned, torch.tril(torch.ones(shape[axis], shape[axis])))
    return permuted(t, shape, sums, [order.index(k) for k in range(len(shape))])


@RULES.add("addmm")
@folds
def _addmm(t: Translator, shape: Shape, bias: Any, x: Any, weight: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    if isinstance(weight, Value) or isinstance(bias, Value) or (beta, alpha) != (1, 1):
        raise LeftToTorch
    return linear(t, shape, x, weight.T, bias)


@RULES.add("matmul", "mm", "bmm")
@folds
def _matmul(t: Translator, shape: Shape, a: Any, b: Any) -> Value:
    if isinstance(a, Value) and isinstance(b, torch.Tensor) and (b.ndim <= 2 or math.prod(b.shape[:-2]) == 1):
        matrix = b.reshape(b.shape[-2:]) if b.ndim > 1 else b
        return linear(t, shape, a, matrix.T if b.ndim > 1 else matrix)
    if 1 in (len(a.shape), len(b.shape)):
        raise LeftToTorch
    pair = [t.value(operand) for operand in (a, b)]
    rows = all(operand.shape[0] == 1 and len(operand.shape) > 2 for operand in pair)
    return t.made(shape, "MatMul", *(operand.shaped(operand.shape[1:] if rows else operand.shape) for operand in pair))


@RULES.add("einsum")
@folds
def _einsum(t: Translator, shape: Shape, equation: str, operands: Sequence[Any], **_keywords: Any) -> Value:
    """The forms that are a linear layer: the last axis of a value against one axis of a constant matrix."""
    left, _, result = equation.replace(" ", "").partition("->")
    x, _, matrix = left.partition(",")
    weight = operands[-1]
    if len(operands) == 2 and len(matrix) == 2 and not isinstance(weight, Value) and x and result:
        kept, (rest, summed) = matrix.replace(x[-1], ""), (result[:-1], x[-1])
        if summed in matrix and summed not in result and (rest, result[-1]) == (x[:-1], kept):
            return linear(t, shape, operands[0], weight if matrix[1] == summed else weight.T)
    raise LeftToTorch


@RULES.add("bilinear")
def _bilinear(t: Translator, shape: Shape, a: Any, b: Any, weight: Any, bias: Any = None) -> Value:
    """x1 W x2 + b: x1 W as one product, the sum over x2 behind it."""
    out, first, second = weight.shape
    rows = math.prod(shape[:-1])
    middle = linear(t, (rows, out * second), t.value(a).viewed((rows, first)), weight.movedim(1, 2).reshape(-1, first))
    wide = (rows, out, second)
    products = t.elementwise("Mul", wide, middle.viewed(wide), t.value(b).viewed((rows, 1, second)))
    total = reduced(t, shape, products, "ReduceSum", [2])
    return total if bias is None else t.elementwise("Add", shape, total, bias)


@RULES.add("cdist", "_cdist_forward")
def _distances(t: Translator, shape: Shape, a: Any, b: Any, order: float = 2.0, *_rest: Any) -> Value:
    """From each vector to each other; as torch does, without the squares that lose digits of near ones."""
    one, other = (value.viewed if isinstance(value, Value) else value.reshape for value in (a, b))
    wide = (*shape, int(a.shape[-1]))
    apart = t.elementwise(
        "Sub", wide, one((*a.shape[:-1], 1, a.shape[-1])), other((*b.shape[:-2], 1, *b.shape[-2:]))
    )  # fmt: skip
    return norm(t, shape, apart, float(order), [len(shape)])


def along(t: Translator, x: Value, axis: int, matrix: torch.Tensor) -> Value:
    """A product with a matrix (out, in) along one axis."""
    shape = (*x.shape[:axis], len(matrix), *x.shape[axis + 1 :])
    before, behind = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    if behind == 1:
        return linear(t, (before, len(matrix)), x.viewed((before, x.shape[axis])), matrix).viewed(shape)
    operand = x.viewed((before, x.shape[axis], behind))
    made = t.made(
        (before, len(matrix), behind), "MatMul", t.value(matrix).shaped(matrix.shape), operand.shaped(operand.shape)
    )
    return made.viewed(shape)


@RULES.add("conv1d", "conv2d", "conv3d")
@folds
def _conv(
    t: Translator, shape: Shape, x: Value, weight: torch.Tensor, bias: torch.Tensor | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    steps = each(dilation, weight.ndim - 2)
    if padding == "same":  # as torch does, the odd one behind
        around = [step * (size - 1) for step, size in zip(steps, weight.shape[2:], strict=True)]
        pads = [count // 2 for count in around] + [count - count // 2 for count in around]
    else:
        pads = each(0 if padding == "valid" else padding, weight.ndim - 2) * 2
    return _convolved(t, shape, x, weight, bias, each(stride, weight.ndim - 2), pads, steps, groups)


def each(value: Any, axes: int) -> list[int]:
    """One number for each axis, where torch takes one for all."""
    values = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
    return values * axes if len(values) == 1 else values


def _convolved(
    t: Translator, shape: Shape, x: Value, weight: Any, bias: Any, strides: list[int], pads: list[int],
    dilations: list[int], groups: int,
) -> Value:  # fmt: skip
    if not isinstance(x, Value) or isinstance(weight, Value) or isinstance(bias, Value):
        raise Refused("with a kernel that the model computes; export takes kernels that were trained")
    kernel, addend = _double(weight), None if bias is None else _double(bias)
    if isinstance(x, Scaled) and groups == 1:
        x, factor, shift = x.into(x.shape, axis=1, shifts=not any(pads))
        addend = _plus(addend, kernel.sum(axis=tuple(range(2, kernel.ndim))) @ shift)
        kernel = kernel * factor.reshape(-1, *(1 for _ in strides))

    def write(own: Array, own_addend: Array | None) -> str:
        weights = {"W": own} if own_addend is None else {"W": own, "B": own_addend}
        return t.recorder.operation(
            "Conv", with_channels(x), weights=weights, strides=tuple(strides), pads=tuple(pads),
            dilations=tuple(dilations), group=int(groups),
        )  # fmt: skip

    return Product(t.recorder, kernel, addend, shape, shape, write)


@RULES.add("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transposed(
    t: Translator, shape: Shape, x: Value, weight: torch.Tensor, bias: torch.Tensor | None = None, stride: Any = 1,
    padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Value:  # fmt: skip
    """A convolution of the samples with zeros between them, with the kernel turned around."""
    axes = weight.ndim - 2
    given = (each(value, axes) for value in (stride, padding, output_padding, dilation))
    strides, pads, more, steps = given
    turned = (
        weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1).flip(list(range(2, weight.ndim)))
    )
    spread = x
    for axis, count in enumerate(strides, 2):
        spread = _with_zeros_between(t, spread, axis, count)
    around = [step * (size - 1) for step, size in zip(steps, weight.shape[2:], strict=True)]
    ends = [(a - p, a - p + o) for a, p, o in zip(around, pads, more, strict=True)]
    spread = padded(t, spread, [(0, 0), (0, 0), *[(min(0, low), min(0, high)) for low, high in ends]], 0.0)
    outside = [max(0, end) for side in zip(*ends, strict=True) for end in side]
    return _convolved(t, shape, spread, turned, bias, [1] * axes, outside, steps, groups)


def _with_zeros_between(t: Translator, x: Value, axis: int, stride: int) -> Value:
    count = x.shape[axis]
    if stride == 1 or count == 1:
        return x
    shape = (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :])
    wide = padded(t, x.viewed(shape), [(0, stride - 1) if k == axis + 1 else (0, 0) for k in range(len(shape))], 0.0)
    whole = wide.viewed((*x.shape[:axis], count * stride, *x.shape[axis + 1 :]))
    return cut(t, whole, axis, 0, (count - 1) * stride + 1)


def with_channels(x: Value) -> str:
    """Its name with the axes that torch sees behind the rows: one channel alone is an axis as well."""
    return x.shaped(x.shape[1:] if x.shape[0] == 1 else x.shape)
