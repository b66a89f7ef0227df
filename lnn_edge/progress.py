"""Progress of long work, as callers take it."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from .files import write_all

__all__ = ["Progress", "now_and_then", "silent", "tell"]

Progress = Callable[[str, int, int], None]  # phase, done, total
_BETWEEN_LINES_S = 10.0


def silent(_phase: str, _done: int, _total: int) -> None:
    """Progress that nobody asked for."""


def tell(text: str) -> None:
    """Print on standard error, if it is there and takes it: no work ends because nobody hears of it."""
    stream = sys.stderr
    with suppress(OSError, ValueError):  # a full disk, a reader that has gone; closed
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream.buffer, io.BytesIO):
            stream.flush()
            write_all(stream.fileno(), text.encode(stream.encoding, stream.errors or "strict"))
        elif stream is not None:  # in a notebook, for instance
            stream.write(text)
            stream.flush()


def now_and_then(now: Callable[[], float] = time.monotonic) -> Callable[[], bool]:
    """Whether it is time for a line where nobody can see a bar: 10 s after the start or the line before.

    Short work stays silent in a log, and long work shows that it is alive.
    """
    last = now()

    def due() -> bool:
        nonlocal last
        if now() - last < _BETWEEN_LINES_S:
            return False
        last = now()
        return True

    return due
