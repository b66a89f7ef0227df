"""Sink: where the results of a loop go, written by a thread of its own, so that one that blocks stops no loop."""

from __future__ import annotations

import json
import math
import numbers
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ...files.lines import Lines, csv_line
from ...files.whole import check_output, check_still_there, named_in_errors
from ...given_numbers import whole_number
from ...wording import one_line

if TYPE_CHECKING:
    from ...bundle.spec import Tensor
    from ..guard.status import Tick
    from ..model import Model

__all__ = ["Awaited", "Behind", "Entry", "Marked", "Records", "Sink", "as_sink"]

_POLL_S = 0.02  # between two looks at what there is to write: waking the writer at each tick would cost the loop
_ROOM = 4096  # ticks


class Entry(NamedTuple):
    """What a sink gets of a tick.

    Args:
        number: Of the tick, from 0.
        tick: Its status and outputs.
        t_s: When its sample was measured, as the source said; `None` if it did not.
        mono_ns: When the tick began, on the monotonic clock.
        wall_ns: The same on the wall clock, nanoseconds since 1970.
    """

    number: int
    tick: Tick
    t_s: Any
    mono_ns: int
    wall_ns: int


@runtime_checkable
class Sink(Protocol):
    """Something that takes results. It may wait as long as it likes: whole ticks are dropped and counted meanwhile."""

    def write(self, entry: Entry) -> None:
        """Take one tick; what it raises is counted, and the next one is written all the same."""

    def close(self) -> None:
        """Put away what it holds."""


@runtime_checkable
class Marked(Protocol):
    """A sink whose results a later run cuts and continues, where a snapshot says that they stood."""

    def results_mark(self) -> Callable[[], Mapping[str, Any]]:
        """Where results stand behind the last tick that was written; for the thread that writes.

        Returns:
            A function for another thread: it waits until these results are on the disk, and says where that is, as
            JSON has it.
        """


class Records(Protocol):
    """What records every tick with all that replay needs, as `lnn_edge.runtime.record.recorder.Recorder` does."""

    @property
    def wants_state(self) -> bool:
        """Whether the next tick should come with its state."""

    @property
    def written(self) -> int:
        """Ticks that are in a file."""

    @property
    def dropped(self) -> int:
        """Ticks that are in none."""

    @property
    def error(self) -> str | None:
        """What went wrong last, in words."""

    def put(self, tick: Tick, *, t_s: Any = None, mono_ns: int, wall_ns: int, state: Any = None) -> None:
        """Take a tick; never waits and never raises."""

    def close(self) -> None:
        """Write what is left."""


@runtime_checkable
class Awaited(Protocol):
    """What takes ticks and says whether it has room for one, so that samples that lose nothing by it wait."""

    @property
    def full(self) -> bool:
        """Whether a tick would be dropped now, and not a moment later."""

    def finish(self) -> bool:
        """Let what was taken be written, as no tick comes any more; whether it is. Never waits, and closes nothing."""


class _Then(NamedTuple):
    """What is called behind the ticks before it."""

    sink: Marked
    call: Callable[[Callable[[], Mapping[str, Any]] | None], object]


class Behind:
    """Hands ticks to a sink in a thread of its own.

    Args:
        sink: Where they go; closed with this.
        capacity: Ticks that wait at most, >= 1; one that finds no room is dropped.
        start: Whether the thread begins now; else `drain` writes, in a test for instance.

    Attributes:
        written: Ticks that the sink took.
        failed: Ticks that it raised at.
        error: What it raised last, in words; `None` if nothing.
    """

    def __init__(self, sink: Sink, capacity: int = _ROOM, *, start: bool = True) -> None:
        self.written = self.failed = 0
        self.error: str | None = None
        self._full = 0
        self._lost = 0
        self._sink = sink
        self._capacity = whole_number("capacity", capacity, 1)
        self._waiting: deque[Entry | _Then] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lnn-edge sink", daemon=True)
        if start:
            self._thread.start()

    @property
    def dropped(self) -> int:
        """Ticks that no sink has: there was no room, it raised, or it did not take them before it was closed."""
        return self._full + self.failed + self._lost

    @property
    def full(self) -> bool:
        """See `Awaited`. Where no thread writes, what waits is written here."""
        if len(self._waiting) < self._capacity:
            return False
        if not self._thread.is_alive():
            self.drain()
        return len(self._waiting) >= self._capacity

    def put(self, entry: Entry) -> None:
        """Hand one tick over; never waits and never raises."""
        if len(self._waiting) >= self._capacity:
            self._full += 1
        else:
            self._waiting.append(entry)

    def then(self, call: Callable[[Callable[[], Mapping[str, Any]] | None], object]) -> None:
        """Call something with the sink's mark, once all ticks that were handed over are with it; never waits.

        Args:
            call: Gets what `results_mark` gave, `None` of another sink.
        """
        if isinstance(self._sink, Marked):
            self._waiting.append(_Then(self._sink, call))
        else:
            call(None)

    def drain(self) -> None:
        """Write what waits."""
        while self._waiting:
            entry = self._waiting[0]  # it keeps its room until it is written
            if isinstance(entry, _Then):
                self._mark(entry)
                self._waiting.popleft()
                continue
            try:
                self._sink.write(entry)
                self.written += 1
            except BaseException as error:  # in this thread Ctrl-C comes from nobody but the sink
                if isinstance(error, KeyboardInterrupt) and current_thread() is main_thread():
                    raise
                self.failed += 1
                self.error = f"{type(error).__name__}: {one_line(error)}"
            self._waiting.popleft()

    def _mark(self, then: _Then) -> None:
        try:
            then.call(then.sink.results_mark())
        except Exception as error:
            self.error = f"{type(error).__name__}: {one_line(error)}"

    def finish(self) -> bool:
        """See `Awaited`."""
        self._stop.set()
        return not self._thread.is_alive()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits and close the sink. One that takes longer than this is left behind, with what it has not."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._lost = sum(isinstance(own, Entry) for own in tuple(self._waiting))
            self.error = self.error or f"it did not take {self._lost:,} ticks within {timeout_s:g} s"
            return
        self.drain()
        try:
            self._sink.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.error = f"{type(error).__name__}: {one_line(error)}"

    def _run(self) -> None:
        while not self._stop.wait(_POLL_S):
            self.drain()
        self.drain()


