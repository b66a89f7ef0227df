"""The closed loop in which torch steps a model: rows, samples and resets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch

from ...arrays import Array
from ...verify.samples import Excitation
from .protocol import Results, Steppable

__all__ = ["closed_loop"]

_State = TypeVar("_State")


def closed_loop(
    model: Steppable,
    samples: Excitation,
    begin: Callable[[list[torch.Tensor] | None], _State],
    one_sample: Callable[[int, slice, _State], tuple[Sequence[Array], _State]],
) -> Results:
    """Step a model through samples with its own state fed back: row by row, as ncps is right about time for one only.

    Args:
        model: What its outputs and states are.
        samples: The samples.
        begin: Makes the state that a sequence starts from, of given tensors, (rows, width) each, or of its own.
        one_sample: From the number of a sample, the rows and the state before it to the values of all outputs and
            states, (rows, ...) each, and the state after it.
    """
    shapes = {t.name: t.shape for t in model.outputs} | {s.output: s.shape for s in model.states}
    results = {name: np.empty((samples.steps, *shape), np.float32) for name, shape in shapes.items()}
    for group in (slice(row, row + 1) for row in range(model.batch)):
        state = begin(None)
        for k in range(samples.steps):
            values, state = one_sample(k, group, begin(_given(model, samples, k, group)) if samples.reset[k] else state)
            for result, value in zip(results.values(), values, strict=True):
                result[k, group] = value
    return results


def _given(model: Steppable, samples: Excitation, k: int, rows: slice) -> list[torch.Tensor] | None:
    if samples.start is None:
        return None
    return [torch.from_numpy(samples.start[pair.input][k, rows].copy()) for pair in model.states]
