"""Progress of long work, as callers take it."""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Callable

from .files.whole import write_all

__all__ = ["READERS", "Progress", "Readers", "now_and_then", "silent", "tell"]

Progress = Callable[[str, int, int], None]  # phase, done, total
_BETWEEN_LINES_S = 10.0
_LAST_WORDS_S = 1.0


class Readers:
    """Those who read what this process prints.

    Attributes:
        patience_s: How long a print waits for one who does not read, seconds.
    """

    def __init__(self) -> None:
        self.patience_s = math.inf

    def patience(self) -> float:
        """The same, now."""
        return self.patience_s

    def hasten(self) -> None:
        """Wait no longer than a moment from now on: a signal ends the program, and would end it again in vain."""
        self.patience_s = _LAST_WORDS_S

    def give_up(self) -> None:
        """Wait no more: one did not read in that time."""
        self.patience_s = 0.0

    def wait(self) -> None:
        """Take all the time that they need, as from the beginning."""
        self.patience_s = math.inf


READERS = Readers()


def silent(_phase: str, _done: int, _total: int) -> None:
    """Progress that nobody asked for."""


def tell(text: str) -> None:
    """Print on standard error, if it is there and takes it: no work ends because nobody hears of it.

    Nor does an end wait for one who does not read, see `Readers`.
    """
    stream = sys.stderr
    try:
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream.buffer, io.BytesIO):
            stream.flush()
            write_all(stream.fileno(), text.encode(stream.encoding, stream.errors or "strict"), READERS.patience)
        elif stream is not None:  # in a notebook, for instance
            stream.write(text)
            stream.flush()
    except TimeoutError:
        READERS.give_up()
    except (OSError, ValueError):  # a full disk, a reader that has gone; closed
        pass


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
