"""Predictions of a fitted network: over whole sequences, of one sample, and from its own outputs."""

from __future__ import annotations

import datetime
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from ..arrays import Array, plain_array, shape_of
from ..named import matched
from ..times import span_seconds
from .data.metadata import Metadata
from .data.sequences import Sequences, as_array
from .data.shapes import part_shapes, shown_shapes
from .network.module import LiquidModule
from .network.threads import fitting_threads

__all__ = [
    "State",
    "averaged_outputs",
    "check_state",
    "check_timed",
    "forecast_values",
    "raw_outputs",
    "read_sample",
    "read_timespan",
    "run_sequences",
    "states_after",
    "step_network",
]

State = tuple[Array, ...]  # of every core in order, (sequences, units) float32 each

_TOGETHER = 256  # sequences at a time, which bounds the memory


def check_timed(metadata: Metadata, timespans: Any) -> None:
    """Refuse timespans of a model without, and none of a model with.

    Raises:
        ValueError: If so.
    """
    if timespans is None and metadata.time_unit is not None:
        raise ValueError(
            "the model was fitted with timespans, so it needs them here too: pass `timespans`. In a search or a "
            "cross-validation type: sklearn.set_config(enable_metadata_routing=True), and "
            "model.set_fit_request(timespans=True).set_score_request(timespans=True)"
        )
    if timespans is not None and metadata.time_unit is None:
        raise ValueError("`timespans` was passed, but the model was fitted without: leave it out, or fit with some")


def check_state(state: Any, rows: int, widths: Sequence[int]) -> None:
    """Refuse a state that does not fit; `None` does.

    Args:
        state: As the user passes it.
        rows: Number of sequences.
        widths: Units of each tensor that a state of the network has.

    Raises:
        TypeError: If it is no list of arrays of real numbers.
        ValueError: If it does not fit, or is not finite.
    """
    if state is None:
        return
    given = "as `warm_up` and `predict_step` return them"
    if not isinstance(state, (tuple, list)) and not getattr(state, "shape", None):
        raise TypeError(
            f"`state` is a {type(state).__name__}, expected {len(widths)} arrays of ({rows}, units), {given}"
        )
    shapes = part_shapes("state", state)
    if len(shapes) != len(widths) or any(len(shape) != 2 or shape[0] != rows for shape in shapes):
        raise ValueError(
            f"`state` has parts of shapes {shown_shapes(shapes)}, expected {len(widths)} of ({rows}, units), {given}"
        )
    if [shape[1] for shape in shapes] != list(widths):
        fitting = [(rows, width) for width in widths]
        raise ValueError(f"`state` has parts of shapes {shown_shapes(shapes)}, expected {fitting}, {given}")
    for part in state:
        if plain_array("state", part).dtype.kind not in "fiu":
            raise TypeError(f"`state` has a part of dtype {plain_array('state', part).dtype}, expected real numbers")
        if not np.isfinite(plain_array("state", part)).all():
            raise ValueError("`state` contains NaN or infinity: pass what `warm_up` or `predict_step` returned")


def raw_outputs(outputs: Array, arrays: Mapping[str, Array]) -> Array:
    """Outputs of the network, (..., outputs), with what was subtracted from the targets: then in float64."""
    return outputs + arrays["y_center"] if "y_center" in arrays else outputs


def read_sample(x: Any, names: Sequence[Any] | None, features: int, center: Array | None = None) -> Array:
    """One sample as the user passes it, as (features,) float32.

    Args:
        x: The sample; one with names is put in the order of the columns'.
        names: Of the columns, or `None`.
        features: Their number.
        center: What is subtracted from them in float64, (features,), or `None`.

    Raises:
        ValueError: If it has another shape or other columns, or is not finite.
    """
    own = as_array(matched(x, _plain(names), "x"))
    shape = shape_of("x", own)
    if shape != (features,):  # before what may be large is converted
        raise ValueError(
            f"`x` has shape {shape}, expected one sample: ({features},). Type: predict(...) for more of them"
        )
    with np.errstate(over="ignore"):
        given: Array = np.asarray(own, np.float32 if center is None else np.float64)
        sample: Array = np.asarray(given if center is None else given - center, np.float32)
    if not np.isfinite(sample).all():
        raise ValueError(f"`x` contains NaN or infinity, first in column {int(np.argmin(np.isfinite(sample)))}")
    return sample


def _plain(names: Sequence[Any] | None) -> list[str]:
    return [] if names is None else list(map(str, names))


