"""Histogram of durations in fixed memory, for loops that run for weeks."""

from __future__ import annotations

import math

from .durations import PERCENTILES, Distribution

__all__ = ["Histogram"]

_BITS = 7  # of a value that count: its bucket is at most a 128th of it wide
_PART = 1 << _BITS
_LARGEST = (1 << 50) - 1  # ns, 13 days: what is longer counts as this
_BEYOND = 10  # samples that must lie beyond a percentile for it to mean something, as in `durations`


class Histogram:
    """Counts durations in buckets whose width is at most 0.8 % of the value, exact below 256 ns.

    `add` takes the same time and memory however many there were, so a loop may call it for ever. One thread adds;
    another may read meanwhile, and sees some of them.

    Attributes:
        samples: How many durations there were.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._counts = [0] * (_place(_LARGEST) + 1)
        self._min = _LARGEST
        self._max = 0

    def add(self, duration_ns: int) -> None:
        """Count one duration, nanoseconds; one below 0 counts as 0."""
        own = min(max(duration_ns, 0), _LARGEST)
        self._counts[_place(own)] += 1
        self.samples += 1
        if own < self._min:
            self._min = own
        if own > self._max:
            self._max = own

    def distribution(self) -> Distribution | None:
        """What was counted; percentiles are the upper ends of their buckets. `None` where there was nothing."""
        if not self.samples:
            return None
        return Distribution(
            samples=self.samples,
            min_us=self._min / 1e3,
            max_us=self._max / 1e3,
            percentiles_us={f"p{p:g}": self._percentile(p) for p in PERCENTILES},
        )

    def _percentile(self, p: float) -> float | None:
        if round(self.samples * (100.0 - p) / 100.0, 6) < _BEYOND:
            return None
        rank, seen = math.ceil(self.samples * p / 100.0), 0
        for place, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return min(_highest(place), self._max) / 1e3
        return self._max / 1e3  # another thread is adding


def _place(value: int) -> int:
    """The bucket of a value: the value itself up to twice `_PART`, then `_PART` buckets for each power of two."""
    shift = value.bit_length() - _BITS - 1
    return value if shift <= 0 else shift * _PART + (value >> shift)


def _highest(place: int) -> int:
    """The largest value of a bucket."""
    if place < 2 * _PART:
        return place
    shift = place // _PART - 1
    return ((place - shift * _PART + 1) << shift) - 1
