"""Shapes of what users pass, looked at before anything that may be large is converted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length

from ...arrays import shape_of

__all__ = ["check_columns", "check_counts", "part_shapes", "shown_shapes"]

_MOST, _SHOWN = 1 << 16, 3  # parts that are looked at, and shown in a message


def check_columns(estimator: Any, X: Any, *, axes: int, reset: bool) -> None:  # noqa: N803 - scikit-learn's name
    """Refuse a plain array that has other axes or columns than expected; anything else is left to its reader.

    Args:
        estimator: Whose columns they are.
        X: What the user passed.
        axes: How many it must have.
        reset: Whether the columns are being learnt, so that their number is free.

    Raises:
        ValueError: In scikit-learn's words.
    """
    if not isinstance(X, np.ndarray) or X.dtype.names:
        return
    if X.ndim != axes:
        check_array(X[:1] if X.ndim else X, input_name="X")  # which refuses what has not two axes
    known = getattr(estimator, "n_features_in_", None)
    if not reset and known is not None and X.shape[-1] != known:
        raise ValueError(
            f"X has {X.shape[-1]} features, but {type(estimator).__name__} is expecting {known} features as input."
        )


def check_counts(X: Any, y: Any, *, rows: str, targets: str) -> None:  # noqa: N803
    """Refuse an y of another length than X, where both are plain arrays.

    Raises:
        ValueError: In scikit-learn's words.
    """
    plain = all(isinstance(part, np.ndarray) and not part.dtype.names and part.ndim for part in (X, y))
    one = plain and X.ndim == 2 and y.ndim in (1, 2)  # a y of other axes is told of by its shape
    if plain and (X.ndim == 3 or (one and (rows == "sequences" or targets != "sequence"))):
        check_consistent_length(X, y)


def part_shapes(name: str, value: Any) -> list[tuple[int, ...]]:
    """The shape of each part of a list or array; of an array of very many only the first, as they are all alike."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return [tuple(shape[1:])] * min(shape[0], _MOST)
    return [shape_of(f"{name}[{k}]", part) for k, part in enumerate(value)]


def shown_shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    """The first of them."""
    return str(list(shapes)) if len(shapes) <= _SHOWN else f"{str(list(shapes[:_SHOWN]))[:-1]}, ...]"