def read_timespan(timespan: Any, unit: float | None) -> float:
    """The time since the previous sample, in the unit of training, through float32 as `fit` reads it.

    Raises:
        ValueError: If it is no finite number above 0.
    """
    if isinstance(timespan, (np.timedelta64, datetime.timedelta)):  # pandas' is one
        timespan = span_seconds(timespan, "timespan")
    real = isinstance(timespan, numbers.Real) and not isinstance(timespan, bool)
    with np.errstate(over="ignore", under="ignore"):
        span = float(np.float32(timespan)) / float(unit or 1.0) if real else math.nan
    if not (math.isfinite(span) and span > 0):
        raise ValueError(f"`timespan` is {timespan!r}, expected a finite number above 0")
    return span


def run_sequences(
    network: LiquidModule, sequences: Sequences, unit: float | None, states: Sequence[Array] | None
) -> list[Array]:
    """Outputs of every step, per sequence float32 (time, outputs): values in raw units, or probabilities.

    Args:
        network: In eval mode.
        sequences: Samples, with timespans if `unit` is a number.
        unit: What timespans are divided by.
        states: Where each sequence starts, (sequences, units) each; `None` for zeros.
    """
    outputs: list[Array] = []
    for start in range(0, len(sequences.samples), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        x = pad_sequence([torch.from_numpy(rows) for rows in sequences.samples[part]], batch_first=True)
        spans = None
        if sequences.spans is not None and unit is not None:
            rows = [torch.from_numpy(span) / unit for span in sequences.spans[part]]
            spans = pad_sequence(rows, batch_first=True, padding_value=1.0)
        begin = None if states is None else _tensors([state[part] for state in states])
        with torch.no_grad(), fitting_threads(network, len(x)):
            padded = network.finished(network.run(x, begin, spans)[0]).numpy()
        outputs += [rows[:length].copy() for rows, length in zip(padded, sequences.lengths[part], strict=True)]
    return outputs


def states_after(
    network: LiquidModule, sequences: Sequences, unit: float | None
) -> tuple[tuple[Array, ...], list[Array]]:
    """States after the last step of each sequence, (sequences, units) each, and its output, (outputs,) each."""
    ends, last = [], []
    for k, rows in enumerate(sequences.samples):
        spans = None if sequences.spans is None or unit is None else torch.from_numpy(sequences.spans[k])[None] / unit
        with torch.no_grad(), fitting_threads(network, 1):
            raw, states = network.run(torch.from_numpy(rows)[None], None, spans)
            last.append(network.finished(raw)[0, -1].numpy())
        ends.append([state.numpy() for state in states])
    return tuple(np.concatenate(column) for column in zip(*ends, strict=True)), last


def step_network(
    network: LiquidModule, sample: Array, states: Sequence[Array] | None, span: float | None
) -> tuple[Array, tuple[Array, ...]]:
    """One sample, (features,) float32: outputs (outputs,), and the states after it, (1, units) each."""
    spans = None if span is None else torch.full((1, 1), span)
    with torch.no_grad(), fitting_threads(network, 1):
        raw, after = network.run(
            torch.from_numpy(sample).reshape(1, 1, -1), None if states is None else _tensors(states), spans
        )
        output: Array = network.finished(raw)[0, 0].numpy()
    return output, tuple(state.numpy() for state in after)


def forecast_values(
    network: LiquidModule,
    first: Array,
    states: Sequence[Array],
    inputs: Array,
    columns: Sequence[int],
    spans: Array | None,
    apart: Array | None = None,
) -> Array:
    """Feed the network its own outputs.

    Args:
        network: In eval mode.
        first: The output after the history, (outputs,): the first forecast.
        states: The states after the history.
        inputs: Samples to come, (horizon - 1, features); what stands in `columns` is replaced by the outputs.
        columns: Where each output goes.
        spans: Timespan of each of these samples in the unit of training, (horizon - 1,), or `None`.
        apart: What must be added to outputs before they are inputs, (outputs,), or `None` for nothing.

    Returns:
        Float32 (horizon, outputs).
    """
    outputs = [first]
    for k, row in enumerate(inputs):
        sample = row.astype(np.float32)
        sample[list(columns)] = outputs[-1] if apart is None else outputs[-1] + apart
        output, states = step_network(network, sample, states, None if spans is None else float(spans[k]))
        outputs.append(output)
    return np.stack(outputs)


def averaged_outputs(outputs: Sequence[Array], readout: int) -> list[Array]:
    """One result per sequence, (1, outputs) each: the mean of its last outputs."""
    return [rows[-readout:].mean(axis=0, keepdims=True) for rows in outputs]


def _tensors(states: Sequence[Array]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(state, np.float32)) for state in states)
