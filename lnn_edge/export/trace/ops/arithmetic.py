"""Arithmetic of two values, one small rule per torch operation; see `trace.registry`."""

from __future__ import annotations

import math
from typing import Any

from ....bundle.operations import Shape
from ..recorder import Value
from ..registry import Rules, folds
from ..translator import Translator
from .activation import truncated

__all__ = ["RULES"]

RULES = Rules()


def _binary(torch_name: str, onnx_name: str, swapped: bool = False) -> None:
    @RULES.add(torch_name, f"{torch_name}_")
    @folds
    def apply(t: Translator, shape: Shape, a: Any, b: Any, *, alpha: float = 1) -> Value:
        first, second = (b, a) if swapped else (a, b)
        if alpha != 1:
            whole = isinstance(second, Value)
            second = t.elementwise("Mul", second.shape, second, float(alpha)) if whole else second * alpha
        return t.elementwise(onnx_name, shape, first, second)


for _torch_name, _onnx_name in {
    "add": "Add", "sub": "Sub", "mul": "Mul", "maximum": "Max", "minimum": "Min", "fmax": "Max", "fmin": "Min",
}.items():  # fmt: skip
    _binary(_torch_name, _onnx_name)
_binary("rsub", "Sub", swapped=True)


@RULES.add("div", "div_", "true_divide")
@folds
def _divided(t: Translator, shape: Shape, a: Any, b: Any, *, rounding_mode: str | None = None) -> Value:
    quotient = t.elementwise("Div", shape, a, b)
    if rounding_mode is None:
        return quotient
    return t.unary("Floor", quotient) if rounding_mode == "floor" else truncated(t, shape, quotient)


@RULES.add("floor_divide")
def _floor_divide(t: Translator, shape: Shape, a: Any, b: Any) -> Value:
    return t.unary("Floor", t.elementwise("Div", shape, a, b))


@RULES.add("remainder", "remainder_")
def _remainder(t: Translator, shape: Shape, a: Any, b: Any) -> Value:
    """What is left of a after whole numbers of b, with the sign of b; torch and Python call it %."""
    return t.elementwise("Sub", shape, a, t.elementwise("Mul", shape, _floor_divide(t, shape, a, b), b))


@RULES.add("fmod", "fmod_")
def _fmod(t: Translator, shape: Shape, a: Any, b: Any) -> Value:
    """What is left of a after whole numbers of b, with the sign of a."""
    whole = truncated(t, shape, t.elementwise("Div", shape, a, b))
    return t.elementwise("Sub", shape, a, t.elementwise("Mul", shape, whole, b))


@RULES.add("copysign")
def _copysign(t: Translator, shape: Shape, a: Any, b: Any) -> Value:
    size = t.unary("Abs", t.value(a))
    below = t.elementwise("Less", shape, b, 0.0)
    return t.elementwise("Where", shape, below, t.unary("Neg", size), size)


@RULES.add("hypot")
def _hypot(t: Translator, shape: Shape, a: Any, b: Any) -> Value:
    squares = (t.elementwise("Mul", value.shape, value, value) for value in (t.value(a), t.value(b)))
    return t.unary("Sqrt", t.elementwise("Add", shape, *squares))


@RULES.add("pow", "square", "pow_", "float_power")
def _power(t: Translator, shape: Shape, x: Any, exponent: Any = 2) -> Value:
    if isinstance(exponent, (int, float)) and exponent == 2:
        return t.elementwise("Mul", shape, x, x)
    return t.elementwise("Pow", shape, x, exponent)


@RULES.add("exp2", "exp2_")
def _exp2(t: Translator, shape: Shape, x: Value) -> Value:
    return t.elementwise("Pow", shape, 2.0, x)


@RULES.add("xlogy", "special_xlogy")
def _xlogy(t: Translator, shape: Shape, x: Any, y: Any) -> Value:
    """x log(y), and 0 where x is."""
    logarithm = t.unary("Log", t.value(y))
    product = t.elementwise("Mul", shape, x, logarithm)
    return t.elementwise("Where", shape, t.elementwise("Equal", shape, x, 0.0), 0.0, product)


@RULES.add("atan2", "arctan2")
def _atan2(t: Translator, shape: Shape, y: Any, x: Any) -> Value:
    """The angle of (x, y): that of the slope, turned by half a circle where x < 0; a quarter, or 0, where x is 0."""
    upright = t.elementwise("Equal", shape, x, 0.0)
    slope = t.elementwise("Div", shape, y, t.elementwise("Where", shape, upright, 1.0, x))
    side = t.elementwise("Where", shape, t.elementwise("Less", shape, y, 0.0), -1.0, 1.0)
    half = t.elementwise("Mul", shape, side, math.pi)
    turned = t.elementwise("Where", shape, t.elementwise("Less", shape, x, 0.0), half, 0.0)
    angle = t.elementwise("Add", shape, t.unary("Atan", slope), turned)
    quarter = t.elementwise("Mul", shape, side, math.pi / 2)
    alone = t.elementwise("Where", shape, t.elementwise("Equal", shape, y, 0.0), 0.0, quarter)
    return t.elementwise("Where", shape, upright, alone, angle)
