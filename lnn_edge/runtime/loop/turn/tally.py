"""Tally of a loop: how many ticks there were of each status, and how long they took."""

from __future__ import annotations

from ...figures.histogram import Histogram
from ...guard.status import Status, Tick

__all__ = ["Tally"]


class Tally:
    """Counts ticks, after the robot has got what it waits for.

    Args:
        period_ns: Between two ticks that are due, nanoseconds; `None` where samples pace the loop.

    Attributes:
        ticks, steps: How many there were.
        misses: Ticks that ended more than a period after they were due.
        lateness, service, response: As `Summary`.
    """

    def __init__(self, period_ns: float | None) -> None:
        self.ticks = self.steps = self.misses = 0
        self.lateness, self.service, self.response = Histogram(), Histogram(), Histogram()
        self._period_ns = period_ns or 0.0
        self._counts: dict[Status, int] = {}

    @property
    def counts(self) -> dict[str, int]:
        """How many ticks there were of each status that there was, by its words, in the order of the first of each."""
        return {status.text: count for status, count in list(self._counts.items())}

    def take(self, tick: Tick, start_ns: int, end_ns: int, due_ns: int | None) -> None:
        """Count one, by when it began, ended and was due, on the monotonic clock."""
        self.ticks += 1
        self.steps += tick.stepped
        self._counts[tick.status] = self._counts.get(tick.status, 0) + 1
        self.service.add(end_ns - start_ns)
        if due_ns is None:
            self.response.add(end_ns - start_ns)
            return
        self.response.add(end_ns - due_ns)
        self.lateness.add(start_ns - due_ns)
        if end_ns - due_ns > self._period_ns:
            self.misses += 1
