"""Frames in and frames out: results with the index of X, the sequences that an index tells apart, and what it hides."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from ...arrays import Array
from ...errors import ModelWarning
from ...named import row_labels
from ...remarks import warn_caller
from ...wording import listed

__all__ = ["Rows", "in_frames", "is_framed", "refuse_glued", "refuse_grouped", "rows_of_each", "warn_of_parts"]

_SHORTEST = 4  # rows of recordings on average; with fewer nothing grows: the rows are shuffled, or backwards

Rows = Mapping[Hashable, Array]  # of each sequence that a frame's index names: the labels of its rows


def is_framed(value: Any, *, series: bool = True) -> bool:
    """Whether something is a frame of pandas, or a list of them; a series as well, unless not `series`."""
    parts = value if isinstance(value, (list, tuple)) and len(value) else [value]
    return all(row_labels(part) is not None and (series or hasattr(part, "columns")) for part in parts)


def in_frames(X: Any, results: Sequence[Array], names: Sequence[str], *, per_step: bool) -> Any:  # noqa: N803
    """Results as frames with the index of X; with one axis as series.

    Args:
        X: A frame, or a list of frames, one for each sequence.
        results: Per sequence, in the order in which its labels come, (steps,) or (steps, columns); one step each if
            there is one result per sequence.
        names: Of the columns, or of the only one.
        per_step: Whether there is a result for each row.

    Returns:
        A frame or series in the order of the rows of X, or a list of them; `None` where X has no index of the results.
    """
    if isinstance(X, (list, tuple)):
        return [_framed(own, x.index, names) for x, own in zip(X, results, strict=True)] if per_step else None
    joined = np.concatenate(results)
    if X.index.nlevels == 1:
        return _framed(joined, X.index, names) if len(joined) == len(X) else None
    if not per_step:
        return _framed(joined, X.index.get_level_values(0).unique(), names)
    ordered = np.empty_like(joined)
    ordered[np.concatenate(list(_places(X).values()))] = joined
    return _framed(ordered, X.index, names)


def _framed(values: Array, index: Any, names: Sequence[str]) -> Any:
    pandas = import_module("pandas")  # which made X
    if values.ndim == 1:
        return pandas.Series(values, index=index, name=names[0] if len(names) == 1 else None)
    return pandas.DataFrame(values, index=index, columns=list(names))


def _places(X: Any) -> dict[Hashable, Array]:  # noqa: N803
    """Numbers of the rows of each sequence."""
    numbered = import_module("pandas").Series(np.arange(len(X)), index=X.index)
    return {label: own.to_numpy() for label, own in numbered.groupby(level=0, sort=False, dropna=False)}


def refuse_grouped(value: Any, what: str) -> None:
    """Refuse the groups of a frame or series, which are no table: pandas gives pairs of a label and a part.

    Raises:
        TypeError: If it is of pandas' `groupby`, or a list of its pairs.
    """
    grouped = hasattr(type(value), "get_group")
    if not grouped and not (isinstance(value, list) and value and all(map(_is_pair, value))):
        return
    kind = type(value).__name__ if grouped else "list of (label, part)"
    part = next((own for _, own in value), None)
    keys = getattr(value, "keys", None) if grouped else None
    names = [key for key in (keys if isinstance(keys, list) else [keys]) if key in getattr(part, "columns", ())]
    own = f"part.drop(columns={names!r})" if names else "part"
    raise TypeError(
        f"{what} is a {kind}, as pandas' groupby gives, expected a list of the parts, one for each recording. Type: "
        f"{what} = [{own} for _, part in {what}]; and make X and y so, in the same order"
    )


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and is_framed(value[1]) and not is_framed(value[0])


def refuse_glued(rows: Sequence[Any] | None) -> None:
    """Refuse a sequence whose index starts again: recordings that were put behind one another.

    Args:
        rows: Of each sequence, the labels of its rows; `None` without.

    Raises:
        ValueError: For the first such sequence.
    """
    for k, index in enumerate(rows or ()):
        starts = _starts(index)
        if len(starts):
            which = f"sequence {k} of X" if len(rows or ()) > 1 else "X"
            raise ValueError(
                f"the index of {which} starts again: {index[starts[0]]} after {index[starts[0] - 1]}, in row "
                f"{starts[0]}. So {len(starts) + 1} recordings seem to be glued together, and would be one sequence. "
                "Pass a list of them, or an index that names them, pd.concat(parts, keys=names), and y likewise. If it "
                "is one recording, type: X.reset_index(drop=True)"
            )


def _starts(index: Any) -> Array:
    """Rows at which labels that grow begin again where the first ones began, or before."""
    whole = getattr(index, "asi8", None)
    values = np.asarray(index if whole is None else whole)
    if getattr(index, "nlevels", 1) > 1 or values.dtype.kind not in "fiu" or len(values) < 2:
        return np.zeros(0, np.intp)
    found = np.flatnonzero(np.diff(values.astype(np.float64)) < 0) + 1
    few = _SHORTEST * (len(found) + 1) <= len(values)
    return found if few and (values[found] <= values[0]).all() else np.zeros(0, np.intp)


def rows_of_each(X: Any) -> Rows:  # noqa: N803
    """The labels of the rows of each sequence that the index of a frame names; none of anything else."""
    index = row_labels(X)
    if index is None or index.nlevels != 2:
        return {}
    inner = index.get_level_values(1).to_numpy()
    return {label: inner[own] for label, own in _places(X).items()}


def _adjoin(own: Array, fitted: Array) -> bool:
    """Whether labels of rows are others than those fitted, and lie between them or right behind or before them."""
    if np.isin(own, fitted).any():
        return False
    if own.dtype.kind not in "fiuM" or fitted.dtype.kind != own.dtype.kind:
        return True
    ones, others = (np.sort(part.astype(np.int64) if part.dtype.kind == "M" else part) for part in (own, fitted))
    if len(others) < 2:
        return True
    places = np.searchsorted(others, ones)
    near = np.minimum(
        np.abs(ones - others[np.minimum(places, len(others) - 1)]), np.abs(ones - others[np.maximum(places - 1, 0)])
    )
    return bool(near.min() <= 2 * np.median(np.diff(others)))


def warn_of_parts(fitted: Rows, rows: Rows) -> None:
    """Say that recordings are here in part, whose other part was fitted: a fold that cuts through them.

    Args:
        fitted: Of the fit.
        rows: What is predicted.

    Warns:
        ModelWarning: If so.
    """
    cut = [label for label, own in rows.items() if label in fitted and _adjoin(own, fitted[label])]
    if cut:
        warn_caller(
            f"a part of {listed(map(repr, cut), 3)} is here, and another was in the fit: a fold that cuts through a "
            "recording begins in its middle, without a state, and judges by what was nearly seen. Keep recordings "
            "whole: cv=GroupKFold(), groups=X.index.get_level_values(0)",
            ModelWarning,
        )
