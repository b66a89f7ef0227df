"""Views, cuts and joins, one small rule per torch operation; see `trace.registry`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from ....bundle.operations import Shape
from ..folding import Joined
from ..recorder import Value, for_one_row
from ..registry import Refused, Rules, folds
from ..translator import Translator

__all__ = ["RULES", "chosen", "cut", "expanded", "joined", "padded", "permuted", "picked"]

RULES = Rules()


@RULES.add(
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "alias", "detach", "clone"
)
@RULES.add("contiguous", "dropout", "feature_dropout", "lift_fresh_copy", "view_as", "reshape_as")
@folds
def _view(t: Translator, shape: Shape, x: Any, *_arguments: Any, **_keywords: Any) -> Value:
    """Same elements in the same order; in eval mode dropout is one of these."""
    return t.value(x).viewed(shape)


@RULES.add("select_scatter")
def _select_scatter(t: Translator, shape: Shape, x: Any, part: Any, axis: int, index: int) -> Value:
    """A value written into one place of an axis: `y[..., 0] = part`."""
    axis %= len(shape)
    opened = t.value(part).viewed((*shape[:axis], 1, *shape[axis + 1 :]))
    return _written_into(t, shape, t.value(x), opened, axis, index % shape[axis])


@RULES.add("slice_scatter")
def _slice_scatter(
    t: Translator, shape: Shape, x: Any, part: Any, axis: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    """A value written into a range of an axis: `y[:, 2:4] = part`."""
    axis %= len(shape)
    begin, _stop, stride = slice(start, end, step).indices(shape[axis])
    if stride != 1:
        raise Refused("the model writes into every second element of an axis; export takes whole ranges")
    return _written_into(t, shape, t.value(x), t.value(part), axis, begin)


def _written_into(t: Translator, shape: Shape, x: Value, part: Value, axis: int, start: int) -> Value:
    stop = start + part.shape[axis]
    around = [(0, start), (stop, shape[axis])]
    before, after = ([cut(t, x, axis, *ends)] if ends[0] < ends[1] else [] for ends in around)
    return Value(t.recorder, joined(t, shape, [*before, part, *after], axis), shape)


@RULES.add("copy")
def _copy(t: Translator, shape: Shape, _x: Any, source: Any, *_rest: Any) -> Value:
    return expanded(t, shape, source)


@RULES.add("fill")
def _fill(t: Translator, shape: Shape, _x: Any, value: Any) -> Value:
    return expanded(t, shape, torch.as_tensor(value, dtype=torch.float64))


@RULES.add("expand", "expand_as", "broadcast_to")
@folds
def expanded(t: Translator, shape: Shape, x: Any, *_arguments: Any, **_keywords: Any) -> Value:
    """A value or weight repeated along axes of length 1."""
    if isinstance(x, torch.Tensor):  # a weight in the shape of a value, as `log_std.expand_as(mean)`
        return t.value(x.expand(shape))
    if math.prod(shape) == math.prod(x.shape):
        viewed: Value = x.viewed(shape)
        return viewed
    return t.made(shape, "Expand", x, shape=for_one_row(shape))


class _Broadcast:
    """Tensors in one shape; each becomes a node when it is asked for."""

    def __init__(self, t: Translator, shapes: list[Shape], tensors: Sequence[Any]) -> None:
        self._t, self._shapes, self._tensors = t, shapes, tensors

    def __getitem__(self, index: int) -> Value:
        return expanded(self._t, self._shapes[index], self._tensors[index])


@RULES.add("broadcast_tensors")
def _broadcast(t: Translator, shapes: list[Shape], tensors: Sequence[Any]) -> _Broadcast:
    return _Broadcast(t, shapes, tensors)


@RULES.add("permute", "transpose", "t", "numpy_T", "swapaxes", "swapdims")
@folds
def permuted(t: Translator, shape: Shape, x: Value, *axes: Any) -> Value:
    """The axes in another order: two that change places, a list of all, or the opposite order."""
    rank = len(x.shape)
    order = list(range(rank))
    if len(axes) == 2:
        a, b = (int(axis) % rank for axis in axes)
        order[a], order[b] = order[b], order[a]
    elif len(axes) == 1:
        order = [int(axis) % rank for axis in axes[0]]
    else:
        order.reverse()
    moved = [k for k in order if x.shape[k] != 1]
    if moved == sorted(moved):  # only axes of length one change places
        return x.viewed(shape)
    front = len(x.shape) - len(for_one_row(x.shape))  # where axes of length one go is only a view
    return t.made(shape, "Transpose", x, perm=tuple(k - front for k in order if k >= front))


@RULES.add("select")
@folds
def _select(t: Translator, shape: Shape, x: Value, axis: int, index: int) -> Value:
    if x.shape[axis] == 1:
        return x.viewed(shape)
    index %= x.shape[axis]
    part = x.part(axis, index) if isinstance(x, Joined) else None
    if part is not None:
        return part.viewed(shape)
    return cut(t, x, axis, index, index + 1).viewed(shape)


@RULES.add("slice")
def _slice(
    t: Translator,
    shape: Shape,
    x: Value,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    if shape == x.shape:
        return x
    begin, stop, _ = slice(start, end, step).indices(x.shape[axis])
    return cut(t, x, axis, begin, stop, step).viewed(shape)


def cut(t: Translator, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """Every `step`-th element of a range of one axis."""
    name, (place,) = t.framed(x, axis)
    shape = list(x.shape)
    shape[axis] = len(range(start, stop, step))
    return t.made(tuple(shape), "Slice", name, axis=place, start=start, stop=stop, step=step)


class _Pieces:
    """The pieces of a split; each becomes a node when it is asked for, so that none is computed in vain."""

    def __init__(self, t: Translator, shapes: list[Shape], x: Value, axis: int) -> None:
        self._t, self._shapes, self._x, self._axis = t, shapes, x, axis % len(x.shape)

    def __getitem__(self, index: int) -> Value:
        sizes = [1 if len(shape) < len(self._x.shape) else shape[self._axis] for shape in self._shapes]
        start = sum(sizes[:index])
        return cut(self._t, self._x, self._axis, start, start + sizes[index]).viewed(self._shapes[index])


@RULES.add("split", "split_with_sizes", "chunk", "tensor_split")
def _split(t: Translator, shapes: list[Shape], x: Value, _sizes: Any, axis: int = 0) -> _Pieces:
    return _Pieces(t, shapes, x, axis)


@RULES.add("unbind")
def _unbind(t: Translator, shapes: list[Shape], x: Value, axis: int = 0) -> _Pieces:
    return _Pieces(t, shapes, x, axis)


@RULES.add("cat", "concat", "concatenate")
def _cat(t: Translator, shape: Shape, parts: Sequence[Any], axis: int = 0) -> Value:
    values = [t.value(part) for part in parts if math.prod(part.shape)]  # what is cut off before may hold nothing
    return Value(t.recorder, joined(t, shape, values, axis % len(shape)), shape)


def joined(t: Translator, shape: Shape, values: Sequence[Value], axis: int) -> str:
    """Side by side; joined along an axis in front of the rows, that is an axis like any other."""
    front = min(len(shape) - len(for_one_row(shape)), axis)
    names = [value.shaped(value.shape[front:]) for value in values]
    return names[0] if len(names) == 1 else t.recorder.operation("Concat", *names, axis=axis - front)


@RULES.add("stack")
def _stack(t: Translator, shape: Shape, parts: Sequence[Any], axis: int = 0) -> Value:
    axis %= len(shape)
    whole = [t.value(part) for part in parts]
    opened = [v.viewed((*v.shape[:axis], 1, *v.shape[axis:])) for v in whole]
    if axis == 0:
        return Joined(t.recorder, whole, shape, lambda: joined(t, shape, opened, axis))
    return Value(t.recorder, joined(t, shape, opened, axis), shape)


@RULES.add("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "empty_like", "new_empty")
def _constant_like(t: Translator, shape: Shape, _x: Any, *arguments: Any, **_keywords: Any) -> torch.Tensor:
    """What has a value's shape, and none of its numbers."""
    number = float(arguments[-1]) if "full" in t.name else float("ones" in t.name)
    return torch.full(shape, number, dtype=torch.float64)


