"""Targets and sample weights as users pass them, read per sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

from ...arrays import Array
from ...errors import ModelWarning
from ...named import column_names, matched, names_differ, refuse_lazy, refuse_masked
from ...remarks import warn_caller
from .frames import refuse_grouped
from .missing import missing_told, refuse_missing_labels
from .row_order import warn_of_other_order
from .sequences import Sequences, as_array, by_label, is_of_times
from .shapes import part_shapes

__all__ = [
    "Targets",
    "codes_of",
    "decide_task",
    "encode_labels",
    "in_order_of",
    "next_samples",
    "read_targets",
    "read_weights",
]

Level = Literal["step", "sequence"]

_SOME, _MANY = 10, 20  # classes: up to the digits nobody wonders; beyond the second, not even where they run on


@dataclass(frozen=True)
class Targets:
    """Targets as they were given.

    Args:
        values: Per sequence (steps, outputs), with one step if there is one target per sequence; labels (steps, 1).
        level: Whether there is a target per "step" or per "sequence".
        flat: Whether y had no axis of outputs: then predictions have none either.
        names: Columns of a frame or name of a series; `None` if there are none.
    """

    values: tuple[Array, ...]
    level: Level
    flat: bool
    names: tuple[str, ...] | None = None

    @property
    def outputs(self) -> int:
        """Number of columns."""
        return int(self.values[0].shape[1])

    def joined(self) -> Array:
        """All of them, (steps, outputs)."""
        return np.concatenate(self.values)


def next_samples(sequences: Sequences, names: Sequence[str] | None) -> tuple[Sequences, Targets]:
    """Every sample's target is the sample after it: what a model that forecasts is trained on.

    Raises:
        ValueError: If a sequence has no sample after its first.
    """
    if min(sequences.lengths) < 2:
        raise ValueError(
            "This estimator requires y to be passed, but the target y is None. Without y it learns to forecast the "
            f"next sample, and the shortest sequence has {min(sequences.lengths)} step, expected at least 2"
        )
    spans = None if sequences.spans is None else tuple(span[:-1] for span in sequences.spans)
    inputs = replace(sequences, samples=tuple(rows[:-1] for rows in sequences.samples), spans=spans)
    values = tuple(rows[1:].astype(np.float64) for rows in sequences.samples)
    return inputs, Targets(values, "step", flat=False, names=None if names is None else tuple(names))


def read_targets(y: Any, sequences: Sequences, per: str) -> Targets:
    """Read y: one target per step or per sequence, with or without an axis of outputs.

    Args:
        y: Per step (sequences, time[, outputs]) or a list of (time[, outputs]); per sequence (sequences[, outputs]).
        sequences: What the targets are for.
        per: "steps", "sequence", or "auto", which takes (sequences, time) for targets per step.

    Raises:
        ValueError: If its shape does not fit, or it holds NaN or infinity.
    """
    refuse_lazy(y, "y")
    refuse_grouped(y, "y")
    refuse_masked(y, "y")
    names, y = _names(y), _with_numpy_dtype(_without_fields(y))
    if sequences.form in ("one", "rows"):
        warn_of_other_order(y, sequences.rows, "y")
        return _flat_rows(as_array(y, "y"), sequences, names, per)
    parts = _parts(as_array(by_label(y, sequences, "y"), "y"), sequences)
    per_step = _is_per_step(parts, sequences, per)
    if per_step:
        wrong = next((k for k, p in enumerate(parts) if p.shape[:1] != (sequences.lengths[k],)), None)
        if wrong is not None or max(part.ndim for part in parts) > 2:
            k = wrong or 0
            raise ValueError(
                f"y has shape {parts[k].shape} for sequence {k} of {sequences.lengths[k]} steps, expected one answer "
                "per step: (time,) or (time, outputs). Type: targets='sequence' if they belong to the whole sequence"
            )
        flat = parts[0].ndim == 1
        return Targets(tuple(p.reshape(len(p), -1) for p in parts), "step", flat, names)
    if max(part.ndim for part in parts) > 1:
        raise ValueError(f"y has shape {parts[0].shape} per sequence, expected one answer, or (outputs,)")
    return Targets(tuple(p.reshape(1, -1) for p in parts), "sequence", parts[0].ndim == 0, names)


def _names(y: Any) -> tuple[str, ...] | None:
    labelled = isinstance(y, (Mapping, np.ndarray)) or isinstance(getattr(y, "dims", None), tuple)
    columns = column_names(y) if labelled else getattr(y, "columns", None)
    if columns is not None:
        return tuple(map(str, columns))
    name = getattr(y, "name", None)
    if isinstance(y, (list, tuple)) and y:
        return _names(y[0])
    return (name,) if isinstance(name, str) else None


def _without_fields(y: Any) -> Any:
    """Columns that a dict or a structured array has by name, as an array; names that other data has stay with it."""
    if isinstance(y, Mapping) or (isinstance(y, np.ndarray) and y.dtype.names):
        return matched(y, column_names(y) or (), "y")
    return y


def in_order_of(targets: Targets, names: Sequence[str]) -> Targets:
    """Targets with their columns in the order of a fit's, where both have names.

    Raises:
        ValueError: If there are columns of some other names.
    """
    if targets.names is None or len(names) < 2 or tuple(targets.names) == tuple(names):
        return targets
    difference = names_differ(targets.names, names)
    if difference is not None and set(names).isdisjoint(targets.names):  # the fit may have had no names
        return targets
    if difference is not None:
        raise ValueError(
            f"y has the columns {list(targets.names)}, expected {list(names)}, as in the fit: {difference}"
        )
    order = [targets.names.index(name) for name in names]
    return replace(targets, values=tuple(part[:, order] for part in targets.values), names=tuple(names))


def _with_numpy_dtype(y: Any) -> Any:
    """A series of one of pandas' own integer or boolean types, which would become floats, in NumPy's."""
    own = getattr(getattr(y, "dtype", None), "numpy_dtype", None)
    if own is None or own.kind not in "iub" or y.isna().any():
        return y
    return y.astype(own)


def _checked(y: Any, what: str = "y") -> Array:
    if is_of_times(y):
        raise TypeError(
            "y holds dates or spans of time, expected numbers or labels. Type: y.astype(float) for a number"
        )
    refuse_missing_labels(y, what)
    with missing_told(y, what, answers=True):
        checked: Array = check_array(
            y, input_name="y", ensure_2d=False, dtype=None, allow_nd=True, ensure_min_samples=0
        )
    return checked


def _flat_rows(y: Any, sequences: Sequences, names: tuple[str, ...] | None, per: str) -> Targets:
    """One target per row of a 2-D X, whose rows are steps or sequences; or one for the whole sequence."""
    array = _checked(y)
    if sequences.form == "one" and per == "sequence":
        if array.ndim not in (1, 2) or len(array) != 1:
            raise ValueError(f"y has shape {array.shape}, expected one answer for the one sequence of X: (1,)")
        return Targets((array.reshape(1, -1),), "sequence", array.ndim == 1, names)
    rows = sequences.samples[0] if sequences.form == "one" else sequences.samples
    if array.ndim not in (1, 2):
        raise ValueError(f"y has shape {array.shape}, expected (rows of X,) or (rows of X, outputs)")
    check_consistent_length(rows, array)
    columns = array.reshape(len(array), -1)
    if sequences.form == "one":
        return Targets((columns,), "step", array.ndim == 1, names)
    return Targets(tuple(columns[:, None]), "step" if per == "steps" else "sequence", array.ndim == 1, names)


def _parts(y: Any, sequences: Sequences) -> list[Array]:
    """The part of y that belongs to each sequence."""
    nested = isinstance(y, (list, tuple)) and len(y) > 0 and np.ndim(as_array(y[0])) > 0
    ragged = isinstance(y, np.ndarray) and y.dtype == object and y.ndim == 1 and len(y) > 0 and np.ndim(y[0]) > 0
    check_consistent_length(sequences.samples, y)
    if not (nested or ragged):
        return [np.asarray(part) for part in _checked(y)]
    return [np.asarray(_checked(as_array(part, "y"), f"y[{k}]")) for k, part in enumerate(y)]


def _is_per_step(parts: Sequence[Array], sequences: Sequences, per: str) -> bool:
    if per != "auto":
        return per == "steps"
    if any(part.ndim == 0 for part in parts):
        return False
    fits = all(part.shape[0] == length for part, length in zip(parts, sequences.lengths, strict=True))
    flat = all(part.ndim == 1 and len(part) > 1 for part in parts)  # one number is a column of targets
    if flat and all(abs(len(part) - n) == 1 for part, n in zip(parts, sequences.lengths, strict=True)):
        raise ValueError(
            f"y has {len(parts[0])} numbers for a sequence of {sequences.lengths[0]} steps, expected one per step. "
            "Type: targets='sequence' if they are the answers of a whole sequence"
        )
    return fits or any(part.ndim == 2 or part.shape != parts[0].shape for part in parts)


def decide_task(targets: Targets, task: str) -> str:
    """The task, or for "auto" "classification" for whole numbers, booleans and text, "regression" for other numbers."""
    if task != "auto":
        return task
    values = targets.joined()
    if values.dtype == object:
        return "regression" if all(isinstance(v, float) for v in values.ravel()) else "classification"
    if values.dtype.kind in "iu":
        _warn_of_amounts(np.unique(values))
    return "regression" if values.dtype.kind == "f" else "classification"


def _warn_of_amounts(classes: Array) -> None:
    """Say that whole numbers are taken as classes, where there are so many that they may be amounts.

    Warns:
        ModelWarning: If so.
    """
    running = len(classes) <= _MANY and int(classes[-1]) - int(classes[0]) == len(classes) - 1
    if len(classes) > _SOME and not running:
        warn_caller(
            f"y holds {len(classes)} different whole numbers, from {classes[0]} to {classes[-1]}, which are taken as "
            "classes. Type: task='regression', or y.astype(float), if they are amounts; task='classification' if not",
            ModelWarning,
        )


def encode_labels(targets: Targets) -> tuple[Array, tuple[Array, ...]]:
    """The classes, sorted, and the index of each label's class, per sequence (steps,).

    Raises:
        ValueError: If y holds no labels, several columns, or fewer than two classes.
    """
    labels = targets.joined()
    if labels.shape[1] != 1:
        raise ValueError(
            f"y has {labels.shape[1]} columns of labels, expected one label per step or per sequence. Fit one "
            "classifier per column"
        )
    if not targets.flat:
        labels = column_or_1d(labels, warn=True)
    check_classification_targets(labels.ravel())
    classes, codes = np.unique(labels.ravel(), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"Classifier can't train when only one class is present: every label of y is {classes.tolist()[0]!r}. "
            "Expected at least 2 classes"
        )
    stops = np.cumsum([len(part) for part in targets.values])[:-1]
    return classes, tuple(np.split(codes.astype(np.int64), stops))


def codes_of(targets: Targets, classes: Array) -> tuple[Array, ...]:
    """The index of each label's class among known ones, per sequence (steps,).

    Raises:
        ValueError: If there are several columns, or a label that none of them is.
    """
    if targets.outputs != 1:
        raise ValueError(f"y has {targets.outputs} columns of labels, expected one label per step or per sequence")
    places = {label: place for place, label in enumerate(classes.tolist())}
    unknown = [label for label in targets.joined().ravel().tolist() if label not in places]
    if unknown:
        raise ValueError(f"y holds the label {unknown[0]!r}, but the classes of the fit are {list(places)}")
    return tuple(np.array([places[label] for label in part.ravel().tolist()], np.int64) for part in targets.values)


def _without_columns(weights: Array) -> Array:
    """A frame or array with one column has no second axis."""
    return weights[..., 0] if weights.ndim > 0 and weights.shape[-1] == 1 else weights


def read_weights(sample_weight: Any, sequences: Sequences, level: Level) -> tuple[Array, ...]:
    """Weights per sequence, float32 (steps,), (1,) if there is one target per sequence.

    Args:
        sample_weight: One number per target, in the shape of a y without outputs, or one per sequence.
        sequences: What they are for.
        level: Whether there is a target per step or per sequence.

    Raises:
        ValueError: If the shape does not fit, one is negative or not finite, or all are zero.
    """
    counts = [1] * len(sequences.samples) if level == "sequence" else sequences.lengths
    if sample_weight is None:
        return tuple(np.ones(count, np.float32) for count in counts)
    refuse_masked(sample_weight, "sample_weight")
    sample_weight = as_array(by_label(sample_weight, sequences, "sample_weight"), "sample_weight")
    if not isinstance(sample_weight, (list, tuple)) and np.ndim(sample_weight) == 0:
        raise ValueError(f"sample_weight is {sample_weight!r}, expected one number per sequence or per answer of y")
    if sequences.form == "one" and level == "step":
        sample_weight = [sample_weight]
    shapes = [shape[:-1] if shape[-1:] == (1,) else shape for shape in part_shapes("sample_weight", sample_weight)]
    if len(shapes) != len(counts) or any(s not in ((), (n,)) for s, n in zip(shapes, counts, strict=True)):
        raise ValueError(
            f"sample_weight has {len(sample_weight)} entries of shape {sorted(set(shapes))}, expected one number per "
            f"answer of y, or one per sequence: {len(counts)}"
        )
    given = [_without_columns(np.asarray(as_array(part), np.float64)) for part in sample_weight]
    weights = [np.broadcast_to(part, (n,)).astype(np.float32) for part, n in zip(given, counts, strict=True)]
    joined = np.concatenate(weights)
    if not np.isfinite(joined).all() or (joined < 0).any():
        raise ValueError("sample_weight holds negative, NaN or infinite values, expected finite numbers of at least 0")
    if not joined.any():
        raise ValueError("Sample weights must contain at least one non-zero number")
    return tuple(weights)
