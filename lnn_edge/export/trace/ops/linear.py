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
from ..registry import Refused, Rules, folds
from ..translator import Translator
from .shape import reduced

__all__ = ["RULES"]


RULES = Rules()


@RULES.add("linear")
@folds
def _linear(t: Translator, shape: Shape, x: Value, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Value:
    if weight.ndim == 1:  # a vector gives one number, and no axis for it
        return _linear(t, (*shape, 1), x, weight[None], bias).viewed(shape)
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
    """Sums of all elements up to each, along the last axis: a product with a triangle of ones."""
    if int(axis) % len(shape) != len(shape) - 1:
        raise Refused("along another axis than the last; export takes cumsum(-1), over the features of one sample")
    return _linear(t, shape, x, torch.tril(torch.ones(shape[-1], shape[-1])))


@RULES.add("addmm")
@folds
def _addmm(t: Translator, shape: Shape, bias: Any, x: Any, weight: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    if isinstance(weight, Value) or isinstance(bias, Value) or (beta, alpha) != (1, 1):
        raise Refused("the model uses torch.addmm with computed weights, which export cannot translate")
    return _linear(t, shape, x, weight.T, bias)


@RULES.add("matmul", "mm", "bmm")
@folds
def _matmul(t: Translator, shape: Shape, a: Any, b: Any) -> Value:
    if isinstance(a, Value) and isinstance(b, torch.Tensor) and b.ndim <= 2:
        return _linear(t, shape, a, b.T if b.ndim == 2 else b)
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
            return _linear(t, shape, operands[0], weight if matrix[1] == summed else weight.T)
    raise Refused(f"the model uses einsum '{equation}'; export takes the forms of a linear layer, as 'bti,oi->bto'")


@RULES.add("conv1d", "conv2d", "conv3d")
@folds
def _conv(
    t: Translator, shape: Shape, x: Value, weight: torch.Tensor, bias: torch.Tensor | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    axes = weight.ndim - 2

    def each(value: Any) -> list[int]:
        values = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
        return values * axes if len(values) == 1 else values

    if isinstance(padding, str):
        raise Refused(f"the model uses a convolution with padding='{padding}'; export takes numbers only")
    kernel, addend, pads = _double(weight), None if bias is None else _double(bias), each(padding)
    if isinstance(x, Scaled) and groups == 1:
        x, factor, shift = x.into(x.shape, axis=1, shifts=not any(pads))
        addend = _plus(addend, kernel.sum(axis=tuple(range(2, kernel.ndim))) @ shift)
        kernel = kernel * factor.reshape(-1, *(1 for _ in pads))

    def write(own: Array, own_addend: Array | None) -> str:
        weights = {"W": own} if own_addend is None else {"W": own, "B": own_addend}
        return t.recorder.operation(
            "Conv", _with_channels(x), weights=weights, strides=tuple(each(stride)), pads=tuple(pads * 2),
            dilations=tuple(each(dilation)), group=int(groups),
        )  # fmt: skip

    return Product(t.recorder, kernel, addend, shape, shape, write)


def _with_channels(x: Value) -> str:
    """Its name with the axes that torch sees behind the rows: one channel alone is an axis as well."""
    return x.shaped(x.shape[1:] if x.shape[0] == 1 else x.shape)


@RULES.add("batch_norm")
@folds
def _batch_norm(
    t: Translator, shape: Shape, x: Value, weight: Any, bias: Any, mean: torch.Tensor, var: torch.Tensor,
    training: bool, _momentum: float, eps: float, *_rest: Any,
) -> Value:  # fmt: skip
    """With the statistics of training, this is a scale and a shift per channel."""
    scale = (1.0 if weight is None else weight.double()) / torch.sqrt(var.double() + eps)
    shift = (0.0 if bias is None else bias.double()) - mean.double() * scale
    return _per_channel(t, shape, x, scale, shift)


def _per_channel(t: Translator, shape: Shape, x: Value, scale: torch.Tensor, shift: torch.Tensor) -> Value:
    channels = (1, -1, *(1 for _ in shape[2:]))
    scaled = t.elementwise("Mul", shape, x, scale.reshape(channels))
    return t.elementwise("Add", shape, scaled, shift.reshape(channels))


@RULES.add("group_norm")
def _group_norm(
    t: Translator, shape: Shape, x: Value, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    *_rest: Any,
) -> Value:  # fmt: skip
    """A layer normalisation of each group, then a scale and a shift per channel."""
    rows = shape[0] * int(groups)
    plain = _layer_norm(t, (rows, math.prod(shape) // rows), x, [math.prod(shape) // rows], eps=eps).viewed(shape)
    if weight is None and bias is None:
        return plain
    ones, zeros = torch.ones(shape[1]), torch.zeros(shape[1])
    scale, shift = (ones if weight is None else weight), (zeros if bias is None else bias)
    return _per_channel(t, shape, plain, scale, shift)


@RULES.add("instance_norm")
def _instance_norm(
    t: Translator, shape: Shape, x: Value, weight: Any, bias: Any, mean: Any, var: Any, of_the_input: bool,
    _momentum: float, eps: float, *_rest: Any,
) -> Value:  # fmt: skip
    """With the statistics of training a batch normalisation, with those of the input a group per channel."""
    if of_the_input:
        return _group_norm(t, shape, x, shape[1], weight, bias, eps)
    return _batch_norm(t, shape, x, weight, bias, mean, var, False, 0.0, eps)


@RULES.add("rms_norm")
def _rms_norm(
    t: Translator, shape: Shape, x: Value, normalized: Sequence[int], weight: Any = None, eps: float | None = None
) -> Value:
    axes = list(range(len(shape) - len(normalized), len(shape)))
    small = tuple(1 if k in axes else n for k, n in enumerate(shape))
    square = reduced(t, small, t.elementwise("Mul", shape, x, x), "ReduceMean", axes)
    root = t.unary("Sqrt", t.elementwise("Add", small, square, torch.finfo(torch.float32).eps if eps is None else eps))
    plain = t.elementwise("Div", shape, x, root)
    return plain if weight is None else t.elementwise("Mul", shape, plain, weight)


@RULES.add("layer_norm")
def _layer_norm(
    t: Translator, shape: Shape, x: Value, normalized: Sequence[int], weight: Any = None, bias: Any = None,
    eps: float = 1e-5, *_rest: Any,
) -> Value:  # fmt: skip
    width = math.prod(normalized)
    ones, zeros = torch.ones(width), torch.zeros(width)
    parts = [
        (given if given is not None else other).double().reshape(-1).numpy()
        for given, other in ((weight, ones), (bias, zeros))
    ]
    name = x.viewed((*shape[: len(shape) - len(normalized)], width)).name()
    weights = dict(zip(("scale", "bias"), parts, strict=True))
    return t.made(shape, "LayerNormalization", name, weights=weights, epsilon=float(eps))


def _pooling(torch_names: Sequence[str], onnx_name: str) -> None:
    @RULES.add(*torch_names)
    def apply(
        t: Translator, shape: Shape, x: Value, kernel: Any, stride: Any = None, padding: Any = 0, *rest: Any
    ) -> Value:
        axes = len(shape) - 2

        def each(value: Any) -> list[int]:
            values = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
            return values * axes if len(values) == 1 else values

        counted = onnx_name == "AveragePool" and len(rest) > 1 and any(each(padding)) and not rest[1]
        if (any(rest) and onnx_name == "MaxPool") or any(rest[:1]) or any(rest[2:]) or counted:
            raise Refused(
                "with dilation, ceil_mode, a divisor or count_include_pad=False, which export cannot translate"
            )
        options = {"kernel": each(kernel), "strides": each(stride or kernel), "pads": each(padding) * 2}
        own = {key: tuple(value) for key, value in options.items()}
        return t.made(shape, onnx_name, _with_channels(x), **own)


_pooling(["max_pool1d", "max_pool2d"], "MaxPool")
_pooling(["avg_pool1d", "avg_pool2d"], "AveragePool")


@RULES.add("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def _adaptive(t: Translator, shape: Shape, x: Value, *_arguments: Any) -> Value:
    """Where the output divides the input this is plain pooling."""
    kernel = tuple(n // m for n, m in zip(x.shape[2:], shape[2:], strict=True))
    if any(k * m != n for k, n, m in zip(kernel, x.shape[2:], shape[2:], strict=True)):
        raise Refused(f"the model pools {list(x.shape[2:])} to {list(shape[2:])}, which is no whole number of cells")
    return t.made(shape, "AveragePool", _with_channels(x), kernel=kernel, strides=kernel, pads=(0, 0) * len(kernel))
