"""Sequences of samples, read from what users pass as X and timespans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from ...arrays import Array, plain_array
from ...named import column_names, is_permuted, matched, refuse_masked, refuse_other_axis, row_labels
from ...times import are_stamps, span_seconds
from ...wording import listed
from .frames import refuse_glued, refuse_grouped
from .missing import missing_told
from .row_order import index_of_each, warn_of_axes, warn_of_other_order, warn_of_times
from .shapes import check_columns, part_shapes

__all__ = ["Sequences", "as_array", "by_label", "is_of_times", "read_sequences", "read_timespans"]

Form = Literal["batch", "list", "one", "rows"]


@dataclass(frozen=True)
class Sequences:
    """Samples in their raw units.

    Args:
        samples: Per sequence (time, features): float32, and float64 until they are `centred` if they came so.
        form: How they were given: a 3-D array, a list, one sequence, or rows that are sequences of one step.
        spans: Per sequence float32 (time,), time since the previous sample in the unit they were given in; `None` if
            none were.
        index: Of the frame that they came in, its first level names them; `None` if there was none.
        rows: The labels of the rows of each sequence, where they came in frames without such levels.
    """

    samples: tuple[Array, ...]
    form: Form
    spans: tuple[Array, ...] | None = None
    index: Any = None
    rows: tuple[Any, ...] | None = None

    def centred(self, center: Array | None) -> Sequences:
        """The samples as float32, less what is subtracted from each column, (features,), in float64.

        Raises:
            ValueError: If one is too large for float32.
        """
        with np.errstate(over="ignore"):
            samples = tuple(
                np.asarray(rows if center is None else rows - center, np.float32, order="C") for rows in self.samples
            )
        if not all(np.isfinite(rows).all() for rows in samples):
            raise ValueError("Input X contains infinity or a value too large for dtype('float32').")
        # torch warns of tensors that must not be written
        return replace(self, samples=tuple(rows if rows.flags.writeable else rows.copy() for rows in samples))

    @property
    def lengths(self) -> list[int]:
        """Number of steps of each."""
        return [len(rows) for rows in self.samples]

    def per_step(self, values: Sequence[Array]) -> Any:
        """Results for every step, in the shape in which the samples were given."""
        if self.form == "list":
            return list(values)
        if self.form == "one":
            return values[0]
        stacked = np.stack(values)
        return stacked if self.form == "batch" else stacked[:, 0]


def as_array(value: Any, name: str = "X") -> Any:
    """A torch tensor, or what else can become an array, as NumPy array; frames, lists and the like as they are.

    Raises:
        TypeError: If it is a tensor that holds no plain values.
    """
    if hasattr(value, "detach"):
        return plain_array(name, value)
    framed = hasattr(value, "index") or hasattr(value, "columns")
    return np.asarray(value) if hasattr(value, "__array__") and not framed else value


def read_sequences(
    estimator: Any,
    X: Any,  # noqa: N803 - scikit-learn's name
    *,
    rows: str,
    reset: bool,
    timed: bool = False,
) -> Sequences:
    """Read and check samples, as scikit-learn's `validate_data` does, which also learns or checks the columns.

    Args:
        estimator: Whose columns they are.
        X: (sequences, time, features), a list of (time, features), or one (time, features).
        rows: What the rows of a 2-D array are: the "steps" of one sequence, or "sequences" of one step each.
        reset: Whether to learn the columns (`fit`) or to check them (everything else).
        timed: Whether the time between samples is given apart.

    Raises:
        ValueError, TypeError: In scikit-learn's words, if something is wrong with it.

    Warns:
        ModelWarning: In a fit, if its labels or its shape tell of another order of samples.
    """
    refuse_grouped(X, "X")
    refuse_masked(X, "X")
    for part in X if isinstance(X, list) else [X]:
        _refuse_named_axes(part)
    read = _read_sequences(estimator, as_array(X), rows, reset)
    if rows == "steps":
        labels = index_of_each(list(_groups(X).values()) if read.index is not None else X)
        refuse_glued(labels)
        if reset:
            warn_of_times(labels, timed=timed)
    return read


def _refuse_named_axes(X: Any) -> None:  # noqa: N803
    """Refuse arrays with names along their last axis, as xarray has: scikit-learn would go by the place.

    Raises:
        ValueError: If it is one.
    """
    names = column_names(X) if isinstance(getattr(X, "dims", None), tuple) and not isinstance(X, Mapping) else None
    if names is not None:
        raise ValueError(
            f"X is a {type(X).__name__} with its columns by name, {listed(map(str, names))}. Type: X.to_pandas() for a "
            "frame, or X.to_numpy() to go by their place"
        )


def _read_sequences(estimator: Any, X: Any, rows: str, reset: bool) -> Sequences:  # noqa: N803
    if _is_list_of_sequences(X):
        read = _listed(estimator, X, reset)
        if reset and not hasattr(estimator, "feature_names_in_") and len({len(rows) for rows in read}) == 1:
            warn_of_axes(np.stack(read))
        return Sequences(tuple(read), "list", rows=index_of_each(X))
    if _index_levels(X) > 1:
        return Sequences(tuple(_listed(estimator, list(_groups(X).values()), reset)), "list", index=X.index)
    if _is_batch(X):
        return Sequences(tuple(_batch(estimator, X, reset)), "batch")
    if np.ndim(X) > 3:
        raise ValueError(
            f"X has shape {np.shape(X)}, expected (sequences, time, features) or (time, features). An encoder for "
            "images or the like needs a network of your own: lnn_edge.export_model"
        )
    samples = _checked(estimator, X, reset)
    if rows == "sequences":
        return Sequences(tuple(samples[:, None]), "rows", rows=index_of_each(X))
    return Sequences((samples,), "one", rows=index_of_each(X))


def by_label(value: Any, sequences: Sequences, what: str) -> Any:
    """What a frame or series holds for each sequence, in the order of X.

    Args:
        value: With an index of two levels, the first of which tells the sequences apart: rows about each, in the order
            of X if they have its index, else as they are. With an index of one level that holds the labels of X: a row
            about each. Anything else comes back as it is.
        sequences: X.
        what: Name of `value`, for messages.

    Raises:
        ValueError: If it is about other sequences than X.
    """
    levels, index = _index_levels(value), sequences.index
    warn_of_other_order(value, sequences.rows, what)
    if levels == 0:
        return value
    if index is None:
        return list(_groups(value).values()) if levels > 1 else value.to_numpy()
    labels = list(index.get_level_values(0).unique())
    if levels == 1:
        return _rows_by_label(value, labels, what)
    groups = _groups(value.loc[index] if is_permuted(value.index, index) else value)
    other = [label for label in (*groups, *labels) if label not in groups or label not in labels]
    if other:
        where = "X" if other[0] in labels else what
        raise ValueError(
            f"the first level of the index of {what} names other sequences than that of X: {other[0]!r} is only in "
            f"{where}. {_without_others(groups, labels, what)}"
        )
    return [groups[label] for label in labels]


def _without_others(groups: Mapping[Any, Any], labels: Sequence[Any], what: str) -> str:
    """What to type to leave out the sequences that one of the two does not have."""
    kept = [label for label in labels if label in groups]
    if not kept:
        return "Give both the same labels, one for each recording"
    if len(kept) == len(labels):
        return f"Type: {what}.loc[X.index]"
    here = f"Type: X = X.loc[X.index.get_level_values(0).isin({what}.index.get_level_values(0))]"
    return here if len(kept) == len(groups) else f"{here}; {what} = {what}.loc[X.index]"


def _rows_by_label(value: Any, labels: Sequence[Any], what: str) -> Any:
    """A row per sequence: by its label, or by its place where the index has nothing to do with the labels."""
    found, wanted = set(value.index), set(labels)
    if found == wanted and len(value) == len(labels):
        return value.loc[list(labels)].to_numpy()
    if found & wanted:
        other = sorted(map(repr, found ^ wanted))
        place = f", or {what}.to_numpy() to go by the place" if len(value) == len(labels) else ""
        raise ValueError(
            f"the index of {what} holds some of the labels of X, but not the same: {', '.join(other[:3])} are only in "
            f"one of them. Type: {_kept_rows(found, wanted, what)}{place}"
        )
    return value.to_numpy()


def _kept_rows(found: set[Any], wanted: set[Any], what: str) -> str:
    """Source text of the same sequences on both sides, where `what` has a row for each."""
    if wanted <= found:
        return f"{what}.loc[X.index.get_level_values(0).unique()]"
    here = f"X = X.loc[X.index.get_level_values(0).isin({what}.index)]"
    return here if found <= wanted else f"{here}; {what} = {what}.loc[X.index.get_level_values(0).unique()]"


def _index_levels(value: Any) -> int:
    """Levels of a pandas index; 0 without one."""
    return int(getattr(getattr(value, "index", None), "nlevels", 0))


def _groups(frame: Any) -> dict[Any, Any]:
    """Rows by the first level of the index, in the order in which its labels come."""
    return dict(iter(frame.groupby(level=0, sort=False, dropna=False)))


def _is_list_of_sequences(X: Any) -> bool:  # noqa: N803
    ragged = isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1
    if not (isinstance(X, (list, tuple)) or ragged) or len(X) == 0:
        return False
    first = as_array(X[0])
    if isinstance(first, Mapping):
        return all(np.ndim(column) == 1 for column in first.values())
    return np.ndim(first) == (1 if _fields(first) else 2)


def _is_batch(X: Any) -> bool:  # noqa: N803
    return np.ndim(X) == (2 if _fields(X) else 3) and not hasattr(X, "tocsr") and not isinstance(X, Mapping)


def _fields(value: Any) -> Any:
    """The columns of a structured array, which have no axis; `None` of anything else."""
    return value.dtype.names if isinstance(value, np.ndarray) else None


def _listed(estimator: Any, parts: Sequence[Any], reset: bool) -> list[Array]:
    read = []
    for k, part in enumerate(parts):
        try:
            read.append(_checked(estimator, as_array(part), reset and k == 0))
        except ValueError as error:
            raise ValueError(f"sequence {k} of X: {error}") from error
    return read


def _batch(estimator: Any, X: Any, reset: bool) -> Array:  # noqa: N803
    array = np.asarray(X)
    check_columns(estimator, array, axes=3, reset=reset)
    (count, steps), features = array.shape[:2], array.shape[2:]
    if count * steps == 0:
        raise ValueError(f"X has shape {array.shape}: it holds no sample, expected (sequences, time, features)")
    read = _checked(estimator, array.reshape(count * steps, *features), reset, steps).reshape(count, steps, -1)
    if reset and features:  # a structured array names its columns
        warn_of_axes(read)
    return read


def _checked(estimator: Any, X: Any, reset: bool, steps: int | None = None) -> Array:  # noqa: N803
    """A 2-D array of finite real numbers as float32 or float64, with the columns learnt or checked."""
    if is_of_times(X):
        raise TypeError(
            "X holds dates or spans of time, expected real numbers. Type: x.astype(float) for a number of them"
        )
    refuse_other_axis(X, [] if reset else list(getattr(estimator, "feature_names_in_", [])), "X")
    names = _own_names(X)
    if names is not None:
        return _checked_by_name(estimator, X, names, reset, steps)
    X = X if reset else _in_order_of_fit(X, getattr(estimator, "feature_names_in_", None))  # noqa: N806
    check_columns(estimator, X, axes=2, reset=reset)
    with missing_told(X, "X", steps=steps):
        array: Array = validate_data(estimator, X, reset=reset, dtype=[np.float64, np.float32], order="C")
    return array


def _in_order_of_fit(X: Any, known: Any) -> Any:  # noqa: N803
    """A frame with its columns in the order of the fit's, if it has just these; scikit-learn refuses any other."""
    columns = None if known is None or row_labels(X) is None else getattr(X, "columns", None)
    if columns is None or not columns.is_unique or set(columns) != set(known):
        return X
    return X[list(known)]


