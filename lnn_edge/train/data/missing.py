"""Values of training data that are none or no numbers, told by recording, row and column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...named import row_labels

__all__ = ["missing_told", "refuse_missing_labels"]

_HOW = (
    "Fill the gap, frame = frame.interpolate(limit_direction='both') for the frame of each recording, or make two "
    "recordings of one, before and behind it"
)


_HOW_OF_LABELS = (
    "If y holds labels, nothing between two of them can fill the gap: leave it out, of X and y alike, or make two "
    "recordings of one, before and behind it"
)


@contextmanager
def missing_told(
    values: Any, what: str, names: Sequence[Any] | None = None, steps: int | None = None, *, answers: bool = False
) -> Iterator[None]:
    """Say where a value is missing, or no number, if scikit-learn refuses some within for that: it says there is one.

    Args:
        values: What it looks at, (rows,) or (rows, columns).
        what: Its name.
        names: Of its columns, if it has none by itself.
        steps: Rows of each sequence, if there are several one after the other; `None` for one.
        answers: Whether they may be labels, which come as floats where one is missing.

    Raises:
        ValueError: In place of scikit-learn's own.
    """
    try:
        yield
    except ValueError as error:
        if "could not convert" in str(error) and hasattr(values, "columns") and hasattr(values, "set_index"):
            raise ValueError(_text(values, what)) from error
        where = _first(values, what, names, steps) if "NaN" in str(error) or "infinity" in str(error) else None
        if where is None:
            raise
        how = _HOW_OF_LABELS if answers and _are_whole(values) else _HOW
        raise ValueError(f"{what} contains NaN or infinity: {where}. {how}") from error


def refuse_missing_labels(labels: Any, what: str) -> None:
    """Refuse text with gaps, which scikit-learn would try to sort.

    Args:
        labels: What it looks at, of any shape; numbers are left to `missing_told`.
        what: Its name.

    Raises:
        ValueError: If one of them is `None`, NaN or pandas' NA.
    """
    array = np.asarray(labels)
    if array.dtype.kind == "U" and isinstance(labels, (list, tuple)):
        array = np.asarray(labels, object)  # NumPy makes the text 'nan' of a NaN between texts
    if array.dtype.kind != "O":
        return
    for index, value in np.ndenumerate(array):
        if value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value):
            raise ValueError(
                f"{what} holds {value} at {list(index)}, where a label or a number is missing. Leave it out, "
                "of X and y alike"
            )


def _text(values: Any, what: str) -> str:
    """Which column of a frame of pandas holds text, and what to type."""
    (name, column), *_ = ((n, values[n]) for n in values.columns if not _are_numbers(values[n]))
    value = next(value for value in column if not _are_numbers([value]))
    told = (
        f"{what} holds {value!r} in column {name!r}, expected real numbers. Leave it out, "
        f"frame.drop(columns={name!r}), of each recording"
    )
    if values.index.nlevels > 1:  # which tells recordings apart already
        return told
    return (
        f"{told}. Or, if it tells the recordings of one frame apart, let the index do so: X = X.set_index({name!r}, "
        "append=True).swaplevel(); y = y.set_axis(X.index)"
    )


def _are_numbers(values: Any) -> bool:
    try:
        np.asarray(values, np.float64)
    except (TypeError, ValueError):
        return False
    return True


def _are_whole(values: Any) -> bool:
    """Whether all that is there are whole numbers."""
    array = np.asarray(values, np.float64)
    present = array[np.isfinite(array)]
    return bool((present == np.round(present)).all())


def _first(values: Any, what: str, names: Sequence[Any] | None, steps: int | None) -> str | None:
    """Value and place of the first; `None` if all are finite, or no numbers."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        return None
    bad = np.argwhere(~np.isfinite(array))
    if not len(bad):
        return None
    more = f", the first of {len(bad):,}" if len(bad) > 1 else ""
    return f"{array[tuple(bad[0])]} in {_place(values, what, bad[0].tolist(), names, steps)}{more}"


def _place(values: Any, what: str, index: list[int], names: Sequence[Any] | None, steps: int | None) -> str:
    """By the names of rows and columns where there are some, else as it is indexed."""
    columns = names if getattr(values, "columns", None) is None else list(values.columns)
    row = [index[0]] if steps is None else [index[0] // steps, index[0] % steps]
    labels = row_labels(values)
    if columns is None and labels is None:
        return f"{what}{[*row, *index[1:]]}"
    shown = f"row {row[-1]}" + (f" of sequence {row[0]}" if steps is not None else "")
    if labels is not None and str(labels[index[0]]) != str(row[-1]):
        shown += f", index {labels[index[0]]}"
    return shown if len(index) < 2 or columns is None else f"{shown}, column {str(columns[index[1]])!r}"
