"""Faults in the first lines of a table, in words, each with the command that puts it right."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ...named import is_time_name
from ...wording import listed, nearest, typed

__all__ = ["blank_lines", "comment_fault", "encoding_fault", "header_fault", "is_number", "no_column", "too_many_cells"]

_COMMENTS = ("#", "%", "//")
_UNREADABLE = "\ufffd"  # what stands for a byte that is not UTF-8
_SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'", " ": "spaces"}
_ARRAY = "\ufffdNUMPY"
_PACKED = {"PK\x03\x04": "a zip archive, as spreadsheets are", "\x1f\ufffd": "a gzip archive"}


def blank_lines(source: str) -> str:
    """Why a table does not begin with a header; the columns follow."""
    change = _filtered(source, "sed '/[^[:space:]]/,$!d'")
    return f"begins with a blank line. To leave such lines out, {change}. Expected a header"


def encoding_fault(line: str, source: str, names: Sequence[str] = ()) -> str | None:
    """Why the first line is no text in UTF-8; `None` if it is.

    Args:
        line: As it was read, with what is no UTF-8 replaced.
        source: What is read.
        names: The columns that are looked for, if they are known.
    """
    if line.startswith(_ARRAY):
        return f"is an array of NumPy, expected CSV{_as_table(source, names)}"
    for start, kind in _PACKED.items():
        if line.startswith(start):
            advice = "Save the table as CSV in UTF-8"
            if "gzip" in kind:
                advice = f"To unpack it, type: gunzip < {source} > new.csv"
            return f"is {kind}, expected CSV. {advice}"
    encoding = _wide_encoding(line)
    if encoding:
        return f"is in {encoding}, expected UTF-8. To change that, {_filtered(source, f'iconv -f {encoding} -t UTF-8')}"
    if _UNREADABLE in line:
        change = "iconv -f WINDOWS-1252 -t UTF-8"
        return f"is not in UTF-8, maybe in Latin-1 or Windows-1252. To change that, {_filtered(source, change)}"
    return None


def _as_table(source: str, names: Sequence[str]) -> str:
    """How an array becomes a table of these columns."""
    if not names or source == "standard input":
        return ". Type: np.savetxt(..., delimiter=',', header='the,columns', comments='')"
    write = (
        'np.savetxt(sys.stdout, np.load(sys.argv[1]).reshape(-1, {}), delimiter=",", header=sys.argv[2], comments="")'
    )
    code = f"import sys, numpy as np; {write.format(len(names))}"
    return f". To change that, type: python -c {shlex.quote(code)} {source} {shlex.quote(','.join(names))} > new.csv"


def _wide_encoding(line: str) -> str | None:
    """UTF-16 or UTF-32 by where the zeros stand."""
    marked = line.startswith(_UNREADABLE * 2)
    plain = line.lstrip(_UNREADABLE)
    if "\0" not in plain[:8]:
        return None
    if "\0\0" in plain[:8]:
        return "UTF-32" if marked else ("UTF-32BE" if plain.startswith("\0") else "UTF-32LE")
    return "UTF-16" if marked else ("UTF-16BE" if plain.startswith("\0") else "UTF-16LE")


def header_fault(line: str, columns: Sequence[str], names: Sequence[str], missing: str, source: str) -> str:
    """Why a column is not found: what stands in place of a header, the encoding or the separator, or its own name.

    Args:
        line: The first line.
        columns: Its cells.
        names: The columns that are looked for.
        missing: The first that is not found.
        source: What is read.
    """
    if line.lower().startswith("sep="):
        others = f" | {_to_commas(line[4:5])}" if line[4:5] in (";", "\t", "|") else ""
        change = _filtered(source, f"sed 1d{others}")
        return f"begins with {line!r}, which only spreadsheets read. To leave it out, {change}"
    return (
        _comment_first(line, names, source)
        or _separator(columns, names, source)
        or encoding_fault(line, source, names)
        or _no_header(columns, names, source)
        or no_column(names, columns, missing)
    )


def no_column(names: Sequence[str], columns: Sequence[str], missing: str) -> str:
    """Which columns are not there, what stands there, and which may be meant; or that a model has no names for them."""
    lacking = [name for name in names if name not in columns] or [missing]
    free = [column for column in columns if column not in names]
    if missing in names and _are_made_up(names):
        measured = [column for column in free if not is_time_name(column)]
        given = measured if len(measured) == len(names) else [*(measured[:2] or ["NAME"]), "..."]
        return (
            f"has no column '{missing}', a name that an export without names makes up; there are {listed(columns)}. "
            f"Name all {len(names)} columns, in the model's order, at the export: "
            f"{typed(f'inputs={given}', '--inputs ' + ','.join(given))}"
        )
    several = f"s {listed(map(repr, lacking))}" if len(lacking) > 1 else f" '{lacking[0]}'"
    near = dict.fromkeys(filter(None, (nearest(name, free) for name in lacking)))
    hint = f" Did you mean {' and '.join(map(repr, near))}?" if near else ""
    return f"has no column{several}. Valid: {listed(columns)}.{hint}"


def _are_made_up(names: Sequence[str]) -> bool:
    """Whether they are what an export calls columns that nobody named: input_0, input_1, ..."""
    stem = names[0].rpartition("_")[0]
    return bool(stem) and list(names) == [f"{stem}_{k}" for k in range(len(names))]


def _comment_first(line: str, names: Sequence[str], source: str) -> str | None:
    mark = next((mark for mark in _COMMENTS if line.lstrip().startswith(mark)), None)
    if mark is None:
        return None
    bare = [cell.strip() for cell in line.lstrip().removeprefix(mark).split(",")]
    shown = shlex.quote("1s|^ *" + mark + " *||")
    if set(names) <= set(bare):
        return f"has '{mark}' before its header. To leave it out, {_filtered(source, f'sed {shown}')}"
    return f"begins with a comment, {line[:40]!r}, expected a header. {_without_comments(mark, source)}"


def comment_fault(cells: Sequence[str], source: str) -> str | None:
    """Why a line that is a comment is no row; `None` if it is none."""
    mark = next((mark for mark in _COMMENTS if cells and cells[0].lstrip().startswith(mark)), None)
    if mark is None:
        return None
    return f"it is a comment, which CSV has not. {_without_comments(mark, source)}"


def _without_comments(mark: str, source: str) -> str:
    pattern = shlex.quote(f"\\|^ *{mark}|d")
    return f"To leave comments out, {_filtered(source, f'sed {pattern}')}"


def too_many_cells(cells: Sequence[str], columns: int) -> str:
    """Why a row has not as many cells as the header."""
    message = f"{len(cells)} cells, but the header has {columns}"
    if 1 < columns < len(cells) <= 2 * columns and all(is_number(cell) for cell in cells if cell.strip()):
        return f"{message}. If they are decimal commas, save the table with points, or with ';' between cells"
    return message


def _separator(columns: Sequence[str], names: Sequence[str], source: str) -> str | None:
    cells = "" if len(columns) > 1 else columns[0]
    separator = next((s for s in _SEPARATORS if s in cells), None)
    if separator is None or (separator == " " and not set(cells.split()) >= set(names)):
        return None
    return (
        f"separates its cells by {_SEPARATORS[separator]}, expected commas. To change that, "
        f"{_filtered(source, _to_commas(separator))}"
    )


def _to_commas(separator: str) -> str:
    """A table with another separator has no commas, or decimal ones: one command is right for both."""
    return f"tr {'-s ' if separator == ' ' else ''}',{chr(92) + 't' if separator == chr(9) else separator}' '.,'"


def _no_header(columns: Sequence[str], names: Sequence[str], source: str) -> str | None:
    if not all(is_number(cell) for cell in columns):
        return None
    message = f"begins with numbers, expected a header with the columns {listed(names)}"
    if len(names) != len(columns):
        return f"{message}. Put a line with the names of its {len(columns)} columns on top"
    return f"{message}. If that is their order, {_filtered(source, 'sed ' + shlex.quote('1i ' + ','.join(names)))}"


def _filtered(source: str, change: str) -> str:
    """The command that changes a table with a filter; what comes live must not wait in a buffer."""
    if source == "standard input":
        return f"type: ... | stdbuf -oL {change} | lnn-edge ..."
    first, *others = change.split(" | ")
    return f"type: {' | '.join([f'{first} < {source}', *others])} > new.csv"


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, as Python reads one."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
