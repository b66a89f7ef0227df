"""Timing of steps, back to back and at a rate, the way a control engineer believes.

Every step is timed, and percentiles come with their sample count. Back to back, one step follows the other; that is the
best case, with warm caches. Paced, each step is due at a fixed time (start + k * period), whatever happened before, and
measured from that moment; when steps overrun, the delay of the ones behind them is counted too (no coordinated
omission). For every paced step:

    lateness = start - due         what the operating system's timer and earlier steps cost
    service  = end - start         what the step costs
    response = end - due           what the robot sees; a miss when it is longer than the deadline
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...wording import choices
from ..closed_loop import Step
from .durations import Distribution, distribution

__all__ = [
    "Paced",
    "back_to_back",
    "first_step",
    "paced",
]


_BEHIND_NS = 1_000_000_000  # so long after its planned end a paced run ends all the same: the rate cannot be kept
_SPIN_NS = 200_000  # with wait="spin" the last stretch before a due time is spun: longer than a timer's usual slack


@dataclass(frozen=True)
class Paced:
    """A paced run.

    Args:
        rate_hz: Steps per second that were due.
        deadline_us: Longest response that is no miss.
        wait: "sleep" or "spin".
        lateness, service, response: See the module's text.
        planned: Steps that were due; more than were run if the run was interrupted, or fell too far behind its rate.
        misses: Steps whose response was longer than the deadline; without those that were never run.
        interrupted: Whether the run was stopped before its end.
    """

    rate_hz: float
    deadline_us: float
    wait: str
    lateness: Distribution
    service: Distribution
    response: Distribution
    planned: int
    misses: int
    interrupted: bool


def first_step(step: Step) -> float:
    """Duration of the first call, microseconds: it pays for lazy set-up and cold caches."""
    start = time.perf_counter_ns()
    step()
    return (time.perf_counter_ns() - start) / 1e3


def back_to_back(step: Step, steps: int, warmup: int, progress: Callable[[int], None]) -> tuple[Distribution, bool]:
    """Time `steps` calls one after the other.

    Args:
        step: What to time.
        steps: Number of calls, >= 1.
        warmup: Calls before that are not counted, >= 0.
        progress: Called with the number of calls done, between two of them now and then.

    Returns:
        The distribution, and whether Ctrl-C ended the run early.

    Raises:
        KeyboardInterrupt: On Ctrl-C before the first call was timed.
    """
    now = time.perf_counter_ns
    durations = np.zeros(steps, np.int64)
    done = 0
    try:
        for _ in range(warmup):
            step()
        for done in range(steps):
            start = now()
            step()
            durations[done] = now() - start
            if done % 1024 == 0:
                progress(done)
        done = steps
    except KeyboardInterrupt:
        if done == 0:
            raise
        return distribution(durations[:done]), True
    return distribution(durations), False


def paced(
    step: Step,
    rate_hz: float,
    steps: int,
    *,
    deadline_us: float | None = None,
    wait: Literal["sleep", "spin"] = "sleep",
    progress: Callable[[int], None],
) -> Paced:
    """Time calls that are due at a fixed rate.

    At a rate that the step cannot keep, each is later than the one before. Such a run ends a second after the last
    call was due, with the calls that were made by then.

    Args:
        step: What to time.
        rate_hz: Calls per second, > 0.
        steps: Number of calls, >= 1.
        deadline_us: Longest response that is no miss, microseconds; default one period.
        wait: "sleep" gives the CPU back between steps, as most control loops do; "spin" keeps it for the last 200
            microseconds, which removes the timer's share of the lateness.
        progress: Called with the number of calls done, now and then, outside what is timed.

    Raises:
        ValueError: If the rate or the way of waiting is not valid.
        KeyboardInterrupt: On Ctrl-C before the first call was timed.
    """
    if not rate_hz > 0 or not np.isfinite(rate_hz):
        raise ValueError(f"the rate is {rate_hz}, expected a number of steps per second above 0")
    if wait not in ("sleep", "spin"):
        raise ValueError(f"`wait` is '{wait}'. {choices(wait, ['sleep', 'spin'])}")
    period_ns = 1e9 / rate_hz
    limit_ns = period_ns if deadline_us is None else deadline_us * 1e3
    due, starts, ends = (np.zeros(steps, np.int64) for _ in range(3))
    done, interrupted = 0, False
    report_every = max(1, min(int(rate_hz // 4), 4096))
    origin = time.perf_counter_ns() + int(period_ns)
    give_up = origin + int(steps * period_ns) + _BEHIND_NS
    try:
        for done in range(steps):
            target = origin + int(done * period_ns)
            starts[done] = _wait_until(target, wait)
            step()
            ends[done] = time.perf_counter_ns()
            due[done] = target
            if done % report_every == 0:
                progress(done)
            if ends[done] > give_up:
                break
        done += 1
    except KeyboardInterrupt:
        if done == 0:
            raise
        interrupted = True
    due, starts, ends = due[:done], starts[:done], ends[:done]
    response = ends - due
    return Paced(
        rate_hz=rate_hz,
        deadline_us=limit_ns / 1e3,
        wait=wait,
        lateness=distribution(starts - due),
        service=distribution(ends - starts),
        response=distribution(response),
        planned=steps,
        misses=int(np.count_nonzero(response > limit_ns)),
        interrupted=interrupted,
    )


def _wait_until(target_ns: int, wait: str) -> int:
    """Wait for a time on the perf_counter clock and return when the wait really ended."""
    margin = _SPIN_NS if wait == "spin" else 0
    now = time.perf_counter_ns()
    if target_ns - now > margin:
        time.sleep((target_ns - now - margin) / 1e9)
    now = time.perf_counter_ns()
    while now < target_ns:
        now = time.perf_counter_ns()
    return now