@RULES.add("flip")
def _flip(t: Translator, shape: Shape, x: Value, axes: Sequence[int]) -> Value:
    for axis in axes:
        x = picked(t, shape, x, axis, torch.arange(shape[axis] - 1, -1, -1))
    return x


@RULES.add("roll")
def _roll(t: Translator, shape: Shape, x: Value, shifts: Sequence[int], axes: Sequence[int] = ()) -> Value:
    if not axes:  # all elements, in one row
        return chosen(t, shape, x, lambda places: places.roll(shifts))
    for shift, axis in zip(shifts, axes, strict=True):
        x = picked(t, shape, x, axis, torch.arange(shape[axis]).roll(shift))
    return x


@RULES.add("repeat", "tile")
def _repeat(t: Translator, shape: Shape, x: Value, repeats: Sequence[int]) -> Value:
    whole = x.viewed((*(1 for _ in range(len(shape) - len(x.shape))), *x.shape))
    for axis, count in enumerate(repeats):
        if count > 1:
            grown = (*whole.shape[:axis], count * whole.shape[axis], *whole.shape[axis + 1 :])
            whole = Value(t.recorder, joined(t, grown, [whole] * count, axis), grown)
    return whole


@RULES.add("constant_pad_nd", "pad")
def _pad(
    t: Translator, shape: Shape, x: Value, pads: Sequence[int], mode: Any = "constant", value: Any = None
) -> Value:
    """Around the last axes, the last one first."""
    number = mode if isinstance(mode, (int, float)) else value
    ends = [(0, 0)] * len(shape)
    for place, pair in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        ends[len(shape) - 1 - place] = pair
    if isinstance(mode, str) and mode != "constant":
        return _mirrored(t, shape, x, pads, mode)
    return padded(t, x, ends, float(number or 0.0))


