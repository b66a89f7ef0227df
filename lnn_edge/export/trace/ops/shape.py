"""Views, cuts, joins, arithmetic and reductions, one small rule per torch operation; see `trace.registry`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ....bundle.operations import Shape
from ..folding import Joined
from ..recorder import Value, for_one_row
from ..registry import Refused, Rules, folds
from ..translator import Translator

__all__ = ["RULES", "cut", "reduced"]

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
    return Value(t.recorder, _concat(t, shape, [*before, part, *after], axis), shape)


@RULES.add("copy")
def _copy(t: Translator, shape: Shape, _x: Any, source: Any, *_rest: Any) -> Value:
    return _expand(t, shape, source)


@RULES.add("fill")
def _fill(t: Translator, shape: Shape, _x: Any, value: Any) -> Value:
    return _expand(t, shape, torch.as_tensor(value, dtype=torch.float64))


@RULES.add("expand", "expand_as", "broadcast_to")
@folds
def _expand(t: Translator, shape: Shape, x: Any, *_arguments: Any, **_keywords: Any) -> Value:
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
        return _expand(self._t, self._shapes[index], self._tensors[index])


@RULES.add("broadcast_tensors")
def _broadcast(t: Translator, shapes: list[Shape], tensors: Sequence[Any]) -> _Broadcast:
    return _Broadcast(t, shapes, tensors)


@RULES.add("permute", "transpose", "t", "numpy_T", "movedim", "swapaxes")
@folds
def _permute(t: Translator, shape: Shape, x: Value, *axes: Any) -> Value:
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


@RULES.add("slice", "narrow")
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
    return Value(t.recorder, _concat(t, shape, [t.value(part) for part in parts], axis % len(shape)), shape)


def _concat(t: Translator, shape: Shape, values: Sequence[Value], axis: int) -> str:
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
        return Joined(t.recorder, whole, shape, lambda: _concat(t, shape, opened, axis))
    return Value(t.recorder, _concat(t, shape, opened, axis), shape)


@RULES.add("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "empty_like", "new_empty")
def _constant_like(t: Translator, shape: Shape, _x: Any, *arguments: Any, **_keywords: Any) -> torch.Tensor:
    """What has a value's shape, and none of its numbers."""
    number = float(arguments[-1]) if "full" in t.name else float("ones" in t.name)
    return torch.full(shape, number, dtype=torch.float64)


@RULES.add("flip")
def _flip(t: Translator, shape: Shape, x: Value, axes: Sequence[int]) -> Value:
    for axis in axes:
        x = _index_select(t, shape, x, axis, torch.arange(shape[axis] - 1, -1, -1))
    return x


@RULES.add("roll")
def _roll(t: Translator, shape: Shape, x: Value, shifts: Sequence[int], axes: Sequence[int] = ()) -> Value:
    if len(axes) != len(shifts):
        raise Refused("the model rolls all elements at once; export takes axes: torch.roll(x, 1, dims=-1)")
    for shift, axis in zip(shifts, axes, strict=True):
        x = _index_select(t, shape, x, axis, torch.arange(shape[axis]).roll(shift))
    return x


@RULES.add("repeat", "tile")
def _repeat(t: Translator, shape: Shape, x: Value, repeats: Sequence[int]) -> Value:
    whole = x.viewed((*(1 for _ in range(len(shape) - len(x.shape))), *x.shape))
    for axis, count in enumerate(repeats):
        if count > 1:
            grown = (*whole.shape[:axis], count * whole.shape[axis], *whole.shape[axis + 1 :])
            whole = Value(t.recorder, _concat(t, grown, [whole] * count, axis), grown)
    return whole


@RULES.add("constant_pad_nd", "pad")
def _pad(
    t: Translator, shape: Shape, x: Value, pads: Sequence[int], mode: Any = "constant", value: Any = None
) -> Value:
    """Constants around the last axes, the last one first."""
    number = mode if isinstance(mode, (int, float)) else value
    if isinstance(mode, str) and mode != "constant":
        raise Refused(f"the model pads in mode '{mode}'; export pads with a constant")
    for place, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        axis = len(shape) - 1 - place
        parts = [x]
        for count, first in ((before, True), (after, False)):
            if count < 0:
                raise Refused("the model cuts by padding with less than nothing; export takes slices: x[..., 1:]")
            if count:
                sizes = (*x.shape[:axis], count, *x.shape[axis + 1 :])
                filler = t.value(torch.full(sizes, float(number or 0.0), dtype=torch.float64))
                parts = [filler, *parts] if first else [*parts, filler]
        grown = (*x.shape[:axis], sum(part.shape[axis] for part in parts), *x.shape[axis + 1 :])
        x = Value(t.recorder, _concat(t, grown, parts, axis), grown)
    return x


