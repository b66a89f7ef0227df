"""Watchdog: a thread outside a loop that notices that the loop stopped, which nothing within it could."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from ...given_numbers import given_flag, nanoseconds, real_number
from .timer import Timer, given_timer

__all__ = ["Watchdog"]


class Watchdog:
    """Calls a function when a loop has not turned for too long, once for each time that it stopped.

    A thread of the same process notices a loop that waits for a device, a lock or a slow function. It notices nothing
    while C code keeps the interpreter's lock or the whole process is stopped: systemd's watchdog does, see `systemd`.

    Args:
        limit_s: How long a turn may take, seconds, > 0.
        bark: Called with how long the loop has stood, seconds, in the watchdog's thread. It may, for instance, cut
            the power of a motor. What it raises is nobody's business.
        timer: The clock.
        start: Whether the thread begins with `begin`; else `look` looks, in a test for instance.

    Attributes:
        barked: How often the loop stopped.
        limit_s: As passed.
    """

    def __init__(
        self, limit_s: float, bark: Callable[[float], object], timer: Timer | None = None, *, start: bool = True
    ) -> None:
        if not callable(bark):
            raise TypeError(f"`bark` is {bark!r}, expected a function that takes seconds")
        self.barked = 0
        self.limit_s = real_number("limit_s", limit_s, above=0, unit=", in seconds")
        self._limit_ns = nanoseconds("limit_s", limit_s)
        self._bark, self._timer = bark, given_timer(timer)
        self._beat_ns: int | None = None
        self._barked_at: int | None = None
        self._stop = threading.Event()
        self._starts = given_flag("start", start)
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin to watch: the loop runs from here on."""
        self._beat_ns = self._timer.monotonic_ns()
        if self._starts and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lnn-edge watchdog", daemon=True)
            self._thread.start()

    def beat(self, now_ns: int) -> None:
        """The loop turns, at a time of the monotonic clock."""
        self._beat_ns = now_ns

    def look(self) -> bool:
        """Look once; return whether the loop stands."""
        beat = self._beat_ns
        if beat is None:
            return False
        stood = self._timer.monotonic_ns() - beat
        if stood <= self._limit_ns:
            return False
        if beat != self._barked_at:
            self._barked_at = beat
            self.barked += 1
            with suppress(Exception, SystemExit):
                self._bark(stood / 1e9)
        return True

    def end(self) -> None:
        """The loop is to stand from here on."""
        self._beat_ns = None
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        while not self._stop.wait(self._limit_ns / 4e9):
            self.look()
