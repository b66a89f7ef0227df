"""Newest sample of a source that waits for its device, read by a thread, so that a loop at a rate need not wait."""

from __future__ import annotations

import threading
from typing import NamedTuple

from ..source import Sample, Source, read_from
from ..timer import Timer

__all__ = ["Arrived", "Newest"]

_POLL_S = 0.1  # of one read: how long an end may take to be noticed
_REST_S = 0.01  # after a failed read, or a device that is gone would keep a core busy
_LEAST_S = 0.0005  # that a read with nothing to give rests: a source may return at once whatever it is asked


class Arrived(NamedTuple):
    """A sample and when it came.

    Args:
        sample: The sample.
        at_ns: When its read returned, on the monotonic clock.
        number: Its number, from 1.
    """

    sample: Sample
    at_ns: int
    number: int


class Newest:
    """Reads a source in a thread of its own and keeps the newest sample.

    Args:
        source: What to read; closed with this.
        timer: The clock that says when samples came.
        start: Whether the thread begins now; else with `begin`, or never: `pump` reads as well.

    Attributes:
        replaced: Samples that a newer one took the place of before anybody looked.
        failed: Reads that raised.
        error: What the last of them raised, `None` after a good one.
        last_error: The same, also after a good one.
        ended: Whether the source said that no sample will come.
    """

    def __init__(self, source: Source, timer: Timer, *, start: bool = True) -> None:
        self.replaced = self.failed = 0
        self.error: Exception | None = None
        self.last_error: Exception | None = None
        self.ended = False
        self._source, self._timer = source, timer
        self._now: Arrived | None = None
        self._before: Arrived | None = None
        self._seen = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lnn-edge source", daemon=True)
        if start:
            self.begin()

    def begin(self) -> None:
        """Begin to read in the thread."""
        self._thread.start()

    def look(self) -> tuple[Arrived | None, Arrived | None]:
        """The newest sample and the one before it, each `None` where there is none; never waits."""
        before, now = self._before, self._now
        if now is not None:
            self._seen = now.number
        return now, before

    def pump(self, timeout_s: float) -> bool:
        """Read once; return whether there was a sample."""
        try:
            sample = read_from(self._source, timeout_s)
        except EOFError:
            self.ended = True
            return False
        except Exception as error:
            self.error = self.last_error = error
            self.failed += 1
            return False
        if sample is None:
            return False
        self.take(sample)
        return True

    def fetch(self) -> Sample | None:
        """Read once, without a wait; the sample, which has been looked at then, or `None`."""
        if not self.pump(0.0) or self._now is None:
            return None
        self._seen = self._now.number
        return self._now.sample

    def take(self, sample: Sample) -> None:
        """Keep a sample that somebody read."""
        self.error, own = None, self._now
        number = 1 if own is None else own.number + 1
        if own is not None and own.number > self._seen:
            self.replaced += 1
        self._before, self._now = own, Arrived(sample, self._timer.monotonic_ns(), number)

    def close(self, timeout_s: float = 1.0) -> None:
        """Stop reading and close the source; a read that never returns is left behind."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._source.close()

    def _run(self) -> None:
        while not self._stop.is_set() and not self.ended:
            failed, began = self.failed, self._timer.monotonic_ns()
            if self.pump(_POLL_S):
                continue
            if self.failed > failed:
                self._stop.wait(_REST_S)
            elif self._timer.monotonic_ns() - began < _LEAST_S * 1e9:
                self._stop.wait(_LEAST_S)
