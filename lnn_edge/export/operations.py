"""The torch operations that export can translate, one small rule each: (translator, shape, *arguments) to a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from .graph import Shape, Value
from .translate import Translator

__all__ = ["RULES"]

RULES: dict[str, Callable[..., Any]] = {}  # by name of the torch operation


_Rule = TypeVar("_Rule", bound=Callable[..., Any])


def _rule(*names: str) -> Callable[[_Rule], _Rule]:
    def register(function: _Rule) -> _Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


@_rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "alias", "detach", "clone")
@_rule(
    "contiguous", "dropout", "feature_dropout", "lift_fresh_copy", "to", "_to_copy", "type_as", "view_as", "reshape_as"
)
def _view(t: Translator, shape: Shape, x: Any, *_arguments: Any, **_keywords: Any) -> Value:
    """Same elements in the same order; in eval mode dropout is one of these."""
    return t.value(x).viewed(shape)


@_rule("expand", "expand_as", "broadcast_to")
def _expand(t: Translator, shape: Shape, x: Any, *_arguments: Any, **_keywords: Any) -> Value:
    if isinstance(x, torch.Tensor):  # a weight in the shape of a value, as `log_std.expand_as(mean)`
        return t.value(x.expand(shape))
    if math.prod(shape) == math.prod(x.logical):
        viewed: Value = x.viewed(shape)
        return viewed
    return Value(t.graph.node("Expand", t.plain(x), t.graph.integers(shape)), shape, shape)


class _Broadcast:
    """Tensors in one shape; each becomes a node when it is asked for."""

    def __init__(self, t: Translator, shapes: list[Shape], tensors: Sequence[Any]) -> None:
        self._t, self._shapes, self._tensors = t, shapes, tensors

    def __getitem__(self, index: int) -> Value:
        return _expand(self._t, self._shapes[index], self._tensors[index])


@_rule("broadcast_tensors")
def _broadcast(t: Translator, shapes: list[Shape], tensors: Sequence[Any]) -> _Broadcast:
    return _Broadcast(t, shapes, tensors)


@_rule("permute", "transpose", "t", "numpy_T", "movedim", "swapaxes")
def _permute(t: Translator, shape: Shape, x: Value, *axes: Any) -> Value:
    rank = len(x.logical)
    order = list(range(rank))
    if len(axes) == 2:
        a, b = (int(axis) % rank for axis in axes)
        order[a], order[b] = order[b], order[a]
    elif len(axes) == 1:
        order = [int(axis) % rank for axis in axes[0]]
    else:
        order.reverse()
    moved = [k for k in order if x.logical[k] != 1]
    if moved == sorted(moved):  # only axes of length one change places
        return x.viewed(shape)
    return Value(t.graph.node("Transpose", t.plain(x), perm=order), shape, shape)


@_rule("select")
def _select(t: Translator, shape: Shape, x: Value, axis: int, index: int) -> Value:
    if x.logical[axis] == 1:
        return x.viewed(shape)
    index %= x.logical[axis]
    return _cut(t, x, axis, index, index + 1).viewed(shape)


@_rule("slice", "narrow")
def _slice(
    t: Translator,
    shape: Shape,
    x: Value,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    if shape == x.logical:
        return x
    begin, stop, _ = slice(start, end, step).indices(x.logical[axis])
    return _cut(t, x, axis, begin, stop, step).viewed(shape)


def _cut(t: Translator, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    axis %= len(x.logical)
    bounds = [t.graph.integers([n]) for n in (start, stop, axis, step)]
    shape = list(x.logical)
    shape[axis] = len(range(start, stop, step))
    return Value(t.graph.node("Slice", t.plain(x), *bounds), tuple(shape), tuple(shape))


class _Pieces:
    """The pieces of a split; each becomes a node when it is asked for, so that none is computed in vain."""

    def __init__(self, t: Translator, shapes: list[Shape], x: Value, axis: int) -> None:
        self._t, self._shapes, self._x, self._axis = t, shapes, x, axis % len(x.logical)

    def __getitem__(self, index: int) -> Value:
        sizes = [1 if len(shape) < len(self._x.logical) else shape[self._axis] for shape in self._shapes]
        start = sum(sizes[:index])
        return _cut(self._t, self._x, self._axis, start, start + sizes[index]).viewed(self._shapes[index])


@_rule("split", "split_with_sizes", "chunk", "tensor_split")
def _split(t: Translator, shapes: list[Shape], x: Value, _sizes: Any, axis: int = 0) -> _Pieces:
    return _Pieces(t, shapes, x, axis)


@_rule("unbind")
def _unbind(t: Translator, shapes: list[Shape], x: Value, axis: int = 0) -> _Pieces:
    return _Pieces(t, shapes, x, axis)


@_rule("cat", "concat", "concatenate")
def _cat(t: Translator, shape: Shape, parts: Sequence[Any], axis: int = 0) -> Value:
    values = [t.value(part) for part in parts]
    axis %= len(shape)
    kept = [k for k, n in enumerate(shape) if k == 0 or n != 1 or k == axis]
    kept = kept if len(kept) > 1 else list(range(len(shape)))[:2]
    names = [t.shaped(v, [v.logical[k] for k in kept]) for v in values]
    joined = t.graph.node("Concat", *names, axis=kept.index(axis))
    return Value(joined, tuple(shape[k] for k in kept), shape)


@_rule("stack")
def _stack(t: Translator, shape: Shape, parts: Sequence[Any], axis: int = 0) -> Value:
    axis %= len(shape)
    opened = [t.value(part) for part in parts]
    return _cat(t, shape, [v.viewed((*v.logical[:axis], 1, *v.logical[axis:])) for v in opened], axis)


@_rule("linear")
def _linear(t: Translator, shape: Shape, x: Value, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Value:
    rows, width = math.prod(shape[:-1]), int(weight.shape[1])
    addend = None if bias is None else bias.double().numpy()
    y = t.graph.linear(t.shaped(x, (rows, width)), weight.double().numpy().T, addend)
    return Value(y, (rows, shape[-1]), shape)


@_rule("addmm")
def _addmm(t: Translator, shape: Shape, bias: Any, x: Any, weight: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    if isinstance(weight, Value) or isinstance(bias, Value) or (beta, alpha) != (1, 1):
        raise TypeError("the model uses torch.addmm with computed weights, which export cannot translate")
    return _linear(t, shape, x, weight.T, bias)


@_rule("matmul", "mm", "bmm")
def _matmul(t: Translator, shape: Shape, a: Any, b: Any) -> Value:
    if isinstance(a, Value) and isinstance(b, torch.Tensor) and b.ndim == 2:
        return _linear(t, shape, a, b.T)
    return Value(t.graph.node("MatMul", t.plain(a), t.plain(b)), shape, shape)


@_rule("conv1d", "conv2d", "conv3d")
def _conv(
    t: Translator, shape: Shape, x: Value, weight: torch.Tensor, bias: torch.Tensor | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    axes = weight.ndim - 2

    def each(value: Any) -> list[int]:
        values = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
        return values * axes if len(values) == 1 else values

    if isinstance(padding, str):
        raise TypeError(f"the model uses a convolution with padding='{padding}'; export takes numbers only")
    operands = [t.plain(x), t.graph.constant(weight.double().numpy())]
    if bias is not None:
        operands.append(t.graph.constant(bias.double().numpy()))
    y = t.graph.node(
        "Conv", *operands, strides=each(stride), pads=each(padding) * 2, dilations=each(dilation), group=int(groups),
        kernel_shape=[int(n) for n in weight.shape[2:]],
    )  # fmt: skip
    return Value(y, shape, shape)


@_rule("batch_norm")
def _batch_norm(
    t: Translator, shape: Shape, x: Value, weight: Any, bias: Any, mean: torch.Tensor, var: torch.Tensor,
    training: bool, _momentum: float, eps: float, *_rest: Any,
) -> Value:  # fmt: skip
    """With the statistics of training, this is a scale and a shift per channel."""
    scale = (1.0 if weight is None else weight.double()) / torch.sqrt(var.double() + eps)
    shift = (0.0 if bias is None else bias.double()) - mean.double() * scale
    channels = (1, -1, *(1 for _ in shape[2:]))
    scaled = t.elementwise("Mul", shape, x, scale.reshape(channels))
    return t.elementwise("Add", shape, scaled, shift.reshape(channels))


@_rule("layer_norm")
def _layer_norm(
    t: Translator, shape: Shape, x: Value, normalized: Sequence[int], weight: Any = None, bias: Any = None,
    eps: float = 1e-5, *_rest: Any,
) -> Value:  # fmt: skip
    width = math.prod(normalized)
    rows = math.prod(shape) // width
    ones, zeros = torch.ones(width), torch.zeros(width)
    parts = [
        (given if given is not None else other).double().reshape(-1).numpy()
        for given, other in ((weight, ones), (bias, zeros))
    ]
    names = [t.shaped(x, (rows, width)), *(t.graph.constant(part) for part in parts)]
    return Value(t.graph.node("LayerNormalization", *names, axis=-1, epsilon=float(eps)), (rows, width), shape)


def _unary(torch_name: str, onnx_name: str) -> None:
    @_rule(torch_name, f"{torch_name}_")
    def apply(t: Translator, _shape: Shape, x: Value, *_arguments: Any, **_keywords: Any) -> Value:
        return t.unary(onnx_name, x)


for _torch_name, _onnx_name in {
    "relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "abs": "Abs", "neg": "Neg", "exp": "Exp", "sqrt": "Sqrt",
    "log": "Log", "erf": "Erf",
}.items():  # fmt: skip
    _unary(_torch_name, _onnx_name)


@_rule("silu", "silu_")
def _silu(t: Translator, shape: Shape, x: Value) -> Value:
    return t.elementwise("Mul", shape, x, t.unary("Sigmoid", x))


@_rule("gelu")
def _gelu(t: Translator, shape: Shape, x: Value, approximate: str = "none") -> Value:
    if approximate == "none":
        inner = t.unary("Erf", t.elementwise("Mul", shape, x, 1.0 / math.sqrt(2.0)))
    else:
        cube = t.elementwise("Mul", shape, x, t.elementwise("Mul", shape, x, x))
        argument = t.elementwise("Add", shape, x, t.elementwise("Mul", shape, cube, 0.044715))
        inner = t.unary("Tanh", t.elementwise("Mul", shape, argument, math.sqrt(2.0 / math.pi)))
    half = t.elementwise("Mul", shape, x, 0.5)
    return t.elementwise("Mul", shape, half, t.elementwise("Add", shape, inner, 1.0))


@_rule("elu", "elu_")
def _elu(t: Translator, _shape: Shape, x: Value, alpha: float = 1.0, scale: float = 1, input_scale: float = 1) -> Value:
    if (scale, input_scale) != (1, 1):
        raise TypeError("the model uses a scaled ELU (SELU), which export cannot translate")
    return t.unary("Elu", x, alpha=float(alpha))


@_rule("leaky_relu", "leaky_relu_")
def _leaky_relu(t: Translator, _shape: Shape, x: Value, slope: float = 0.01) -> Value:
    return t.unary("LeakyRelu", x, alpha=float(slope))


@_rule("softplus")
def _softplus(t: Translator, shape: Shape, x: Value, beta: float = 1.0, _threshold: float = 20.0) -> Value:
    if beta == 1.0:
        return t.unary("Softplus", x)
    return t.elementwise("Mul", shape, t.unary("Softplus", t.elementwise("Mul", shape, x, beta)), 1.0 / beta)


def _softmaxes(torch_names: Sequence[str], onnx_name: str) -> None:
    @_rule(*torch_names)
    def apply(t: Translator, shape: Shape, x: Value, axis: int, *_rest: Any) -> Value:
        return Value(t.graph.node(onnx_name, t.plain(x), axis=int(axis)), shape, shape)


_softmaxes(["softmax", "_softmax"], "Softmax")
_softmaxes(["log_softmax", "_log_softmax"], "LogSoftmax")


@_rule("clamp", "clamp_", "hardtanh", "hardtanh_", "relu6", "clamp_min", "clamp_max")
def _clamp(t: Translator, shape: Shape, x: Value, low: Any = None, high: Any = None) -> Value:
    bounded = x
    if low is not None:
        bounded = t.elementwise("Max", shape, bounded, float(low))
    return bounded if high is None else t.elementwise("Min", shape, bounded, float(high))


def _binary(torch_name: str, onnx_name: str, swapped: bool = False) -> None:
    @_rule(torch_name, f"{torch_name}_")
    def apply(t: Translator, shape: Shape, a: Any, b: Any, *, alpha: float = 1) -> Value:
        if alpha != 1:
            b = b * alpha if not isinstance(b, Value) else t.elementwise("Mul", b.logical, b, float(alpha))
        return t.elementwise(onnx_name, shape, *((b, a) if swapped else (a, b)))


for _torch_name, _onnx_name in {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "maximum": "Max", "minimum": "Min",
}.items():  # fmt: skip
    _binary(_torch_name, _onnx_name)
_binary("rsub", "Sub", swapped=True)


@_rule("pow", "square")
def _power(t: Translator, shape: Shape, x: Value, exponent: Any = 2) -> Value:
    if exponent == 2:
        return t.elementwise("Mul", shape, x, x)
    return t.elementwise("Pow", shape, x, float(exponent))


def _reduction(torch_name: str, onnx_name: str) -> None:
    @_rule(torch_name)
    def apply(t: Translator, shape: Shape, x: Value, axes: Any = None, keep: bool = False, **_keywords: Any) -> Value:
        rank = len(x.logical)
        chosen = range(rank) if axes is None else [axes] if isinstance(axes, int) else axes
        where = sorted(int(axis) % rank for axis in chosen)
        if all(x.logical[k] == 1 for k in where):
            return x.viewed(shape)
        full = tuple(1 if k in where else n for k, n in enumerate(x.logical))
        if onnx_name == "ReduceSum":  # its axes became an input in opset 13
            return Value(t.graph.node(onnx_name, t.plain(x), t.graph.integers(where), keepdims=1), full, shape)
        return Value(t.graph.node(onnx_name, t.plain(x), axes=where, keepdims=1), full, shape)


_reduction("mean", "ReduceMean")
_reduction("sum", "ReduceSum")


@_rule("logsumexp")
def _logsumexp(t: Translator, shape: Shape, x: Value, axes: Any, *_keep: Any) -> Value:
    """x - log_softmax(x), which is the same for every element of the axis: no Exp that could overflow."""
    where = [axes] if isinstance(axes, int) else list(axes)
    if len(where) != 1:
        raise TypeError(f"over the axes {where}, but export translates it for one axis")
    spread = t.graph.node("Sub", t.plain(x), t.graph.node("LogSoftmax", t.plain(x), axis=int(where[0])))
    result: Value = RULES["mean"](t, shape, Value(spread, x.logical, x.logical), where)
    return result


def _pooling(torch_names: Sequence[str], onnx_name: str) -> None:
    @_rule(*torch_names)
    def apply(
        t: Translator, shape: Shape, x: Value, kernel: Any, stride: Any = None, padding: Any = 0, *rest: Any
    ) -> Value:
        axes = len(shape) - 2

        def each(value: Any) -> list[int]:
            values = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
            return values * axes if len(values) == 1 else values

        options: dict[str, Any] = {
            "kernel_shape": each(kernel),
            "strides": each(stride or kernel),
            "pads": each(padding) * 2,
        }
        if onnx_name == "AveragePool":
            options["count_include_pad"] = 1
        if any(rest):
            raise TypeError("the model uses pooling with dilation or ceil_mode, which export cannot translate")
        return Value(t.graph.node(onnx_name, t.plain(x), **options), shape, shape)


_pooling(["max_pool1d", "max_pool2d"], "MaxPool")
_pooling(["avg_pool1d", "avg_pool2d"], "AveragePool")


@_rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def _adaptive(t: Translator, shape: Shape, x: Value, *_arguments: Any) -> Value:
    """Where the output divides the input this is plain pooling."""
    kernel = [n // m for n, m in zip(x.logical[2:], shape[2:], strict=True)]
    if any(k * m != n for k, n, m in zip(kernel, x.logical[2:], shape[2:], strict=True)):
        raise TypeError(
            f"the model pools {list(x.logical[2:])} to {list(shape[2:])}, which is no whole number of cells"
        )
    return Value(t.graph.node("AveragePool", t.plain(x), kernel_shape=kernel, strides=kernel), shape, shape)
