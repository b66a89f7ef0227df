"""Named data: columns of frames, series, dicts, named tuples and structured arrays, matched by name and never by place.

No library of frames is imported: what has names is told by what it carries. Missing values of masked arrays are found
here as well, since `numpy.asarray` gives what lies under the mask.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .arrays import Array
from .errors import NonFiniteError
from .wording import listed, nearest

__all__ = [
    "column_names",
    "is_permuted",
    "is_time_name",
    "matched",
    "names_differ",
    "refuse_lazy",
    "refuse_masked",
    "refuse_other_axis",
    "row_labels",
]

_TIME = r"(?:^|[\s_.])(?:t|ts|time|times|timestamp|timestamps|date|datetime|dt|clock|stamp)(?:$|[\s_.,:\[(])"


def column_names(value: Any) -> list[Any] | None:
    """The names on the axis of features of a sample or of samples; `None` where it has none but numbers.

    Raises:
        ValueError: If names have several levels.
    """
    if isinstance(value, Mapping) and not hasattr(value, "tocsr"):  # a sparse matrix may be a dict of places
        return list(value)
    if isinstance(value, tuple):
        return list(getattr(value, "_fields", ())) or None
    if isinstance(value, (np.ndarray, np.void)):
        return list(value.dtype.names or ()) or None
    return _labels(value)


def _labels(value: Any) -> list[Any] | None:
    """Labels of a frame's columns, or of a series' entries, if they are names."""
    own = getattr(value, "column_names", None)  # of Arrow's tables, whose `columns` are data
    if own is None:
        own = getattr(value, "columns", None)
    own = row_labels(value) if own is None else own
    if own is None and _has_axes(value):
        return next((labels for dim, labels in _axes(value) if dim == value.dims[-1]), None)
    if own is None or callable(own):
        return None
    labels = list(own)
    if getattr(own, "nlevels", 1) > 1 and hasattr(value, "columns"):
        raise ValueError(
            f"the columns have names of {own.nlevels} levels, such as {labels[0] if labels else ()}, expected one "
            "name each. Type: frame.columns = ['_'.join(map(str, c)) for c in frame.columns]"
        )
    return labels if any(isinstance(label, str) for label in labels) or _is_shuffled(labels) else None


def _has_axes(value: Any) -> bool:
    """Whether it is an array with named axes, and no dict of such."""
    return isinstance(getattr(value, "dims", None), tuple) and not isinstance(value, Mapping)


def _axes(value: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Axes of an array with named axes, as those of xarray, whose entries have names: the axis, and the names."""
    coords: Any = getattr(value, "coords", None)
    for dim in value.dims if coords is not None else ():
        labels = np.asarray(coords[dim]).tolist() if dim in coords else []
        if any(isinstance(label, str) for label in labels):
            yield dim, labels


def _is_shuffled(labels: list[Any]) -> bool:
    """Whether they are the numbers of columns in another order, which is no order to go by."""
    numbers = list(range(len(labels)))
    return labels != numbers and all(isinstance(k, (int, np.integer)) for k in labels) and sorted(labels) == numbers


def is_time_name(name: object) -> bool:
    """Whether a column's name says that it holds times."""
    return isinstance(name, str) and bool(re.search(_TIME, name, re.I))


def names_differ(got: Sequence[Any], wanted: Sequence[Any]) -> str | None:
    """How names differ from those that are wanted, apart from their order; `None` if they do not."""
    twice = sorted({str(name) for name in got if list(got).count(name) > 1})
    if twice:
        return f"{listed(map(repr, twice))} stands there more than once"
    missing = [name for name in wanted if name not in got]
    extra = [name for name in got if name not in wanted]
    if not missing and not extra:
        return None
    parts = []
    if missing:
        near = nearest(str(missing[0]), map(str, extra))
        hint = f" (is it {near!r}?)" if near else ""
        parts.append(f"{listed(map(repr, missing))} {'is' if len(missing) == 1 else 'are'} missing{hint}")
    if extra:
        parts.append(f"{listed(map(repr, extra))} {'is' if len(extra) == 1 else 'are'} none of them")
    return " and ".join(parts)


