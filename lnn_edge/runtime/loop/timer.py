"""Timer: the clocks that a loop reads, and how it waits on them."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["SystemTimer", "Timer"]


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
