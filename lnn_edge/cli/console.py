"""What commands say and where: results on standard output, everything else on standard error."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..manifest import encode_json

__all__ = [
    "add_json_argument",
    "check_json_argument",
    "emit_json",
    "grid",
    "output_file",
    "progress_bar",
    "say",
    "tell",
]

_WIDTH = 120  # of tables that do not go to a terminal


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--json FILE|-`."""
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON to FILE, or to standard output with -")


def check_json_argument(arguments: argparse.Namespace) -> None:
    """Refuse a `--json FILE` that cannot be written, before any long work."""
    path = getattr(arguments, "json", None)
    if path not in (None, "-"):
        _check_output(Path(path))


def say(text: str, arguments: argparse.Namespace) -> None:
    """Print the result for people; to standard error if standard output carries JSON."""
    (sys.stderr if getattr(arguments, "json", None) == "-" else sys.stdout).write(f"{text}\n")


def tell(text: str) -> None:
    """Print a remark that is not the result."""
    sys.stderr.write(f"{text}\n")


def emit_json(value: Any, arguments: argparse.Namespace) -> None:
    """Write the result as JSON where `--json` says."""
    if arguments.json is None:
        return
    data = encode_json(value).decode()
    if arguments.json == "-":
        sys.stdout.write(data)
        return
    with output_file(arguments.json) as file:
        file.write(data)
    tell(f"saved {arguments.json}")


@contextmanager
def output_file(path: str) -> Iterator[IO[str]]:
    """Open a text file that appears whole when the block ends, or not at all; "-" is standard output.

    A pipe or a device is written as it comes. A link stays a link: the file that it names is replaced.
    """
    target = Path(path)
    if path == "-":
        yield sys.stdout
        return
    _check_output(target)
    if target.exists() and not target.is_file():
        with open(target, "w", newline="", encoding="utf-8") as file:
            yield file
        return
    target = target.resolve()
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    try:
        with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def grid(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> str:
    """Lay out a table as plain text; the first column is left-aligned, the others right-aligned."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=SIMPLE, title_justify="left", pad_edge=False)
    for k, header in enumerate(headers):
        table.add_column(header, justify="left" if k == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(width=_WIDTH, no_color=True, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()).rstrip()


def _check_output(target: Path) -> None:
    if not target.parent.is_dir():
        raise FileNotFoundError(f"directory '{target.parent}' does not exist. Type: mkdir -p {target.parent}")
    if target.is_dir():
        raise IsADirectoryError(f"'{target}' is a directory, expected a file name")


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show progress on a terminal; elsewhere print nothing. Yields a function (phase, done, total)."""
    if not sys.stderr.isatty():
        yield lambda _phase, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=None)
        yield lambda phase, done, total: progress.update(
            task, description=f"{description}: {phase}", completed=done, total=total
        )
