"""Which backend is the fastest for this bundle on this machine: found by stepping it on each, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["step_medians_us"]

_STEPS = 300  # of each: enough for a median, and over in milliseconds
_TURN = 20  # steps before it is the next one's turn: all see the same clock and the same other load
_LIMIT_NS = 200_000_000  # per backend, for models whose step takes milliseconds


def step_medians_us(steps: Sequence[Callable[[], object]]) -> list[float]:
    """Median duration of each step, microseconds.

    Args:
        steps: What to time; each does one step of a stream of its own. The first turn warms up and does not count.
    """
    for step in steps:
        _turn(step)
    durations: list[list[int]] = [[] for _ in steps]
    while any(len(own) < _STEPS and sum(own) < _LIMIT_NS for own in durations):
        for step, own in zip(steps, durations, strict=True):
            own += _turn(step)
    return [float(np.median(own)) / 1e3 for own in durations]


def _turn(step: Callable[[], object]) -> list[int]:
    durations: list[int] = []
    while len(durations) < _TURN and sum(durations) < _LIMIT_NS // 4:
        start = time.perf_counter_ns()
        step()
        durations.append(time.perf_counter_ns() - start)
    return durations
