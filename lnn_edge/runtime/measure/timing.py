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

import numpy as np

from ..closed_loop import Step
from ..figures.durations import Distribution, distribution
from ..loop.pacing import Schedule
from ..loop.timer import SystemTimer, Timer
from ..loop.waiting import Wait, Waiting, way_of

__all__ = ["Paced", "PacedPart", "back_to_back", "first_step", "paced"]


_BEHIND_NS = 1_000_000_000  # so long after its planned end a paced run ends all the same: the rate cannot be kept


@dataclass(frozen=True)
class Paced:
    """A paced run.

    Args:
        rate_hz: Steps per second that were due.
        deadline_us: Longest response that is no miss.
        wait: "sleep", "spin" or "rehearse".
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
    wait: Wait = "sleep",
    rehearse: Callable[[], object] | None = None,
    progress: Callable[[int], None],
    timer: Timer | None = None,
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
            microseconds, which removes the timer's share of the lateness; "rehearse" makes a step for practice before
            each, see `lnn_edge.runtime.loop.rehearsal`.
        rehearse: With "rehearse" what that is: a step that changes nothing of the stream that is timed.
        progress: Called with the number of calls done, now and then, outside what is timed.
        timer: The clock; `None` for the machine's.

    Raises:
        ValueError: If the rate or the way of waiting is not valid.
        KeyboardInterrupt: On Ctrl-C before the first call was timed.
    """
    if not rate_hz > 0 or not np.isfinite(rate_hz):
        raise ValueError(f"the rate is {rate_hz}, expected a number of steps per second above 0")
    clock = SystemTimer() if timer is None else timer
    part = PacedPart(steps)
    interrupted = part.run(step, rate_hz, steps, way_of(wait, clock, rate_hz, rehearse), clock, progress)
    return part.paced(rate_hz, deadline_us, wait, interrupted)


class PacedPart:
    """Times of paced calls, which may be made in several turns.

    Args:
        steps: How many calls are planned, >= 1.

    Attributes:
        done: How many were made.
    """

    def __init__(self, steps: int) -> None:
        self._times = np.zeros((3, steps), np.int64)  # due, start, end
        self._planned, self.done = steps, 0

    def run(
        self, step: Step, rate_hz: float, steps: int, way: Waiting, timer: Timer, progress: Callable[[int], None]
    ) -> bool:
        """Make one turn of so many calls; return whether Ctrl-C ended it.

        Raises:
            KeyboardInterrupt: On Ctrl-C before the first call of all turns.
        """
        due, starts, ends = self._times
        now, until = timer.monotonic_ns, way.until
        schedule = Schedule(rate_hz, now() + int(1e9 / rate_hz))
        report_every = max(1, min(int(rate_hz // 4), 4096))
        give_up = schedule.due(steps) + _BEHIND_NS
        try:
            for k, place in enumerate(range(self.done, self.done + steps)):
                target = schedule.due(k)
                start = until(target)
                step()
                end = now()
                due[place], starts[place], ends[place] = target, start, end  # behind what is timed: it costs as much
                self.done = place + 1
                if k % report_every == 0:
                    progress(place)
                if end > give_up:
                    break
        except KeyboardInterrupt:
            if self.done == 0:
                raise
            return True
        return False

    def paced(self, rate_hz: float, deadline_us: float | None, wait: str, interrupted: bool) -> Paced:
        """What all turns come to."""
        limit_ns = 1e9 / rate_hz if deadline_us is None else deadline_us * 1e3
        due, starts, ends = self._times[:, : self.done]
        response = ends - due
        return Paced(
            rate_hz=rate_hz,
            deadline_us=limit_ns / 1e3,
            wait=wait,
            lateness=distribution(starts - due),
            service=distribution(ends - starts),
            response=distribution(response),
            planned=self._planned,
            misses=int(np.count_nonzero(response > limit_ns)),
            interrupted=interrupted,
        )
