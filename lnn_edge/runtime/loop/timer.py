"""Timer: the clocks that a loop reads, and how it waits on them."""

from __future__ import annotations

import time
from typing import Any, Protocol

__all__ = ["SystemTimer", "Timer", "given_timer"]


class Timer(Protocol):
    """What a loop knows of time. Intervals and due times are of the monotonic clock, stamps of the wall clock."""

    def monotonic_ns(self) -> int:
        """Nanoseconds on a clock that nobody sets."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, as the machine believes."""

    def sleep_until(self, due_ns: int) -> None:
        """Give the CPU back until a time of the monotonic clock; return at once if it is over."""

    def spin_until(self, due_ns: int) -> int:
        """Keep the CPU until a time of the monotonic clock, and return what it is then."""


class SystemTimer:
    """The machine's clocks; the functions themselves, as a loop reads them several times at each tick."""

    monotonic_ns = staticmethod(time.monotonic_ns)
    wall_ns = staticmethod(time.time_ns)

    def sleep_until(self, due_ns: int) -> None:
        """Give the CPU back until a time of the monotonic clock; return at once if it is over."""
        left_ns = due_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns / 1e9)

    def spin_until(self, due_ns: int) -> int:
        """Keep the CPU until a time of the monotonic clock, and return what it is then."""
        clock = time.monotonic_ns
        now = clock()
        while now < due_ns:
            now = clock()
        return now


def given_timer(timer: Any) -> Timer:
    """A clock that a caller passes, or the machine's for `None`.

    Raises:
        TypeError: If it is none.
    """
    if timer is None:
        return SystemTimer()
    lacks = [name for name in _OF_A_TIMER if not callable(getattr(timer, name, None))]
    if lacks:
        raise TypeError(f"`timer` is {timer!r}, which has no {lacks[0]}(); expected a clock, as SystemTimer() is one")
    return timer  # type: ignore[no-any-return]


_OF_A_TIMER = ("monotonic_ns", "wall_ns", "sleep_until", "spin_until")