def is_of_times(value: Any) -> bool:
    """Whether an array, or a column of a frame, is of datetime64 or timedelta64, which NumPy would count."""
    framed = hasattr(value, "columns") and hasattr(value, "dtypes")
    dtypes = list(value.dtypes) if framed else [getattr(value, "dtype", None)]
    return any(getattr(dtype, "kind", "") in ("m", "M") for dtype in dtypes)


def _own_names(X: Any) -> list[Any] | None:  # noqa: N803
    """Names of columns of what scikit-learn takes by place: dicts, structured arrays, rows with names, other frames."""
    rows = isinstance(X, (list, tuple)) and len(X) > 0
    first = X[0] if rows else X
    if row_labels(first) is not None and not rows:  # pandas, which scikit-learn knows
        return None
    return column_names(first)


def _checked_by_name(estimator: Any, X: Any, names: list[Any], reset: bool, steps: int | None) -> Array:  # noqa: N803
    known = None if reset else getattr(estimator, "feature_names_in_", None)
    own = matched(X, names if known is None else list(known), "X")
    with missing_told(own, "X", names if known is None else known, steps):
        if known is None:
            values = validate_data(estimator, own, reset=reset, dtype=[np.float64, np.float32], order="C")
        else:
            values = check_array(own, dtype=[np.float64, np.float32], order="C", input_name="X")
    if reset:
        estimator.feature_names_in_ = np.array([str(name) for name in names], object)
    array: Array = values
    return array


