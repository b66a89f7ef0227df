"""Reports of what happens in a loop: the first of a kind at once, others counted, none told by the loop itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from ...progress import tell
from ...wording import one_line
from .timer import Timer

__all__ = ["Aside", "Reports", "to_standard_error"]

_EVERY_NS = 60_000_000_000
_POLL_S = 0.05


class Reports:
    """Counts happenings by kind, and tells of them.

    Args:
        tell: Called with a line of text, never by the thread of the loop. What it raises is nobody's business.
        timer: The clock.
        every_ns: How long after a line about a kind the next may come, nanoseconds.
    """

    def __init__(self, tell: Callable[[str], object], timer: Timer, every_ns: int = _EVERY_NS) -> None:
        self._tell, self._timer, self._every_ns = tell, timer, every_ns
        self._counts: dict[str, int] = {}
        self._newest: dict[str, object] = {}
        self._told: dict[str, tuple[int, int]] = {}  # how many, and when

    def note(self, kind: str, detail: object = None) -> None:
        """Count one; for the thread of the loop. `detail` becomes text later, so it must not change."""
        self._newest[kind] = detail
        self._counts[kind] = self._counts.get(kind, 0) + 1

    def total(self, kind: str, count: int, detail: object) -> None:
        """Say how many there were of what somebody else counts; for the thread that calls `flush`."""
        self._newest[kind] = detail
        self._counts[kind] = count

    def flush(self) -> None:
        """Tell what is due; for any thread but the loop's, one at a time."""
        now = self._timer.monotonic_ns()
        for kind, count in list(self._counts.items()):
            told, at = self._told.get(kind, (0, now - self._every_ns))
            if count > told and now - at >= self._every_ns:
                self._told[kind] = (count, now)
                self._say(kind, count, told, (now - at) / 1e9)

    def _say(self, kind: str, count: int, told: int, since_s: float) -> None:
        detail = self._newest.get(kind)
        words = "" if detail is None else f": {one_line(detail)}"
        text = f"{kind}{words}"
        if told:
            more = count - told
            text = (
                f"{more:,} more of '{kind}' in the last {since_s:.0f} s, {count:,} in all; the newest{words or ' too'}"
            )
        with suppress(Exception, SystemExit):  # which would end the thread, and snapshots with it
            self._tell(text)


class Aside:
    """A thread that does small jobs beside a loop, now and then: reports, snapshots.

    Args:
        jobs: Called in turn. What one raises keeps none from the next turn, so each tells of its own faults.
        poll_s: Between two turns, seconds.
        start: Whether the thread begins now; else `turn` does the jobs, in a test for instance.
    """

    def __init__(self, jobs: Sequence[Callable[[], object]], poll_s: float = _POLL_S, *, start: bool = True) -> None:
        self._jobs, self._poll_s = tuple(jobs), poll_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lnn-edge aside", daemon=True)
        if start:
            self._thread.start()

    def turn(self) -> None:
        """Do each job once."""
        for job in self._jobs:
            with suppress(Exception, SystemExit):
                job()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Do the jobs a last time; return whether that came to its end in time, or one of them still blocks."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        self.turn()
        return True

    def _run(self) -> None:
        while not self._stop.wait(self._poll_s):
            self.turn()


def to_standard_error(text: str) -> None:
    """Print a line of a report where nobody takes it for a result."""
    tell(f"lnn-edge: {text}\n")
