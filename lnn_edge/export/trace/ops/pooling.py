"""Pooling and interpolation, one small rule per torch operation; see `trace.registry`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from ....bundle.operations import Shape
from ..recorder import Value
from ..registry import Refused, Rules
from ..translator import Translator
from .linear import along, each, with_channels
from .reductions import reduced
from .views import cut, joined, padded

__all__ = ["RULES"]

RULES = Rules()


@RULES.add("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(
    t: Translator, shape: Shape, x: Value, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    *_ceil: Any,
) -> Value:  # fmt: skip
    axes = len(kernel) if isinstance(kernel, (list, tuple)) else int(t.name[-2])
    if any(step != 1 for step in each(dilation, axes)):
        raise Refused("with dilation; export takes pooling of neighbours: pool x[..., ::2] and x[..., 1::2]")
    return _pooled(t, shape, x, "MaxPool", [each(n, axes) for n in (kernel, stride or kernel, padding)], -math.inf)


@RULES.add("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(
    t: Translator, shape: Shape, x: Value, kernel: Any, stride: Any = None, padding: Any = 0, *rest: Any
) -> Value:
    axes = int(t.name[-2])
    sizes = [each(n, axes) for n in (kernel, stride or kernel, padding)]
    made = _pooled(t, shape, x, "AveragePool", sizes, 0.0)
    # What torch does not count, or counts otherwise, at the edges: asked of torch, for ones.
    ones = torch.ones(1, 1, *x.shape[-axes:], dtype=torch.float64)
    wanted = getattr(torch.ops.aten, t.name)(ones, *sizes, *rest)
    own = [end for k in reversed(range(axes)) for end in _ends(x.shape, shape, sizes, axes)[k]]
    counted = getattr(functional, t.name)(functional.pad(ones, own), sizes[0], sizes[1])
    factor = wanted / counted
    return made if bool((factor == 1).all()) else t.elementwise("Mul", shape, made, factor.reshape(factor.shape[2:]))


def _ends(before: Shape, after: Shape, sizes: Sequence[list[int]], axes: int) -> list[tuple[int, int]]:
    """How much is added before and behind each of the last axes: rounded up, a window reaches further."""
    kernel, stride, pads = sizes
    reach = [(n - 1) * s + k for n, s, k in zip(after[-axes:], stride, kernel, strict=True)]
    return [(p, max(p, r - n - p)) for r, n, p in zip(reach, before[-axes:], pads, strict=True)]


def _pooled(t: Translator, shape: Shape, x: Value, name: str, sizes: Sequence[list[int]], filler: float) -> Value:
    kernel, stride, pads = sizes
    axes = len(kernel)
    more = [(0, high - low) for low, high in _ends(x.shape, shape, sizes, axes)]
    whole = padded(t, x, [*[(0, 0)] * (len(shape) - axes), *more], filler)
    return t.made(
        shape, name, with_channels(whole), kernel=tuple(kernel), strides=tuple(stride), pads=tuple(pads * 2)
    )  # fmt: skip


class _Values:
    """The values of a pooling that also says where they were."""

    def __init__(self, value: Value) -> None:
        self._value = value

    def __getitem__(self, index: int) -> Value:
        if index:
            raise Refused("which says where the largest values were; export takes the values alone")
        return self._value


@RULES.add("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool_and_places(t: Translator, shapes: list[Shape], x: Value, *arguments: Any) -> _Values:
    return _Values(_max_pool(t, shapes[0], x, *arguments))


@RULES.add("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_max(t: Translator, shapes: list[Shape], x: Value, *_sizes: Any) -> _Values:
    """The largest of each cell, axis by axis; cells may overlap."""
    shape, axes = shapes[0], int(t.name[-2])
    for axis in range(len(shape) - axes, len(shape)):
        count, cells = x.shape[axis], shape[axis]
        bounds = [(k * count // cells, -(-(k + 1) * count // cells)) for k in range(cells)]
        small = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        parts = [reduced(t, small, cut(t, x, axis, *ends), "ReduceMax", [axis]) for ends in bounds]
        grown = (*small[:axis], cells, *small[axis + 1 :])
        x = Value(t.recorder, joined(t, grown, parts, axis), grown)
    return _Values(x)


@RULES.add("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d")
def _adaptive_avg(t: Translator, shape: Shape, x: Value, *arguments: Any) -> Value:
    """Where the output divides the input this is plain pooling."""
    axes = int(t.name[-2])
    kernel = [n // m for n, m in zip(x.shape[-axes:], shape[-axes:], strict=True)]
    if all(k * m == n for k, n, m in zip(kernel, x.shape[-axes:], shape[-axes:], strict=True)):
        return _pooled(t, shape, x, "AveragePool", [kernel, kernel, [0] * axes], 0.0)
    return _mixed(t, shape, x, axes, *arguments)


@RULES.add(
    "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
)  # fmt: skip
def _interpolated(t: Translator, shape: Shape, x: Value, *arguments: Any, **keywords: Any) -> Value:
    return _mixed(t, shape, x, int(t.name.removesuffix("_aa")[-2]), *arguments, **keywords)


def _mixed(t: Translator, shape: Shape, x: Value, axes: int, *arguments: Any, **keywords: Any) -> Value:
    """Each of the last axes times a matrix. Its columns are what torch makes of samples that are 1 at one place.

    The shares of each result sum to 1, so along the other axes, where such a sample is constant, nothing changes.
    """
    function, space = getattr(torch.ops.aten, t.name), x.shape[-axes:]
    for place, axis in enumerate(range(len(shape) - axes, len(shape))):
        count = space[place]
        one_place = [count if k == place else 1 for k in range(axes)]
        probes = torch.eye(count, dtype=torch.float64).reshape(count, *one_place)
        made = function(probes.expand(count, *space)[None].contiguous(), *arguments, **keywords)[0]
        for other in reversed(range(axes)):
            made = made if other == place else made.select(other + 1, 0)
        if made.shape[0] != made.shape[1] or not bool((made == torch.eye(count)).all()):
            x = along(t, x, axis, made.T)
    return x
