"""Few samples over and over where inputs are given once per sequence: each sequence has some of the samples.

What an encoder makes of a sample depends on the constants too, so what counts is how many pairs there are. A sequence
brings fewer the shorter it is; taken together, sequences of one kind bring all samples of that kind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ..arrays import Array
from ..bundle.spec import Tensor
from .excitation import excite, excite_again
from .samples import Excitation, SampleRequest

__all__ = ["few_again_beside_constants", "few_beside_constants"]

_PLACE = "/recording"  # an input beside the constants: the number of the recording that a sequence comes from
_STEPS_OF_A_PAIR = 16  # steps of a sequence for each of its samples
_FEWEST = 2  # calls of a sequence that differ

Recordings = Mapping[str, Sequence[Array]]


def few_beside_constants(request: SampleRequest, count: int) -> Excitation:
    """Build samples, resets, times and constants as `excite` does, of few different samples.

    Args:
        request: What is asked for; some of its inputs are constants.
        count: Samples of each kind; of recordings some of each, with its constants.

    Raises:
        ValueError: As `excite`.
    """
    streamed, sequences = _streamed(request), _sequences(request)
    if request.recorded is None:
        long = excite(sequences)
        return _paired(excite(_few(request, None, count)), long, request, {})
    spread = _spread({t.name: request.recorded[t.name] for t in streamed}, count, request.unroll)
    lengths = [len(rows) for rows in spread[streamed[0].name]]
    few = excite(_few(request, spread, max(count, sum(lengths))))
    stops = np.cumsum(lengths).tolist()
    own = {place: (stop - length, stop) for place, (stop, length) in enumerate(zip(stops, lengths, strict=True))}
    return _paired(few, excite(sequences), request, own)


def few_again_beside_constants(request: SampleRequest, count: int) -> Excitation:
    """Build samples as `excite_again` does, with its resets, times and constants, of few different samples."""
    few = dataclasses.replace(request, tensors=_streamed(request), steps=min(request.steps, count))
    return _paired(excite_again(few), excite_again(_sequences(request)), request, {})


def _streamed(request: SampleRequest) -> list[Tensor]:
    return [t for t in request.tensors if not t.constant]


def _few(request: SampleRequest, spread: dict[str, list[Array]] | None, steps: int) -> SampleRequest:
    return dataclasses.replace(request, tensors=_streamed(request), recorded=spread, steps=steps, window=None, least=1)


def _sequences(request: SampleRequest) -> SampleRequest:
    """The same without samples: where sequences begin, their constants, and the recordings that they come from."""
    constants, recorded = [t for t in request.tensors if t.constant], None
    if request.recorded is not None:
        lengths = [len(rows) for rows in request.recorded[constants[0].name]]
        places = [np.full((length, request.rows, 1), float(place)) for place, length in enumerate(lengths)]
        recorded = {_PLACE: places} | {t.name: request.recorded[t.name] for t in constants}
    place = Tensor(_PLACE, (request.rows, 1))
    return dataclasses.replace(request, tensors=(place, *constants), recorded=recorded)


def _spread(recorded: Recordings, count: int, unroll: int) -> dict[str, list[Array]]:
    """Calls spread over each recording, one after the other; none of one that fills no call."""
    recordings = len(next(iter(recorded.values())))
    calls = max(_FEWEST, -(-count // (recordings * unroll)))
    return {name: [_calls_of(rows, calls, unroll) for rows in own] for name, own in recorded.items()}


def _calls_of(rows: Array, calls: int, unroll: int) -> Array:
    there = len(rows) // unroll
    places = np.unique(np.linspace(0, there - 1, min(calls, there)).astype(int))
    picked: Array = rows[(places[:, None] * unroll + np.arange(unroll)).ravel()]
    return picked


class _Pairs:
    """Samples, each with the constants of a sequence, numbered as they come."""

    def __init__(self, few: Excitation, constants: Sequence[Tensor], unroll: int) -> None:
        self._few, self._constants, self._unroll = few, constants, unroll
        self._known: dict[tuple[int, bytes], int] = {}
        self._given: list[dict[str, Array]] = []

    def number(self, call: int, given: dict[str, Array]) -> int:
        """The number of a call, of `unroll` samples, beside these constants."""
        key = call, b"".join(given[t.name].tobytes() for t in self._constants)
        if key not in self._known:
            self._known[key] = len(self._known)
            self._given.append(given)
        return self._known[key]

    def inputs(self) -> dict[str, Array]:
        """All of them, in the order of their numbers, sample by sample."""
        calls = np.array([call for call, _ in self._known])
        index = (calls[:, None] * self._unroll + np.arange(self._unroll)).ravel()
        repeated = {
            t.name: np.repeat(np.stack([own[t.name] for own in self._given]), self._unroll, axis=0)
            for t in self._constants
        }
        return {name: value[index] for name, value in self._few.inputs.items()} | repeated


def _paired(
    few: Excitation, long: Excitation, request: SampleRequest, recordings: Mapping[int, tuple[int, int]]
) -> Excitation:
    """The samples of one in the sequences of the other; `recordings` says where the samples of each recording lie."""
    rng, unroll = np.random.default_rng(request.seed), request.unroll
    constants = [t for t in request.tensors if t.constant]
    pairs, kinds, orders = _Pairs(few, constants, unroll), {n: (start, stop) for n, start, stop in few.segments}, []
    for name, start, stop in long.segments:
        taken = 0
        for part in long.pick(np.arange(start, stop)).sequences():
            first, steps = start + part.start, part.stop - part.start
            pool = np.arange(*(at // unroll for at in kinds.get(name, kinds["random"])))
            if recordings and name in ("recorded", "windows"):
                place = int(long.inputs[_PLACE][first].flat[0])
                pool = np.arange(*(at // unroll for at in recordings[place]))
            count = min(len(pool), max(_FEWEST, -(-steps // (_STEPS_OF_A_PAIR * unroll))))
            own = np.roll(pool, -taken)[:count]  # the next sequence goes on where this one ends
            taken += count
            given = {t.name: long.inputs[t.name][first] for t in constants}
            numbers = np.array([pairs.number(int(call), given) for call in own])
            orders.append(_over_and_over(rng, numbers, steps // unroll))
    order = (np.concatenate(orders)[:, None] * unroll + np.arange(unroll)).ravel()
    inputs = pairs.inputs()
    in_order = {t.name: inputs[t.name] for t in request.tensors}
    return Excitation(in_order, long.dt, long.reset, long.segments, order=order)


def _over_and_over(rng: np.random.Generator, numbers: Array, calls: int) -> Array:
    """So many of these numbers: all in a seeded order, then in another."""
    order: Array = np.concatenate([rng.permutation(numbers) for _ in range(-(-calls // len(numbers)))])[:calls]
    return order
