"""Preparation of data: from what the user passed to `fit` to what the training loop takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_array

from ...arrays import Array
from ...errors import ModelWarning
from ...remarks import warn_caller
from ...verify.spacing import coarse_columns, spacing_remark
from ...wording import CONTROL
from ..settings import Settings
from .dataset import Augmentation, Dataset, seed_of
from .frames import is_framed
from .metadata import CENTERS, Metadata, example_of, numbered, range_of, weighted_moments
from .sequences import Sequences, as_array, read_sequences, read_timespans
from .shapes import check_counts
from .targets import (
    Targets,
    codes_of,
    decide_task,
    encode_labels,
    in_order_of,
    next_samples,
    read_targets,
    read_weights,
)

__all__ = ["Given", "Prepared", "prepare"]

_STRIP_Y = "y = y.str.strip() for labels, y.name = y.name.strip() or y.columns = y.columns.str.strip() for names"
_ALL_STEPS = 2**31 - 1
_LARGEST = float(np.finfo(np.float32).max) / 4  # a spread around it is computed in float32 as well


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Everything that training needs to know about the data.

    Args:
        dataset: All sequences with their targets, scaled.
        metadata: Facts to keep.
        arrays: Those that belong to them, by name.
        x_moments: Mean and scale of each feature, as applied.
        y_moments: Of each output.
        x_spread: Standard deviation of each feature, whether it is scaled or not.
        series: The one sequence with its last sample, which a forecast goes on from; `None` if there are several.
        held_out: What the user gives to judge the weights by; `None` for a share of the data or nothing.
    """

    dataset: Dataset
    metadata: Metadata
    arrays: dict[str, Array]
    x_moments: tuple[Array, Array]
    y_moments: tuple[Array, Array]
    x_spread: Array
    series: Sequences | None
    held_out: Dataset | None = None

    def augmentation(self, settings: Settings) -> Augmentation:
        """The augmentation in raw units."""
        noise = torch.from_numpy(float(settings.noise) * self.x_spread).float() if settings.noise else None
        return Augmentation(noise, settings.gain, settings.crop)

    def split(self, share: float, seed: int) -> tuple[Dataset, Dataset | None]:
        """Training and validation data: some sequences, each class in proportion; of one sequence, its end.

        Raises:
            ValueError: If there are too few sequences or steps for both.
        """
        if not share:
            return self.dataset, self.held_out
        one = len(self.dataset) == 1
        parts = (
            _split_in_time(self.dataset, share)
            if one
            else _split_sequences(self.dataset, share, seed, self.metadata.labels)
        )
        for part, what in zip(parts, ("train on", "judge by"), strict=True):
            if not any(bool(weight.any()) for weight in part.weight):
                raise ValueError(
                    f"`validation_split` is {share}, which leaves nothing to {what}: all that has a weight is in the "
                    "other part"
                )
        return parts


@dataclasses.dataclass(frozen=True)
class Given:
    """What the user passed to `fit`."""

    X: Any
    y: Any
    sample_weight: Any
    timespans: Any
    validation: Any


