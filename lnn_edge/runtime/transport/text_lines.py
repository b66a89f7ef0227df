"""Lines of UTF-8 text from a file or a pipe, each as soon as it is there."""

from __future__ import annotations

import os
import select
import stat
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, Any

__all__ = ["TextLines"]

_CHUNK = 1 << 16
_LOOK_UP_S = 0.2
_LONGEST = 1 << 24  # bytes: a file that holds no line end, /dev/zero for one, must not fill the memory


class TextLines:
    """The lines of what is open for reading, without their ends.

    Lines end with a line feed, a carriage return or both, and none waits for what comes behind it. A byte that is not
    UTF-8 spoils its line, not the file.

    Args:
        file: Open for reading, as text; nothing has been read yet. If its buffer has `waits`, reading from that waits,
            and looks up by itself.
        name: What the user calls it, for errors of the system; `None` for the file's own.

    Attributes:
        cut: Whether the newest line came from a pipe that ended before the line did. In a file that is usual.
    """

    def __init__(self, file: IO[str], name: str | None = None) -> None:
        self.cut = False
        self._name = getattr(file, "name", None) if name is None else name
        self._bytes: Any = getattr(file, "buffer", None)
        self._text = iter(file) if self._bytes is None else None  # in a notebook, for instance
        self._lines: deque[bytes] = deque()
        self._begun = bytearray()  # of a line whose end has not come; only what is new is searched for one
        self._ended = False
        self._after_return = False
        self._first = True
        self._silence: tuple[float, Callable[[], None]] | None = None

    def when_silent(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something once in each silence that lasts so long, while lines are waited for."""
        self._silence = (seconds, call)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._text is not None:
            return next(self._text).rstrip("\r\n")
        while not self._lines and not self._ended:
            self._fill()
        if self._lines:
            return self._decoded(self._lines.popleft())
        if not self._begun:
            raise StopIteration
        last, self._begun = bytes(self._begun), bytearray()
        self.cut = not self._is_file()
        return self._decoded(last)

    def here(self) -> list[str]:
        """The lines behind the newest that have come already, without waiting; they are still to be read."""
        if self._text is not None:
            return []
        if not self._lines and not self._ended and self._is_readable():
            self._fill()
        return [line.decode(errors="replace").rstrip("\r\n") for line in [*self._lines, *self._unended()]]

    @property
    def ended(self) -> bool:
        """Whether it is known that no line is to come."""
        return self._ended and not self._lines and not self._begun

    def _unended(self) -> list[bytes]:
        return [bytes(self._begun)] if self._ended and self._begun else []

    def _fill(self) -> None:
        """Read what there is, or wait for the next bytes."""
        chunk = self._read()
        self._ended = not chunk
        if self._after_return and chunk.startswith(b"\n"):  # the line ended with the chunk before
            chunk = chunk[1:]
        self._after_return = chunk.endswith(b"\r")
        lines = chunk.splitlines(keepends=True)
        rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        if lines:
            lines[0] = bytes(self._begun) + lines[0]
            self._begun.clear()
        self._begun += rest
        self._lines.extend(lines)
        if len(self._begun) > _LONGEST:
            raise ValueError(f"there is no line end in {_LONGEST >> 20} MiB: expected a table, a line for each sample")

    def _read(self) -> bytes:
        """What there is; nothing at the end alone, though another program set the pipe or terminal not to block.

        Raises:
            OSError: If it cannot be read, naming what.
        """
        try:
            self._wait_if_silent()
            self._wait()
            while (chunk := self._read_once()) is None:
                self._wait()
        except OSError as error:
            error.filename = error.filename or self._name
            raise
        return chunk

    def _wait_if_silent(self) -> None:
        if self._silence is None:
            return
        seconds, call = self._silence
        if not self._comes_within(seconds):
            call()

    def _wait(self) -> None:
        """Wait for bytes or the end, and look up now and then: a signal that comes just before a wait wakes nobody."""
        while not (getattr(self._bytes, "waits", False) or self._comes_within(_LOOK_UP_S)):
            pass

    def _comes_within(self, seconds: float) -> bool:
        """Whether there is something to read, or becomes so."""
        try:
            descriptor = self._bytes.fileno()
        except OSError:  # in memory, where nothing is waited for
            return True
        return bool(select.select([descriptor], [], [], seconds)[0])

    def _read_once(self) -> bytes | None:
        """What there is; `None` for a pause where reading does not wait, which a buffered file calls the end."""
        raw = getattr(self._bytes, "raw", None)
        found: bytes | None = self._bytes.read1(_CHUNK) if raw is None else raw.read(_CHUNK)
        return found

    def _decoded(self, line: bytes) -> str:
        text = line.decode(errors="replace").rstrip("\r\n")
        if self._first:
            self._first, text = False, text.lstrip("\ufeff")
        return text

    def _is_file(self) -> bool:
        try:
            return stat.S_ISREG(os.fstat(self._bytes.fileno()).st_mode)
        except OSError:  # in memory, as a program passes it
            return False

    def _is_readable(self) -> bool:
        """Whether reading would not wait."""
        return self._is_file() or self._comes_within(0)
