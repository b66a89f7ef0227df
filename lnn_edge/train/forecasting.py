"""Forecasts: a history, then the network's outputs in place of the samples to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array, shape_of
from ..named import matched
from ..times import span_seconds
from ..wording import choices, plural
from .data.metadata import Metadata
from .data.sequences import Sequences, as_array
from .network.module import LiquidModule
from .predicting import forecast_values, raw_outputs, states_after

__all__ = ["check_horizon", "forecast_series"]


def forecast_series(
    network: LiquidModule,
    metadata: Metadata,
    arrays: Mapping[str, Array],
    horizon: int,
    history: Sequences | None,
    future: Any,
    future_timespans: Any,
    columns: Sequence[int | str] | None,
    features: int,
    names: Sequence[str] | None,
) -> Array:
    """Forecast; see `LiquidEstimator.forecast`."""
    _check(metadata)
    places = _places(metadata, columns, features, names)
    known = [k for k in range(features) if k not in places]
    inputs = np.zeros((horizon - 1, features), np.float32)
    why = f"{len(known)} columns of X are not predicted, and must be known beforehand"
    future = matched(future, [] if names is None else [str(names[k]) for k in known], "future")
    center = arrays.get("x_center", np.zeros(features))
    inputs[:, known] = _rows("future", future, horizon - 1, len(known), why) - center[known]
    apart = None
    if "x_center" in arrays or "y_center" in arrays:
        apart = (arrays.get("y_center", 0.0) - center[places]).astype(np.float32)
    spans = _spans(metadata, future_timespans, horizon - 1)
    if history is None:
        if not metadata.tails:
            raise ValueError(
                "forecast() without X goes on from the sequence that was fitted, and this model was not fitted on one "
                "sequence without y. Pass X, the samples that came before"
            )
        *states, last = metadata.tail(arrays)
        return raw_outputs(forecast_values(network, last[0], states, inputs, places, spans, apart), arrays)
    if len(history.samples) != 1:
        raise ValueError(f"X holds {len(history.samples)} sequences, expected one: (time, features)")
    after, outputs = states_after(network, history, metadata.time_unit)
    return raw_outputs(forecast_values(network, outputs[0], after, inputs, places, spans, apart), arrays)


def check_horizon(horizon: Any) -> None:
    """Refuse what is no number of samples.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(horizon, bool) or not isinstance(horizon, (int, np.integer)) or horizon < 1:
        order = ". Type: forecast(horizon, X)" if np.ndim(horizon) else ""
        got = type(horizon).__name__ if np.ndim(horizon) else repr(horizon)
        raise ValueError(f"`horizon` is {got}, expected a whole number of at least 1{order}")


def _check(metadata: Metadata) -> None:
    if metadata.labels or metadata.level != "step":
        what = "labels" if metadata.labels else "one answer per sequence"
        raise ValueError(f"the model predicts {what}, and a forecast needs the next sample. Type: fit(X) without y")


def _places(
    metadata: Metadata, columns: Sequence[int | str] | None, features: int, names: Sequence[str] | None
) -> list[int]:
    """The column of X that each output is."""
    if columns is None and metadata.next_sample:
        return list(range(features))
    known = None if names is None else list(names)
    given = columns
    if given is None and known is not None and set(metadata.output_names) <= set(known):
        given = metadata.output_names
    if given is None and metadata.outputs == features:
        return list(range(features))
    if given is None:
        raise ValueError(
            f"the model has {plural(metadata.outputs, 'output')} for {plural(features, 'column')} of X. "
            "Name which columns they are: columns=[...]"
        )
    found = [_place(column, features, known) for column in given]
    if len(found) != metadata.outputs or len(set(found)) != len(found):
        raise ValueError(f"`columns` is {list(given)}, expected {metadata.outputs} different columns, one per output")
    return found


def _place(column: int | str, features: int, names: list[str] | None) -> int:
    if isinstance(column, str):
        if names is None or column not in names:
            raise ValueError(f"`columns` names '{column}'. {choices(column, names or [])}")
        return names.index(column)
    if isinstance(column, bool) or not isinstance(column, (int, np.integer)) or not 0 <= column < features:
        raise ValueError(f"`columns` holds {column}, expected numbers from 0 to {features - 1}")
    return int(column)


def _rows(name: str, values: Any, count: int, width: int, why: str) -> Array:
    """What is known of the samples to come, (count, width)."""
    if not width or not count:
        return np.zeros((count, width), np.float32)
    if values is None:
        raise ValueError(f"`{name}` is missing: {why}, for {count} samples to come")
    values = as_array(values)
    shape = shape_of(name, values)
    shape = (*shape, 1) if len(shape) == 1 else shape
    if len(shape) != 2 or shape[1] != width or shape[0] < count:
        raise ValueError(f"`{name}` has shape {shape}, expected ({count} or more, {width})")
    array: Array = np.asarray(values[:count], np.float64).reshape(count, width)
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` contains NaN or infinity")
    return array


def _spans(metadata: Metadata, values: Any, count: int) -> Array | None:
    if metadata.time_unit is None:
        if values is not None:
            raise ValueError("`future_timespans` was passed, but the model was fitted without timespans: leave it out")
        return None
    values = None if values is None else span_seconds(as_array(values), "future_timespans")
    why = "the model was fitted with timespans, and needs them"
    spans = _rows("future_timespans", values, count, 1, why)[:, 0] if count else np.zeros(0, np.float32)
    if (spans <= 0).any():
        raise ValueError("`future_timespans` must hold numbers above 0")
    scaled: Array = spans.astype(np.float32) / np.float32(metadata.time_unit)
    return scaled
