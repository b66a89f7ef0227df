"""Rows of a table as a source of samples; those of a pipe are read ahead by a thread, which the end of a loop ends."""

from __future__ import annotations

import os
import queue
import select
import threading
from collections import deque
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from ...bundle.columns import InputColumns
    from ...runtime.loop.source import Sample
    from ...runtime.transport.marked_lines import MarkedLines
    from ...runtime.transport.row import BadRowError, Row

__all__ = ["LiveLines", "LiveRows", "Rows", "TimeCells"]

_POLL_S = 0.1
_AHEAD = 4096  # rows that wait for a loop which each of them paces
_BEHIND = 8192  # rows whose ticks may wait for who writes results, and more


class TimeCells:
    """Cells of the time column of the newest rows, for the results, which come in the same order.

    They stand beside the times, and not in a time of a type of its own: floats are what a guard steps fastest.
    """

    def __init__(self) -> None:
        self._read: deque[tuple[float, str]] = deque(maxlen=_BEHIND)

    def take(self, row: Row) -> None:
        """Know a row that is read."""
        if row.t_s is not None and row.time is not None:
            self._read.append((row.t_s, row.time))

    def of(self, t_s: float) -> str | None:
        """The cell of that very time; of two that are alike each has its own. Those before it are forgotten."""
        while self._read and self._read[0][0] is not t_s:
            self._read.popleft()
        return self._read[0][1] if self._read else None


class Rows:
    """Rows of a file, one for each read.

    Args:
        rows: Of the table.
        inputs: Which columns belong to which input.
        lines: What it is read from, whose mark follows the rows; `None` where nobody asks for it.

    Attributes:
        times: Cells of the rows that were read.
    """

    pulled = stored = True  # see `as_source`

    def __init__(
        self, rows: Iterator[Row | BadRowError], inputs: InputColumns, lines: MarkedLines | None = None
    ) -> None:
        self._rows, self._inputs, self._lines = rows, inputs, lines
        self._ahead: deque[Row | BadRowError | None] = deque(maxlen=1)
        self.times = TimeCells()

    @property
    def ended(self) -> bool:
        """Whether no row is left."""
        if not self._ahead:
            self._ahead.append(next(self._rows, None))
        return self._ahead[0] is None

    def read(self, timeout_s: float) -> Sample:  # noqa: ARG002 - of the protocol
        """See `Source`; it never waits."""
        row = self._ahead.popleft() if self._ahead else next(self._rows, None)
        if self._lines is not None and row is not None:
            self._lines.mark()
        return _sample(row, self._inputs, self.times)

    def close(self) -> None:
        """There is nothing to close."""


class LiveLines:
    """What a pipe or a terminal gives, until it ends or somebody closes this; `TextLines` reads it as a file.

    Args:
        file: Open for reading.
    """

    waits = True  # `read` looks up for `close`

    def __init__(self, file: IO[str]) -> None:
        self.name = getattr(file, "name", None)
        self.buffer = self.raw = self
        self._descriptor = file.fileno()
        self._closed = threading.Event()

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def read(self, size: int) -> bytes:
        """What there is, or nothing at the end; waits for it, but not behind `close`."""
        while not self._closed.is_set():
            if select.select([self._descriptor], [], [], _POLL_S)[0]:
                return os.read(self._descriptor, size)
        return b""

    def close(self) -> None:
        """Let who reads see the end."""
        self._closed.set()


class LiveRows:
    """Rows that come in their own time.

    Args:
        rows: Of the table.
        inputs: Which columns belong to which input.
        lines: What they are read from.

    Attributes:
        times: As those of `Rows`.
    """

    def __init__(self, rows: Iterator[Row | BadRowError], inputs: InputColumns, lines: LiveLines) -> None:
        self._rows, self._inputs, self._lines = rows, inputs, lines
        self._waiting: queue.Queue[Row | Exception | None] = queue.Queue(_AHEAD)
        self.times = TimeCells()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lnn-edge rows", daemon=True)
        self._thread.start()

    def read(self, timeout_s: float) -> Sample | None:
        """See `Source`."""
        try:
            found = self._waiting.get(timeout=timeout_s) if timeout_s > 0 else self._waiting.get_nowait()
        except queue.Empty:
            return None
        if found is None:
            self._waiting.put(None)  # the end stays the end
        return _sample(found, self._inputs, self.times)

    def close(self) -> None:
        """See `Source`."""
        self._stop.set()
        self._lines.close()
        self._thread.join()

    def _run(self) -> None:
        try:
            for row in self._rows:
                if not self._put(row):
                    return
        except Exception as error:  # of the system: told once, and there is no more
            self._put(error)
        self._put(None)

    def _put(self, row: Row | Exception | None) -> bool:
        while not self._stop.is_set():
            try:
                self._waiting.put(row, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False


def _sample(row: Row | Exception | None, inputs: InputColumns, times: TimeCells) -> Sample:
    from ...runtime.loop.source import Sample

    if row is None:
        raise EOFError("the table has no more rows")
    if isinstance(row, Exception):
        raise row
    times.take(row)
    return Sample(inputs.sample(row.values), row.t_s)
