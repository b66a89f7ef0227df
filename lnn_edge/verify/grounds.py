"""Grounds on which a model can be proven: samples of every kind, those inside the recorded range, recorded ones alone.

A model may have no result beyond what it is made for: the root of a negative number, the direction of a sample of
zeros. Samples that a proof makes up are then drawn more narrowly, and what was recorded has the last word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from ..arrays import Array
from ..bundle.spec import Tensor
from .samples import Excitation
from .tolerance import EXTREME

__all__ = ["finite_ground", "is_finite"]

_T = TypeVar("_T")
_MADE = ("random", "constant", "step", EXTREME)  # the segments whose samples nobody recorded
_HELD = 16  # samples of a level of the stepped segment
_ENDS = 8  # recorded samples with the lowest and highest values, of which the extreme segment is made
_INSIDE, _ALONE = "inside the range of the recorded samples", "on recorded samples alone"


def finite_ground(
    samples: Excitation,
    tensors: Sequence[Tensor],
    recorded: Mapping[str, Sequence[Array]] | None,
    computed: Callable[[Excitation], tuple[Mapping[str, Array], _T]],
) -> tuple[Excitation, tuple[Mapping[str, Array], _T], str]:
    """The widest samples on which the results are finite; those that were given, where none are.

    Args:
        samples: The samples.
        tensors: The inputs.
        recorded: Per input recordings, (T, *shape) each; `None` without: then there is no other ground.
        computed: What a model gives for samples: its results, which must be finite, and something beside.

    Returns:
        The samples, what was computed for them, and in words where they lie; "" for those that were given.
    """
    first = computed(samples)
    if recorded is None or is_finite(first[0]) or not _is_made(samples, first[0]):
        return samples, first, ""
    for ground, others in _narrower(samples, tensors, recorded):
        found = computed(others)
        if is_finite(found[0]):
            return others, found, ground
    return samples, first, ""


def is_finite(results: Mapping[str, Array]) -> bool:
    """Whether all numbers are."""
    return all(bool(np.isfinite(value).all()) for value in results.values())


def _is_made(samples: Excitation, results: Mapping[str, Array]) -> bool:
    """Whether all that is not finite comes of samples that nobody recorded."""
    known = [slice(start, stop) for name, start, stop in samples.segments if name not in _MADE]
    return all(bool(np.isfinite(value[part]).all()) for value in results.values() for part in known)


def _narrower(
    samples: Excitation, tensors: Sequence[Tensor], recorded: Mapping[str, Sequence[Array]]
) -> Iterator[tuple[str, Excitation]]:
    whole = {tensor.name: np.concatenate(recorded[tensor.name]) for tensor in tensors}
    yield _INSIDE, _replaced(samples, tensors, lambda kind, rng, places: _inside(kind, rng, places, tensors, whole))
    yield _ALONE, _replaced(samples, tensors, lambda kind, rng, places: _alone(kind, rng, places, whole))


def _replaced(
    samples: Excitation,
    tensors: Sequence[Tensor],
    drawn: Callable[[str, np.random.Generator, Array], Mapping[str, Array]],
) -> Excitation:
    """With other samples in the segments that nobody recorded; a constant stays the same in a sequence."""
    inputs, rng = {name: value.copy() for name, value in samples.inputs.items()}, np.random.default_rng(0)
    for name, start, stop in samples.segments:
        if name not in _MADE:
            continue
        places = np.arange(start, stop) if samples.order is None else np.unique(samples.order[start:stop])
        others = drawn(name, rng, places)
        for tensor in tensors:
            values = others[tensor.name]
            if tensor.constant:
                values = _as_often(values, samples.inputs[tensor.name][places])
            inputs[tensor.name][places] = values
    return dataclasses.replace(samples, inputs=inputs)


def _as_often(values: Array, before: Array) -> Array:
    """Other values of a constant, the same ones where it was the same before."""
    _, first, same = np.unique(before.reshape(len(before), -1), axis=0, return_index=True, return_inverse=True)
    chosen: Array = values[first][np.reshape(same, -1)]
    return chosen


def _inside(
    kind: str, rng: np.random.Generator, places: Array, tensors: Sequence[Tensor], whole: Mapping[str, Array]
) -> dict[str, Array]:
    """Numbers anywhere between the lowest and the highest that is legal, or else was recorded, of each column."""
    drawn = {}
    for tensor in tensors:
        rows = whole[tensor.name]
        if tensor.dtype != "float32":  # drawn among those that are legal
            drawn[tensor.name] = rows[rng.integers(len(rows), size=len(places))]
            continue
        axes = tuple(range(rows.ndim - 1)) if len(tensor.shape) == 2 else None
        low, high = rows.min(axis=axes).astype(np.float64), rows.max(axis=axes).astype(np.float64)
        if tensor.features:
            limits = [f.limits or (a, b) for f, a, b in zip(tensor.features, low, high, strict=True)]
            low, high = (np.array(side, np.float64) for side in zip(*limits, strict=True))
        share = _shares(kind, rng, (len(places), *tensor.shape))
        values = np.clip(low + (high - low) * share, low, high)
        drawn[tensor.name] = np.clip(values.astype(rows.dtype), low.astype(rows.dtype), high.astype(rows.dtype))
    return drawn


def _shares(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Where numbers lie in their range, 0 to 1."""
    if kind == "constant":
        return np.broadcast_to(rng.random(shape[1:]), shape)
    if kind == "step":
        return np.repeat(rng.random((-(-shape[0] // _HELD), *shape[1:])), _HELD, axis=0)[: shape[0]]
    shares = rng.random(shape)
    if kind == EXTREME:
        shares = np.rint(shares)
        shares[1::2] = 0.5
    return shares


def _alone(kind: str, rng: np.random.Generator, places: Array, whole: Mapping[str, Array]) -> dict[str, Array]:
    """Recorded samples in another order, those of all inputs as they came together."""
    count = len(next(iter(whole.values())))
    chosen = rng.integers(count, size=len(places))
    if kind == "constant":
        chosen = np.full(len(places), chosen[0])
    elif kind == "step":
        chosen = np.repeat(chosen[::_HELD], _HELD)[: len(places)]
    elif kind == EXTREME:
        chosen = rng.choice(_outermost(whole), size=len(places))
    return {name: rows[chosen] for name, rows in whole.items()}


def _outermost(whole: Mapping[str, Array]) -> Array:
    """Recorded samples that hold the lowest and the highest values of some columns."""
    flat = np.concatenate([rows.reshape(len(rows), -1) for rows in whole.values()], axis=1)
    return np.unique([*flat.argmin(axis=0)[:_ENDS], *flat.argmax(axis=0)[:_ENDS]])
