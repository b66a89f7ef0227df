"""The closed loop in which torch and the reference step a model: rows, samples and resets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ...arrays import Array
from ...verify.samples import Excitation
from .protocol import Lowerable, Results

__all__ = ["closed_loop", "one_by_one"]

_State = TypeVar("_State")


def one_by_one(batch: int) -> list[slice]:
    """Every row by itself, as ncps is right about time for one row only."""
    return [slice(row, row + 1) for row in range(batch)]


def closed_loop(
    model: Lowerable,
    samples: Excitation,
    rows: Sequence[slice],
    dtype: npt.DTypeLike,
    begin: Callable[[], _State],
    one_sample: Callable[[int, slice, _State], tuple[Sequence[Array], _State]],
) -> Results:
    """Step a model through samples with its own state fed back.

    Args:
        model: What its outputs and states are.
        samples: The samples.
        rows: Which rows go through together, one group after the other.
        dtype: Of the results.
        begin: Makes the state that a sequence starts from.
        one_sample: From the number of a sample, the rows and the state before it to the values of all outputs and
            states, (rows, ...) each, and the state after it.
    """
    shapes = {t.name: t.shape for t in model.outputs} | {s.output: s.shape for s in model.states}
    results = {name: np.empty((samples.steps, *shape), dtype) for name, shape in shapes.items()}
    for group in rows:
        state = begin()
        for k in range(samples.steps):
            values, state = one_sample(k, group, begin() if samples.reset[k] else state)
            for result, value in zip(results.values(), values, strict=True):
                result[k, group] = value
    return results
