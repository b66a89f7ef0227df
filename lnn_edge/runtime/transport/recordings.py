"""Recordings from files: tables of one robot, read by their names and put in the order of their numbers."""

from __future__ import annotations

import csv
import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...arrays import Array
from ...files.whole import given_path
from ...named import names_differ
from ...wording import choices, listed
from .csv_file import Table, is_hole, open_table, reader
from .header_faults import (
    blank_lines,
    comment_fault,
    encoding_fault,
    header_fault,
    is_number,
    no_column,
    too_many_cells,
)
from .text_lines import TextLines
from .time_column import number

__all__ = ["read_recordings"]


def read_recordings(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    columns: Sequence[str] | None = None,
    *,
    reset_column: str | None = None,
) -> list[Array]:
    """Read recordings from CSV files, by the rules of `lnn-edge run`: UTF-8, a header, commas, a sample per line.

    Args:
        files: A file, a pattern such as "run*.csv", or a list of these. The files of a pattern come in the order of
            their names, with numbers in them by size: run2.csv before run10.csv.
        columns: The columns to take, in this order; `None` takes all of them, in the order of the first file. Those of
            the other files are matched by name.
        reset_column: Column whose change begins a new recording within a file; it is left out, unless `columns` names
            it. `None` takes each file as one.

    Returns:
        A list of recordings, each a NumPy array (samples,) with a field for each column: float64 where its cells are
        finite numbers, text where none of them is one. `recording["hip"]` is a column, `recording[["hip", "knee"]]`
        several, `pandas.DataFrame(recording)` a frame. A `fit` takes them: `model.fit([r[inputs] for r in recordings],
        [r["angle"] for r in recordings])`.

    Raises:
        ValueError: If a file has other columns than the first, or a row or cell that cannot be used; the message names
            file and line.
        OSError: If there is no such file, or it cannot be read.
    """
    paths = _paths(files)
    tables = [_cells(path) for path in paths]
    wanted = _wanted(paths[0], tables[0][0], columns)
    recordings: list[Array] = []
    for path, (header, rows) in zip(paths, tables, strict=True):
        _check_header(path, header, wanted if columns is not None else tables[0][0], paths[0], exact=columns is None)
        taken = [name for name in wanted if name != reset_column or columns is not None]
        recordings += [_recording(path, header, part, taken) for part in _split(path, header, rows, reset_column)]
    _check_kinds(recordings)
    return recordings


def _paths(files: Any) -> list[Path]:
    if isinstance(files, (str, os.PathLike)):
        files = [files]
    elif not isinstance(files, Sequence) or isinstance(files, bytes) or not files:
        raise TypeError(f"`files` is {files!r}, expected a file, a pattern such as 'run*.csv', or a list of these")
    found = [path for own in files for path in _matching(own)]
    twice = next((path for path in found if found.count(path) > 1), None)
    if twice is not None:
        raise ValueError(f"'{twice}' is named twice, and would be two recordings")
    return found


def _matching(name: Any) -> list[Path]:
    text = str(given_path(name, "a file, a pattern such as 'run*.csv', or a list of these", "files"))
    if os.path.exists(text) or not glob.has_magic(text):
        return [Path(text)]
    found = sorted(glob.glob(text, recursive=True), key=_natural)
    if not found:
        folder = Path(text).parent
        there = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
        hint = choices(Path(text).name, there) if there else f"Type: ls {folder}"
        raise FileNotFoundError(f"no file matches '{text}'. {hint}")
    return [Path(path) for path in found]


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Numbers in a name by their size, and before letters."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts if part] + [(1, name)]


_Row = tuple[int, list[str]]  # line, cells


def _cells(path: Path) -> tuple[list[str], list[_Row]]:
    """Header and rows of a file, all of the same width."""
    source = f"'{path}'"
    with open_table(path) as file:
        table = reader(TextLines(file))
        header = _header(table, source)
        rows = list(_rows(table, len(header), source))
    if not rows:
        raise ValueError(f"{source} has a header but no samples")
    return header, rows


