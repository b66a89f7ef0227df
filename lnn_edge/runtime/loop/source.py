"""Source: where a loop's samples come from. A device of one's own is a class with `read` and `close`, ten lines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ...bundle.columns import InputColumns
from ...wording import one_line
from ..transport.csv_file import open_table, read_columns, reader, rows
from ..transport.row import BadRowError
from ..transport.text_lines import TextLines

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["Sample", "Source", "as_source", "read_from"]

_WANTED = (
    "expected an object with read(timeout_s) and close(), an array of samples, a dict of arrays by input, an iterable, "
    "a function that returns a sample, or the path of a .csv or .jsonl file"
)


class Sample(NamedTuple):
    """One sample.

    Args:
        x: As `Stream.step` takes it.
        t_s: When it was measured, as `Stream.step` takes it; `None` if the source does not know.
        name: Of the source, where several are joined.
    """

    x: Any
    t_s: Any = None
    name: str | None = None


@runtime_checkable
class Source(Protocol):
    """Something that gives samples. It may be read by another thread than the one that made it, one at a time."""

    def read(self, timeout_s: float) -> Sample | None:
        """The next sample, or `None` if there is none after so many seconds; 0 returns at once.

        What is no `Sample` is taken as `as_source` takes what a function gives.

        Raises:
            EOFError: At the end: no sample will come.
            TimeoutError, BlockingIOError: The same as `None`, as sockets say it.
            ValueError: If this one cannot be used; the next read goes on with the one behind it.
        """

    def close(self) -> None:
        """Put away what it holds. Also called where a read failed; nothing is read after it."""


class _Pulled:
    """A source that has its samples ready, one for each read.

    Args:
        take: Gives the next as what `_as_sample` takes, or `None`; raises StopIteration or EOFError at the end.
        close: What to call at the end.
        stored: Whether all samples are there, and lose nothing if they are taken later.
    """

    pulled = True  # a loop that a timer paces reads it at each tick, and not ahead in a thread

    def __init__(
        self, take: Callable[[], Any], close: Callable[[], object] | None = None, *, stored: bool = False
    ) -> None:
        self._take, self._close, self.stored = take, close, stored

    def read(self, timeout_s: float) -> Sample | None:  # noqa: ARG002 - of the protocol
        """See `Source`; it never waits by itself."""
        try:
            found = self._take()
        except StopIteration:
            raise EOFError("the source has no more samples") from None
        return None if found is None else _as_sample(found)

    def close(self) -> None:
        """See `Source`."""
        if self._close is not None:
            self._close()


def read_from(source: Source, timeout_s: float) -> Sample | None:
    """Read a source, of which nobody knows what it gives or raises.

    One that has nothing in time may say so with an error.

    Raises:
        EOFError: At its end.
        Exception: If the read failed.
    """
    try:
        found: Any = source.read(timeout_s)
    except (TimeoutError, BlockingIOError):
        return None
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit for instance, which would end the loop or its thread
        raise RuntimeError(f"the source raised {type(error).__name__}: {one_line(error)}") from error
    return None if found is None else _as_sample(found)


def as_source(given: Any, model: Model | None = None, *, time: str | None = None) -> Source:
    """Make a source of what has samples.

    Args:
        given: A `Source` stays what it is. An array (samples, ...), or a dict of such arrays by input name, gives one
            sample for each read. An iterable, and a function without arguments, give a sample, a pair (t_s, x), a
            `Sample`, or `None` for nothing yet; a function may say that with TimeoutError as well, and ends with
            StopIteration or EOFError. What waits for a device in there holds up the loop: give it a `read(timeout_s)`.
            The path of a CSV file, or of JSON lines `{"t_s": 0.1, "x": [1.0, 2.0]}`, with `x` a dict by input name if
            there are several.
        model: Whose columns a CSV file has.
        time: Of a CSV file the column with each row's time, seconds, or `NAME:ms` and the like.

    Raises:
        TypeError: If it has no samples.
        ValueError: If a file has not the model's columns, or arrays are not of one length.
        OSError: If a file cannot be read.
    """
    if isinstance(given, (str, os.PathLike)):
        return _file_source(Path(given), model, time)
    if isinstance(given, Mapping):
        return _Pulled(iter(_by_input(given)).__next__, stored=True)
    if isinstance(given, Source):
        return given
    if callable(given):
        return _Pulled(given)
    if isinstance(given, Iterable) and not isinstance(given, bytes):
        stored = isinstance(given, (np.ndarray, list, tuple))
        return _Pulled(iter(given).__next__, getattr(given, "close", None), stored=stored)
    raise TypeError(f"the source is a {type(given).__name__}, {_WANTED}")


def _as_sample(found: Any) -> Sample:
    """A sample of what a user's device, function or iterable gave: x, (t_s, x) or a `Sample`."""
    if isinstance(found, Sample):
        return found
    if type(found) is tuple and len(found) == 2 and _is_pair(*found):
        return Sample(found[1], found[0])
    return Sample(found)