def matched(value: Any, wanted: Sequence[str], what: str, *, stepped: bool = False) -> Any:
    """Named values in the order of the names that are wanted; what has no names comes back as it is.

    Args:
        value: A sample or samples: a frame, a series, a dict of columns, a named tuple, a structured array, or a list
            of them.
        wanted: The names; none of them if the columns have no names.
        what: What it is called, for messages.
        stepped: Whether it goes to a stream, which takes times as `t_s`.

    Returns:
        Real numbers, (..., columns), or `value` itself; a frame whose columns are numbered as an array.

    Raises:
        ValueError: If a name is missing, unknown, or stands there twice; the message says what to type.
        TypeError: If a column holds no numbers.
        NonFiniteError: If a masked array holds masked values.
    """
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields") and any(map(_is_named, value)):
        return np.stack(
            [np.asarray(matched(row, wanted, f"{what}[{k}]", stepped=stepped)) for k, row in enumerate(value)]
        )
    refuse_lazy(value, what)
    names = column_names(value)
    if names is None or _are_rows(value, names, wanted):
        refuse_masked(value, what)
        refuse_other_axis(value, wanted, what)
        return _unlabelled(value)
    difference = names_differ(names, wanted) if wanted else "those of the model have no names"
    if difference is not None:
        raise ValueError(
            f"`{what}` has its columns by name, {listed(map(str, names))}; expected {listed(wanted)}: {difference}. "
            f"{_way_out(value, names, wanted, stepped)}"
        )
    return np.stack([_column(value, name, what) for name in wanted], axis=-1)


def refuse_lazy(value: Any, what: str) -> None:
    """Refuse the plan of a table, as polars has: it holds no values, and every look at it would compute all of them."""
    if hasattr(value, "collect") and not hasattr(value, "__len__"):
        raise TypeError(f"`{what}` is a {type(value).__name__}, which holds no values yet. Type: x.collect()")


def refuse_other_axis(value: Any, wanted: Sequence[str], what: str) -> None:
    """Refuse what has the names on an axis that is not that of the columns: by place, a square one would pass."""
    rows = row_labels(value) if hasattr(value, "columns") else None
    if rows is not None and len(wanted) > 1 and set(rows) == set(wanted):
        raise ValueError(f"`{what}` has {listed(wanted)} as the names of its rows, expected columns. Type: x.T")
    for dim, labels in _axes(value) if _has_axes(value) else ():
        if len(wanted) > 1 and set(labels) == set(wanted):
            raise ValueError(
                f"`{what}` has {listed(wanted)} along '{dim}', expected them along its last axis. Type: "
                f"x.transpose(..., '{dim}')"
            )


def _are_rows(value: Any, names: Sequence[Any], wanted: Sequence[str]) -> bool:
    """Whether the labels of a series are those of rows, of the only column."""
    return row_labels(value) is not None and not hasattr(value, "columns") and len(wanted) == 1 != len(names)


def _is_named(value: Any) -> bool:
    """Whether an entry of a list is a row with names, or a list of such rows."""
    if isinstance(value, (float, int)):
        return False
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return any(map(_is_named, value))
    return column_names(value) is not None


def _way_out(value: Any, names: Sequence[Any], wanted: Sequence[str], stepped: bool) -> str:
    """What to type, and it works as it stands."""
    times = [name for name in names if stepped and name not in wanted and is_time_name(name)]
    if wanted and all(name in names for name in wanted):
        if _has_axes(value):
            return f"Type: x.sel({{{value.dims[-1]!r}: {list(wanted)}}})"
        timed = f", with the times as t_s={_entry(value, times[0])} if the model measures time" if times else ""
        return f"Type: {_picked(value, wanted)}{timed}"
    if wanted and len(names) != len(wanted):  # by place it would be refused too
        return f"It takes {len(wanted)} columns by these names: add or rename what is missing"
    if isinstance(value, (Mapping, tuple)):
        return "Pass the values alone, in that order, to go by their place"
    return f"Rename them, or go by their place: {_nameless(value)}"


