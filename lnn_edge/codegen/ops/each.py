"""Operations of each element, operands of different shape aligned at their last axes; true is 1 and false is 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...bundle.operations import Operation
from ..c_text import number
from ..emission import Emission
from ..loops import broadcast_strides, contiguous, nested

__all__ = ["EACH"]

_Expression = Callable[..., str]  # of the operation and its operands

_TERMS: Mapping[str, _Expression] = {
    "Abs": lambda _, a: f"fabsf({a})",
    "Atan": lambda _, a: f"atanf({a})",
    "Cos": lambda _, a: f"cosf({a})",
    "Erf": lambda _, a: f"erf1({a})",
    "Exp": lambda _, a: f"exp1({a})",
    "Floor": lambda _, a: f"floorf({a})",
    "Log": lambda _, a: f"log1({a})",
    "Neg": lambda _, a: f"-{a}",
    "Relu": lambda _, a: f"relu1({a})",
    "Sigmoid": lambda _, a: f"sigmoid1({a})",
    "Sin": lambda _, a: f"sinf({a})",
    "Softplus": lambda _, a: f"softplus1({a})",
    "Sqrt": lambda _, a: f"sqrtf({a})",
    "Tanh": lambda _, a: f"tanh1({a})",
    "Add": lambda _, a, b: f"{a} + {b}",
    "Sub": lambda _, a, b: f"{a} - {b}",
    "Mul": lambda _, a, b: f"{a} * {b}",
    "Div": lambda _, a, b: f"{a} / {b}",
    "Max": lambda _, a, b: f"larger1({a}, {b})",
    "Min": lambda _, a, b: f"smaller1({a}, {b})",
    "Pow": lambda _, a, b: f"powf({a}, {b})",
    "Equal": lambda _, a, b: f"(float)({a} == {b})",
    "Greater": lambda _, a, b: f"(float)({a} > {b})",
    "GreaterOrEqual": lambda _, a, b: f"(float)({a} >= {b})",
    "Less": lambda _, a, b: f"(float)({a} < {b})",
    "LessOrEqual": lambda _, a, b: f"(float)({a} <= {b})",
    "And": lambda _, a, b: f"{a} * {b}",
    "Or": lambda _, a, b: f"larger1({a}, {b})",
    "Not": lambda _, a: f"1.0f - {a}",
    "Where": lambda _, a, b, c: f"{a} != 0.0f ? {b} : {c}",
    "Elu": lambda node, a: f"elu1({a}, {number(node.alpha)})",
    "LeakyRelu": lambda node, a: f"{a} > 0.0f ? {a} : {a} * {number(node.alpha)}",
    "HardSigmoid": lambda node, a: f"at_most1(1.0f, at_least1(0.0f, {a} * {number(node.alpha)} + {number(node.beta)}))",
}


def _emit(emission: Emission, node: Operation) -> None:
    shape, result = emission.shape(node.output), emission.at(node.output)
    strides = [broadcast_strides(emission.shape(name), shape) for name in node.inputs]
    with nested(emission, shape, contiguous(shape), *strides) as (to, *places):
        operands = [f"{emission.at(name)}[{place}]" for name, place in zip(node.inputs, places, strict=True)]
        emission.line(f"{result}[{to}] = {_TERMS[node.op](node, *operands)};")


EACH = dict.fromkeys(_TERMS, _emit)
