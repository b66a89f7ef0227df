"""Comparisons and choices: what the model decides from a sample, such as a dead band or a guard."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ....bundle.operations import Shape
from ....wording import chosen
from ..folding import Condition, Product
from ..recorder import Value
from ..registry import Refused, Rules, folds
from ..translator import Translator
from .activation import truncated
from .views import expanded

__all__ = ["RULES", "chosen_by", "condition", "truth_of", "unequal"]

RULES = Rules()


def condition(t: Translator, shape: Shape, name: str, *operands: Any) -> Condition:
    """A comparison, or a combination of conditions."""
    # A number is compared as torch does, in float32: 0.3 there is what a sample of 0.3 is.
    truth = t.elementwise(name, shape, *(np.float32(x) if isinstance(x, (int, float)) else x for x in operands))
    numbers = t.recorder.constant(1.0), t.recorder.constant(0.0)
    return Condition(t.recorder, truth, lambda: t.recorder.operation("Where", truth.name(), *numbers))


def truth_of(t: Translator, value: Any) -> Value:
    """The value of ONNX's own type for true and false; what went through other rules since is 1 or 0."""
    if isinstance(value, Condition):
        return value.truth
    whole = t.value(value)
    return t.elementwise("Greater", whole.shape, whole, 0.5)


def _comparison(torch_name: str, onnx_name: str) -> None:
    @RULES.add(torch_name, f"{torch_name}_")
    def apply(t: Translator, shape: Shape, x: Any, other: Any) -> Value:
        return condition(t, shape, onnx_name, x, other)


for _torch_name, _onnx_name in {
    "gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual", "eq": "Equal",
}.items():  # fmt: skip
    _comparison(_torch_name, _onnx_name)


@RULES.add("ne")
def unequal(t: Translator, shape: Shape, x: Any, other: Any) -> Value:
    """Whether both differ."""
    return _not(t, shape, condition(t, shape, "Equal", x, other))


@RULES.add("isinf")
def _isinf(t: Translator, shape: Shape, x: Value) -> Value:
    return condition(t, shape, "Equal", t.unary("Abs", x), math.inf)


@RULES.add("signbit")
def _signbit(t: Translator, shape: Shape, x: Value) -> Value:
    return condition(t, shape, "Less", x, 0.0)


@RULES.add("isnan")
def _isnan(t: Translator, shape: Shape, x: Any) -> Value:
    return _not(t, shape, condition(t, shape, "Equal", x, x))


def _combination(onnx_name: str, *torch_names: str) -> None:
    @RULES.add(*torch_names)
    @folds
    def apply(t: Translator, shape: Shape, x: Any, other: Any) -> Value:
        if t.dtypes[1] != torch.bool and not isinstance(x, Condition):
            raise Refused("the model combines the bits of whole numbers; export takes conditions: x > 0, .bool()")
        return condition(t, shape, onnx_name, truth_of(t, x), truth_of(t, other))


_combination("And", "logical_and", "bitwise_and", "__and__")
_combination("Or", "logical_or", "bitwise_or", "__or__")


@RULES.add("logical_xor", "bitwise_xor", "__xor__")
@folds
def _either(t: Translator, shape: Shape, x: Any, other: Any) -> Value:
    """One of both, and not both."""
    one, both = (RULES[name](t, shape, x, other) for name in ("logical_or", "logical_and"))
    return condition(t, shape, "And", truth_of(t, one), truth_of(t, _not(t, shape, both)))


@RULES.add("logical_not", "bitwise_not")
@folds
def _not(t: Translator, shape: Shape, x: Any) -> Value:
    return condition(t, shape, "Not", truth_of(t, x))


@RULES.add("to", "_to_copy", "type_as")
@folds
def _cast(t: Translator, shape: Shape, x: Any, *_arguments: Any, **_keywords: Any) -> Value:
    """To another dtype: values stay float, but for what the other one loses."""
    before, after = t.dtypes
    if after == torch.bool:
        return x if isinstance(x, Condition) else unequal(t, shape, x, 0.0)
    if after in (torch.float16, torch.bfloat16):
        raise Refused(
            "rounds to half precision; export computes in float32: leave the cast out, and export with "
            f"{chosen('precision', 'float16')} for half precision"
        )
    if after.is_floating_point or not before.is_floating_point:
        return t.value(x).viewed(shape)
    return truncated(t, shape, t.value(x))


@RULES.add("where")
@folds
def chosen_by(t: Translator, shape: Shape, mask: Any, kept: Any, other: Any) -> Value:
    """One where a mask holds and the other elsewhere, whatever that is there: an infinity or NaN does not leak."""
    if any(not isinstance(side, Value) and bool(torch.as_tensor(side).isnan().any()) for side in (kept, other)):
        raise Refused("with a constant NaN; a step gives numbers: choose one that marks what is missing")
    if isinstance(mask, Value):
        return t.elementwise("Where", shape, truth_of(t, mask), kept, other)
    if bool(mask.all()) or not bool(mask.any()):
        return expanded(t, shape, t.value(kept if bool(mask.any()) else other))
    if isinstance(kept, Product) and not isinstance(other, Value) and math.prod(kept.shape) == math.prod(shape):
        return _in_weights(t, shape, mask, kept, other)
    if isinstance(other, Product) and not isinstance(kept, Value) and math.prod(other.shape) == math.prod(shape):
        return _in_weights(t, shape, ~mask, other, kept)
    return t.elementwise("Where", shape, t.elementwise("Greater", tuple(mask.shape), mask, 0.5), kept, other)


def _in_weights(t: Translator, shape: Shape, mask: torch.Tensor, product: Product, other: Any) -> Value:
    """product * mask + other * (1 - mask), which goes into the weights: a product of finite numbers is finite."""
    constant = torch.where(mask, 0.0, torch.as_tensor(other, dtype=torch.float64))
    return t.elementwise("Add", shape, t.elementwise("Mul", shape, product, mask.double()), constant)


@RULES.add("masked_fill", "masked_fill_")
@folds
def _masked_fill(t: Translator, shape: Shape, x: Any, mask: Any, value: Any) -> Value:
    return chosen_by(t, shape, mask, value, x)
