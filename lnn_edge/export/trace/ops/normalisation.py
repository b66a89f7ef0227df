"""Normalisation, one small rule per torch operation; see `trace.registry`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ....bundle.operations import Shape
from ..recorder import Value
from ..registry import Rules, folds
from ..translator import Translator
from .reductions import reduced

__all__ = ["RULES"]

RULES = Rules()


@RULES.add("batch_norm")
@folds
def _batch_norm(
    t: Translator, shape: Shape, x: Value, weight: Any, bias: Any, mean: torch.Tensor, var: torch.Tensor,
    training: bool, _momentum: float, eps: float, *_rest: Any,
) -> Value:  # fmt: skip
    """With the statistics of training, this is a scale and a shift per channel."""
    scale = (1.0 if weight is None else weight.double()) / torch.sqrt(var.double() + eps)
    shift = (0.0 if bias is None else bias.double()) - mean.double() * scale
    return _per_channel(t, shape, x, scale, shift)


@RULES.add("_native_batch_norm_legit_no_training")
@folds
def _plain_batch_norm(
    t: Translator, shapes: list[Shape], x: Value, weight: Any, bias: Any, mean: torch.Tensor, var: torch.Tensor,
    momentum: float, eps: float,
) -> tuple[Value, None, None]:  # fmt: skip
    """What torch makes of it where something is written in place; its statistics of this batch are of no use."""
    return _batch_norm(t, shapes[0], x, weight, bias, mean, var, False, momentum, eps), None, None


def _per_channel(t: Translator, shape: Shape, x: Value, scale: torch.Tensor, shift: torch.Tensor) -> Value:
    channels = (1, -1, *(1 for _ in shape[2:]))
    scaled = t.elementwise("Mul", shape, x, scale.reshape(channels))
    return t.elementwise("Add", shape, scaled, shift.reshape(channels))


@RULES.add("group_norm")
def _group_norm(
    t: Translator, shape: Shape, x: Value, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    *_rest: Any,
) -> Value:  # fmt: skip
    """A layer normalisation of each group, then a scale and a shift per channel."""
    rows = shape[0] * int(groups)
    plain = _layer_norm(t, (rows, math.prod(shape) // rows), x, [math.prod(shape) // rows], eps=eps).viewed(shape)
    if weight is None and bias is None:
        return plain
    ones, zeros = torch.ones(shape[1]), torch.zeros(shape[1])
    scale, shift = (ones if weight is None else weight), (zeros if bias is None else bias)
    return _per_channel(t, shape, plain, scale, shift)


@RULES.add("instance_norm")
def _instance_norm(
    t: Translator, shape: Shape, x: Value, weight: Any, bias: Any, mean: Any, var: Any, of_the_input: bool,
    _momentum: float, eps: float, *_rest: Any,
) -> Value:  # fmt: skip
    """With the statistics of training a batch normalisation, with those of the input a group per channel."""
    if of_the_input:
        return _group_norm(t, shape, x, shape[1], weight, bias, eps)
    return _batch_norm(t, shape, x, weight, bias, mean, var, False, 0.0, eps)


@RULES.add("rms_norm")
def _rms_norm(
    t: Translator, shape: Shape, x: Value, normalized: Sequence[int], weight: Any = None, eps: float | None = None
) -> Value:
    axes = list(range(len(shape) - len(normalized), len(shape)))
    small = tuple(1 if k in axes else n for k, n in enumerate(shape))
    square = reduced(t, small, t.elementwise("Mul", shape, x, x), "ReduceMean", axes)
    root = t.unary("Sqrt", t.elementwise("Add", small, square, torch.finfo(torch.float32).eps if eps is None else eps))
    plain = t.elementwise("Div", shape, x, root)
    return plain if weight is None else t.elementwise("Mul", shape, plain, weight)


@RULES.add("layer_norm")
def _layer_norm(
    t: Translator, shape: Shape, x: Value, normalized: Sequence[int], weight: Any = None, bias: Any = None,
    eps: float = 1e-5, *_rest: Any,
) -> Value:  # fmt: skip
    width = math.prod(normalized)
    ones, zeros = torch.ones(width), torch.zeros(width)
    parts = [
        (given if given is not None else other).double().reshape(-1).numpy()
        for given, other in ((weight, ones), (bias, zeros))
    ]
    name = x.viewed((*shape[: len(shape) - len(normalized)], width)).name()
    weights = dict(zip(("scale", "bias"), parts, strict=True))
    return t.made(shape, "LayerNormalization", name, weights=weights, epsilon=float(eps))
