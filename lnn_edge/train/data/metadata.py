"""What a fit leaves behind beside the network: the meaning of columns and outputs, and a sample of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...arrays import Array
from .sequences import Sequences

__all__ = ["EXAMPLE_STEPS", "Learnt", "example_of", "range_of", "weighted_moments"]

EXAMPLE_STEPS = 2048  # samples kept for the proof of an export, which steps through at most about a thousand


@dataclass(frozen=True)
class Learnt:
    """Facts from the training data.

    Args:
        task: "regression" or "classification".
        level: Whether there is an answer per "step" or per "sequence".
        flat: Whether y had no axis of outputs.
        outputs: Number of outputs: targets or classes.
        output_names: Their names.
        classes: The labels, sorted; `None` for values.
        readout: Over how many last steps a sequence's answer is averaged; `None` with answers per step.
        time_unit: What timespans are divided by, seconds if they were given in seconds; `None` if none were given.
        span_range: Shortest and longest timespan seen; `None` likewise.
        x_range: Lowest and highest value of each feature, (2, features).
        y_range: Of each target, (2, outputs); for classes 0 and 1.
        rows: What the rows of a 2-D X are, "steps" or "sequences".
        example: Sequences of the training data, `EXAMPLE_STEPS` steps at most.
        next_sample: Whether it was trained without y, on the next sample.
        tail: Where the only sequence ended: the states, and what is forecast next; empty if there were several.
    """

    task: Literal["regression", "classification"]
    level: Literal["step", "sequence"]
    flat: bool
    outputs: int
    output_names: tuple[str, ...]
    classes: Array | None
    readout: int | None
    time_unit: float | None
    span_range: tuple[float, float] | None
    x_range: Array
    y_range: Array
    example: tuple[Array, ...]
    rows: str
    next_sample: bool
    tail: tuple[Array, ...] = ()

    @property
    def labels(self) -> bool:
        """Whether it tells classes apart."""
        return self.task == "classification"


def example_of(sequences: Sequences) -> tuple[Array, ...]:
    """The first sequences, cut where they become too many steps."""
    kept, left = [], EXAMPLE_STEPS
    for rows in sequences.samples:
        if left <= 0:
            break
        kept.append(np.ascontiguousarray(rows[:left]))
        left -= len(rows)
    return tuple(kept)


def range_of(parts: Sequence[Array]) -> Array:
    """Lowest and highest of each column, (2, columns)."""
    joined = np.concatenate(parts)
    return np.stack([joined.min(axis=0), joined.max(axis=0)]).astype(np.float64)


def weighted_moments(parts: Sequence[Array], weights: Sequence[Array]) -> tuple[Array, Array]:
    """Mean and standard deviation of each column; the deviation of a column that never changes is 1.

    Args:
        parts: Per sequence (steps, columns).
        weights: Per sequence (steps,) or (1,).
    """
    joined = np.concatenate(parts).astype(np.float64)
    shares = np.concatenate([np.broadcast_to(w, len(p)) for p, w in zip(parts, weights, strict=True)]).astype(float)
    mean = np.average(joined, axis=0, weights=shares)
    deviation = np.sqrt(np.average((joined - mean) ** 2, axis=0, weights=shares))
    constant = deviation <= 1e-6 * np.abs(mean)  # float32 resolves no less
    return mean, np.where(constant | (deviation == 0.0), 1.0, deviation)
