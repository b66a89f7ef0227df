"""The order of rows as their labels tell it: out of order, at the same time, with gaps, or other than that of y.

Rows are taken one after the other as they stand. Where an index says otherwise, a warning says what to type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...arrays import Array
from ...errors import ModelWarning
from ...named import is_permuted, is_time_name, row_labels
from ...remarks import warn_caller
from ...times import unit_of_name

__all__ = ["index_of_each", "warn_of_axes", "warn_of_other_order", "warn_of_times"]

_LOST = 1.5  # times the usual step: a sample is missing
_ALIKE = 1.25  # as rough in one direction as in the other, by chance
_SMOOTH = 0.5  # clearly smoother, as time is


def index_of_each(X: Any) -> tuple[Any, ...] | None:  # noqa: N803 - scikit-learn's name
    """The rows' labels of a frame or of each in a list, without the level that tells sequences apart; else `None`."""
    parts = X if isinstance(X, (list, tuple)) else [X]
    found = [row_labels(part) for part in parts]
    if not found or any(index is None for index in found):
        return None
    return tuple(index.droplevel(0) if index.nlevels == 2 else index for index in found)


def warn_of_other_order(value: Any, rows: Sequence[Any] | None, what: str) -> None:
    """Say that labels beside the samples are those of X in another order.

    Args:
        value: A series or frame, or a list of them, a part for each sequence.
        rows: Of each sequence of X, its labels; `None` without.
        what: What `value` is called.

    Warns:
        ModelWarning: For the first such sequence.
    """
    own = index_of_each(value)
    for one, other in zip(own or (), rows or (), strict=False):
        if is_permuted(one, other):
            warn_caller(
                f"the index of {what} holds the labels of X in another order, and rows are taken by their place. Type: "
                f"{what}.loc[X.index], or {what}.to_numpy() if the place is right",
                ModelWarning,
            )
            return


def warn_of_times(rows: Sequence[Any] | None, *, timed: bool) -> None:
    """Say where the labels of X go back, stand still or leap.

    Args:
        rows: Of each sequence, its labels; `None` without.
        timed: Whether the time between samples is given apart, so that a gap is known.

    Warns:
        ModelWarning: For the first such place.
    """
    for index in rows or ():
        remark = _remark(index, timed)
        if remark is not None:
            warn_caller(f"{remark}, and samples are taken one after the other as they stand", ModelWarning)
            return


def _remark(index: Any, timed: bool) -> str | None:
    numbers = _numbers(index)
    if numbers is None or len(numbers) < 2:
        return None
    steps = np.diff(numbers)
    if (steps < 0).any():
        return (
            f"the index of X is not in order: {_pair(index, steps < 0)}. Type: X = X.sort_index(), and y likewise; if "
            "it holds several recordings, pass a list of them"
        )
    if (steps == 0).any():
        return (
            f"the index of X has the same label for two rows: {_pair(index, steps == 0)}. Type: X = "
            "X[~X.index.duplicated()], and y likewise; if they are of several recordings, pass a list of them"
        )
    usual = float(np.median(steps))
    if timed or not _is_time(index) or not (steps > _LOST * usual).any():
        return None
    return (
        f"the index of X has gaps: {_pair(index, steps == steps.max())}, {steps.max() / usual:.3g} times the usual "
        "step. Pass the time between samples as `timespans`, or what lies between gaps as a list of recordings"
    )


def _numbers(index: Any) -> Array | None:
    """Labels that have an order in time: stamps, spans, periods and numbers."""
    if getattr(index, "nlevels", 1) > 1:
        return None
    whole = getattr(index, "asi8", None)  # of pandas' own, without their unit
    values = np.asarray(index if whole is None else whole)
    return values.astype(np.float64) - float(values[0]) if values.dtype.kind in "fiu" and len(values) else None


def _is_time(index: Any) -> bool:
    """Whether labels are times, and no running numbers, which leave out what was left out on purpose."""
    if hasattr(index, "asi8") or index.dtype.kind == "f":
        return True
    return is_time_name(index.name) or (isinstance(index.name, str) and unit_of_name(index.name) is not None)


def _pair(index: Any, found: Array) -> str:
    k = int(np.argmax(found))
    return f"{index[k + 1]} after {index[k]}, in row {k + 1}"


def warn_of_axes(X: Array) -> None:  # noqa: N803
    """Say that an array looks like (cases, channels, time).

    Args:
        X: (sequences, time, features), as it was given.

    Warns:
        ModelWarning: If it has more features than steps, and these change as samples do.
    """
    _, steps, features = X.shape
    if not 1 < steps < features:
        return
    along_time, along_features = (float(np.abs(np.diff(X, axis=axis)).mean(dtype=np.float64)) for axis in (1, 2))
    if along_features < along_time * (_ALIKE if features >= 4 * steps else _SMOOTH):
        warn_caller(
            f"X has shape {X.shape}, which is read as (sequences, time, features): {steps} steps of {features} "
            "features each. If it is (cases, channels, time), type: X.transpose(0, 2, 1)",
            ModelWarning,
        )