def as_sink(given: Any, model: Model) -> Sink:
    """Make a sink of what takes results.

    Args:
        given: A `Sink` stays what it is. A function is called with each `Entry`. A file gets a line for each tick: a
            .csv file its number, time, status and outputs by their names, a .jsonl file an object.
        model: Whose outputs they are.

    Raises:
        TypeError: If it takes no results.
        ValueError: If a file's name ends in neither.
        OSError: If a file cannot be written.
    """
    if isinstance(given, (str, os.PathLike)):
        return _file_sink(Path(given), model)
    if isinstance(given, Sink):
        return given
    if callable(given):
        return _Called(given)
    raise TypeError(
        f"the sink is a {type(given).__name__}, expected an object with write(entry) and close(), a function, or the "
        "path of a .csv or .jsonl file"
    )


class _Called:
    """A function as a sink."""

    def __init__(self, call: Callable[[Entry], object]) -> None:
        self._call = call

    def write(self, entry: Entry) -> None:
        self._call(entry)

    def close(self) -> None:
        """There is nothing to close."""


class _File:
    """Lines in a file, each written to its end or not at all."""

    def __init__(self, path: Path, heading: str | None, line: Callable[[Entry], str]) -> None:
        check_output(path)
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by `close`
        self._path, self._lines, self._line = path, Lines(self._file.fileno(), str(path)), line
        if heading is not None:
            self._lines.write(heading, heading=True)

    def write(self, entry: Entry) -> None:
        line = self._line(entry)
        try:
            self._lines.write(line)
        except OSError:
            if self._file.seekable():  # a part of the line, as a full disk took
                self._file.truncate(self._lines.size)
                self._file.seek(self._lines.size)
            raise

    def close(self) -> None:
        try:
            if self._file.seekable():
                os.fsync(self._file.fileno())
                with named_in_errors(self._path):
                    check_still_there(self._file.fileno())
        finally:
            self._file.close()


def _file_sink(path: Path, model: Model) -> Sink:
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return _File(path, None, _json_line)
    if suffix != ".csv":
        raise ValueError(f"the sink is '{path}', expected a file that ends in .csv, or in .jsonl for JSON lines")
    names = [name for tensor in model.outputs for name in _columns(tensor, len(model.outputs) > 1)]
    return _File(path, csv_line(["tick", "t_s", "status", *names]), lambda entry: _row(entry, len(names)))


def _columns(tensor: Tensor, several: bool) -> list[str]:
    """Names of an output's columns, those of several outputs with the output's before them."""
    count = math.prod(tensor.shape)
    names = [feature.name for feature in tensor.features]
    if len(names) != count:
        names = [f"{tensor.name}_{k}" for k in range(count)]
    return [f"{tensor.name}.{name}" if several else name for name in names]


def _row(entry: Entry, count: int) -> str:
    y = entry.tick.y
    parts = [] if y is None else list(y.values()) if isinstance(y, Mapping) else [y]
    values = [value for part in parts for value in np.ravel(part).tolist()] or [""] * count
    t_s = "" if entry.t_s is None else entry.t_s
    return csv_line([entry.number, t_s, entry.tick.status.text, *values])


def _json_line(entry: Entry) -> str:
    t_s = None if entry.t_s is None else entry.t_s if type(entry.t_s) in (int, float) else _time(entry.t_s)
    tick = {"tick": entry.number, "t_s": t_s, "status": entry.tick.status.text, "y": _plain(entry.tick.y)}
    return json.dumps(tick, allow_nan=False) + "\n"


def _time(t_s: Any) -> float | str:
    """A time as JSON has it: a number of seconds, or the text of a date."""
    return float(t_s) if isinstance(t_s, numbers.Real) and math.isfinite(t_s) else str(t_s)


def _plain(y: Any) -> Any:
    """Outputs as JSON has them; what is not finite is null."""
    if isinstance(y, Mapping):
        return {name: _plain(value) for name, value in y.items()}
    if y is None:
        return None
    values = np.asarray(y)
    found = values.astype(object)
    found[~np.isfinite(values)] = None
    return found.tolist()