def prepare(estimator: Any, settings: Settings, data: Given, task: str) -> Prepared:
    """Read and check the data, decide what it is, and scale it.

    Raises:
        ValueError, TypeError: In scikit-learn's words, if something is wrong with it.
    """
    y = data.y
    timed = data.timespans is not None
    check_counts(as_array(data.X), as_array(y, "y"), rows=settings.rows, targets=settings.targets)
    read = read_sequences(estimator, data.X, rows=settings.rows, reset=True, timed=timed)
    given = read_timespans(data.timespans, read)
    names = getattr(estimator, "feature_names_in_", None)
    _check_names("X has the column", names if names is not None else (), "X.columns = X.columns.str.strip()")
    center = _center(given.samples) if settings.scale_inputs else None
    _warn_of_spacing(given.samples, names, centred=settings.scale_inputs)
    given = given.centred(center)
    sequences, targets = given, None
    if y is not None:
        targets = read_targets(y, given, settings.targets)
    elif task != "classification":
        sequences, targets = next_samples(given, names)
    if targets is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None: a classifier needs labels")
    given_weights = read_weights(data.sample_weight, sequences, targets.level)
    sequences, targets, weights = _without_weightless(sequences, targets, given_weights)
    _check_enough(weights)
    task = decide_task(targets, task)
    classes, values = encode_labels(targets) if task == "classification" else (None, _numbers(targets))
    counted = tuple(part[weight > 0] for part, weight in zip(values, weights, strict=True))
    y_center = _target_center(counted, center, settings, labels=classes is not None, next_sample=y is None)
    arrays = _arrays(sequences, counted, classes, center, y_center)
    if y is not None and y_center is not None:  # samples to come are centred already
        values = tuple(part - y_center for part in values)
    framed = is_framed(data.X if y is None else y)
    metadata = _metadata(sequences, targets, classes, settings, next_sample=y is None, framed=framed)
    _check_names("y has the label" if metadata.labels else "y has the column", metadata.output_names, _STRIP_Y)
    x_moments = _moments(sequences.samples, weights, settings.scale_inputs)
    y_moments = _moments(values, weights, settings.scale_targets and classes is None, metadata.outputs)
    dataset = _dataset(sequences, values, weights, metadata, y_moments)
    series = given if len(given.samples) == 1 and y is None else None
    spread = weighted_moments(sequences.samples, weights)[1]
    held_out = None
    if data.validation is not None:
        held_out = _held_out(estimator, settings, data.validation, metadata, classes, arrays, y_moments)
    return Prepared(dataset, metadata, arrays, x_moments, y_moments, spread, series, held_out)


def _held_out(
    estimator: Any,
    settings: Settings,
    validation: Any,
    metadata: Metadata,
    classes: Array | None,
    arrays: Mapping[str, Array],
    y_moments: tuple[Array, Array],
) -> Dataset:
    """What the user says to judge by, read as the data of the fit were.

    Raises:
        ValueError, TypeError: If it is no such data, or there is a share to hold out as well.
    """
    if settings.validation_split:
        raise ValueError(
            f"`validation` was passed, and `validation_split` is {settings.validation_split}: leave one out"
        )
    if not isinstance(validation, (tuple, list)) or len(validation) not in (2, 3):
        raise TypeError(f"`validation` is a {type(validation).__name__}, expected (X, y) or (X, y, timespans)")
    X, y, spans = (*validation, None)[:3]  # noqa: N806
    if (spans is None) != (metadata.time_unit is None):
        raise ValueError(
            f"`validation` comes {'without' if spans is None else 'with'} timespans, the data of the fit "
            f"{'with' if spans is None else 'without'}. Expected (X, y{', timespans' if spans is None else ''})"
        )
    try:
        sequences = read_timespans(spans, read_sequences(estimator, X, rows=settings.rows, reset=False))
        sequences = sequences.centred(arrays.get("x_center"))
        if metadata.next_sample:
            sequences, targets = next_samples(sequences, getattr(estimator, "feature_names_in_", None))
        else:
            targets = read_targets(y, sequences, "steps" if metadata.level == "step" else "sequence")
            targets = targets if metadata.labels else in_order_of(targets, metadata.output_names)
        values = _numbers(targets) if classes is None else codes_of(targets, classes)
    except (ValueError, TypeError) as error:
        raise type(error)(f"`validation`: {error}") from error
    if classes is None and targets.outputs != metadata.outputs:
        raise ValueError(f"`validation` has {targets.outputs} targets, the data of the fit {metadata.outputs}")
    if "y_center" in arrays and not metadata.next_sample:
        values = tuple(part - arrays["y_center"] for part in values)
    weights = read_weights(None, sequences, metadata.level)
    return _dataset(sequences, values, weights, metadata, y_moments)


def _check_names(what: str, names: Sequence[str], advice: str) -> None:
    """Refuse before the training the names that an export would refuse after it.

    Raises:
        ValueError: If one is empty, stands there twice, or has spaces around it or control characters in it.
    """
    for name in names:
        if not name or name != name.strip() or CONTROL.search(name):
            raise ValueError(
                f"{what} {name!r}, expected a name without spaces around it or control characters, as an export needs "
                f"it. Type: {advice}"
            )
        if list(names).count(name) > 1:
            raise ValueError(f"{what} {name!r} more than once, expected different names, as an export needs them")


