"""Samples from CSV: columns matched to the model's inputs by name, recordings separated by a reset column."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from ...arrays import Array
from ...wording import choices, listed
from .header_faults import blank_lines, comment_fault, encoding_fault, header_fault, too_many_cells
from .row import BadRowError, Row
from .text_lines import TextLines
from .time_column import TimeColumn, find_time_column, number

__all__ = [
    "Columns",
    "Table",
    "is_hole",
    "load_recordings",
    "open_table",
    "read_columns",
    "reader",
    "rows",
    "rows_ahead",
]

_PLAIN = 1 << 16  # characters; the reader refuses longer cells than it has room for
_HOLES = {"", "nan", "na", "n/a", "null", "none", "inf", "infinity"}


@dataclass(frozen=True)
class Columns:
    """Where the columns of interest lie in a CSV row.

    Args:
        header: All names, in order.
        inputs: Indices of the inputs, in the model's order.
        reset: Index of the column whose change starts a new recording, or `None`.
        time: Index of the column with the sample's time, or `None`.
        times: What reads that column.
        holes: Whether a missing value of an input is NaN in its row; else such a row is a bad one.
    """

    header: tuple[str, ...]
    inputs: tuple[int, ...]
    reset: int | None
    time: int | None
    times: TimeColumn
    holes: bool = False


class Table:
    """Lines of CSV as lists of cells. A sample is one line, so a quote that is not closed spoils that line alone.

    Args:
        lines: Lines of text.

    Attributes:
        line_num: Number of the newest line, from 1.
        newest: That line.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.line_num = 0
        self.newest = ""
        self._source = lines
        self._lines = iter(lines)

    @property
    def cut(self) -> bool:
        """Whether the input ended within the newest line."""
        return isinstance(self._source, TextLines) and self._source.cut

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        line = next(self._lines)
        self.line_num, self.newest = self.line_num + 1, line
        return _cells(line)

    def pass_over(self, until: int) -> bool:
        """Leave out the lines up to a number, whatever they hold; False if there are not as many."""
        while self.line_num < until:
            line = next(self._lines, None)
            if line is None:
                return False
            self.line_num, self.newest = self.line_num + 1, line
        return True

    @property
    def ended(self) -> bool:
        """Whether it is known that no line is to come."""
        return isinstance(self._source, TextLines) and self._source.ended

    def ahead(self) -> Iterator[tuple[int, list[str]]]:
        """Number and cells of the lines that have come already, for a look at them; they are still to be read."""
        lines = self._source.here() if isinstance(self._source, TextLines) else []
        for k, line in enumerate(lines, self.line_num + 1):
            try:
                yield k, _cells(line)
            except csv.Error:
                yield k, [""]


def _cells(line: str) -> list[str]:
    """The cells of a line.

    Raises:
        csv.Error: If it is no CSV.
    """
    if "\0" in line:
        raise csv.Error("it holds a NUL byte, which no text does. The file is damaged there, or not UTF-8")
    line = line.rstrip("\r\n")
    if '"' not in line and "\r" not in line and 0 < len(line) <= _PLAIN:
        return line.split(",")  # as the reader does, in a third of the time
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        if "unexpected end of data" not in str(error):
            raise
        raise csv.Error("a quote is not closed in this line, and a sample is one line") from error


