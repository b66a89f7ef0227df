"""Absolute schedule of a loop that a timer paces: each tick has its due time, whatever happened to those before."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from ...given_numbers import real_number
from ...wording import choices

__all__ = ["LATE", "Late", "Pacing", "Schedule", "check_rate"]

Late = Literal["skip", "catch up", "at once"]
LATE = ("skip", "catch up", "at once")
_NS = 10**9
_LEAST_HZ = 1e-6


class Schedule:
    """Due times `origin + k * period`, each rounded down to a nanosecond and none from the one before: no drift.

    Args:
        rate_hz: Ticks per second, a float or a `Fraction`, from 1e-6 to 1e9.
        origin_ns: Due time of tick 0 on the monotonic clock.

    Raises:
        TypeError, ValueError: If the rate is none.
    """

    def __init__(self, rate_hz: float | Fraction, origin_ns: int) -> None:
        if real_number("rate_hz", rate_hz, above=0) > _NS:
            raise ValueError(f"`rate_hz` is {rate_hz}, expected at most {_NS:,} ticks per second")
        if rate_hz < _LEAST_HZ:
            raise ValueError(f"`rate_hz` is {rate_hz}, expected at least {_LEAST_HZ:g} ticks per second")
        period = _NS / Fraction(rate_hz)
        self._above, self._below = period.numerator, period.denominator
        self._origin_ns = origin_ns

    def due(self, tick: int) -> int:
        """When a tick is due, nanoseconds."""
        return self._origin_ns + tick * self._above // self._below

    def newest(self, now_ns: int) -> int:
        """The newest tick that is due at a time; below 0 before the first."""
        return ((now_ns - self._origin_ns + 1) * self._below - 1) // self._above


class Pacing:
    """Says which tick of a schedule is next, and what becomes of those whose time is over.

    Args:
        schedule: When ticks are due.
        late: "skip" leaves out ticks whose time is over, and waits for the next one that is not. "catch up" runs all
            of them, one behind the other. "at once" runs the newest of them immediately and leaves out the others.
            The due times stay what they are.

    Attributes:
        tick: Number of the tick that `next` gave last; -1 before the first.
        dropped: Ticks that were left out.

    Raises:
        ValueError: If there is no such policy.
    """

    def __init__(self, schedule: Schedule, late: Late = "skip") -> None:
        if not isinstance(late, str) or late not in LATE:
            raise ValueError(f"`late` is {late!r}. {choices(late, LATE)}")
        self.tick, self.dropped = -1, 0
        self._schedule, self._late = schedule, late

    def next(self, now_ns: int) -> int:
        """Go on to the next tick and return when it is due, nanoseconds; that is over for one that runs late."""
        tick, due = self.tick + 1, self._schedule.due(self.tick + 1)
        if due < now_ns and self._late != "catch up":
            newest = self._schedule.newest(now_ns)
            skips = self._late == "skip" and self._schedule.due(newest) < now_ns
            tick = max(tick, newest + skips)
            due = self._schedule.due(tick)
        self.dropped += tick - self.tick - 1
        self.tick = tick
        return due


def check_rate(rate_hz: float, period_s: float | None, pace: tuple[float, float], name: str) -> None:
    """Refuse a rate that a model with fixed time was not exported for.

    Args:
        rate_hz: Ticks per second.
        period_s: Of the model, seconds; `None` allows any rate.
        pace: How many of these a period of the rate may be, as a guard has it.
        name: Of the model.

    Raises:
        ValueError: If it is not among them.
    """
    if period_s and not pace[0] <= 1 / (rate_hz * period_s) <= pace[1]:
        raise ValueError(
            f"`rate_hz` is {rate_hz:g}, but '{name}' was exported for {1 / period_s:g} samples per second, fixed. "
            f"Type: rate_hz={1 / period_s:g}, or guard with another `pace`"
        )
