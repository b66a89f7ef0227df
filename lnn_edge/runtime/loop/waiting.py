"""Waiting until a tick is due: asleep, or awake for the last stretch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from ...wording import choices
from .rehearsal import Rehearsal
from .timer import Timer

__all__ = ["SHARE", "SPIN_NS", "WAITS", "Sleeping", "Spinning", "Wait", "Waiting", "way_of"]

Wait = Literal["sleep", "spin", "rehearse"]
WAITS = ("sleep", "spin", "rehearse")
SPIN_NS = 200_000  # the last stretch before a due time that is spun: longer than a timer's usual slack
SHARE = 0.1  # of a core that a rehearsal's lead may take at most


class Waiting(Protocol):
    """A way to wait."""

    def until(self, due_ns: int) -> int:
        """Wait for a time of the monotonic clock, and return what it is when the wait ended: never before."""


class Sleeping:
    """Gives the CPU back until the tick is due, as most control loops do."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer

    def until(self, due_ns: int) -> int:
        """Wait; see `Waiting`."""
        self._timer.sleep_until(due_ns)
        return self._timer.spin_until(due_ns)  # a sleep may end a little early, by its rounding


class Spinning:
    """Keeps the CPU for the last stretch, which removes the timer's share of the lateness.

    Args:
        timer: The clock.
        spin_ns: How long that stretch is, nanoseconds.
    """

    def __init__(self, timer: Timer, spin_ns: int = SPIN_NS) -> None:
        self._timer, self._spin_ns = timer, spin_ns

    def until(self, due_ns: int) -> int:
        """Wait; see `Waiting`."""
        self._timer.sleep_until(due_ns - self._spin_ns)
        return self._timer.spin_until(due_ns)


def way_of(wait: Wait, timer: Timer, rate_hz: float, rehearse: Callable[[], object] | None = None) -> Waiting:
    """A way to wait by its name; a rehearsal measures its lead first.

    Args:
        wait: Its name.
        timer: The clock.
        rate_hz: Ticks per second, which bounds the lead.
        rehearse: What a rehearsal calls.

    Raises:
        ValueError: If there is no such way, or nothing to rehearse.
    """
    if not isinstance(wait, str) or wait not in WAITS:
        raise ValueError(f"`wait` is '{wait}'. {choices(wait, WAITS)}")
    if wait != "rehearse":
        return Sleeping(timer) if wait == "sleep" else Spinning(timer)
    if rehearse is None:
        raise ValueError("`wait` is 'rehearse', but there is nothing to rehearse: pass a step of another stream")
    return Rehearsal(rehearse, timer, most_ns=int(SHARE * 1e9 / rate_hz))
