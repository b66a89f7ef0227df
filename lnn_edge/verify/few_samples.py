"""The inputs of a proof whose samples are costly: some dozens of different ones, over and over in long seeded orders.

An encoder has no state, so what it makes of a sample is the same whenever that sample comes: each judge computes it
once, and the closed loop of cores and heads runs over thousands of steps of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import Array
from ..bundle.encoder import is_costly
from ..bundle.program import StepProgram
from ..bundle.spec import Tensor, Time
from .excitation import excite, excite_again
from .samples import Excitation

__all__ = ["FEW", "excite_affordably", "excite_few", "excite_few_again"]

FEW = 16  # recorded samples, and random ones; a quarter of that of each other kind


def excite_affordably(
    step: StepProgram,
    tensors: Sequence[Tensor],
    time: Time,
    recorded: dict[str, list[Array]] | None,
    steps: int,
    *,
    unroll: int = 1,
    window: int | None = None,
    least: int,
) -> Excitation:
    """Build the samples of a proof: a sample for each step, or few of them where the encoder of the step is costly.

    Args:
        step: The step program.
        tensors: As for `excite`, and so are the others.
        time: How the model sees time.
        recorded: Per input a list of recordings, each (T, *shape), or `None`.
        steps: Steps of the recorded and of the random segment.
        unroll: Samples per call.
        window: Samples of a window, or `None`.
        least: Fewest steps that are a proof.

    Raises:
        ValueError: As `excite`.
    """
    # a constant stays the same in a sequence, which an order of samples does not
    chosen = excite_few if is_costly(step) and not any(t.constant for t in tensors) else excite
    return chosen(tensors, time, recorded, steps, unroll=unroll, window=window, least=least)


def excite_few(
    tensors: Sequence[Tensor],
    time: Time,
    recorded: dict[str, list[Array]] | None,
    steps: int,
    *,
    unroll: int = 1,
    window: int | None = None,
    least: int,
    seed: int = 0,
) -> Excitation:
    """Build samples as `excite` does, for as many steps, of few different ones.

    Each segment begins with all samples of its kind, once each, in a seeded order; the next order follows, and so on.
    Times and resets are those of `excite`. Calls of several samples stay together.

    Args:
        tensors: As for `excite`, and so are the others.
        time: How the model sees time.
        recorded: Per input a list of recordings, each (T, *shape), or `None`.
        steps: Steps of the recorded and of the random segment.
        unroll: Samples per call.
        window: Samples of a window, or `None`.
        least: Fewest steps that are a proof.
        seed: Seed of the random parts and of the orders.

    Raises:
        ValueError: As `excite`.
    """
    lengths = None if recorded is None else [len(rows) for rows in recorded[tensors[0].name]]
    numbers = None if lengths is None else {"number": [np.zeros((n, tensors[0].shape[0], 1)) for n in lengths]}
    stand_in = _number(tensors)
    long = excite((stand_in,), time, numbers, steps, unroll=unroll, window=window, least=least, seed=seed)
    spread = None if recorded is None else {name: [_spread(rows, unroll)] for name, rows in recorded.items()}
    few = excite(tensors, time, spread, FEW, unroll=unroll, least=1, seed=seed)
    return _over_and_over(few, long, unroll, seed)


def excite_few_again(
    tensors: Sequence[Tensor], time: Time, steps: int, *, unroll: int = 1, seed: int = 1
) -> Excitation:
    """Build samples as `excite_again` does, for as many steps, of few different ones.

    Args:
        tensors: The inputs.
        time: How the model sees time.
        steps: Steps of all segments together, a whole number of calls.
        unroll: Samples per call.
        seed: Seed.
    """
    long = excite_again((_number(tensors),), time, steps, unroll=unroll, seed=seed)
    few = excite_again(tensors, time, min(steps, 2 * FEW * unroll), unroll=unroll, seed=seed)
    return _over_and_over(few, long, unroll, seed)


def _number(tensors: Sequence[Tensor]) -> Tensor:
    """What stands for the samples of all inputs: a number for each row."""
    return Tensor("number", (tensors[0].shape[0], 1))


def _over_and_over(few: Excitation, long: Excitation, unroll: int, seed: int) -> Excitation:
    """The samples of one in the segments, at the times, with the resets of the other."""
    rng = np.random.default_rng(seed)
    kinds = {name: (start, stop) for name, start, stop in few.segments}
    usual = next(iter(kinds.values()))  # windows are of what was recorded, if anything was
    orders = [
        _drawn(rng, *kinds.get(name, usual), count=stop - start, unroll=unroll) for name, start, stop in long.segments
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
