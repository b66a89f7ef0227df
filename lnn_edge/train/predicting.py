"""Predictions of a fitted network: over whole sequences, of one sample, and from its own outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from ..arrays import Array
from .data.sequences import Sequences
from .network.module import LiquidModule

__all__ = ["averaged_outputs", "forecast_values", "run_sequences", "states_after", "step_network"]

_TOGETHER = 256  # sequences at a time, which bounds the memory


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
        with torch.no_grad():
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
        with torch.no_grad():
            raw, states = network.run(torch.from_numpy(rows)[None], None, spans)
            last.append(network.finished(raw)[0, -1].numpy())
        ends.append([state.numpy() for state in states])
    return tuple(np.concatenate(column) for column in zip(*ends, strict=True)), last


def step_network(
    network: LiquidModule, sample: Array, states: Sequence[Array] | None, span: float | None
) -> tuple[Array, tuple[Array, ...]]:
    """One sample, (features,) float32: outputs (outputs,), and the states after it, (1, units) each."""
    spans = None if span is None else torch.full((1, 1), span)
    with torch.no_grad():
        raw, after = network.run(
            torch.from_numpy(sample).reshape(1, 1, -1), None if states is None else _tensors(states), spans
        )
        output: Array = network.finished(raw)[0, 0].numpy()
    return output, tuple(state.numpy() for state in after)


def forecast_values(
    network: LiquidModule, first: Array, states: Sequence[Array], inputs: Array, columns: Sequence[int], spans: Any
) -> Array:
    """Feed the network its own outputs.

    Args:
        network: In eval mode.
        first: The output after the history, (outputs,): the first forecast.
        states: The states after the history.
        inputs: Samples to come, (horizon - 1, features); what stands in `columns` is replaced by the outputs.
        columns: Where each output goes.
        spans: Timespan of each of these samples in the unit of training, (horizon - 1,), or `None`.

    Returns:
        Float32 (horizon, outputs).
    """
    outputs = [first]
    for k, row in enumerate(inputs):
        sample = row.astype(np.float32)
        sample[list(columns)] = outputs[-1]
        output, states = step_network(network, sample, states, None if spans is None else float(spans[k]))
        outputs.append(output)
    return np.stack(outputs)


def averaged_outputs(outputs: Sequence[Array], readout: int) -> list[Array]:
    """One result per sequence, (1, outputs) each: the mean of its last outputs."""
    return [rows[-readout:].mean(axis=0, keepdims=True) for rows in outputs]


def _tensors(states: Sequence[Array]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(state, np.float32)) for state in states)
