"""Metadata of a fitted network: the meaning of its columns and outputs, and arrays by name with a sample of the data.

The arrays are "x_range" and "y_range", (2, columns), lowest and highest of each feature and of each output, of classes
0 and 1; "x_center" and "y_center", (columns,), if float32 is too coarse for the data: what is subtracted from features
and targets in float64, before the network and all that follows see them; "example.0", ..., sequences of the training
data, `EXAMPLE_STEPS` steps at most; and "tail.0", ..., where the only sequence ended: the states, and last what is
forecast next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from ...arrays import Array
from .sequences import Sequences

__all__ = ["CENTERS", "EXAMPLE_STEPS", "Metadata", "example_of", "numbered", "range_of", "weighted_moments"]

CENTERS = ("x_center", "y_center")
_T = TypeVar("_T")
EXAMPLE_STEPS = 2048  # samples kept for the proof of an export, which steps through at most about a thousand


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Facts from the training data, as files hold them.

    Args:
        task: "regression" or "classification".
        level: Whether there is a target per "step" or per "sequence".
        flat: Whether y had no axis of outputs.
        outputs: Number of outputs: targets or classes.
        output_names: Their names.
        classes: The labels, sorted; `None` for values.
        classes_dtype: Of the labels as NumPy array; `None` likewise.
        readout: Over how many last steps a sequence's target is averaged; `None` with targets per step.
        time_unit: What timespans are divided by, seconds if they were given in seconds; `None` if none were given.
        span_range: Shortest and longest timespan seen; `None` likewise.
        rows: What the rows of a 2-D X are, "steps" or "sequences".
        next_sample: Whether it was trained without y, on the next sample.
        examples: Number of arrays "example".
        tails: Number of arrays "tail"; 0 if there were several sequences, or targets.
        framed: Whether the targets came in frames or series, and predictions for frames are such.
    """

    task: Literal["regression", "classification"]
    level: Literal["step", "sequence"]
    flat: bool
    outputs: int
    output_names: tuple[str, ...]
    classes: list[Any] | None
    classes_dtype: str | None
    readout: int | None
    time_unit: float | None
    span_range: tuple[float, float] | None
    rows: str
    next_sample: bool
    examples: int
    tails: int = 0
    framed: bool = False

    @property
    def labels(self) -> bool:
        """Whether the outputs are classes."""
        return self.task == "classification"

    def class_array(self) -> Array | None:
        """The labels, (outputs,), with the dtype that they had in y; `None` for values."""
        return None if self.classes is None else np.array(self.classes, self.classes_dtype)

    def example(self, arrays: Mapping[str, Array]) -> list[Array]:
        """Sequences of the training data, (steps, features) each."""
        return [arrays[f"example.{k}"] for k in range(self.examples)]

    def tail(self, arrays: Mapping[str, Array]) -> list[Array]:
        """The states at the end of the only sequence, (1, units) each, and the outputs there, (1, outputs)."""
        return [arrays[f"tail.{k}"] for k in range(self.tails)]

    def named(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Of the arrays in a file, those that belong to it.

        Raises:
            KeyError: If one is missing.
        """
        ranges = {name: arrays[name] for name in ("x_range", "y_range")}
        ranges |= {name: arrays[name] for name in CENTERS if name in arrays}
        return ranges | numbered("example", self.example(arrays)) | numbered("tail", self.tail(arrays))


def numbered(name: str, parts: Sequence[_T]) -> dict[str, _T]:
    """Arrays, or what is said of them, by name and number."""
    return {f"{name}.{k}": part for k, part in enumerate(parts)}


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
