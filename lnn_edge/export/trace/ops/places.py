"""Places: where the largest value is, elements by computed number, orders, writes; see `trace.registry`.

A place is a number like any other. What is at a computed place is the sum over an axis of all that is not elsewhere:
comparisons and choices that every runtime has, with as many elements as places times what is chosen from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ....bundle.operations import Shape
from ..folding import Condition
from ..recorder import Value
from ..registry import Refused, Rules, folds
from ..translator import Translator
from .linear import linear
from .logic import chosen_by
from .reductions import reduced
from .views import chosen, expanded, joined, picked

__all__ = ["RULES"]

RULES = Rules()


def _numbers(count: int, axis: int, rank: int) -> torch.Tensor:
    """0, 1, 2, ... along one axis of so many."""
    return torch.arange(count, dtype=torch.float64).reshape([count if k == axis else 1 for k in range(rank)])


def _opened(x: Any, axis: int) -> Any:
    """With an axis of length 1 more."""
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    return x.viewed(shape) if isinstance(x, Value) else x.reshape(shape)


def _wider(shape: Shape, axis: int, count: int) -> Shape:
    return (*shape[:axis], count, *shape[axis:])


def _where_of(t: Translator, places: Any, axis: int, count: int) -> tuple[Shape, Value]:
    """Whether each place of an axis is each number below `count`, along a new axis behind it."""
    shape = _wider(tuple(places.shape), axis + 1, count)
    numbers = _numbers(count, axis + 1, len(shape))
    return shape, t.elementwise("Equal", shape, _opened(places, axis + 1), numbers)


def _at(t: Translator, x: Any, places: Any, axis: int) -> Value:
    """The elements of `x` at places along an axis; what lies on the other axes has the same shape in both."""
    shape, there = _where_of(t, places, axis, x.shape[axis])
    alone = t.elementwise("Where", shape, there, _opened(x, axis), 0.0)
    return reduced(t, tuple(places.shape), alone, "ReduceSum", [axis + 1])


@RULES.add("argmax", "argmin")
def _argmax(t: Translator, shape: Shape, x: Value, axis: int | None = None, keep: bool = False) -> Value:
    """The first place at which the largest value is."""
    flat = x.viewed((math.prod(x.shape),)) if axis is None else x
    return _first(t, shape, flat, 0 if axis is None else axis % len(x.shape), "Max" if t.name == "argmax" else "Min")


def _first(t: Translator, shape: Shape, x: Value, axis: int, kind: str) -> Value:
    count = x.shape[axis]
    top = reduced(t, (*x.shape[:axis], 1, *x.shape[axis + 1 :]), x, f"Reduce{kind}", [axis])
    there = t.elementwise("Equal", x.shape, x, top)
    numbers = t.elementwise("Where", x.shape, there, _numbers(count, axis, len(x.shape)), float(count - 1))
    return reduced(t, shape, numbers, "ReduceMin", [axis])


class _Extremes:
    """Values and where they were found; each becomes nodes when it is asked for."""

    def __init__(self, t: Translator, shape: Shape, x: Value, axis: int, kind: str) -> None:
        self._t, self._shape, self._x, self._axis, self._kind = t, shape, x, axis, kind

    def __getitem__(self, index: int) -> Value:
        if index:
            return _first(self._t, self._shape, self._x, self._axis, self._kind)
        return reduced(self._t, self._shape, self._x, f"Reduce{self._kind}", [self._axis])


def _extreme(torch_name: str, kind: str) -> None:
    @RULES.add(torch_name)
    def apply(t: Translator, shape: Any, x: Value, axis: Any = None, keep: bool = False) -> Any:
        if isinstance(axis, (Value, torch.Tensor)):  # of two values: the same word in torch
            return t.elementwise(kind, shape, x, axis)
        if axis is None:
            return reduced(t, shape, x, f"Reduce{kind}", range(len(x.shape)))
        return _Extremes(t, shape[0], x, int(axis) % len(x.shape), kind)


_extreme("max", "Max")
_extreme("min", "Min")


class _Ranked:
    """Values in order and their places; each becomes nodes when it is asked for.

    The rank of a value is how many come before it. That takes as many comparisons as pairs, and needs no loop.
    """

    def __init__(self, t: Translator, shape: Shape, x: Value, axis: int, wanted: Sequence[int], falling: bool) -> None:
        self._t, self._shape, self._x, self._axis = t, shape, x, axis
        self._wanted, self._falling = wanted, falling
        self._there: tuple[Shape, Value] | None = None

    def _found(self) -> tuple[Shape, Value]:
        """Whether each value, along the axis behind, has each rank that is wanted."""
        t, x, axis, count = self._t, self._x, self._axis, self._x.shape[self._axis]
        pairs = _wider(x.shape, axis + 1, count)
        own, other = _opened(x, axis + 1), _opened(x, axis)
        earlier = _numbers(count, axis, len(pairs)) > _numbers(count, axis + 1, len(pairs))
        same = t.elementwise("Where", pairs, t.elementwise("Equal", pairs, other, own), earlier, 0.0)
        before = t.elementwise("Greater" if self._falling else "Less", pairs, other, own)
        ranks = reduced(t, x.shape, t.elementwise("Where", pairs, before, 1.0, same), "ReduceSum", [axis + 1])
        shape = _wider(x.shape, axis, len(self._wanted))
        wanted = torch.tensor(self._wanted, dtype=torch.float64)
        wanted = wanted.reshape([len(self._wanted) if k == axis else 1 for k in range(len(shape))])
        return shape, t.elementwise("Equal", shape, _opened(ranks, axis), wanted)

    def __getitem__(self, index: int) -> Value:
        t, axis = self._t, self._axis
        self._there = self._there or self._found()
        shape, there = self._there
        of = _numbers(self._x.shape[axis], axis + 1, len(shape)) if index else _opened(self._x, axis)
        alone = t.elementwise("Where", shape, there, of, 0.0)
        full = (*shape[: axis + 1], *shape[axis + 2 :])
        return reduced(t, full, alone, "ReduceSum", [axis + 1]).viewed(self._shape)


@RULES.add("topk")
def _topk(
    t: Translator, shapes: list[Shape], x: Value, count: int, axis: int = -1, largest: bool = True, *_sorted: Any
) -> _Ranked:
    return _Ranked(t, shapes[0], x, axis % len(x.shape), range(count), largest)


@RULES.add("sort")
def _sort(
    t: Translator, shapes: list[Shape], x: Value, axis: int = -1, descending: bool = False, **keywords: Any
) -> _Ranked:
    place = int(keywords.get("dim", axis)) % len(x.shape)
    return _Ranked(t, shapes[0], x, place, range(x.shape[place]), bool(keywords.get("descending", descending)))


@RULES.add("argsort")
def _argsort(t: Translator, shape: Shape, x: Value, *arguments: Any, **keywords: Any) -> Value:
    return _sort(t, [shape, shape], x, *arguments, **keywords)[1]


@RULES.add("kthvalue")
def _kth(t: Translator, shapes: list[Shape], x: Value, k: int, axis: int = -1, keep: bool = False) -> _Ranked:
    return _Ranked(t, shapes[0], x, axis % len(x.shape), [k - 1], False)


@RULES.add("median")
def _median(t: Translator, shape: Any, x: Value, axis: int | None = None, keep: bool = False) -> Any:
    """Of an even number of values torch takes the lower one of the middle."""
    if axis is None:
        flat = x.viewed((math.prod(x.shape),))
        return _Ranked(t, shape, flat, 0, [(flat.shape[0] - 1) // 2], False)[0]
    axis %= len(x.shape)
    return _Ranked(t, shape[0], x, axis, [(x.shape[axis] - 1) // 2], False)


@RULES.add("bucketize", "searchsorted")
def _bucketize(t: Translator, shape: Shape, *arguments: Any, right: bool = False, **_keywords: Any) -> Value:
    """How many limits are below a value."""
    x, limits = arguments if t.name == "bucketize" else arguments[::-1]
    if isinstance(limits, Value) or limits.dim() != 1:
        raise Refused("with limits that the model computes, or several rows of them; export takes one row of constants")
    wide = (*shape, len(limits))
    over = t.elementwise("LessOrEqual" if right else "Less", wide, limits, _opened(t.value(x), len(shape)))
    return reduced(t, shape, t.elementwise("Where", wide, over, 1.0, 0.0), "ReduceSum", [len(shape)])


@RULES.add("one_hot")
def _one_hot(t: Translator, shape: Shape, x: Value, _classes: int = -1) -> Value:
    _, there = _where_of(t, x, len(x.shape) - 1, shape[-1])
    return t.elementwise("Where", shape, there.viewed(shape), 1.0, 0.0)


@RULES.add("embedding")
def _embedding(t: Translator, shape: Shape, table: torch.Tensor, x: Value, *_rest: Any) -> Value:
    """A row of a table by its number: a product with a vector that is 1 at that number."""
    whole = (*x.shape, len(table))
    flat = t.elementwise("Equal", whole, _opened(x, len(x.shape)), _numbers(len(table), len(x.shape), len(whole)))
    return linear(t, shape, t.elementwise("Where", whole, flat, 1.0, 0.0), table.T)


@RULES.add("gather")
def _gather(t: Translator, shape: Shape, x: Any, axis: int, index: Any, **_keywords: Any) -> Value:
    if not isinstance(index, Value):
        return chosen(t, shape, x, lambda places: places.gather(axis, index))
    axis %= len(x.shape)
    if any(m != n for k, (m, n) in enumerate(zip(index.shape, x.shape, strict=True)) if k != axis):
        raise Refused("with fewer places than values on another axis; cut the values first: x[:, :n].gather(...)")
    return _at(t, x, index, axis)


@RULES.add("index")
@folds
def _index(t: Translator, shape: Shape, x: Any, indices: Sequence[Any]) -> Value:
    given = {axis: index for axis, index in enumerate(indices) if index is not None}
    computed = [axis for axis, index in given.items() if isinstance(index, Value)]
    if computed:
        return _by_computed(t, shape, x, given, computed)
    (axis, index), *others = given.items()
    if not others and index.dim() == 1 and index.dtype != torch.bool:
        return picked(t, shape, x, axis, index % x.shape[axis])
    return chosen(t, shape, x, lambda places: torch.ops.aten.index(places, list(indices)))


def _by_computed(t: Translator, shape: Shape, x: Any, given: dict[int, Any], computed: list[int]) -> Value:
    """By numbers along one axis; those of other axes may only be the one row that there is."""
    axis, *more = computed
    rest = [k for k in given if k != axis and x.shape[k] != 1]
    apart = max(given) - min(given) + 1 != len(given)
    index = given[axis]
    count = math.prod(index.shape)
    if more or rest or (apart and count > 1):
        raise Refused("by numbers that it computes on several axes at once; export takes torch.gather(x, dim, index)")
    before, behind = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    numbers = t.elementwise(
        "Where", index.shape, t.elementwise("Less", index.shape, index, 0.0),
        t.elementwise("Add", index.shape, index, float(x.shape[axis])), index,
    )  # fmt: skip
    if isinstance(x, torch.Tensor) and before == 1:
        return _embedding(t, (count, behind), x.reshape(-1, behind), numbers.viewed((count,))).viewed(shape)
    flat = t.value(x).viewed((before, x.shape[axis], behind))
    wide = (before, count, x.shape[axis], behind)
    pairs = (count, x.shape[axis], 1)
    there = t.elementwise("Equal", pairs, numbers.viewed((count, 1, 1)), _numbers(x.shape[axis], 1, 3))
    alone = t.elementwise("Where", wide, there, _opened(flat, 1), 0.0)
    return reduced(t, (before, count, behind), alone, "ReduceSum", [2]).viewed(shape)


@RULES.add("index_put", "index_put_")
@folds
def _index_put(t: Translator, shape: Shape, x: Any, indices: Any, value: Any, accumulate: bool = False) -> Value:
    """What is written to places that are known, or one number where a condition holds: `y[y > 1] = 0`."""
    mask = indices[0] if len(indices) == 1 else None
    if isinstance(mask, Condition) and not accumulate and math.prod(value.shape) == 1:
        whole = mask.viewed((*mask.shape, *(1 for _ in range(len(shape) - len(mask.shape)))))
        return chosen_by(t, shape, whole, value if isinstance(value, torch.Tensor) else value.viewed(()), x)
    if any(isinstance(index, Value) for index in indices):
        raise Refused(
            "the model writes to places that it computes; export takes one number written where a condition of the "
            "same shape holds, y[y > 1] = 0. Else choose: torch.where(condition, one, other)"
        )
    places = torch.arange(math.prod(shape)).reshape(shape)
    return _put(t, shape, x, torch.ops.aten.index(places, list(indices)), value, accumulate)


def _put(t: Translator, shape: Shape, x: Any, places: torch.Tensor, value: Any, added: bool) -> Value:
    """Values written to known places, or added to what is there."""
    count, flat = math.prod(shape), places.flatten()
    values = expanded(t, tuple(places.shape), t.value(value)).viewed((len(flat),))
    if added:
        sums = torch.zeros(count, len(flat), dtype=torch.float64)
        sums[flat, torch.arange(len(flat))] = 1.0
        return t.elementwise("Add", shape, x, linear(t, (count,), values, sums).viewed(shape))
    source = torch.arange(count)
    source[flat] = count + torch.arange(len(flat))
    both = joined(t, (count + len(flat),), [t.value(x).viewed((count,)), values], 0)
    return picked(t, (count,), Value(t.recorder, both, (count + len(flat),)), 0, source).viewed(shape)


@RULES.add("scatter", "scatter_add")
def _scatter(t: Translator, shape: Shape, x: Any, axis: int, index: Any, source: Any, **keywords: Any) -> Value:
    axis %= len(shape)
    added = t.name == "scatter_add"
    if keywords:
        raise Refused("with a reduction; export takes scatter and scatter_add")
    if not isinstance(source, (Value, torch.Tensor)):
        source = torch.tensor(float(source), dtype=torch.float64).expand(tuple(index.shape))
    elsewhere = [k for k, (m, n) in enumerate(zip(index.shape, shape, strict=True)) if k != axis and m != n]
    if not isinstance(index, Value):
        places = torch.arange(math.prod(shape)).reshape(shape).gather(axis, index)
        own = t.value(source)
        if own.shape != tuple(index.shape):
            own = chosen(t, tuple(index.shape), own, lambda k: k[tuple(slice(n) for n in index.shape)])
        return _put(t, shape, x, places, own, added)
    if elsewhere or index.shape[axis] != 1 or tuple(source.shape) != index.shape:
        raise Refused("to several places that it computes; export takes one on each row: index (batch, 1)")
    there = t.elementwise("Equal", shape, index, _numbers(shape[axis], axis, len(shape)))
    other = t.elementwise("Add", shape, x, source) if added else source
    return t.elementwise("Where", shape, there, other, x)
