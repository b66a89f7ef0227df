"""Views, cuts, joins, arithmetic and reductions, one small rule per torch operation; see `trace.registry`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...graph.builder import Shape, Value
from ..folding import Joined
from ..registry import Rules, folds
from ..translator import Translator

__all__ = ["RULES", "cut", "reduced"]

RULES = Rules()


@RULES.add(
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "alias", "detach", "clone"
)
@RULES.add(
    "contiguous", "dropout", "feature_dropout", "lift_fresh_copy", "to", "_to_copy", "type_as", "view_as", "reshape_as"
)
@folds
def _view(t: Translator, shape: Shape, x: Any, *_arguments: Any, **_keywords: Any) -> Value:
    """Same elements in the same order; in eval mode dropout is one of these."""
    return t.value(x).viewed(shape)


@RULES.add("expand", "expand_as", "broadcast_to")
@folds
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


@RULES.add("broadcast_tensors")
def _broadcast(t: Translator, shapes: list[Shape], tensors: Sequence[Any]) -> _Broadcast:
    return _Broadcast(t, shapes, tensors)


@RULES.add("permute", "transpose", "t", "numpy_T", "movedim", "swapaxes")
@folds
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


@RULES.add("select")
@folds
def _select(t: Translator, shape: Shape, x: Value, axis: int, index: int) -> Value:
    if x.logical[axis] == 1:
        return x.viewed(shape)
    index %= x.logical[axis]
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
    if shape == x.logical:
        return x
    begin, stop, _ = slice(start, end, step).indices(x.logical[axis])
    return cut(t, x, axis, begin, stop, step).viewed(shape)


def cut(t: Translator, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """Every `step`-th element of a range of one axis."""
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
        return cut(self._t, self._x, self._axis, start, start + sizes[index]).viewed(self._shapes[index])


@RULES.add("split", "split_with_sizes", "chunk", "tensor_split")
def _split(t: Translator, shapes: list[Shape], x: Value, _sizes: Any, axis: int = 0) -> _Pieces:
    return _Pieces(t, shapes, x, axis)


@RULES.add("unbind")
def _unbind(t: Translator, shapes: list[Shape], x: Value, axis: int = 0) -> _Pieces:
    return _Pieces(t, shapes, x, axis)


@RULES.add("cat", "concat", "concatenate")
def _cat(t: Translator, shape: Shape, parts: Sequence[Any], axis: int = 0) -> Value:
    physical, write = _concat(t, shape, [t.value(part) for part in parts], axis % len(shape))
    return Value(write(), physical, shape)


def _concat(t: Translator, shape: Shape, values: Sequence[Value], axis: int) -> tuple[Shape, Callable[[], str]]:
    kept = [k for k, n in enumerate(shape) if k == 0 or n != 1 or k == axis]
    kept = kept if len(kept) > 1 else list(range(len(shape)))[:2]

    def write() -> str:
        names = [t.shaped(v, [v.logical[k] for k in kept]) for v in values]
        return t.graph.node("Concat", *names, axis=kept.index(axis))

    return tuple(shape[k] for k in kept), write


@RULES.add("stack")
def _stack(t: Translator, shape: Shape, parts: Sequence[Any], axis: int = 0) -> Value:
    axis %= len(shape)
    whole = [t.value(part) for part in parts]
    opened = [v.viewed((*v.logical[:axis], 1, *v.logical[axis:])) for v in whole]
    physical, write = _concat(t, shape, opened, axis)
    return Joined(whole, physical, shape, write) if axis == 0 else Value(write(), physical, shape)


@RULES.add("index_select")
def _index_select(t: Translator, shape: Shape, x: Value, axis: int, index: torch.Tensor) -> Value:
    """Columns by number, known when the model is exported."""
    return Value(t.graph.node("Gather", t.plain(x), t.graph.integers(index.numpy()), axis=int(axis)), shape, shape)


@RULES.add("index")
def _index(t: Translator, shape: Shape, x: Value, indices: Sequence[Any]) -> Value:
    chosen = [axis for axis, index in enumerate(indices) if index is not None]
    if len(chosen) != 1 or isinstance(indices[chosen[0]], Value) or indices[chosen[0]].dtype == torch.bool:
        raise TypeError(
            "the model indexes several axes at once, or by what it computes; export takes one list of numbers"
        )
    return _index_select(t, shape, x, chosen[0], indices[chosen[0]] % x.logical[chosen[0]])


def _binary(torch_name: str, onnx_name: str, swapped: bool = False) -> None:
    @RULES.add(torch_name, f"{torch_name}_")
    @folds
    def apply(t: Translator, shape: Shape, a: Any, b: Any, *, alpha: float = 1) -> Value:
        if alpha != 1:
            b = b * alpha if not isinstance(b, Value) else t.elementwise("Mul", b.logical, b, float(alpha))
        return t.elementwise(onnx_name, shape, *((b, a) if swapped else (a, b)))


for _torch_name, _onnx_name in {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "maximum": "Max", "minimum": "Min",
}.items():  # fmt: skip
    _binary(_torch_name, _onnx_name)
_binary("rsub", "Sub", swapped=True)


@RULES.add("pow", "square")
def _power(t: Translator, shape: Shape, x: Value, exponent: Any = 2) -> Value:
    if exponent == 2:
        return t.elementwise("Mul", shape, x, x)
    return t.elementwise("Pow", shape, x, float(exponent))


def _reduction(torch_name: str, onnx_name: str) -> None:
    @RULES.add(torch_name)
    def apply(t: Translator, shape: Shape, x: Value, axes: Any = None, keep: bool = False, **_keywords: Any) -> Value:
        rank = len(x.logical)
        chosen = range(rank) if axes is None else [axes] if isinstance(axes, int) else axes
        where = sorted(int(axis) % rank for axis in chosen)
        if all(x.logical[k] == 1 for k in where):
            return x.viewed(shape)
        return reduced(t, shape, x, onnx_name, where)


def reduced(t: Translator, shape: Shape, x: Value, name: str, axes: Sequence[int]) -> Value:
    """An ONNX reduction over axes counted from the front; the shape is the one torch sees afterwards."""
    full = tuple(1 if k in axes else n for k, n in enumerate(x.logical))
    if name == "ReduceSum":  # its axes became an input in opset 13
        return Value(t.graph.node(name, t.plain(x), t.graph.integers(axes), keepdims=1), full, shape)
    return Value(t.graph.node(name, t.plain(x), axes=list(axes), keepdims=1), full, shape)


_reduction("mean", "ReduceMean")
_reduction("sum", "ReduceSum")
_reduction("amax", "ReduceMax")
_reduction("amin", "ReduceMin")


@RULES.add("logsumexp")
def _logsumexp(t: Translator, shape: Shape, x: Value, axes: Any, *_keep: Any) -> Value:
    """x - log_softmax(x), which is the same for every element of the axis: no Exp that could overflow."""
    where = [axes] if isinstance(axes, int) else list(axes)
    if len(where) != 1:
        raise TypeError(f"over the axes {where}, but export translates it for one axis")
    axis = int(where[0]) % len(x.logical)
    spread = t.graph.node("Sub", t.plain(x), t.graph.node("LogSoftmax", t.plain(x), axis=axis))
    if x.logical[axis] == 1:
        return Value(spread, x.logical, shape)
    return reduced(t, shape, Value(spread, x.logical, x.logical), "ReduceMean", [axis])


@RULES.add("linalg_vector_norm")
def _vector_norm(t: Translator, shape: Shape, x: Value, order: float = 2, axes: Any = None, *_rest: Any) -> Value:
    """The Euclidean norm, as in torch.nn.functional.normalize."""
    if order != 2:
        raise TypeError(f"the model uses a vector norm of order {order}; export takes 2")
    chosen = [k % len(x.logical) for k in (range(len(x.logical)) if axes is None else axes)]
    return t.unary("Sqrt", reduced(t, shape, t.elementwise("Mul", x.logical, x, x), "ReduceSum", chosen))