def _is_pair(first: Any, second: Any) -> bool:
    """Whether a moment stands before a sample: one value of any kind, as no sample has it beside an array."""
    return np.ndim(first) == 0 and (np.ndim(second) > 0 or isinstance(second, Mapping))


def _by_input(given: Mapping[Any, Any]) -> list[dict[Any, Any]]:
    lengths = {name: len(value) for name, value in given.items()}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"'{name}' {length}" for name, length in lengths.items()) or "none"
        raise ValueError(f"the source is a dict of arrays with different numbers of samples: {found}")
    return [{name: value[k] for name, value in given.items()} for k in range(next(iter(lengths.values())))]


def _file_source(path: Path, model: Model | None, time: str | None) -> Source:
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        lines = open_table(path)
        return _Pulled(_JsonLines(lines, str(path)).__next__, lines.close, stored=path.is_file())
    if suffix != ".csv":
        raise ValueError(f"the source is '{path}', expected a file that ends in .csv, or in .jsonl for JSON lines")
    if model is None:
        raise ValueError(f"the source '{path}' is a table, and only a model says which columns: as_source(path, model)")
    return _csv_source(path, model, time)


def _csv_source(path: Path, model: Model, time: str | None) -> Source:
    try:
        inputs = InputColumns(model.manifest)
    except ValueError as error:
        raise ValueError(f"{error}; or pass arrays, or JSON lines") from None
    file, source = open_table(path), f"'{path}'"
    try:
        table = reader(TextLines(file))
        found = read_columns(table, inputs.names, None, time, source)
    except BaseException:
        file.close()
        raise
    samples = rows(table, found, source)

    def take() -> Sample:
        row = next(samples)
        if isinstance(row, BadRowError):
            raise row
        return Sample(inputs.sample(row.values), row.t_s)

    return _Pulled(take, file.close, stored=path.is_file())


class _JsonLines(Iterator[Sample]):
    """Samples of JSON lines. A generator would end with the first bad one."""

    def __init__(self, file: IO[str], name: str) -> None:
        self._lines, self._name, self._number = TextLines(file), name, 0

    def __next__(self) -> Sample:
        text = ""
        while not text.strip():
            text = next(self._lines)
            self._number += 1
        where = f"'{self._name}', line {self._number}"
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadRowError(f"{where}: not JSON: {error}") from None
        if not isinstance(found, dict) or "x" not in found or set(found) - {"x", "t_s"}:
            raise BadRowError(f'{where}: expected {{"t_s": 0.1, "x": [...]}}, with t_s or without it')
        if not isinstance(found.get("t_s", 0.0), (int, float)) or isinstance(found.get("t_s"), bool):
            raise BadRowError(f"{where}: `t_s` is {found['t_s']!r}, expected a number of seconds")
        return Sample(_array(found["x"], where), found.get("t_s"))


def _array(x: Any, where: str) -> Any:
    if isinstance(x, dict):
        return {name: _array(value, where) for name, value in x.items()}
    try:
        return np.array(x, np.float64)
    except (TypeError, ValueError) as error:
        raise BadRowError(f"{where}: `x` holds no numbers, or rows of different lengths: {error}") from None