def _without_weightless(
    sequences: Sequences, targets: Targets, weights: Sequence[Array]
) -> tuple[Sequences, Targets, list[Array]]:
    """Without the sequences that do not count: they must not even scale the others."""
    kept = [k for k, weight in enumerate(weights) if weight.any()]
    if len(kept) == len(weights):
        return sequences, targets, list(weights)
    spans = None if sequences.spans is None else tuple(sequences.spans[k] for k in kept)
    return (
        Sequences(tuple(sequences.samples[k] for k in kept), sequences.form, spans),
        dataclasses.replace(targets, values=tuple(targets.values[k] for k in kept)),
        [weights[k] for k in kept],
    )


def _check_enough(weights: Sequence[Array]) -> None:
    count = sum(int(np.count_nonzero(weight)) for weight in weights)
    if count < 2:
        raise ValueError(f"Found {count} sample with an answer (n_samples={count}) while a minimum of 2 is required")


def _numbers(targets: Targets) -> tuple[Array, ...]:
    """Targets as float64.

    Raises:
        ValueError: If they are no finite real numbers.
    """
    try:
        values = tuple(
            check_array(part, input_name="y", dtype=np.float64, ensure_min_features=1) for part in targets.values
        )
    except ValueError as error:
        if "could not convert" not in str(error):
            raise
        raise ValueError(f"y holds what is no number: {error}. Type: task='classification' for labels") from error
    largest = max(float(np.abs(part).max()) for part in values)
    if largest > _LARGEST:
        raise ValueError(f"y holds {largest:.3g}, more than float32 can: give it in another unit")
    return values


def _moments(
    parts: Sequence[Array], weights: Sequence[Array], wanted: bool, columns: int | None = None
) -> tuple[Array, Array]:
    if wanted:
        return weighted_moments(parts, weights)
    count = parts[0].shape[1] if columns is None else columns
    return np.zeros(count), np.ones(count)


def _center(parts: Sequence[Array]) -> Array | None:
    """The mean of those columns that float32 is too coarse for, else 0; `None` if it is fine enough for all."""
    joined = np.concatenate(parts)
    coarse = coarse_columns(joined)
    return np.where(coarse, joined.mean(axis=0, dtype=np.float64), 0.0) if coarse.any() else None


def _target_center(
    values: Sequence[Array], center: Array | None, settings: Settings, *, labels: bool, next_sample: bool
) -> Array | None:
    if next_sample:
        return center
    return None if labels or not settings.scale_targets else _center(values)


def _warn_of_spacing(parts: Sequence[Array], names: Sequence[str] | None, *, centred: bool) -> None:
    """Say where float32 is too coarse for a column, and nothing can mend it.

    Warns:
        ModelWarning: For the first such column.
    """
    if centred and parts[0].dtype != np.float32:
        return
    known = [f"column {k}" for k in range(parts[0].shape[1])] if names is None else list(map(str, names))
    remark = spacing_remark(known, np.concatenate(parts))
    if remark is not None:
        advice = (
            "X comes in float32, which has lost what lies between: pass it as float64"
            if centred
            else ("and `scale_inputs` is False: let the estimator scale, or subtract an offset")
        )
        warn_caller(f"{remark}; {advice}", ModelWarning)


def _arrays(
    sequences: Sequences, values: Sequence[Array], classes: Array | None, center: Array | None, y_center: Array | None
) -> dict[str, Array]:
    """What metadata keeps of the data, by name; `values` are those targets that count."""
    outputs = 0 if classes is None else len(classes)
    centers = {name: own for name, own in zip(CENTERS, (center, y_center), strict=True) if own is not None}
    ranges = {
        "x_range": range_of(sequences.samples) + (0.0 if center is None else center),
        "y_range": range_of(values) if classes is None else np.stack([np.zeros(outputs), np.ones(outputs)]),
    }
    if y_center is not None and y_center is center:  # samples to come
        ranges["y_range"] = ranges["y_range"] + y_center
    ranges |= centers
    return ranges | numbered("example", example_of(sequences))


