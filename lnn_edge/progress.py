"""Progress of long work, as callers take it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import suppress

from .files import write_all

__all__ = ["Progress", "silent", "tell"]

Progress = Callable[[str, int, int], None]  # phase, done, total


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