def padded(t: Translator, x: Value, ends: Sequence[tuple[int, int]], number: float) -> Value:
    """So many copies of a number before and behind each axis; of less than none, so many elements are cut off."""
    for axis, (before, after) in enumerate(ends):
        if min(before, after) < 0:
            x = cut(t, x, axis, max(0, -before), x.shape[axis] - max(0, -after))
        parts = [x]
        for count, first in ((before, True), (after, False)):
            if count > 0:
                sizes = (*x.shape[:axis], count, *x.shape[axis + 1 :])
                filler = t.value(torch.full(sizes, number, dtype=torch.float64))
                parts = [filler, *parts] if first else [*parts, filler]
        grown = (*x.shape[:axis], sum(part.shape[axis] for part in parts), *x.shape[axis + 1 :])
        x = Value(t.recorder, joined(t, grown, parts, axis), grown) if len(parts) > 1 else x
    return x


def _mirrored(t: Translator, shape: Shape, x: Value, pads: Sequence[int], mode: str) -> Value:
    """Copies of what is there, axis by axis: which ones is asked of torch."""
    for axis in range(len(shape) - len(pads) // 2, len(shape)):
        if x.shape[axis] != shape[axis]:
            place = 2 * (len(shape) - 1 - axis)
            numbers = torch.arange(float(x.shape[axis])).reshape(1, 1, -1)
            index = functional.pad(numbers, list(pads[place : place + 2]), mode).flatten().long()
            x = picked(t, (*x.shape[:axis], len(index), *x.shape[axis + 1 :]), x, axis, index)
    return x


@RULES.add("index_select")
def picked(t: Translator, shape: Shape, x: Value, axis: int, index: torch.Tensor) -> Value:
    """Elements of an axis by numbers that are known when the model is exported."""
    if isinstance(index, Value):
        raise Refused("by numbers that the model computes; export takes torch.gather(x, dim, index) for that")
    name, (place,) = t.framed(x, axis)
    return t.made(shape, "Gather", name, axis=place, weights={"indices": index.numpy()})


@RULES.add("diagonal")
def _diagonal(t: Translator, shape: Shape, x: Value, offset: int = 0, first: int = 0, second: int = 1) -> Value:
    return chosen(t, shape, x, lambda places: torch.diagonal(places, offset, first, second))


@RULES.add("unfold", "im2col", "take")
def _windows(t: Translator, shape: Shape, x: Value, *arguments: Any, **keywords: Any) -> Value:
    """Elements by place, some more than once: torch is asked which."""
    function = getattr(torch.ops.aten, t.name)
    if t.name == "im2col":  # it takes no whole numbers, and pads with zeros: place 0, before all others
        whole = padded(t, x.viewed((math.prod(x.shape),)), [(1, 0)], 0.0)
        places = function(torch.arange(1.0, 1.0 + math.prod(x.shape)).reshape(x.shape), *arguments, **keywords)
        return picked(t, (math.prod(shape),), whole, 0, places.long().flatten()).viewed(shape)
    return chosen(t, shape, x, lambda places: function(places, *arguments, **keywords))


def chosen(t: Translator, shape: Shape, x: Value, choose: Callable[[torch.Tensor], torch.Tensor]) -> Value:
    """The elements that a function of torch chooses, which only moves them: it is called with their places."""
    places = choose(torch.arange(math.prod(x.shape)).reshape(x.shape)).flatten()
    return picked(t, (len(places),), x.viewed((math.prod(x.shape),)), 0, places).viewed(shape)
