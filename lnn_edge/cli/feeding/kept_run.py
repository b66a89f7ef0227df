"""A run that goes on where it was stopped or killed: kept in a file every second, and found there again."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic
from typing import IO, TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from ...files import LinesInPlace, check_output
from ...wording import plural
from ..console import LiveNotes, note
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

__all__ = ["Keeper", "Keeping", "is_live"]

Options = dict[str, Any]  # as they are typed, by name


class Keeping(Struct, frozen=True):
    """How a run is kept.

    Args:
        path: The file.
        every_s: How often it is written, seconds.
        options: What was typed that decides how results look, by option.
        policies: What was typed that decides what becomes of rows; the sensor of a live input may get others.
    """

    path: str
    every_s: float
    options: Options
    policies: Options


class _KeptRun(Struct, frozen=True, forbid_unknown_fields=True):
    """A run between two rows, beside the state of its stream.

    Args:
        version: Of this description.
        runner: The backend with its version and device.
        live: Whether the input was none that is there again.
        options, policies: See `Keeping`.
        lines: Lines of the input that were taken; 0 of a live one.
        digest: Their SHA-256, hex; see `MarkedLines`.
        results: Lines of results.
        size: Bytes of the file with them; 0 where they went elsewhere.
        times: What `TimeColumn.kept` gave.
        feed: What `Feed.kept` gave.
    """

    version: int
    runner: str
    live: bool
    options: Options
    policies: Options
    lines: int
    digest: str
    results: int
    size: int
    times: dict[str, Any]
    feed: KeptFeed


def is_live(lines: IO[str]) -> bool:
    """Whether an input is none that can be read from its beginning again, as a file can."""
    try:
        return not stat.S_ISREG(os.fstat(lines.fileno()).st_mode)
    except OSError:  # in memory, as a program passes it
        return True


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
        self._keeping, self._model, self._live, self._source, self._output = keeping, model, live, source, output
        self._place = Path(keeping.path)
        self._note, self._now = LiveNotes("snapshots that could not be written"), monotonic
        self._due_s = self._now() + keeping.every_s
        self._taken = self._kept = 0  # rows, of this run
        self._whole = True  # False in the middle of a row
        self._save: Callable[[], None] = lambda: None
        self._found: tuple[Snapshot, _KeptRun] | None = None
        check_output(self._place)
        if self._place.exists():
            self._found = self._read()

    @property
    def written(self) -> Written:
        """The results of the run that goes on."""
        return Written() if self._found is None else Written(self._found[1].results, self._found[1].size)

    @property
    def before(self) -> Row | None:
        """The row that the next one follows."""
        return None if self._found is None else row_again(self._found[1].feed.newest)

    @property
    def text(self) -> str:
        """What the last line says of the file."""
        return f"; the same command goes on from {self._place}" if self._place.exists() else ""

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
        if self._found is None:
            return
        snapshot, run = self._found
        if lines is not None:
            self._pass_over(table, lines, run)
        try:
            columns.times.go_on(run.times)
            feed.go_on(snapshot.state, run.feed)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise self._refusal(f"does not fit: {error}") from error
        behind = f"line {run.lines:,} of {self._source}" if lines is not None else self._age(snapshot)
        note(f"remark: goes on from {self._place}, behind {behind}")

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
                self._taken, self._whole = self._taken + 1, True
                if self._now() >= self._due_s:
                    self._keep_if_possible()
                stop.release()
        except KeyboardInterrupt:
            stop.hold()
            if self._whole:
                self.finish()
            raise
        if self._found is not None and not self._taken:
            note(f"remark: no row of {self._source} was left to do")

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
        self._due_s = self._now() + self._keeping.every_s

    def _write(self, feed: Feed, results: Results, lines: MarkedLines | None, columns: Columns) -> None:
        from ...runtime.record.snapshot import save_snapshot

        size = 0
        if isinstance(results, LinesInPlace):
            results.sync()  # before the snapshot speaks of them
            size = results.size
        state, fed = feed.kept()
        run = _KeptRun(
            version=1,
            runner=self._model.description,
            live=self._live,
            options=self._keeping.options,
            policies=self._keeping.policies,
            lines=0 if lines is None else lines.before,
            digest="" if lines is None else lines.digest,
            results=results.rows,
            size=size,
            times=columns.times.kept(),
            feed=fed,
        )
        extra = msgspec.json.decode(msgspec.json.encode(run))
        save_snapshot(self._place, state, model=self._model, steps=fed.counts.stepped, extra=extra)

    def _read(self) -> tuple[Snapshot, _KeptRun]:
        from ...runtime.record.snapshot import load_snapshot

        snapshot = load_snapshot(self._place, self._model)
        try:
            run = msgspec.convert(snapshot.extra, _KeptRun)
        except msgspec.ValidationError as error:
            raise self._refusal(f"holds a state, but no run of this version of lnn-edge: {error}") from error
        self._check(run)
        return snapshot, run

    def _check(self, run: _KeptRun) -> None:
        """Refuse a run that this one does not go on from."""
        if run.live != self._live:
            kinds = ("a file", "a live input")
            raise self._refusal(f"is of a run of {kinds[run.live]}, and {self._source} is {kinds[self._live]}")
        pairs = [(run.options, self._keeping.options)]
        if not run.live:
            pairs.append((run.policies, self._keeping.policies))
        for theirs, ours in pairs:
            for name in sorted({*theirs, *ours}):
                if theirs.get(name) != ours.get(name):
                    was, now = (_shown(name, own.get(name)) for own in (theirs, ours))
                    raise self._refusal(f"is of a run {was}, and this is one {now}")
        if not run.live and run.runner != self._model.description:
            raise self._refusal(f"is of a run on {run.runner}, and this is one on {self._model.description}")
        self._check_output(run)

    def _check_output(self, run: _KeptRun) -> None:
        target = Path(self._output)
        if not run.size or self._output == "-" or (target.exists() and not target.is_file()):
            return
        there = f"has {target.stat().st_size:,}" if target.exists() else "is not there"
        if not target.exists() or target.stat().st_size < run.size:
            raise self._refusal(f"is of a run that wrote {run.size:,} bytes of results, and '{target}' {there}")

    def _pass_over(self, table: Table, lines: MarkedLines, run: _KeptRun) -> None:
        """Leave out the lines that were taken, which are still the same."""
        lines.mark()
        while lines.before < run.lines:
            there = table.pass_over(min(lines.before + 1000, run.lines))
            lines.mark()
            if not there:
                raise self._refusal(
                    f"is of a run that took {plural(run.lines, 'line')}, and {self._source} has {lines.before:,}"
                )
        if lines.digest != run.digest:
            raise self._refusal(f"is of a run of another input: the first {run.lines:,} lines of {self._source} differ")

    def _age(self, snapshot: Snapshot) -> str:
        from datetime import datetime, timezone

        age_s = (datetime.now(timezone.utc) - snapshot.wall_time).total_seconds()
        return f"{plural(snapshot.steps, 'sample')}, {age_s:.1f} s later by the clock of this computer"

    def _refusal(self, text: str) -> ValueError:
        return ValueError(f"snapshot '{self._place}' {text}. To begin anew, type: rm {shlex.quote(str(self._place))}")


def _shown(name: str, value: Any) -> str:
    if value in (None, [], {}):
        return f"without {name}"
    text = " ".join(map(str, value)) if isinstance(value, list) else value
    return f"with {name} {text}"