def _header(table: Table, source: str) -> list[str]:
    try:
        cells = next(table, None)
    except csv.Error as error:
        wrong = encoding_fault(table.newest, source)
        raise ValueError(f"{source} {wrong}" if wrong else f"{source}, line 1: not CSV: {error}") from error
    if cells is None:
        raise ValueError(f"{source} is empty; expected a header row")
    if not any(cell.strip() for cell in cells):
        raise ValueError(f"{source} {blank_lines(source)}")
    header = [name.strip() for name in cells]
    odd = next((name for name in header if not name or header.count(name) > 1 or is_number(name)), None)
    if odd is not None:
        if is_number(odd):
            raise ValueError(f"{source} begins with numbers, expected a header with the names of its columns")
        what = f"the column '{odd}' {header.count(odd)} times" if odd else "a column without a name"
        raise ValueError(f"{source} has {what}; expected different names")
    if len(header) == 1:  # another separator, a comment or another encoding
        wrong = header_fault(table.newest, header, ["?"], "?", source)
        if not wrong.startswith("has no column"):
            raise ValueError(f"{source} {wrong}")
    return header


def _rows(table: Table, width: int, source: str) -> Iterator[_Row]:
    while True:
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{source}, line {table.line_num}: not CSV: {error}") from error
        if cells and len(cells) != width:
            wrong = comment_fault(cells, source) or too_many_cells(cells, width)
            raise ValueError(f"{source}, line {table.line_num}: {wrong}")
        if cells:
            yield table.line_num, cells


def _wanted(path: Path, header: Sequence[str], columns: Any) -> list[str]:
    if columns is None:
        return list(header)
    if isinstance(columns, (str, bytes)) or not isinstance(columns, (Sequence, np.ndarray)) or not len(columns):
        raise TypeError(f"`columns` is {columns!r}, expected a list of names")
    wanted = [str(name) for name in columns]
    twice = next((name for name in wanted if wanted.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"`columns` has '{twice}' twice, expected different names")
    missing = next((name for name in wanted if name not in header), None)
    if missing is not None:
        raise ValueError(f"'{path}' {no_column(wanted, header, missing)}")
    return wanted


def _check_header(path: Path, header: Sequence[str], wanted: Sequence[str], first: Path, *, exact: bool) -> None:
    got = header if exact else [name for name in header if name in wanted]
    difference = names_differ(got, wanted)
    if difference is not None:
        raise ValueError(
            f"'{path}' has the columns {listed(header)}; expected those of '{first}', {listed(wanted)}: {difference}. "
            "Leave the file out, or name the columns to take: columns=[...]"
        )


def _split(path: Path, header: Sequence[str], rows: list[_Row], reset: str | None) -> Iterator[list[_Row]]:
    if reset is None:
        yield rows
        return
    if reset not in header:
        raise ValueError(f"'{path}' has no column '{reset}', the `reset_column`. {choices(reset, header)}")
    at = header.index(reset)
    begins = [k for k in range(len(rows)) if k == 0 or rows[k][1][at] != rows[k - 1][1][at]]
    for start, stop in zip(begins, [*begins[1:], len(rows)], strict=True):
        yield rows[start:stop]


def _recording(path: Path, header: Sequence[str], rows: Sequence[_Row], names: Sequence[str]) -> Array:
    values: dict[str, Array] = {}
    unread: list[_UnreadError] = []
    for name in names:
        try:
            values[name] = _column(path, name, header.index(name), rows)
        except _UnreadError as error:
            unread.append(error)
    if unread:  # the first as they stand in the file, whatever the order of the columns
        raise min(unread, key=lambda error: error.line)
    recording = np.empty(len(rows), [(name, own.dtype) for name, own in values.items()])
    for name, own in values.items():
        recording[name] = own
    return recording


class _UnreadError(ValueError):
    """A cell that is no number, and its line."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


def _gap_advice(path: Path, cell: str) -> str:
    """What to type where a cell says that there is no value."""
    if not is_hole(cell):
        return ""
    return f". To fill gaps, type: pandas.read_csv({str(path)!r}).interpolate(limit_direction='both')"


def _column(path: Path, name: str, at: int, rows: Sequence[_Row]) -> Array:
    """Numbers, or text if no cell is a number; what is among numbers and none of them is told."""
    cells = [cells[at].strip() for _, cells in rows]
    if not any(map(is_number, cells)):
        return np.array(cells)
    values = np.empty(len(cells))
    for k, cell in enumerate(cells):
        try:
            values[k] = number(cell)
        except ValueError as error:
            text = f"'{path}', line {rows[k][0]}: '{name}' is {error}"
            raise _UnreadError(f"{text}{_gap_advice(path, cell)}", rows[k][0]) from None
    return values


def _check_kinds(recordings: Sequence[Array]) -> None:
    for name in recordings[0].dtype.names or ():
        kinds = {recording.dtype[name].kind for recording in recordings}
        if len(kinds) > 1:
            raise ValueError(f"the column '{name}' holds numbers in some recordings and text in others")