def read_timespans(timespans: Any, sequences: Sequences) -> Sequences:
    """The same sequences with the time since the previous sample.

    Args:
        timespans: (sequences, time), a list of (time,), or (time,) for one sequence; `None` for none. Of timedeltas the
            seconds.
        sequences: The samples.

    Raises:
        ValueError: If their shape does not fit, one is not above 0, or they are the times of the samples.
        TypeError: If they are datetimes or no numbers.
    """
    if timespans is None:
        return sequences
    refuse_masked(timespans, "timespans")
    timespans = as_array(by_label(timespans, sequences, "timespans"), "timespans")
    if not isinstance(timespans, (list, tuple)) and np.ndim(timespans) == 0:
        raise ValueError(
            f"`timespans` is {timespans!r}, expected {_shapes(_per_step(sequences))}: one number per sample of X. "
            "Where all are the same, leave it out: that is what period_s of the export is for"
        )
    given = _span_parts(timespans, sequences)
    exact = [_seconds(part).reshape(-1) for part in given]
    with np.errstate(over="ignore", under="ignore"):  # what float32 makes 0 or infinite is refused below
        parts = [part.astype(np.float32) for part in exact]
    for k, part in enumerate(parts):
        if not (np.isfinite(part).all() and (part > 0).all()):
            worst = part[~(np.isfinite(part) & (part > 0))][0]
            first = "; a diff() has none for the first sample: give it the period" if np.isnan(part[0]) else ""
            raise ValueError(f"`timespans` holds {worst:g} in sequence {k}, expected finite numbers above 0{first}")
    if are_stamps(exact):
        raise ValueError(
            f"`timespans` grows from {exact[0][0]:g} to {exact[0][-1]:g}, as times of samples do, expected the time "
            "since the sample before. Type: np.diff(t, prepend=2 * t[0] - t[1])"
        )
    return replace(sequences, spans=tuple(parts))


