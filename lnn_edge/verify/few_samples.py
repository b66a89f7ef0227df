"""The inputs of a proof whose samples are costly: some dozens of different ones, over and over in long seeded orders.

An encoder has no state, so what it makes of a sample is the same whenever that sample comes: each judge computes it
once, and the closed loop of cores and heads runs over thousands of steps of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..arrays import Array
from ..bundle.encoder import is_costly
from ..bundle.program import StepProgram
from ..bundle.spec import Tensor
from .excitation import excite, excite_again
from .few_beside_constants import few_again_beside_constants, few_beside_constants
from .samples import Excitation, SampleRequest

__all__ = ["FEW", "excite_affordably", "excite_few", "excite_few_again"]

FEW = 16  # recorded samples, and random ones; a quarter of that of each other kind


def excite_affordably(step: StepProgram, request: SampleRequest) -> Excitation:
    """Build the samples of a proof: a sample for each step, or few of them where the encoder of the step is costly.

    Raises:
        ValueError: As `excite`.
    """
    return (excite_few if is_costly(step) else excite)(request)


def excite_few(request: SampleRequest) -> Excitation:
    """Build samples as `excite` does, for as many steps, of few different ones.

    Each segment begins with all samples of its kind, once each, in a seeded order; the next order follows, and so on.
    Times and resets are those of `excite`. Calls of several samples stay together. Beside constants each sequence
    begins with samples of its own, see `few_beside_constants`.

    Raises:
        ValueError: As `excite`.
    """
    if any(t.constant for t in request.tensors):
        return few_beside_constants(request, FEW)
    recorded, rows = request.recorded, request.rows
    lengths = None if recorded is None else [len(own) for own in recorded[request.tensors[0].name]]
    numbers = None if lengths is None else {"number": [np.zeros((n, rows, 1)) for n in lengths]}
    long = excite(dataclasses.replace(request, tensors=(_number(rows),), recorded=numbers))
    spread = None if recorded is None else {name: [_spread(own, request.unroll)] for name, own in recorded.items()}
    few = excite(dataclasses.replace(request, recorded=spread, steps=FEW, window=None, least=1))
    return _over_and_over(few, long, request)


def excite_few_again(request: SampleRequest) -> Excitation:
    """Build samples as `excite_again` does, for as many steps, of few different ones."""
    if any(t.constant for t in request.tensors):
        return few_again_beside_constants(request, 2 * FEW * request.unroll)
    long = excite_again(dataclasses.replace(request, tensors=(_number(request.rows),)))
    few = excite_again(dataclasses.replace(request, steps=min(request.steps, 2 * FEW * request.unroll)))
    return _over_and_over(few, long, request)


def _number(rows: int) -> Tensor:
    """What stands for the samples of all inputs: a number for each row."""
    return Tensor("number", (rows, 1))


def _over_and_over(few: Excitation, long: Excitation, request: SampleRequest) -> Excitation:
    """The samples of one in the segments, at the times, with the resets of the other."""
    rng = np.random.default_rng(request.seed)
    kinds = {name: (start, stop) for name, start, stop in few.segments}
    usual = next(iter(kinds.values()))  # windows are of what was recorded, if anything was
    orders = [
        _drawn(rng, *kinds.get(name, usual), count=stop - start, unroll=request.unroll)
        for name, start, stop in long.segments
    ]
    return Excitation(few.inputs, long.dt, long.reset, long.segments, order=np.concatenate(orders))


def _spread(recordings: Sequence[Array], unroll: int) -> Array:
    """Calls spread over all recordings, one after the other, as many as there shall be samples."""
    calls = [rows[start : start + unroll] for rows in recordings for start in range(0, len(rows) - unroll + 1, unroll)]
    places = np.unique(np.linspace(0, len(calls) - 1, min(-(-FEW // unroll), len(calls))).astype(int))
    return np.concatenate([calls[place] for place in places])


def _drawn(rng: np.random.Generator, start: int, stop: int, *, count: int, unroll: int) -> Array:
    """Numbers of samples from `start` to `stop`, so many, in one order after the other."""
    calls = (stop - start) // unroll
    turns = -(-count // (calls * unroll))
    order = np.concatenate([rng.permutation(calls) for _ in range(turns)])[: count // unroll]
    numbers: Array = (start + order[:, None] * unroll + np.arange(unroll)).ravel()
    return numbers
