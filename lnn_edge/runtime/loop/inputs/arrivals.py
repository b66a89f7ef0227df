"""Arrivals of samples that pace a loop: when the next one is to come, and a rehearsal that ends before it."""

from __future__ import annotations

from collections import deque

from ..rehearsal import Rehearsal
from ..source import Sample, Source, read_from
from ..timer import Timer
from ..waiting import SHARE

__all__ = ["Arrivals", "next_sample"]

_KEPT = 64  # intervals
_LEAST = 16  # of them, before any is predicted
_EVERY = 16  # samples from one look at them to the next
_SCATTER = 0.2  # of the median, between what a tenth is below and what a tenth is above: beyond it nothing is predicted


class Arrivals:
    """Predicts the next arrival by the median of the last 64 intervals, where they scatter by at most 20 %."""

    def __init__(self) -> None:
        self._intervals: deque[int] = deque(maxlen=_KEPT)
        self._last_ns: int | None = None
        self._seen = 0
        self._median_ns: int | None = None

    def note(self, at_ns: int) -> None:
        """Take the time of an arrival on the monotonic clock."""
        if self._last_ns is not None:
            self._intervals.append(at_ns - self._last_ns)
            self._seen += 1
            if self._seen % _EVERY == 0:
                self._median_ns = self._find()
        self._last_ns = at_ns

    @property
    def interval_ns(self) -> int:
        """The time between two samples, nanoseconds; 0 where it cannot be told."""
        return self._median_ns or 0

    @property
    def next_ns(self) -> int | None:
        """When the next sample is to come; `None` where that cannot be told."""
        if self._last_ns is None or self._median_ns is None:
            return None
        return self._last_ns + self._median_ns

    def _find(self) -> int | None:
        ordered = sorted(self._intervals)
        count = len(ordered)
        median = ordered[count // 2]
        spread = ordered[(count - 1) * 9 // 10] - ordered[(count - 1) // 10]
        return median if count >= _LEAST and spread <= _SCATTER * median else None


def next_sample(
    source: Source, timeout_s: float, timer: Timer, arrivals: Arrivals, rehearsal: Rehearsal | None
) -> Sample | None:
    """Read a source, and rehearse shortly before its next sample is to come.

    A sample that arrives during a rehearsal waits for at most one step of it, and is counted. From the rehearsal to a
    lead behind the predicted time the source is asked again and again without a wait; then it is waited for as usual.
    Where samples come so fast that the lead is more than a tenth of the time between them nothing is rehearsed, but now
    and then to see whether the lead has become shorter.

    Args:
        source: What to read.
        timeout_s: How long to wait, seconds; where a lead has begun by then, to a lead behind the predicted time.
        timer: The clock.
        arrivals: When samples came; this one is noted there.
        rehearsal: What to rehearse with, `None` for nothing.

    Returns:
        The sample, or `None` if there was none in time.

    Raises:
        As `Source.read`.
    """
    until_ns = timer.monotonic_ns() + round(timeout_s * 1e9)
    sample = None if rehearsal is None else _rehearsed(source, until_ns, timer, arrivals, rehearsal)
    if sample is None:
        sample = read_from(source, max(0.0, (until_ns - timer.monotonic_ns()) / 1e9))
    if sample is not None:
        arrivals.note(timer.monotonic_ns())
    return sample


def _rehearsed(source: Source, until_ns: int, timer: Timer, arrivals: Arrivals, rehearsal: Rehearsal) -> Sample | None:
    due_ns, now_ns = arrivals.next_ns, timer.monotonic_ns()
    if due_ns is None or now_ns > due_ns:
        return None
    lead_ns = rehearsal.lead_within(SHARE * arrivals.interval_ns) or rehearsal.lead_to_look(due_ns - now_ns)
    wake_ns = due_ns - lead_ns
    if not lead_ns or wake_ns > until_ns:
        return None
    if now_ns < wake_ns:
        sample = read_from(source, (wake_ns - now_ns) / 1e9)
        if sample is not None:
            return sample
        rehearsal.woke(timer.monotonic_ns() - wake_ns)
    if rehearsal.practise(due_ns):
        sample = read_from(source, 0.0)
        while sample is None and rehearsal.again(due_ns):
            sample = read_from(source, 0.0)
        if sample is not None:
            rehearsal.met()
            return sample
    while timer.monotonic_ns() < due_ns + lead_ns:
        sample = read_from(source, 0.0)
        if sample is not None:
            return sample
    return None
