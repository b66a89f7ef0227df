"""Activations and other functions of each element, one small rule per torch operation; see `trace.registry`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ....bundle.operations import Shape
from ..recorder import Value
from ..registry import LeftToTorch, Refused, Rules, folds
from ..translator import Translator

__all__ = ["RULES", "truncated"]

RULES = Rules()


def _unary(torch_name: str, onnx_name: str) -> None:
    @RULES.add(torch_name, f"{torch_name}_")
    def apply(t: Translator, _shape: Shape, x: Value, *_arguments: Any, **_keywords: Any) -> Value:
        return t.unary(onnx_name, x)


for _torch_name, _onnx_name in {
    "relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "abs": "Abs", "neg": "Neg", "exp": "Exp", "sqrt": "Sqrt",
    "log": "Log", "erf": "Erf", "sin": "Sin", "cos": "Cos", "floor": "Floor", "atan": "Atan", "arctan": "Atan",
}.items():  # fmt: skip
    _unary(_torch_name, _onnx_name)


@RULES.add("ceil", "ceil_")
def _ceil(t: Translator, _shape: Shape, x: Value) -> Value:
    return t.unary("Neg", t.unary("Floor", t.unary("Neg", x)))


@RULES.add("trunc", "trunc_", "fix")
def truncated(t: Translator, shape: Shape, x: Value) -> Value:
    """Towards zero, which is what torch does to make whole numbers."""
    down, up = t.unary("Floor", x), _ceil(t, shape, x)
    return t.elementwise("Where", shape, t.elementwise("Less", shape, x, 0.0), up, down)


@RULES.add("round", "round_")
def _round(t: Translator, shape: Shape, x: Value, *, decimals: int = 0) -> Value:
    """To the nearest whole number, and of two as near to the even one."""
    if decimals:
        whole = _round(t, shape, t.elementwise("Mul", shape, x, 10.0**decimals))
        return t.elementwise("Div", shape, whole, 10.0**decimals)
    up = t.unary("Floor", t.elementwise("Add", shape, x, 0.5))
    odd = t.elementwise("Sub", shape, up, t.elementwise("Mul", shape, t.unary("Floor", _halved(t, shape, up)), 2.0))
    tie = t.elementwise("Equal", shape, t.elementwise("Sub", shape, up, x), 0.5)
    return t.elementwise("Sub", shape, up, t.elementwise("Where", shape, tie, odd, 0.0))


def _halved(t: Translator, shape: Shape, x: Value) -> Value:
    return t.elementwise("Mul", shape, x, 0.5)


@RULES.add("sign", "sgn", "sign_")
def _sign(t: Translator, shape: Shape, x: Value) -> Value:
    above, below = (t.elementwise(name, shape, x, 0.0) for name in ("Greater", "Less"))
    return t.elementwise("Where", shape, above, 1.0, t.elementwise("Where", shape, below, -1.0, 0.0))


@RULES.add("log1p", "log1p_")
def _log1p(t: Translator, shape: Shape, x: Value) -> Value:
    return t.unary("Log", t.elementwise("Add", shape, x, 1.0))


@RULES.add("expm1", "expm1_")
def _expm1(t: Translator, shape: Shape, x: Value) -> Value:
    return t.elementwise("Sub", shape, t.unary("Exp", x), 1.0)


@RULES.add("log2", "log2_")
def _log2(t: Translator, shape: Shape, x: Value) -> Value:
    return t.elementwise("Mul", shape, t.unary("Log", x), 1.0 / math.log(2.0))


@RULES.add("log10", "log10_")
def _log10(t: Translator, shape: Shape, x: Value) -> Value:
    return t.elementwise("Mul", shape, t.unary("Log", x), 1.0 / math.log(10.0))


@RULES.add("erfc", "erfc_")
def _erfc(t: Translator, shape: Shape, x: Value) -> Value:
    return t.elementwise("Sub", shape, 1.0, t.unary("Erf", x))


@RULES.add("tan", "tan_")
def _tan(t: Translator, shape: Shape, x: Value) -> Value:
    return t.elementwise("Div", shape, t.unary("Sin", x), t.unary("Cos", x))


@RULES.add("asin", "arcsin", "acos", "arccos")
def _asin(t: Translator, shape: Shape, x: Value) -> Value:
    """atan(x / sqrt(1 - x^2)), the root as that of two factors, which keeps its digits near 1 and -1.

    Of acos as 2 atan(sqrt((1 - x) / (1 + x))).
    """
    below, above = t.elementwise("Sub", shape, 1.0, x), t.elementwise("Add", shape, x, 1.0)
    if "cos" in t.name:
        half = t.unary("Atan", t.unary("Sqrt", t.elementwise("Div", shape, below, above)))
        return t.elementwise("Mul", shape, half, 2.0)
    root = t.unary("Sqrt", t.elementwise("Mul", shape, below, above))
    return t.unary("Atan", t.elementwise("Div", shape, x, root))


@RULES.add("sinh", "cosh")
def _sinh(t: Translator, shape: Shape, x: Value) -> Value:
    up, down = (_halved(t, shape, t.unary("Exp", value)) for value in (x, t.unary("Neg", x)))
    return t.elementwise("Sub" if t.name == "sinh" else "Add", shape, up, down)


@RULES.add("asinh", "arcsinh", "acosh", "arccosh")
def _asinh(t: Translator, shape: Shape, x: Value) -> Value:
    """log(|x| + sqrt(x^2 + 1)) with the sign of x; of acosh log(x + sqrt(x^2 - 1))."""
    own = 1.0 if "sinh" in t.name else -1.0
    size = t.unary("Abs", x)
    root = t.unary("Sqrt", t.elementwise("Add", shape, t.elementwise("Mul", shape, x, x), own))
    value = t.unary("Log", t.elementwise("Add", shape, size, root))
    return t.elementwise("Mul", shape, value, _sign(t, shape, x)) if own > 0 else value


@RULES.add("atanh", "arctanh")
def _atanh(t: Translator, shape: Shape, x: Value) -> Value:
    above, below = t.elementwise("Add", shape, x, 1.0), t.elementwise("Sub", shape, 1.0, x)
    return _halved(t, shape, t.elementwise("Sub", shape, t.unary("Log", above), t.unary("Log", below)))


@RULES.add("silu", "silu_")
def _silu(t: Translator, shape: Shape, x: Value) -> Value:
    return t.elementwise("Mul", shape, x, t.unary("Sigmoid", x))


@RULES.add("gelu")
def _gelu(t: Translator, shape: Shape, x: Value, approximate: str = "none") -> Value:
    if approximate == "none":
        inner = t.unary("Erf", t.elementwise("Mul", shape, x, 1.0 / math.sqrt(2.0)))
    else:
        cube = t.elementwise("Mul", shape, x, t.elementwise("Mul", shape, x, x))
        argument = t.elementwise("Add", shape, x, t.elementwise("Mul", shape, cube, 0.044715))
        inner = t.unary("Tanh", t.elementwise("Mul", shape, argument, math.sqrt(2.0 / math.pi)))
    half = t.elementwise("Mul", shape, x, 0.5)
    return t.elementwise("Mul", shape, half, t.elementwise("Add", shape, inner, 1.0))


@RULES.add("elu", "elu_")
def _elu(t: Translator, _shape: Shape, x: Value, alpha: float = 1.0, scale: float = 1, input_scale: float = 1) -> Value:
    if (scale, input_scale) != (1, 1):
        raise Refused("with scales of its own; export takes torch.nn.functional.elu(x, alpha)")
    return t.unary("Elu", x, alpha=float(alpha))


@RULES.add("selu", "selu_")
def _selu(t: Translator, shape: Shape, x: Value) -> Value:
    """Constants of Klambauer, Unterthiner, Mayr, Hochreiter 2017, arXiv:1706.02515; the scale can fold onwards."""
    return t.elementwise("Mul", shape, t.unary("Elu", x, alpha=1.6732632423543772), 1.0507009873554805)


@RULES.add("celu", "celu_")
@folds
def _celu(t: Translator, shape: Shape, x: Value, alpha: float = 1.0) -> Value:
    if alpha == 1.0:
        return t.unary("Elu", x, alpha=1.0)
    return t.elementwise("Mul", shape, t.unary("Elu", t.elementwise("Mul", shape, x, 1.0 / alpha), alpha=1.0), alpha)


@RULES.add("hardsigmoid", "hardsigmoid_")
def _hardsigmoid(t: Translator, _shape: Shape, x: Value) -> Value:
    return t.unary("HardSigmoid", x, alpha=1.0 / 6.0, beta=0.5)


@RULES.add("hardswish", "hardswish_")
def _hardswish(t: Translator, shape: Shape, x: Value) -> Value:
    return t.elementwise("Mul", shape, x, _hardsigmoid(t, shape, x))


@RULES.add("mish", "mish_")
def _mish(t: Translator, shape: Shape, x: Value) -> Value:
    return t.elementwise("Mul", shape, x, t.unary("Tanh", t.unary("Softplus", x)))


@RULES.add("log_sigmoid")
def _log_sigmoid(t: Translator, _shape: Shape, x: Value) -> Value:
    """-softplus(-x)."""
    return t.unary("Neg", t.unary("Softplus", t.unary("Neg", x)))


@RULES.add("prelu")
def _prelu(t: Translator, shape: Shape, x: Value, slope: torch.Tensor) -> Value:
    """max(x, 0) + slope min(x, 0), with a slope per channel or one for all."""
    channels = (1, -1, *(1 for _ in shape[2:])) if len(shape) > 1 else (-1,)
    below = t.elementwise("Mul", shape, t.elementwise("Min", shape, x, 0.0), slope.reshape(channels))
    return t.elementwise("Add", shape, t.unary("Relu", x), below)


@RULES.add("reciprocal", "reciprocal_")
def _reciprocal(t: Translator, shape: Shape, x: Value) -> Value:
    return t.elementwise("Div", shape, 1.0, x)


@RULES.add("rsqrt", "rsqrt_")
def _rsqrt(t: Translator, shape: Shape, x: Value) -> Value:
    return _reciprocal(t, shape, t.unary("Sqrt", x))


@RULES.add("leaky_relu", "leaky_relu_")
def _leaky_relu(t: Translator, _shape: Shape, x: Value, slope: float = 0.01) -> Value:
    return t.unary("LeakyRelu", x, alpha=float(slope))


@RULES.add("softplus")
@folds
def _softplus(t: Translator, shape: Shape, x: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    if threshold < 20.0:  # above it torch's is linear, by 2e-9 at 20
        raise LeftToTorch
    if beta == 1.0:
        return t.unary("Softplus", x)
    return t.elementwise("Mul", shape, t.unary("Softplus", t.elementwise("Mul", shape, x, beta)), 1.0 / beta)


def _softmaxes(torch_names: Sequence[str], onnx_name: str) -> None:
    @RULES.add(*torch_names)
    def apply(t: Translator, shape: Shape, x: Value, axis: int, *_rest: Any) -> Value:
        name, (place,) = t.framed(x, axis)
        return t.made(shape, onnx_name, name, axis=place)


_softmaxes(["softmax", "_softmax", "_safe_softmax"], "Softmax")
_softmaxes(["log_softmax", "_log_softmax"], "LogSoftmax")


@RULES.add("relu6", "relu6_")
def _relu6(t: Translator, shape: Shape, x: Value) -> Value:
    return _clamp(t, shape, x, 0.0, 6.0)


@RULES.add("clamp_max", "clamp_max_")
def _clamp_max(t: Translator, shape: Shape, x: Value, high: Any) -> Value:
    return _clamp(t, shape, x, None, high)


@RULES.add("clamp", "clamp_", "clip", "clip_", "hardtanh", "hardtanh_", "clamp_min", "clamp_min_")
def _clamp(t: Translator, shape: Shape, x: Any, low: Any = None, high: Any = None) -> Value:
    """Within bounds, which may be values; where they cross, torch takes the upper one."""
    bounded = x
    for name, bound in (("Max", low), ("Min", high)):
        if bound is not None and not (isinstance(bound, (int, float)) and math.isinf(bound)):
            bounded = t.elementwise(name, shape, bounded, bound)
    return t.value(bounded)