def _span_parts(timespans: Any, sequences: Sequences) -> list[Any]:
    """What there is for each sequence, (time,) or (time, 1) each; refused by its shape before it is converted."""
    rows = sequences.form == "rows" and np.ndim(timespans) == 1
    given = [timespans] if sequences.form == "one" else timespans
    found = [shape[:-1] if len(shape) == 2 and shape[1] == 1 else shape for shape in part_shapes("timespans", given)]
    wanted = [() if rows else (length,) for length in sequences.lengths]
    if found != wanted:
        raise ValueError(
            f"`timespans` has {_shapes(found, len(given))}, expected {_shapes(_per_step(sequences))}: one number per "
            "sample of X, the time since the sample before it"
        )
    return list(given)


def _seconds(values: Any) -> Array:
    return np.asarray(span_seconds(as_array(values), "timespans"), np.float64)


def _per_step(sequences: Sequences) -> list[tuple[int, ...]]:
    return [(length,) for length in sequences.lengths]


def _shapes(shapes: Sequence[tuple[int, ...]], count: int | None = None) -> str:
    """What there is, by the shapes of all parts or of the first of `count`."""
    count = len(shapes) if count is None else count
    if len(set(shapes)) == 1:
        return f"{count} of shape {shapes[0]}"
    return f"{count} of shapes {', '.join(map(str, shapes[:3]))}..."
