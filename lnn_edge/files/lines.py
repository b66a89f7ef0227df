"""Files of lines that hold every line that was finished, and no part of another."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from .whole import check_output, check_still_there, named_in_errors, real_place, staged_file, sync_names, write_all

__all__ = ["Lines", "LinesInPlace", "continued_file", "csv_line", "digest_of", "growing_file"]


class Lines:
    """Writes lines of UTF-8 text to an open descriptor, each as it comes.

    `rows` counts the lines that were written to their end and are no headings; `size` is their bytes and those of
    headings. A signal or a full disk in the middle of a line leaves both as they were before it. `in_place` says
    whether a `growing_file` has taken its place; it is `None` for what has its place from the beginning. `kept` is
    where its lines are if nothing may take that place.
    """

    def __init__(self, descriptor: int, name: str, rows: int = 0) -> None:
        self._descriptor = descriptor
        self._name = name  # in errors
        self.in_place: bool | None = None
        self.kept: Path | None = None
        self._done = (rows, 0)  # one attribute, so that no signal comes between the two

    @property
    def rows(self) -> int:
        """Finished lines that are no headings."""
        return self._done[0]

    @property
    def size(self) -> int:
        """Bytes of all finished lines."""
        return self._done[1]

    def write(self, line: str, *, heading: bool = False) -> None:
        """Write one line with its line end."""
        data = line.encode()
        try:
            write_all(self._descriptor, data)
        except OSError as error:  # not `named_in_errors`: this runs for every sample
            error.filename = self._name
            self._take_back()
            raise
        self._done = (self.rows + (not heading), self.size + len(data))

    def _take_back(self) -> None:
        """Let a later line begin where one did of which a full disk took a part; a pipe has no way back."""
        with suppress(OSError):
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            os.ftruncate(self._descriptor, self.size)


class LinesInPlace(Lines):
    """Lines at the end of a file that has its place from the beginning; see `continued_file`.

    `digest` is the SHA-256 of all finished lines, hex.
    """

    def __init__(self, target: Path, size: int, rows: int) -> None:
        super().__init__(-1, str(target))
        self._target, self._done, self._heading = target, (rows, size), ""
        self._made = False  # by this, and not there before
        self._refused: ValueError | None = None  # for good: the file is another's, though it may be let go later
        self._sum = hashlib.sha256()
        self.in_place = bool(size)

    @property
    def digest(self) -> str:
        """Of all finished lines."""
        return self._sum.hexdigest()

    def write(self, line: str, *, heading: bool = False) -> None:
        """Write one line with its line end; a heading comes with the first line, and not again behind others."""
        if heading:
            self._heading = line
            return
        self._begin()
        super().write(line)
        self._sum.update(line.encode())
        self.in_place = True

    def sync(self) -> None:
        """Wait until all finished lines are on the disk.

        Raises:
            OSError: If the disk fails, or the file was removed.
        """
        if self._descriptor >= 0:
            with named_in_errors(self._target):
                os.fsync(self._descriptor)
                self.in_place = bool(os.fstat(self._descriptor).st_nlink)
                check_still_there(self._descriptor)

    def open(self) -> None:
        """Open the file, which nobody else continues meanwhile, and cut it where the lines go on.

        Raises:
            ValueError: If another process continues it, or it has not the lines that were written.
            OSError: If it cannot be written.
        """
        with named_in_errors(self._target):
            mode = os.O_RDWR | os.O_CLOEXEC | (0 if self.size else os.O_CREAT)
            self._made = not self._target.exists()
            descriptor = os.open(self._target, mode, 0o666)
            try:
                self._check(descriptor)
                self._sum = hashlib.sha256()
                for data in _first(descriptor, self.size):
                    self._sum.update(data)
                _cut(descriptor, self.size)
                os.lseek(descriptor, self.size, os.SEEK_SET)
                if not self.size:
                    sync_names(real_place(self._target).parent)
            except BaseException:
                os.close(descriptor)
                raise
            self._descriptor = descriptor

    def close(self, *, whole: bool) -> None:
        """Cut what is no finished line, and close; `whole` says that no line is to come, and there is a file then.

        One that was not there before and got no line, as the disk was full, is removed again.
        """
        ended = False
        try:
            if whole and self._refused is None:
                self._begin()
                self.sync()
                ended = True
            if self._descriptor >= 0:
                _cut(self._descriptor, self.size)
        finally:
            if self._descriptor >= 0:
                if self._made and not self.size and not ended:
                    self._remove()
                os.close(self._descriptor)
                self._descriptor = -1

    def _remove(self) -> None:
        place = real_place(self._target)
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._descriptor), os.stat(place)):
                place.unlink()
                self.in_place = False

    def _begin(self) -> None:
        if self._refused is not None:
            raise self._refused
        if self._descriptor < 0:
            try:
                self.open()
            except ValueError as error:
                self._refused = error
                raise
        if self._heading and not self.size:
            super().write(self._heading, heading=True)
            self._sum.update(self._heading.encode())

    def _check(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _written_by_another(self._target) from error
        except OSError:  # a file system without locks
            pass
        size = os.fstat(descriptor).st_size
        if size < self.size:
            raise ValueError(f"'{self._target}' has {size:,} bytes, but {self.size:,} were written")
        if self.size and os.pread(descriptor, 1, self.size - 1) != b"\n":
            raise ValueError(f"'{self._target}' has no end of a line behind {self.size:,} bytes, which were written")


def csv_line(cells: Iterable[object]) -> str:
    """Cells as a line of CSV with its line end."""
    return cast(str, csv.writer(_Echo(), lineterminator="\n").writerow(cells))


class _Echo:
    """What `csv.writer` writes to: `writerow` returns what `write` does, and so the line."""

    def write(self, line: str) -> str:
        return line


def digest_of(target: Path, size: int) -> str:
    """SHA-256, hex, of the first bytes of a file, or of all that it has if it is shorter.

    Raises:
        OSError: If it cannot be read.
    """
    found = hashlib.sha256()
    with open(target, "rb", buffering=0) as file:
        for data in _first(file.fileno(), size):
            found.update(data)
    return found.hexdigest()


def _first(descriptor: int, size: int) -> Iterator[bytes]:
    """So many bytes of a file, in parts."""
    place = 0
    while place < size and (data := os.pread(descriptor, min(size - place, 1 << 20), place)):
        yield data
        place += len(data)


def _cut(descriptor: int, size: int) -> None:
    if os.fstat(descriptor).st_size > size:
        os.ftruncate(descriptor, size)


@contextmanager
def continued_file(target: Path, size: int = 0, rows: int = 0) -> Iterator[LinesInPlace]:
    """Open a file of lines that grows where it is, so that whoever reads it sees each line as it comes.

    Args:
        target: The file. With a size it is cut there; without one, only when the first line comes: if an error ends
            the block before that, one that was there stays as it was.
        size: Bytes that were written before, whole lines.
        rows: Lines among them that are no headings.

    Raises:
        ValueError, FileNotFoundError: If the file has not these bytes.
        OSError: If it cannot be written.
    """
    check_output(target)
    lines, whole = LinesInPlace(target, size, rows), False
    try:
        if size:
            lines.open()
        yield lines
        whole = True
    finally:
        lines.close(whole=whole)


@contextmanager
def growing_file(target: Path) -> Iterator[Lines]:
    """Open a file of lines that takes its place, on disk, when the block ends, whatever ends it.

    It then holds the finished lines and no part of another. Only if an error ends the block before the first line that
    is no heading, there is no file, and one that was there stays as it was. A link stays a link. What cannot take its
    place in the end stays beside it, under another name.

    Raises:
        ValueError: If another process continues the file that is there.
        OSError: If it cannot be written.
    """
    check_output(target)
    place = real_place(target)
    _refuse_continued(place, target)
    with ExitStack() as stack:
        with named_in_errors(target):
            file, temporary = stack.enter_context(staged_file(place, "wb", buffering=0))
        lines = Lines(file.fileno(), str(target))
        lines.in_place = False
        try:
            yield lines
        except BaseException:
            if not lines.rows:
                raise
            with named_in_errors(target):
                _end_lines(lines, file, temporary, place)
            raise
        with named_in_errors(target):
            _end_lines(lines, file, temporary, place)


def _refuse_continued(place: Path, target: Path) -> None:
    """Refuse a file that another process continues: its lines would go on in a file without a name."""
    try:
        with open(place, "rb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _written_by_another(target) from error
    except OSError:  # there is none, it is not to be read, or a file system without locks
        pass


def _written_by_another(target: Path) -> ValueError:
    return ValueError(f"'{target}' is being written by another process. Wait until that ends")


def _end_lines(lines: Lines, file: IO[Any], temporary: Path, place: Path) -> None:
    file.truncate(lines.size)
    os.fsync(file.fileno())
    check_still_there(file.fileno())
    try:
        os.replace(temporary, place)
    except OSError:  # a file that is mounted by itself, or became another user's meanwhile
        if not lines.rows:
            raise
        kept = place.with_name(f"{place.stem}.kept-{os.urandom(4).hex()}{place.suffix}")
        os.rename(temporary, kept)
        lines.kept = kept
        raise
    lines.in_place = True