def _metadata(
    sequences: Sequences,
    targets: Targets,
    classes: Array | None,
    settings: Settings,
    *,
    next_sample: bool,
    framed: bool,
) -> Metadata:
    outputs = targets.outputs if classes is None else len(classes)
    spans = None if sequences.spans is None else np.concatenate(sequences.spans).astype(np.float64)
    output_names = targets.names if classes is None else tuple(map(str, classes))
    if output_names is None or len(set(output_names)) != outputs:
        output_names = tuple(f"output_{k}" for k in range(outputs)) if outputs > 1 else ("output",)
    return Metadata(
        task="regression" if classes is None else "classification",
        level=targets.level,
        flat=targets.flat,
        outputs=outputs,
        output_names=output_names,
        classes=None if classes is None else classes.tolist(),
        classes_dtype=None if classes is None else classes.dtype.str,
        readout=_readout(settings, sequences, targets, labels=classes is not None),
        time_unit=None if spans is None else float(np.median(spans)),
        span_range=None if spans is None else (float(spans.min()), float(spans.max())),
        rows=settings.rows,
        next_sample=next_sample,
        examples=len(example_of(sequences)),
        framed=framed,
    )


def _readout(settings: Settings, sequences: Sequences, targets: Targets, labels: bool) -> int | None:
    """Over how many last steps a sequence's target is averaged."""
    if targets.level == "step":
        return None
    if settings.readout == "mean":
        return _ALL_STEPS
    if settings.readout == "last" or (settings.readout == "auto" and not labels):
        return 1
    if settings.readout == "auto":
        return max(1, math.ceil(float(np.median(sequences.lengths)) / 2.0))
    return int(settings.readout)


def _dataset(
    sequences: Sequences,
    values: Sequence[Array],
    weights: Sequence[Array],
    metadata: Metadata,
    moments: tuple[Array, Array],
) -> Dataset:
    def scaled(part: Array) -> torch.Tensor:
        if metadata.labels:
            return torch.from_numpy(part)
        return torch.from_numpy((part - moments[0]) / moments[1]).float()

    spans = None
    if sequences.spans is not None and metadata.time_unit is not None:
        spans = tuple(torch.from_numpy(part) / metadata.time_unit for part in sequences.spans)
    return Dataset(
        x=tuple(torch.from_numpy(np.ascontiguousarray(rows)) for rows in sequences.samples),
        y=tuple(scaled(part) for part in values),
        weight=tuple(torch.from_numpy(np.array(part)) for part in weights),
        spans=spans,
        readout=metadata.readout,
        running=metadata.labels,
    )


def _split_in_time(dataset: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """The end of the only sequence is held out, with what comes before it as warm-up."""
    steps = len(dataset.x[0])
    kept = steps - max(1, round(share * steps))
    if dataset.readout is not None or kept < 2:
        raise ValueError(
            f"`validation_split` is {share}, but there is one sequence of {steps} steps, too few to hold some out"
        )
    head = Dataset(
        (dataset.x[0][:kept],),
        (dataset.y[0][:kept],),
        (dataset.weight[0][:kept],),
        None if dataset.spans is None else (dataset.spans[0][:kept],),
        None,
        dataset.running,
    )
    weight = dataset.weight[0].clone()
    weight[:kept] = 0.0
    return head, dataclasses.replace(dataset, weight=(weight,))


def _split_sequences(dataset: Dataset, share: float, seed: int, labels: bool) -> tuple[Dataset, Dataset]:
    index = np.arange(len(dataset))
    classes = [int(y[0]) for y in dataset.y] if labels and dataset.readout is not None else None
    try:
        kept, held_out = train_test_split(
            index, test_size=share, random_state=seed_of(seed, 0) % 2**32, stratify=classes
        )
    except ValueError as error:
        raise ValueError(
            f"`validation_split` is {share}, which {len(index)} sequences do not allow: {error}"
        ) from error
    return _picked(dataset, sorted(kept)), _picked(dataset, sorted(held_out))


def _picked(dataset: Dataset, index: Sequence[int]) -> Dataset:
    spans = None if dataset.spans is None else tuple(dataset.spans[k] for k in index)
    parts = [tuple(part[k] for k in index) for part in (dataset.x, dataset.y, dataset.weight)]
    return Dataset(parts[0], parts[1], parts[2], spans, dataset.readout, dataset.running)
