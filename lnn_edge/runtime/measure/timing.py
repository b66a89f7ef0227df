"""Latency the way a control engineer believes: every step timed, percentiles with their sample count, and at a rate
each step measured from the moment it was due.

Back to back, one step follows the other; that is the best case, with warm caches. Paced, each step is due at a fixed
time (start + k * period), whatever happened before; when steps overrun, the delay of the ones behind them is counted
too (no coordinated omission). For every paced step:

    lateness = start - due         what the operating system's timer and earlier steps cost
    service  = end - start         what the step costs
    response = end - due           what the robot sees; a miss when it is longer than the deadline
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...bundle.golden import Golden
from ...bundle.manifest import DT_INPUT
from ...wording import choices
from ..closed_loop import as_caller
from ..model import Model
from ..sequence import blocks_from_samples

__all__ = [
    "PERCENTILES",
    "Distribution",
    "Paced",
    "back_to_back",
    "distribution",
    "first_step",
    "golden_steps",
    "paced",
]

Array = npt.NDArray[Any]
Step = Callable[[], object]

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_BEYOND = 10  # samples that must lie beyond a percentile for it to mean something
_BEHIND_NS = 1_000_000_000  # so long after its planned end a paced run ends all the same: the rate cannot be kept
_SPIN_NS = 200_000  # with wait="spin" the last stretch before a due time is spun: longer than a timer's usual slack


@dataclass(frozen=True)
class Distribution:
    """A set of durations.

    Args:
        samples: Number of durations.
        min_us, max_us: Smallest and largest, microseconds.
        percentiles_us: By name ("p50", "p99.9"), microseconds; `None` where there are too few samples for it.
    """

    samples: int
    min_us: float
    max_us: float
    percentiles_us: dict[str, float | None]


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


def distribution(durations_ns: Array) -> Distribution:
    """Summarise durations in nanoseconds; a percentile needs at least ten samples beyond it.

    Raises:
        ValueError: If there is no sample.
    """
    ordered = np.sort(np.asarray(durations_ns, np.int64))
    if len(ordered) == 0:
        raise ValueError("no step was measured, so there is nothing to report")

    def percentile(p: float) -> float | None:
        beyond = round(len(ordered) * (100.0 - p) / 100.0, 6)
        rank = int(np.ceil(len(ordered) * p / 100.0)) - 1
        return float(ordered[rank]) / 1e3 if beyond >= _BEYOND else None

    return Distribution(
        samples=len(ordered),
        min_us=float(ordered[0]) / 1e3,
        max_us=float(ordered[-1]) / 1e3,
        percentiles_us={f"p{p:g}": percentile(p) for p in PERCENTILES},
    )


def golden_steps(model: Model, golden: Golden) -> Step:
    """A function that steps a fresh stream through the golden samples, over and over; inputs are ready beforehand.

    With `unroll` it steps through blocks of them.
    """
    manifest, step = model.manifest, model.stream().step
    calls = golden.steps // manifest.unroll
    names = [t.name for t in model.inputs]
    columns = {name: list(as_caller(golden.inputs[name], manifest)) for name in names}
    samples: list[Any] = columns[names[0]]
    if len(names) > 1:
        samples = [{name: columns[name][k] for name in names} for k in range(calls)]
    dts = None
    if DT_INPUT in golden.inputs:
        dts = list(blocks_from_samples(golden.inputs[DT_INPUT], manifest.unroll)[..., 0])
        if manifest.batch * manifest.unroll == 1:
            dts = [float(dt[0, 0]) for dt in dts]
    turns = _cycle(calls)
    if dts is None:
        return lambda: step(samples[next(turns)])

    def timed() -> object:
        k = next(turns)
        return step(samples[k], dt_s=dts[k])

    return timed


def _cycle(length: int) -> Iterator[int]:
    return (k % length for k in count())


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