def open_table(path: str | os.PathLike[str]) -> IO[str]:
    """Open a CSV file. A byte that is not UTF-8 makes the cell it is in unusable, not the file.

    Raises:
        OSError: If it is not there, is a directory, or cannot be read.
    """
    place = Path(path)
    if place.is_dir():
        raise IsADirectoryError(f"'{path}' is a directory, expected a CSV file. Type: ls {path}")
    try:
        return open(place, newline="", encoding="utf-8-sig", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        tables = [file.name for file in place.parent.glob("*.csv")] if place.parent.is_dir() else []
        found = choices(place.name, sorted(tables)) if tables else f"Type: ls {place.parent}"
        raise FileNotFoundError(f"no file '{path}', expected a CSV file. {found}") from None


def read_columns(table: Table, names: Sequence[str], reset: str | None, time: str | None, source: str) -> Columns:
    """Read the header and find the model's inputs in it.

    Args:
        table: A CSV reader at its first row.
        names: Feature names of the model's input.
        reset: Name of the reset column, or `None`.
        time: Name of the time column, with `:ms`, `:us` or `:ns` behind it for another unit, or `None`.
        source: What is read, for messages.

    Raises:
        ValueError: If the file is empty, its first row is not CSV, or a column is missing or appears twice.
    """
    try:
        header = next(table, None)
    except csv.Error as error:
        wrong = encoding_fault(table.newest, source, names)
        if wrong:
            raise ValueError(f"{source} {wrong}") from error
        raise ValueError(f"{source}, line {table.line_num}: not CSV: {error}") from error
    if header is None:
        raise ValueError(f"{source} is empty; expected a header row with the columns {listed(names)}")
    if not any(cell.strip() for cell in header):
        raise ValueError(f"{source} {blank_lines(source)} with the columns {listed(names)}")
    columns = [name.strip() for name in header]
    time, unit = (None, None) if time is None else find_time_column(time, columns)
    wanted = [*names, *(c for c in (reset, time) if c is not None)]
    for name in wanted:
        if columns.count(name) > 1:
            raise ValueError(f"{source} has the column '{name}' {columns.count(name)} times; expected it once")
        if name not in columns:
            raise ValueError(f"{source} {header_fault(table.newest, columns, names, name, source)}")
    return Columns(
        tuple(columns),
        tuple(columns.index(name) for name in names),
        None if reset is None else columns.index(reset),
        None if time is None else columns.index(time),
        TimeColumn(unit),
    )


def reader(lines: Iterable[str]) -> Table:
    """A CSV reader that knows its line number; strict about quotes."""
    return Table(lines)


def rows(table: Table, columns: Columns, source: str, before: Row | None = None) -> Iterator[Row | BadRowError]:
    """Parse rows one by one, as they come; an unusable row is yielded as the error that says why.

    Args:
        table: A CSV reader behind its header.
        columns: From `read_columns`.
        source: What is read, for messages.
        before: The row that they follow, where they are not the first.
    """
    previous, started = None if before is None else before.recording, before is not None
    while True:
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRowError(f"{source}, line {table.line_num}: not CSV: {error}{_cut(table)}")
            continue
        if not cells:
            continue
        try:
            row = _parsed(cells, columns, table.line_num, source)
        except BadRowError as error:
            yield BadRowError(f"{error}{_cut(table)}", error.missing)
            continue
        new = not started or (columns.reset is not None and row.recording != previous)
        previous, started = row.recording, True
        yield replace(row, reset=True) if new else row


def rows_ahead(table: Table, columns: Columns, source: str) -> Iterator[Row | BadRowError]:
    """The rows that have come already behind the newest, for a look at them, none marked as new; see `Table.ahead`."""
    columns = replace(columns, times=copy(columns.times))
    for line, cells in table.ahead():
        if cells:
            try:
                yield _parsed(cells, columns, line, source)
            except BadRowError as error:
                yield error


def _cut(table: Table) -> str:
    return "; the input ends within this line" if table.cut else ""


def _parsed(cells: Sequence[str], columns: Columns, line: int, source: str) -> Row:
    if len(cells) != len(columns.header):
        wrong = comment_fault(cells, source) or too_many_cells(cells, len(columns.header))
        raise BadRowError(f"{source}, line {line}: {wrong}")

    def read(index: int, convert: Callable[[str], float] = number) -> float:
        try:
            return convert(cells[index].strip())
        except ValueError as error:
            text = f"{source}, line {line}: '{columns.header[index]}' is {error}"
            raise BadRowError(text, missing=index in columns.inputs and is_hole(cells[index].strip())) from None

    return Row(
        line,
        np.array([read(k, _number_or_hole if columns.holes else number) for k in columns.inputs]),
        None if columns.reset is None else cells[columns.reset],
        None if columns.time is None else read(columns.time, columns.times.seconds),
        reset=False,
        time=None if columns.time is None else cells[columns.time],
    )


def _number_or_hole(cell: str) -> float:
    """A finite number, or NaN where a cell says that there is none."""
    return math.nan if is_hole(cell) else number(cell)


def is_hole(cell: str) -> bool:
    """Whether a cell says that there is no value."""
    return cell.lower().lstrip("+-") in _HOLES


def load_recordings(path: Path, names: Sequence[str], reset: str | None) -> list[Array]:
    """Read a CSV file as recordings, (T, features) float64 each.

    Args:
        path: The file.
        names: Columns to take, in order.
        reset: Column whose change starts a new recording; `None` for one recording.

    Raises:
        ValueError: If a column is missing or a row cannot be used.
        OSError: If the file cannot be read.
    """
    recordings: list[list[Array]] = []
    with open_table(path) as file:
        table = reader(TextLines(file))
        columns = read_columns(table, names, reset, None, f"'{path}'")
        for row in rows(table, columns, f"'{path}'"):
            if isinstance(row, BadRowError):
                raise row
            if row.reset:
                recordings.append([])
            recordings[-1].append(row.values)
    if not recordings:
        raise ValueError(f"'{path}' has a header but no samples")
    return [np.stack(recording) for recording in recordings]
