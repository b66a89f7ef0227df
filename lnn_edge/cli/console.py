"""Output of commands: results on standard output, everything else on standard error."""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..bundle.manifest import encode_json
from ..errors import ExportWarning, ModelWarning
from ..files.whole import check_output, named_in_errors, whole_file, write_all
from ..progress import READERS, now_and_then, tell
from .os_errors import STANDARD_OUTPUT

if TYPE_CHECKING:
    from ..progress import Progress

__all__ = [
    "LiveNotes",
    "add_json_argument",
    "check_json_path",
    "emit_json",
    "escape_what_is_unprintable",
    "grid",
    "note",
    "output_file",
    "print_result",
    "print_text",
    "print_utf8",
    "prints_aside",
    "progress_bar",
    "remarks",
    "replace_closed_streams",
]

_WIDTH = 120  # of tables that do not go to a terminal
_QUIET_S = 60.0  # between two lines of a kind: a sensor that fails for an hour says little new in the second minute


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--json FILE|-`."""
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON to FILE, or to standard output with -")


def check_json_path(path: str | None) -> None:
    """Refuse a `--json FILE` that cannot be written, before any long work."""
    if path not in (None, "-"):
        check_output(Path(path))


def print_result(text: str, json: str | None) -> None:
    """Print the result for people; to standard error if standard output carries JSON, as `json`, what `--json` says."""
    if json == "-":
        note(text)
        return
    with named_in_errors(STANDARD_OUTPUT):
        print_text(f"{text}\n")


def note(text: str) -> None:
    """Print a remark that is not the result."""
    tell(f"{text}\n")


class LiveNotes:
    """Prints the first notes of a kind when they happen, then at most one line a minute with the number.

    Who watches a robot hears of a fault at once, and a fault that comes with every sample fills no disk. The summary
    has the number of all.

    Args:
        kind: What they are about, in the plural.
        first: How many of a subject are told each by itself.
        now: The clock, seconds.

    Attributes:
        waiting: How many came that are not told yet.
    """

    def __init__(self, kind: str, first: int = 1, now: Callable[[], float] = time.monotonic) -> None:
        self._kind = kind
        self._first = first
        self._now = now
        self._count = self.waiting = 0
        self._told_s = 0.0
        self._newest = ""
        self._by_subject: dict[str, int] = {}

    def __call__(self, text: str, subject: str = "") -> None:
        """Take one more, and print it if it is one of the first of its subject or a minute has passed.

        Args:
            text: What happened.
            subject: What it happened to, a column for instance; there must be few of them.
        """
        self._count += 1
        alike = self._by_subject[subject] = self._by_subject.get(subject, 0) + 1
        if alike <= self._first:
            rest = f" (further {self._kind} are counted, and told once a minute)" if alike == self._first > 1 else ""
            note(f"warning: {text}{rest}")
            self._told_s = self._now()
            return
        self.waiting, self._newest = self.waiting + 1, text
        self.tick()

    def tick(self) -> None:
        """Print what has come together, once a minute has passed; to be called now and then."""
        if not self.waiting:
            return
        now = self._now()
        if now - self._told_s < _QUIET_S:
            return
        since = f"in the last {now - self._told_s:.0f} s"
        note(f"warning: {self.waiting:,} more {self._kind} {since}, {self._count:,} in all; the newest: {self._newest}")
        self._told_s, self.waiting = now, 0


@contextmanager
def remarks() -> Iterator[None]:
    """Print every `ExportWarning` and `ModelWarning` of a `with` as a remark; others go where they always go."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, (ExportWarning, ModelWarning)):
                note(f"remark: {message}")
            else:
                usual(message, category, *place, **more)

        for own in (ExportWarning, ModelWarning):
            warnings.simplefilter("always", own)
        warnings.showwarning = show
        yield


def prints_aside() -> AbstractContextManager[object]:
    """Let what a user's own code prints in a `with` go to standard error, so that it never stands in a result."""
    return redirect_stdout(sys.stderr)


def print_utf8(text: str) -> None:
    """Print what a program reads: in UTF-8 like every file, whatever the locale says, and at once."""
    print_text(text, "utf-8")


def print_text(text: str, encoding: str | None = None) -> None:
    """Print on standard output, at once and all of it, in the locale's encoding or another."""
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper) and not isinstance(stream.buffer, io.BytesIO):
        stream.flush()  # Python's own writing loses what a pipe that does not block cannot take at once
        data = text.encode(encoding or stream.encoding, stream.errors or "strict")
        write_all(stream.fileno(), data, READERS.patience)
    else:  # in a notebook, for instance
        stream.write(text)
        stream.flush()


def replace_closed_streams() -> None:
    """Let what was closed before the program began (`<&-`, `>&-`) be there again, and fail in words where it is used.

    Were its number left free, the next file that is opened would get it, and take what libraries print. Standard error
    prints into nothing; standard input stays `None`.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # `open` takes the lowest number that is free; it is open the wrong way round, but for errors
            os.open(os.devnull, os.O_WRONLY if number in (0, 2) else os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the program lasts
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def escape_what_is_unprintable() -> None:
    """Let standard output show letters that the locale lacks as Python shows them, instead of ending the command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def emit_json(value: object, json: str | None) -> None:
    """Write the result as JSON where `json` says: to a file, or with "-" to standard output."""
    if json is None:
        return
    data = encode_json(value).decode()
    if json == "-":
        with named_in_errors(STANDARD_OUTPUT):
            print_utf8(data)
        return
    with output_file(json) as file:
        file.write(data)
    note(f"saved {json}")


@contextmanager
def output_file(path: str) -> Iterator[IO[str]]:
    """Open a text file that appears whole when the `with` ends, or not at all.

    A pipe or a device is written when the `with` ends. A link stays a link: the file that it names is replaced.
    """
    with whole_file(Path(path), "w", newline="", encoding="utf-8") as file:
        yield file


def grid(
    headers: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None, left: Sequence[int] = (0,)
) -> str:
    """Lay out a table as plain text; the columns named in `left` hold words and are left-aligned, the others right."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=SIMPLE, title_justify="left", pad_edge=False)
    for k, header in enumerate(headers):
        table.add_column(header, justify="left" if k in left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    drawn = io.StringIO()  # its own `capture` writes to standard output as well, though nothing
    Console(file=drawn, width=_WIDTH, no_color=True, highlight=False, markup=False).print(table)
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines()).rstrip()


@contextmanager
def progress_bar(description: str) -> Iterator[Progress]:
    """Show progress: a bar on a terminal, elsewhere a line every 10 s. Yields a function (phase, done, total)."""
    if not sys.stderr.isatty():
        yield _progress_lines(description)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=None)
        yield lambda phase, done, total: progress.update(
            task, description=f"{description}: {phase}", completed=done, total=total or None
        )


def _progress_lines(description: str) -> Progress:
    due = now_and_then()

    def show(phase: str, done: int, total: int) -> None:
        if due():
            note(f"{description}: {phase}" + (f", {done:,} of {total:,}" if total else ""))

    return show
