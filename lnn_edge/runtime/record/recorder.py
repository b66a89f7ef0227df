"""A recorder: every tick of a loop into files, by a thread of its own, so that no disk ever stops the loop."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ...bundle.manifest import Manifest
from ...files.whole import given_path
from ...given_numbers import number_text, real_number, whole_number
from ..guard.status import Tick
from ..state import State, check_state
from .csv_file import CsvFile
from .description import describe
from .layout import identifier, layout_of
from .mcap_file import Face
from .messages import Messages
from .ring import Ring, Starts
from .schema import message_name, schema_bytes
from .series import Series
from .writer import Writer

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["Recorder"]


class Recorder:
    """Writes every tick into an MCAP file. Use it in a `with`, or call `close` at the end.

    `put` copies numbers into memory that is allocated once, and does nothing else: it never waits, logs or raises,
    and touches no disk. A thread writes them, and has everything on the disk within a second: a recording that a
    crash or a power cut ends opens up to its last complete chunk. What does not fit is dropped, tick by tick, and
    counted.

    A file holds one channel, named like the model, with a message for each tick and its description in protobuf:
    `tick` counts from 0, `t_s` is the sample's time and `dt_s` what the model was told (NaN where there is none),
    `mono_ns` and `wall_ns` the clocks, then `status`, `stepped`, `reset`, `limited`; then by the names of the
    manifest the sample, what the robot got, and with `_raw` behind it what the model gave; and the state after the
    tick, where it is recorded. MCAP's log time is the wall clock, its publish time the monotonic one, which never
    jumps. What it was recorded with, and units, stand in the metadata `lnn-edge`.

    Args:
        path: The first file, `walk.mcap`; where it is there already, and for those that follow, `walk-0001.mcap` and
            so on: nothing is overwritten. Or an object with `write`, which takes bytes, and may have `flush`.
        model: The model whose ticks they are.
        state_every: The state is due with each of so many ticks; 0 for never, but for what replay needs.
        rotate_bytes: Size after which the next file begins; `None` for files of 65,536 chunks, nine hours at least.
        csv: A new file for the same ticks as CSV.
        capacity: Ticks that memory holds until they are written; fewer where they are large.
        start: The state before the first tick; `None` for the initial state.

    Attributes:
        bundle: The digest of the model's manifest, hex.

    Raises:
        ImportError: If the extra `record` is not installed.
        OSError: If a file cannot be opened.
        TypeError, ValueError: If a number is out of range, or `start` is no state of the model.
    """

    def __init__(
        self,
        path: Any,
        model: Model,
        *,
        state_every: int = 0,
        rotate_bytes: int | None = None,
        csv: str | os.PathLike[str] | None = None,
        capacity: int = 4096,
        start: State | None = None,
    ) -> None:
        if not isinstance(path, (str, os.PathLike)) and not callable(getattr(path, "write", None)):
            raise TypeError(f"`path` is {path!r}, expected 'NAME.mcap', or an object with `write`, which takes bytes")
        if not isinstance(getattr(model, "manifest", None), Manifest):
            raise TypeError(f"`model` is {model!r}, expected a model: lnn_edge.load('NAME.lnn')")
        if isinstance(path, (str, os.PathLike)):
            path = given_path(path, "'NAME.mcap'")
        if csv is not None:
            csv = given_path(csv, "the name of a new file: 'NAME.csv'", "csv")
        self.bundle = model.manifest.digest
        self._every = whole_number("state_every", state_every, 0)
        rotate = None if rotate_bytes is None else whole_number("rotate_bytes", rotate_bytes, 1)
        if start is not None and not isinstance(start, State):
            raise TypeError(f"`start` is {number_text(start)}, expected a state: stream.snapshot()")
        if start is not None:
            check_state(start, model.manifest)
        layout = layout_of(model.manifest)
        schema = schema_bytes(model.name, layout)
        face = Face(identifier(model.name), message_name(model.name), schema, describe(model, layout))
        series = Series(path, face)
        self._ring = Ring(model.manifest, layout, whole_number("capacity", capacity, 1))
        self._starts: Starts | None = None
        self._closed = False
        beside = None if csv is None else CsvFile(csv, layout)  # first, as it can be taken back
        try:
            series.open()
        except BaseException:
            if beside is not None:
                beside.discard()
            raise
        self._writer = Writer(self._ring, series, Messages(layout), start=start, rotate_bytes=rotate, csv=beside)
        self._thread = threading.Thread(target=self._writer.run, name="lnn-edge recorder", daemon=True)
        self._thread.start()

    @property
    def wants_state(self) -> bool:
        """Whether the next tick should come with its state: `put(..., state=stream.snapshot())`.

        It is so for each of `state_every` ticks, and where replay needs it: before another file begins, and after
        ticks were dropped. It is a wish: what comes without it is recorded all the same.
        """
        return self._writer.asks or (self._every > 0 and self._ring.count % self._every == 0)

    def put(self, tick: Tick, *, t_s: Any = None, mono_ns: int, wall_ns: int, state: Any = None) -> None:
        """Record a tick; for the thread of the loop. It never raises and never waits.

        Args:
            tick: What became of the sample.
            t_s: The sample's time, as for `Stream.step`; `None` if it brought none.
            mono_ns: When, by the monotonic clock, nanoseconds.
            wall_ns: When, by the wall clock, nanoseconds since 1970.
            state: The state after the tick: of `Stream.snapshot()`; or its tensors alone, by name, copied here.
        """
        starts = self._starts
        if not self._ring.put(tick, t_s, mono_ns, wall_ns, state, starts):
            self._writer.asks = True
            return
        if starts is not None:
            self._starts = None
        if state is not None and isinstance(state, State):
            self._writer.asks = False

    def begin(self, state: State) -> None:
        """Say that the next tick starts from a state that no tick led to, after `restore` for instance.

        A reset that the tick itself reports needs no such word.
        """
        self._starts = [*(self._starts or ()), (self._ring.count, state, True)]

    @property
    def full(self) -> bool:
        """Whether a tick would be dropped now, and not once the disk has taken others."""
        return self._ring.is_full and self._thread.is_alive()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files until now."""
        return tuple(self._writer.series.paths)

    @property
    def written(self) -> int:
        """Ticks that are in a file, and as far as the system says on the disk."""
        return self._writer.written

    @property
    def dropped(self) -> int:
        """Ticks that are in none: memory was full, or they could not be written."""
        if self._closed:
            return self._ring.count - self._writer.written
        return self._ring.dropped + self._writer.lost

    @property
    def csv_rows(self) -> int | None:
        """Ticks that are in the CSV; `None` without one."""
        return self._writer.csv_rows

    @property
    def error(self) -> str | None:
        """What went wrong last, in words; `None` if nothing did."""
        return self._writer.error

    def finish(self) -> bool:
        """Let what was put be written, as no tick comes any more; whether it is. Never waits; `close` still has to."""
        self._writer.stop.set()
        return not self._thread.is_alive()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is left, complete the file, and close it.

        Args:
            timeout_s: How long to wait for that, seconds, > 0. What is not written then counts as dropped.
        """
        self._writer.stop.set()
        self._thread.join(real_number("timeout_s", timeout_s, above=0.0, unit=", in seconds"))
        self._closed = True
        if self._thread.is_alive():
            self._writer.error = f"what it writes to took nothing for {timeout_s:g} s, so the recording has no end"

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
