"""Comparisons and choices: what the model decides from a sample, such as a dead band or a guard."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ....bundle.operations import Shape
from ..folding import Condition
from ..recorder import Value
from ..registry import Refused, Rules, folds
from ..translator import Translator
from .activation import truncated

__all__ = ["RULES"]

RULES = Rules()


def _condition(t: Translator, shape: Shape, name: str, *operands: Any) -> Condition:
    # A number is compared as torch does, in float32: 0.3 there is what a sample of 0.3 is.
    truth = t.elementwise(name, shape, *(np.float32(x) if isinstance(x, (int, float)) else x for x in operands))
    numbers = t.recorder.constant(1.0), t.recorder.constant(0.0)
    return Condition(t.recorder, truth, lambda: t.recorder.operation("Where", truth.name(), *numbers))


def _truth(t: Translator, value: Any) -> Value:
    """The value of ONNX's own type for true and false; what went through other rules since is 1 or 0."""
    if isinstance(value, Condition):
        return value.truth
    whole = t.value(value)
    return t.elementwise("Greater", whole.shape, whole, 0.5)


def _comparison(torch_name: str, onnx_name: str) -> None:
    @RULES.add(torch_name, f"{torch_name}_")
    def apply(t: Translator, shape: Shape, x: Any, other: Any) -> Value:
        return _condition(t, shape, onnx_name, x, other)


for _torch_name, _onnx_name in {
    "gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual", "eq": "Equal",
}.items():  # fmt: skip
    _comparison(_torch_name, _onnx_name)


@RULES.add("ne")
def _unequal(t: Translator, shape: Shape, x: Any, other: Any) -> Value:
    return _not(t, shape, _condition(t, shape, "Equal", x, other))


@RULES.add("isnan")
def _isnan(t: Translator, shape: Shape, x: Any) -> Value:
    return _not(t, shape, _condition(t, shape, "Equal", x, x))


def _combination(onnx_name: str, *torch_names: str) -> None:
    @RULES.add(*torch_names)
    @folds
    def apply(t: Translator, shape: Shape, x: Any, other: Any) -> Value:
        if t.dtypes[1] != torch.bool and not isinstance(x, Condition):
            raise Refused("the model combines the bits of whole numbers; export takes conditions: x > 0, .bool()")
        return _condition(t, shape, onnx_name, _truth(t, x), _truth(t, other))


_combination("And", "logical_and", "bitwise_and", "__and__")
_combination("Or", "logical_or", "bitwise_or", "__or__")


@RULES.add("logical_not", "bitwise_not")
@folds
def _not(t: Translator, shape: Shape, x: Any) -> Value:
    return _condition(t, shape, "Not", _truth(t, x))


@RULES.add("to", "_to_copy", "type_as")
@folds
def _cast(t: Translator, shape: Shape, x: Any, *_arguments: Any, **_keywords: Any) -> Value:
    """To another dtype: values stay float, but for what the other one loses."""
    before, after = t.dtypes
    if after == torch.bool:
        return x if isinstance(x, Condition) else _unequal(t, shape, x, 0.0)
    if after.is_floating_point or not before.is_floating_point:
        return t.value(x).viewed(shape)
    return truncated(t, shape, t.value(x))


@RULES.add("where")
@folds
def _where(t: Translator, shape: Shape, mask: Any, kept: Any, other: Any) -> Value:
    """By a mask that is known when the model is exported: kept * mask + other * (1 - mask)."""
    if isinstance(mask, Value):
        return t.elementwise("Where", shape, _truth(t, mask), kept, other)

    def chosen(value: Any, where: torch.Tensor) -> Any:
        if isinstance(value, Value):
            return t.elementwise("Mul", shape, value, where.double())
        return torch.where(where, torch.as_tensor(value, dtype=torch.float64), 0.0)  # an infinity stays where it is

    return t.elementwise("Add", shape, chosen(kept, mask), chosen(other, ~mask))


@RULES.add("index_put")
@folds
def _index_put(t: Translator, shape: Shape, x: Any, indices: Any, value: Any, accumulate: bool = False) -> Value:
    """One number written where a condition holds: `y[y > 1] = 0`."""
    mask = indices[0] if len(indices) == 1 else None
    one = value.numel() == 1 if isinstance(value, torch.Tensor) else False
    if not isinstance(mask, Condition) or mask.shape != shape or not one or accumulate:
        raise Refused(
            "the model writes to places that it computes; export takes one number written where a condition of the "
            "same shape holds, y[y > 1] = 0. Else choose: torch.where(condition, one, other)"
        )
    return _where(t, shape, mask, value, x)


@RULES.add("masked_fill", "masked_fill_")
@folds
def _masked_fill(t: Translator, shape: Shape, x: Any, mask: Any, value: Any) -> Value:
    return _where(t, shape, mask, value, x)
