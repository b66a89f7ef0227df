"""The thread that writes a recording: it takes ticks out of the ring, and makes chunks of them.

It holds the interpreter's lock for some 0.1 ms at a time, and gives it to whoever waits in between.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from ...arrays import Array
from ..state import State
from .csv_file import CsvFile
from .messages import Encoded, Messages
from .ring import Ring, Taken
from .series import Series

__all__ = ["Writer"]

_POLL_S: Final = 0.1  # between two looks at the ring: a tenth of the time in which a crash may lose ticks
_CHUNK_S: Final = 0.5  # of ticks in a chunk at most, so that with the wait for the disk it is less than a second
_CHUNK_BYTES: Final = 1 << 20
_AT_ONCE: Final = 128  # ticks that are encoded before whoever waits for the interpreter gets it
_PATIENCE: Final = 1.5  # times what a file may have, after which the next one begins without a state
_MOST_CHUNKS: Final = 1 << 16  # of a file, nine hours at the least: its index is in memory, 8 MB of so many


class Writer:
    """See the module's text.

    Args:
        ring: Where ticks come from.
        series: The files, of which the first is open.
        messages: Encodes them.
        start: The state before the first tick, if it is not the initial one.
        rotate_bytes: Size after which another file begins, if that is before `_MOST_CHUNKS`; `None` for those alone.
        csv: The same as CSV.

    Attributes:
        written: Ticks in files.
        lost: Ticks that could not be written.
        asks: Whether the next tick should bring its state.
        error: What went wrong last, in words.
        stop: Ends the thread.
    """

    def __init__(
        self,
        ring: Ring,
        series: Series,
        messages: Messages,
        *,
        start: State | None = None,
        rotate_bytes: int | None = None,
        csv: CsvFile | None = None,
    ) -> None:
        self._ring, self.series, self._messages, self._csv = ring, series, messages, csv
        self._rotate_bytes = rotate_bytes
        self.written = self.lost = 0
        self.asks = False
        self.error: str | None = None
        self.stop = threading.Event()
        self._start: tuple[State | None, int] = (start, 0)  # what the open file begins with
        self._begun = False  # whether that stands there
        self._waiting: list[Array] = []  # ticks, for their chunk
        self._count = 0  # of them
        self._next = 0  # number of the tick that should come next
        self._hole = False  # whether replay has lost the thread, as ticks are missing
        self._due = False  # whether another file should begin
        self._since = time.monotonic()

    def run(self) -> None:
        """Write until it is stopped, and then what is left."""
        try:
            while not self.stop.wait(_POLL_S):
                self._turn(self._ring.take(), end=False)
            self._turn(self._ring.take(), end=True)
            self._end()
        except BaseException as error:  # the thread's last words; the loop goes on without it
            self.error = f"the recording ended: {_words(error)}"
        finally:
            self.lost += self._count

    @property
    def csv_rows(self) -> int | None:
        """Ticks that are in the CSV; `None` without one."""
        return None if self._csv is None else self._csv.rows

    def _turn(self, taken: Taken, *, end: bool) -> None:
        ticks, first = taken.ticks, 0
        for number, state, forced in taken.states:
            place = int(np.searchsorted(ticks["tick"], number))
            self._add(ticks[first:place])
            first = place
            if forced or self._hole or self._due:
                self._begin_at(number, state, forced)
        self._add(ticks[first:])
        now = time.monotonic()
        if end or self._count * self._messages.longest >= _CHUNK_BYTES or now - self._since >= _CHUNK_S:
            self._flush()
            self._since = now

    def _add(self, ticks: Array) -> None:
        """Let ticks wait for their chunk."""
        if not len(ticks):
            return
        numbers = ticks["tick"]
        self._hole |= bool(numbers[0] != self._next or numbers[-1] - numbers[0] != len(numbers) - 1)
        self._next = int(numbers[-1]) + 1
        self._waiting.append(ticks)
        self._count += len(ticks)

    def _begin_at(self, number: int, state: State, forced: bool) -> None:
        """Let what follows begin from a state: in another file, if one is due."""
        self._flush()
        if self._due:
            self._rotate(state, number)
            self._hole = False
        elif self._ready() and self._tried(lambda: self.series.attach(state, number, given=forced)):
            self._hole = False

    def _flush(self) -> None:
        """Write what waits, as a chunk. What cannot be written is lost; the next chunk is another try."""
        waiting, count = self._waiting, self._count
        if not count:
            return
        ticks = np.concatenate(waiting)
        ready = self._ready()
        if ready and self._due and self._is_over(_PATIENCE):
            self._rotate(None, int(ticks["tick"][0]))
            ready = self._ready()
        done = ready and self._tried(lambda: self.series.chunk(self._encoded(ticks)))
        self._waiting, self._count = [], 0
        if done:
            self.written += count
            self._to_csv(ticks)
        else:
            self.lost += count
            self._hole = self.asks = True
        if self.series.rotates and self._is_over(1.0):
            self._due = self.asks = True

    def _is_over(self, times: float) -> bool:
        """Whether the open file has so many times what one may have."""
        most = self._rotate_bytes
        return self.series.chunks >= times * _MOST_CHUNKS or (most is not None and self.series.size >= times * most)

    def _ready(self) -> bool:
        """Whether a file is open that ticks can be written to."""
        if self.series.dead:
            return False
        if not self.series.is_open and not self._tried(self.series.open):
            return False
        if not self._begun:
            self._begun = self._tried(lambda: self.series.begin(*self._start))
        return self._begun

    def _rotate(self, state: State | None, number: int) -> None:
        self._tried(lambda: self.series.end(self._last_words()))
        self._start, self._begun, self._due = (state, number), False, False
        self._ready()

    def _encoded(self, ticks: Array) -> Encoded:
        parts, size = [], 0
        for first in range(0, len(ticks), _AT_ONCE):
            part = self._messages.encode(ticks[first : first + _AT_ONCE])
            parts.append(part._replace(offsets=part.offsets + size))
            size += len(part.data)
            time.sleep(0)
        data, times, offsets = zip(*parts, strict=True)
        return Encoded(b"".join(data), np.concatenate(times), np.concatenate(offsets))

    def _to_csv(self, ticks: Array) -> None:
        csv = self._csv
        if csv is not None:
            self._tried(lambda: csv.write(ticks))

    def _end(self) -> None:
        if self._ready():
            self._tried(lambda: self.series.end(self._last_words()))
        if self._csv is not None:
            self._tried(self._csv.close)

    def _last_words(self) -> dict[str, str]:
        return {"written": str(self.written), "dropped": str(self._ring.dropped + self.lost)}

    def _tried(self, write: Callable[[], object]) -> bool:
        """Whether it could be done; what went wrong stays in `error`."""
        try:
            write()
        except Exception as error:  # a user's sink may raise anything, and the loop goes on
            self.error = _words(error)
            return False
        return True


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: '{error.filename}'" if error.filename else error.strerror
    return str(error) or repr(error)
