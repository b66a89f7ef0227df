"""The ticks of a recording as CSV, for a look at them in any program; numbers as short as they come back the same."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ...arrays import Array
from ...files.whole import check_still_there, named_in_errors, write_all
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

    Attributes:
        rows: Ticks that are in it.

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
        self.rows = self._size = 0
        try:
            self._write(",".join([*self._head, *names]) + "\n")
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Close it where no tick was to come, and leave its name free for another try."""
        os.close(self._descriptor)
        self._path.unlink()

    def write(self, ticks: Array) -> None:
        """Write ticks, (n,) of the layout's dtype.

        Raises:
            OSError: If they cannot be written; those that are in it are there whole, and others may follow.
        """
        for first in range(0, len(ticks), _EASE):
            part = ticks[first : first + _EASE]
            self._write("".join(map(self._row, part)))
            self.rows += len(part)
            time.sleep(0)

    def close(self) -> None:
        """Wait for the disk, and close it.

        Raises:
            OSError: If the disk fails, or the file was removed, and its rows with it.
        """
        try:
            with named_in_errors(self._path):
                os.fsync(self._descriptor)
                check_still_there(self._descriptor)
        except FileNotFoundError:
            self.rows = 0
            raise
        finally:
            os.close(self._descriptor)

    def _row(self, tick: Array) -> str:
        cells = [_WORDS.get(int(tick[n]), "?") if n == "status" else _head_text(n, tick[n]) for n in self._head]
        for part in self._parts:
            digits = {"float32": "%.9g", "float64": "%.17g"}.get(part.dtype, "%d")
            cells += [digits % value for value in _in_columns(tick[part.key], part).tolist()]
        return ",".join(cells) + "\n"

    def _write(self, text: str) -> None:
        data = text.encode()
        with named_in_errors(self._path):
            try:
                write_all(self._descriptor, data)
            except BaseException:  # what a full disk took of a row is no row
                os.ftruncate(self._descriptor, self._size)
                os.lseek(self._descriptor, self._size, os.SEEK_SET)
                raise
        self._size += len(data)


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
