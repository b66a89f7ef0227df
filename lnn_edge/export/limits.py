"""Limits of inputs, made of the range of what was seen and a margin around it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from ..arrays import Array
from ..bundle.spec import Feature, Tensor

__all__ = ["check_margin", "widened", "with_margin"]


def check_margin(margin: object) -> float | None:
    """Check how far limits lie outside a range, in widths of it.

    Raises:
        ValueError: If it is no finite number of at least 0; `None` is none.
    """
    real = isinstance(margin, numbers.Real) and not isinstance(margin, bool)
    if margin is not None and not (real and math.isfinite(margin) and margin >= 0):  # type: ignore[arg-type, operator]
        raise ValueError(f"`margin` is {margin!r}, expected a number of at least 0, or None for no limits")
    return None if margin is None else float(margin)  # type: ignore[arg-type]


def widened(feature: Feature, low: float, high: float, margin: float | None) -> Feature:
    """A column with limits around its range, unless it has some, or never changed."""
    if feature.limits is not None or margin is None or not high > low:
        return feature
    beyond = margin * (high - low)
    limits = tuple(float(np.float32(side)) for side in (low - beyond, high + beyond))
    return msgspec.structs.replace(feature, limits=(min(low, limits[0]), max(high, limits[1])))


def with_margin(
    inputs: Sequence[Tensor], recorded: Mapping[str, Sequence[Array]] | None, margin: float | None
) -> tuple[Tensor, ...]:
    """Inputs with limits around what the recordings hold; tokens and pictures as they are.

    Args:
        inputs: The inputs, with their columns named.
        recorded: Recordings by input name, (T, batch, columns) each; `None` without an example.
        margin: How far limits lie outside, in widths of the range; `None` for no limits.

    Raises:
        ValueError: If there is a margin and no example, or no input has columns.
    """
    if margin is None:
        return tuple(inputs)
    if recorded is None:
        raise ValueError("`margin` makes limits of the range of recorded samples, and so needs an `example`")
    if not any(_has_numbers(tensor) for tensor in inputs):
        raise ValueError("`margin` makes limits of columns, and no input of the model has columns of numbers")
    return tuple(_limited(own, recorded[own.name], margin) if _has_numbers(own) else own for own in inputs)


def _has_numbers(tensor: Tensor) -> bool:
    return bool(tensor.features) and tensor.dtype == "float32"


def _limited(tensor: Tensor, recorded: Sequence[Array], margin: float) -> Tensor:
    seen = np.concatenate(recorded).reshape(-1, tensor.shape[-1])
    ends = zip(tensor.features, seen.min(axis=0).tolist(), seen.max(axis=0).tolist(), strict=True)
    return msgspec.structs.replace(tensor, features=tuple(widened(*own, margin) for own in ends))
