"""A run that goes on where it was stopped or killed: kept in a file every second, and found there again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from ...files.lines import LinesInPlace
from ..console import LiveNotes, note
from ..keeping.kept_file import KeptFile
from ..keeping.kept_run import Keeping, KeptRun
from ..os_errors import os_error_text
from ..results import Results, Written
from ..signals import Stop
from .kept_feed import KeptFeed, row_again

if TYPE_CHECKING:
    from ...runtime.model import Model
    from ...runtime.record.snapshot import Snapshot
    from ...runtime.transport.csv_file import Columns, Table
    from ...runtime.transport.marked_lines import MarkedLines
    from ...runtime.transport.row import BadRowError, Row
    from .feed import Feed

__all__ = ["Keeper"]


class _KeptRows(KeptRun, frozen=True, forbid_unknown_fields=True):
    """A run between two rows.

    Args:
        feed: What `Feed.kept` gave.
        since_s: Seconds since the last row when it was written.
    """

    feed: KeptFeed
    since_s: float = 0.0


class Keeper:
    """Keeps a run in a file, and knows the one that is there.

    Args:
        keeping: What the user chose.
        model: A loaded model.
        live: See `is_live`.
        source: What is read, for messages.
        output: Where results go; "-" is standard output.

    Raises:
        ValueError: If the file is no snapshot of such a run; with what differs, and the command that begins anew.
        OSError: If it cannot be read or written.
    """

    def __init__(self, keeping: Keeping, model: Model, live: bool, source: str, output: str) -> None:
        self._file = KeptFile(_KeptRows, keeping, model, live, source, output)
        self._every_s, self._model, self._source = keeping.every_s, model, source
        self._note, self._now = LiveNotes("snapshots that could not be written"), monotonic
        self._due_s = self._row_s = self._now()
        self._due_s += keeping.every_s
        self._taken = self._kept = 0  # rows, of this run
        self._whole = True  # False in the middle of a row
        self._save: Callable[[], None] = lambda: None

    @property
    def written(self) -> Written:
        """The results of the run that goes on."""
        return self._file.written

    @property
    def before(self) -> Row | None:
        """The row that the next one follows."""
        return None if self._file.found is None else row_again(self._file.found[1].feed.newest)

    @property
    def text(self) -> str:
        """What the last line says of the file."""
        return f"; the same command goes on from {self._file.place}" if self._file.place.exists() else ""

    def go_on(self, table: Table, lines: MarkedLines | None, columns: Columns, feed: Feed) -> None:
        """Stand where the run that is kept stood.

        Args:
            table: The input, behind its header.
            lines: Its lines; `None` of a live input.
            columns: Where what lies in it.
            feed: One that has taken no row.

        Raises:
            ValueError: If the input is another, or what is kept does not fit.
        """
        if self._file.found is None:
            return
        snapshot, run = self._file.found
        if lines is not None:
            self._file.pass_over(table, lines)
        try:
            columns.times.go_on(run.times)
            feed.go_on(snapshot.state, run.feed, None if lines is not None else self._pause_s(snapshot, run))
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise self._file.refusal(f"does not fit: {error}") from error
        note(f"remark: goes on from {self._file.place}, behind {self._file.behind(snapshot, lines)}")

    def take_all(
        self,
        rows: Iterable[Row | BadRowError],
        feed: Feed,
        results: Results,
        marked: tuple[MarkedLines | None, Columns],
        stop: Stop,
    ) -> None:
        """Feed all rows, each as a whole, and keep now and then where the run stands, and where a signal ends it."""
        lines, columns = marked
        self._save = lambda: self._write(feed, results, lines, columns)
        try:
            for row in rows:
                stop.defer()
                self._whole = False
                feed.take(row)
                if lines is not None:
                    lines.mark()
                self._taken, self._whole, self._row_s = self._taken + 1, True, self._now()
                if self._row_s >= self._due_s:
                    self._keep_if_possible()
                stop.release()
        except KeyboardInterrupt:
            stop.hold()
            if self._whole:
                self.finish()
            raise
        if self._file.found is not None and not self._taken:
            note(f"remark: no row of {self._source} was left to do")

    def _pause_s(self, snapshot: Snapshot, run: _KeptRows) -> float:
        """Seconds since the last row, by the clock of this computer."""
        return abs(self._file.age_s(snapshot)) + run.since_s

    def keep_in_silence(self) -> None:
        """Keep where the run stands while no row comes."""
        if self._whole:
            self._keep_if_possible()

    def finish(self) -> None:
        """Keep where the run stands if it went on since it was kept last.

        Raises:
            OSError: If that cannot be written.
        """
        if self._taken > self._kept:
            self._save()
            self._kept = self._taken

    def _keep_if_possible(self) -> None:
        """Results are worth more than a snapshot: one that cannot be written is told, and the next is tried."""
        try:
            self.finish()
        except OSError as error:
            self._note(os_error_text(error))
        self._due_s = self._now() + self._every_s

    def _write(self, feed: Feed, results: Results, lines: MarkedLines | None, columns: Columns) -> None:
        from ...runtime.record.snapshot import save_snapshot

        size, digest = 0, ""
        if isinstance(results, LinesInPlace):
            results.sync()  # before the snapshot speaks of them
            size, digest = results.size, results.digest
        state, fed = feed.kept()
        since_s = max(0.0, self._now() - self._row_s)
        about = self._file.about(lines, columns)
        done: dict[str, Any] = {"results": results.rows, "size": size, "results_digest": digest}
        run = _KeptRows(**about, **done, feed=fed, since_s=since_s)
        extra = msgspec.json.decode(msgspec.json.encode(run))
        save_snapshot(self._file.place, state, model=self._model, steps=fed.counts.stepped, extra=extra)
