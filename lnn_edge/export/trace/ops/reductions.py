"""Sums, means, norms and extremes over axes, one small rule per torch operation; see `trace.registry`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ....bundle.operations import Shape
from ..folding import Condition
from ..recorder import Value
from ..registry import Refused, Rules
from ..translator import Translator
from .logic import condition, unequal
from .views import cut, joined

__all__ = ["RULES", "norm", "reduced"]

RULES = Rules()


def _reduction(torch_name: str, onnx_name: str) -> None:
    @RULES.add(torch_name)
    def apply(t: Translator, shape: Shape, x: Value, axes: Any = None, keep: bool = False, **_keywords: Any) -> Value:
        rank = len(x.shape)
        chosen = range(rank) if axes is None else [axes] if isinstance(axes, int) else axes
        where = sorted(int(axis) % rank for axis in chosen)
        if all(x.shape[k] == 1 for k in where):
            return x.viewed(shape)
        return reduced(t, shape, x, onnx_name, where)


def reduced(t: Translator, shape: Shape, x: Value, name: str, axes: Sequence[int]) -> Value:
    """A reduction over axes counted from the front; the shape is the one torch sees afterwards."""
    longer = sorted(axis for axis in axes if x.shape[axis] != 1)
    if not longer:  # of one value each
        return x.viewed(shape)
    operand, places = t.framed(x, *longer)
    return t.made(shape, name, operand, axes=tuple(places))


_reduction("mean", "ReduceMean")
_reduction("sum", "ReduceSum")
_reduction("amax", "ReduceMax")
_reduction("amin", "ReduceMin")


@RULES.add("var", "std")
def _variance(
    t: Translator, shape: Shape, x: Value, axes: Any = None, unbiased: bool = True, _keep: bool = False,
    *, correction: Any = None, keepdim: bool = False,
) -> Value:  # fmt: skip
    chosen = [int(k) % len(x.shape) for k in (range(len(x.shape)) if axes is None else [*axes])]
    longer = [k for k in chosen if x.shape[k] != 1]
    count = math.prod(x.shape[k] for k in chosen)
    if not longer:
        raise Refused("of one value alone; export takes axes with several")
    full = tuple(1 if k in longer else n for k, n in enumerate(x.shape))
    centred = t.elementwise("Sub", x.shape, x, reduced(t, full, x, "ReduceMean", longer))
    square = reduced(t, shape, t.elementwise("Mul", x.shape, centred, centred), "ReduceMean", longer)
    freedom = count - (float(correction) if correction is not None else float(unbiased))
    value = t.elementwise("Mul", shape, square, count / freedom)
    return t.unary("Sqrt", value) if t.name == "std" else value


@RULES.add("var_mean", "std_mean")
def _variance_and_mean(t: Translator, shapes: list[Shape], x: Value, *arguments: Any, **keywords: Any) -> list[Value]:
    axes = arguments[0] if arguments and not isinstance(arguments[0], bool) else keywords.get("dim")
    mean = RULES["mean"](t, shapes[1], x, axes)
    t.name = t.name.removesuffix("_mean")
    return [_variance(t, shapes[0], x, *arguments, **keywords), mean]


@RULES.add("aminmax")
def _aminmax(t: Translator, shapes: list[Shape], x: Value, *, dim: int | None = None, keepdim: bool = False) -> Any:
    axes = range(len(x.shape)) if dim is None else [dim % len(x.shape)]
    return [reduced(t, own, x, name, axes) for own, name in zip(shapes, ("ReduceMin", "ReduceMax"), strict=True)]


@RULES.add("any", "all")
def _any(t: Translator, shape: Shape, x: Value, axes: Any = None, keep: bool = False) -> Value:
    """Whether the largest of 0 and 1, or the smallest, is 1."""
    truths = x if isinstance(x, Condition) else unequal(t, x.shape, x, 0.0)
    rank = len(x.shape)
    chosen = range(rank) if axes is None else [axes] if isinstance(axes, int) else axes
    found = reduced(t, shape, truths, "ReduceMax" if t.name == "any" else "ReduceMin", [int(k) % rank for k in chosen])
    return condition(t, shape, "Greater", found, 0.5)


@RULES.add("prod")
def _product(t: Translator, shape: Shape, x: Value, axis: Any = None, keep: bool = False, **_keywords: Any) -> Value:
    """One half times the other, until one is left."""
    flat = x.viewed((math.prod(x.shape),)) if axis is None else x
    place = 0 if axis is None else int(axis) % len(x.shape)
    while (count := flat.shape[place]) > 1:
        half = count // 2
        made = t.elementwise("Mul", *_halves(t, flat, place, half))
        if count % 2:
            last = cut(t, flat, place, count - 1, count)
            grown = (*made.shape[:place], half + 1, *made.shape[place + 1 :])
            made = Value(t.recorder, joined(t, grown, [made, last], place), grown)
        flat = made
    return flat.viewed(shape)


def _halves(t: Translator, x: Value, axis: int, half: int) -> tuple[Shape, Value, Value]:
    first, second = cut(t, x, axis, 0, half), cut(t, x, axis, half, 2 * half)
    return first.shape, first, second


@RULES.add("logsumexp")
def _logsumexp(t: Translator, shape: Shape, x: Value, axes: Any, *_keep: Any) -> Value:
    """The largest, and the logarithm of what the others are beside it: no Exp that could overflow."""
    where = [int(k) % len(x.shape) for k in ([axes] if isinstance(axes, int) else axes)]
    full = tuple(1 if k in where else n for k, n in enumerate(x.shape))
    top = reduced(t, full, x, "ReduceMax", where)
    beside = t.unary("Exp", t.elementwise("Sub", x.shape, x, top))
    rest = t.unary("Log", reduced(t, shape, beside, "ReduceSum", where))
    return t.elementwise("Add", shape, rest, top.viewed(shape))


@RULES.add("linalg_vector_norm")
def _vector_norm(t: Translator, shape: Shape, x: Value, order: float = 2, axes: Any = None, *_rest: Any) -> Value:
    where = [k % len(x.shape) for k in (range(len(x.shape)) if axes is None else axes)]
    return norm(t, shape, x, float(order), where)


def norm(t: Translator, shape: Shape, x: Value, order: float, axes: Sequence[int]) -> Value:
    """The norm of what lies along the axes."""
    if order == 2:
        return t.unary("Sqrt", reduced(t, shape, t.elementwise("Mul", x.shape, x, x), "ReduceSum", axes))
    size = t.unary("Abs", x)
    if math.isinf(order):
        return reduced(t, shape, size, "ReduceMax" if order > 0 else "ReduceMin", axes)
    if order == 0:
        return reduced(t, shape, unequal(t, x.shape, x, 0.0), "ReduceSum", axes)
    if order == 1:
        return reduced(t, shape, size, "ReduceSum", axes)
    total = reduced(t, shape, t.elementwise("Pow", x.shape, size, order), "ReduceSum", axes)
    return t.elementwise("Pow", shape, total, 1.0 / order)