class _WithPlaces:
    """Values and where they were found; only the values are there."""

    def __init__(self, value: Value) -> None:
        self._value = value

    def __getitem__(self, index: int) -> Value:
        if index:
            raise Refused("the model uses where the largest or smallest value is; export takes the value alone")
        return self._value


def _extreme(torch_name: str, onnx_name: str) -> None:
    @RULES.add(torch_name)
    def apply(t: Translator, shape: Any, x: Value, axis: Any = None, keep: bool = False) -> Any:
        if isinstance(axis, (Value, torch.Tensor)):  # of two values: the same word in torch
            return t.elementwise({"ReduceMax": "Max", "ReduceMin": "Min"}[onnx_name], shape, x, axis)
        if axis is None:
            every = [k for k, n in enumerate(x.shape) if n != 1]
            return reduced(t, shape, x, onnx_name, every) if every else x.viewed(shape)
        place = int(axis) % len(x.shape)
        same = x.shape[place] == 1
        return _WithPlaces(x.viewed(shape[0]) if same else reduced(t, shape[0], x, onnx_name, [place]))


_extreme("max", "ReduceMax")
_extreme("min", "ReduceMin")


@RULES.add("index_select")
def _index_select(t: Translator, shape: Shape, x: Value, axis: int, index: torch.Tensor) -> Value:
    """Columns by number, known when the model is exported."""
    name, (place,) = t.framed(x, axis)
    return t.made(shape, "Gather", name, axis=place, weights={"indices": index.numpy()})


@RULES.add("index")
def _index(t: Translator, shape: Shape, x: Value, indices: Sequence[Any]) -> Value:
    chosen = [axis for axis, index in enumerate(indices) if index is not None]
    if len(chosen) != 1 or isinstance(indices[chosen[0]], Value) or indices[chosen[0]].dtype == torch.bool:
        raise Refused(
            "the model indexes several axes at once, or by what it computes; export takes one list of numbers"
        )
    return _index_select(t, shape, x, chosen[0], indices[chosen[0]] % x.shape[chosen[0]])


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
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "maximum": "Max", "minimum": "Min",
}.items():  # fmt: skip
    _binary(_torch_name, _onnx_name)
_binary("true_divide", "Div")
_binary("rsub", "Sub", swapped=True)


@RULES.add("hypot")
def _hypot(t: Translator, shape: Shape, a: Any, b: Any) -> Value:
    squares = (t.elementwise("Mul", value.shape, value, value) for value in (t.value(a), t.value(b)))
    return t.unary("Sqrt", t.elementwise("Add", shape, *squares))


@RULES.add("pow", "square")
def _power(t: Translator, shape: Shape, x: Value, exponent: Any = 2) -> Value:
    if exponent == 2:
        return t.elementwise("Mul", shape, x, x)
    return t.elementwise("Pow", shape, x, float(exponent))


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
    longer = [axis for axis in axes if x.shape[axis] != 1]
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


@RULES.add("logsumexp")
def _logsumexp(t: Translator, shape: Shape, x: Value, axes: Any, *_keep: Any) -> Value:
    """x - log_softmax(x), which is the same for every element of the axis: no Exp that could overflow."""
    where = [axes] if isinstance(axes, int) else list(axes)
    if len(where) != 1:
        raise Refused(f"over the axes {where}, but export translates it for one axis")
    axis = int(where[0]) % len(x.shape)
    name, (place,) = t.framed(x, axis)
    normalised = t.recorder.operation("LogSoftmax", name, axis=place)
    spread = t.made(x.shape, "Sub", name, normalised)
    return spread.viewed(shape) if x.shape[axis] == 1 else reduced(t, shape, spread, "ReduceMean", [axis])


@RULES.add("linalg_vector_norm")
def _vector_norm(t: Translator, shape: Shape, x: Value, order: float = 2, axes: Any = None, *_rest: Any) -> Value:
    """The Euclidean norm, as in torch.nn.functional.normalize."""
    if order != 2:
        raise Refused(f"the model uses a vector norm of order {order}; export takes 2")
    chosen = [k % len(x.shape) for k in (range(len(x.shape)) if axes is None else axes)]
    return t.unary("Sqrt", reduced(t, shape, t.elementwise("Mul", x.shape, x, x), "ReduceSum", chosen))
