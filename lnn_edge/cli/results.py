"""Results of `run`: where they go and how they look, one line per sample, whole and at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from msgspec import Struct

from ..files.lines import Lines, continued_file, csv_line, growing_file
from ..files.whole import check_output
from .console import print_utf8
from .os_errors import STANDARD_OUTPUT
from .signals import Stop

if TYPE_CHECKING:
    from ..arrays import Array
    from ..runtime.model import Model
    from ..runtime.transport.row import Row

    Outputs = Array | dict[str, Array]  # of one sample; several by name

__all__ = ["CellText", "Layout", "Results", "Written", "free_name", "json_line", "make_writer", "open_results"]

_NUMBER = re.compile(r"([+-]?)(?=\.?\d)(\d*)(?:\.(\d*))?([eE][+-]?\d+)?", re.ASCII)


class Layout(Struct, frozen=True):
    """How results look.

    Args:
        format: "csv" or "jsonl".
        reset_column, time_column: Columns of the input to copy in front of the outputs, or `None`.
    """

    format: Literal["csv", "jsonl"]
    reset_column: str | None
    time_column: str | None


class Results(Protocol):
    """Takes one line at a time; the next program in a pipe acts on each, so none waits for the next."""

    in_place: bool | None
    kept: Path | None

    @property
    def rows(self) -> int:
        """Lines that were written to their end and are no headings."""

    def write(self, line: str, *, heading: bool = False) -> None:
        """Write one line with its line end."""


class _Printed:
    """On standard output."""

    def __init__(self, rows: int) -> None:
        self.in_place: bool | None = None
        self.kept: Path | None = None
        self.rows = rows

    def write(self, line: str, *, heading: bool = False) -> None:
        try:
            print_utf8(line)
        except OSError as error:
            error.filename = STANDARD_OUTPUT
            raise
        self.rows += not heading


class Written(NamedTuple):
    """Results that an earlier run wrote, of one that goes on.

    Args:
        rows: How many.
        size: Bytes of the file with them, its heading among them; 0 where they went elsewhere.
    """

    rows: int = 0
    size: int = 0


@contextmanager
def open_results(path: str, stop: Stop, written: Written | None = None) -> Iterator[Results]:
    """Open what `--output` names: "-" is standard output; a pipe or a device is written as it comes.

    A file takes its place when the `with` ends, with the rows that were finished; `stop` lets nothing interrupt that.
    One that goes on with what is `written` grows in its place.
    """
    target, rows = Path(path), 0 if written is None else written.rows
    if path == "-":
        yield _Printed(rows)
        return
    check_output(target)
    if target.exists() and not target.is_file():
        with open(target, "wb", buffering=0) as file:
            lines = Lines(file.fileno(), path, rows)
            yield lines
            lines.in_place = True
        return
    if written is not None:
        with continued_file(target, written.size, written.rows) as continued:
            yield continued
        return
    with growing_file(target) as lines:
        try:
            yield lines
        finally:
            stop.hold()


def make_writer(model: Model, layout: Layout, results: Results) -> Callable[[Row, Outputs], None]:
    """Write the header, if the format has one; return a function that writes one row's outputs."""
    from ..runtime.readouts import label_of

    keys = [c for c in (layout.reset_column, layout.time_column) if c is not None]
    heads = {t.name: [f.name for f in t.features] for t in model.outputs}
    columns, labels = [name for names in heads.values() for name in names], model.manifest.labels
    header = [*keys, *columns, *([free_name("label", [*keys, *columns])] if labels else [])]
    if layout.format == "csv":
        results.write(csv_line(header), heading=True)

    def values(row: Row, y: Outputs) -> Iterator[object]:
        if layout.reset_column is not None:
            yield row.recording
        if layout.time_column is not None:
            yield CellText(row.time or "")
        for head in heads:
            # repr of a float32 as the shortest decimal that gives the same float32 back
            yield from (float(str(v)) for v in (y[head] if isinstance(y, dict) else y))
        if labels and not isinstance(y, dict):  # labels are of a single output
            yield label_of(labels, y)

    def write(row: Row, y: Outputs) -> None:
        if layout.format == "csv":
            results.write(csv_line(values(row, y)))
        else:
            results.write(json_line(header, values(row, y)))

    return write


def free_name(name: str, taken: list[str]) -> str:
    """The name, or one like it that no column has."""
    while name in taken:
        name = f"predicted_{name}"
    return name


def json_line(names: Iterable[str], values: Iterable[object]) -> str:
    """An object by its names as a line with its line end; a number that is a `CellText` has all its digits."""
    pairs = (f"{json.dumps(name)}: {_json(value)}" for name, value in zip(names, values, strict=True))
    return "{" + ", ".join(pairs) + "}\n"


class CellText(str):
    """The text of a number as it was read, every digit of it, or of a date."""


def _json(value: object) -> str:
    number = _NUMBER.fullmatch(value.strip()) if isinstance(value, CellText) else None
    if number is None:
        return json.dumps(value)
    sign, whole, part, power = number.groups(default="")
    return f"{sign.strip('+')}{whole.lstrip('0') or '0'}{f'.{part}' if part else ''}{power}"
