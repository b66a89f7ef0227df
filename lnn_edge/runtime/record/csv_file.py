"""The ticks of a recording as CSV, for a look at them in any program; numbers as short as they come back the same."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ...arrays import Array
from ...files.whole import named_in_errors, write_all
from ..guard.status import Status
from .layout import HEAD, Layout, Part

__all__ = ["CsvFile"]

_MOST = 64  # numbers of a list that get columns of their own; of pictures nobody reads a table
_WORDS = {status.value: status.text for status in Status}
_EASE = 16  # rows, then whoever waits for the interpreter gets it


class CsvFile:
    """Writes ticks, a row each; the state is not among them.

    Args:
        path: A new file.
        layout: Of the ticks.

    Raises:
        OSError: If it cannot be opened, or is there already.
    """

    def __init__(self, path: str | os.PathLike[str], layout: Layout) -> None:
        self._path = Path(path)
        with named_in_errors(self._path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._parts = [part for part in layout.parts if part.role != "state" and part.size <= _MOST * len(part.fields)]
        self._head = [name for name in HEAD if name != "has_state"]
        names = [name for part in self._parts for name in _columns(part)]
        self._write(",".join([*self._head, *names]) + "\n")

    def write(self, ticks: Array) -> None:
        """Write ticks, (n,) of the layout's dtype.

        Raises:
            OSError: If they cannot be written.
        """
        for first in range(0, len(ticks), _EASE):
            self._write("".join(map(self._row, ticks[first : first + _EASE])))
            time.sleep(0)

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    def _row(self, tick: Array) -> str:
        cells = [_WORDS.get(int(tick[n]), "?") if n == "status" else _head_text(n, tick[n]) for n in self._head]
        for part in self._parts:
            digits = {"float32": "%.9g", "float64": "%.17g"}.get(part.dtype, "%d")
            cells += [digits % value for value in _in_columns(tick[part.key], part).tolist()]
        return ",".join(cells) + "\n"

    def _write(self, text: str) -> None:
        with named_in_errors(self._path):
            write_all(self._descriptor, text.encode())


def _head_text(name: str, value: Array) -> str:
    if name.endswith("_s"):
        return "" if value != value else repr(float(value))
    return str(int(value))


def _columns(part: Part) -> list[str]:
    count = part.size // len(part.fields)
    return [name if count == 1 else f"{name}_{k}" for name in part.fields for k in range(count)]


def _in_columns(values: Array, part: Part) -> Array:
    """The numbers of a part in the order of `_columns`: those of one feature together."""
    flat: Array = values.reshape(-1, len(part.fields)).T.reshape(-1)
    return flat