def _picked(value: Any, wanted: Sequence[str]) -> str:
    """Source text of the columns that are wanted, of whatever has them."""
    if isinstance(value, tuple):  # which has its fields as attributes; by name, so that it may hold columns too
        return f"{{n: getattr(x, n) for n in {list(wanted)}}}"
    if isinstance(value, Mapping):
        return f"{{n: x[n] for n in {list(wanted)}}}"
    return f"x.select({list(wanted)})" if hasattr(value, "column_names") else f"x[{list(wanted)}]"


def _entry(value: Any, name: str) -> str:
    return f"x.{name}" if isinstance(value, tuple) else f"x[{name!r}]"


def _nameless(value: Any) -> str:
    """Source text of the values without their names."""
    if isinstance(value, (np.ndarray, np.void)):
        return "np.array(x.tolist())"
    return "x.to_numpy()" if hasattr(value, "to_numpy") else "np.asarray(x)"


def _column(value: Any, name: str, what: str) -> Array:
    if isinstance(value, tuple):
        column = getattr(value, name)
    else:
        labelled = _has_axes(value)
        column = value.sel({value.dims[-1]: name}) if labelled else value[name]
    refuse_masked(column, f"{what}['{name}']")
    numbers = _numbers(column)
    if numbers.dtype.kind not in "fiub":
        raise TypeError(f"`{what}['{name}']` has dtype {numbers.dtype}, expected real numbers")
    return numbers


def _numbers(column: Any) -> Array:
    """A column as NumPy's numbers; missing ones of the types that pandas has of its own become NaN."""
    own = getattr(getattr(column, "dtype", None), "numpy_dtype", None)
    if own is not None and hasattr(column, "isna"):
        column = column.to_numpy(dtype=float, na_value=np.nan) if column.isna().any() else column.to_numpy(dtype=own)
    return np.asarray(column)


def _unlabelled(value: Any) -> Any:
    """A frame or series without names as an array: counting its rows by `[k]` would look for labels."""
    if hasattr(value, "columns") or hasattr(getattr(value, "index", None), "nlevels"):
        return _numbers(value)
    return value


def refuse_masked(value: Any, what: str) -> None:
    """Refuse masked values: what lies under a mask is no measurement.

    Args:
        value: Anything; masked arrays are found in lists too.
        what: What it is called, for messages.

    Raises:
        NonFiniteError: If there is one.
    """
    if isinstance(value, np.ma.MaskedArray):
        bad = np.argwhere(_mask(value))
        if len(bad):
            raise NonFiniteError(
                f"`{what}` holds masked values, first at index {bad[0].tolist()}: a masked value is none. Leave such "
                "samples out, or fill them: x.filled(value)"
            )
    elif isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object and value.ndim):
        for k, part in enumerate(value):
            if isinstance(part, (np.ma.MaskedArray, list, tuple, np.ndarray)):
                refuse_masked(part, f"{what}[{k}]")


def _mask(value: Any) -> Array:
    """True where a value is masked, of a structured array where one of its fields is."""
    mask = np.ma.getmaskarray(value)
    return mask if mask.dtype.names is None else np.any([mask[name] for name in mask.dtype.names], axis=0)


def row_labels(value: Any) -> Any:
    """The index of a frame or series; `None` without one."""
    index = getattr(value, "index", None)
    return index if hasattr(index, "nlevels") else None


def is_permuted(one: Any, other: Any) -> bool:
    """Whether two indices hold the same entries, each once, in another order."""
    alike = len(one) == len(other) and one.nlevels == other.nlevels and not one.equals(other)
    return bool(alike and one.is_unique and other.is_unique and one.isin(other).all())
