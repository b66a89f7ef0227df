"""Files that appear whole or not at all, and files of lines that hold every line that was finished."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import math
import os
import select
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .given_numbers import number_text
from .staging import keep_rights, staged

__all__ = [
    "Lines",
    "LinesInPlace",
    "check_output",
    "continued_file",
    "digest_of",
    "given_path",
    "growing_file",
    "named_in_errors",
    "read_whole",
    "real_place",
    "sync_names",
    "whole_file",
    "write_all",
]

_LOOK_UP_MS = 200


def check_output(target: Path) -> None:
    """Refuse a file name that cannot be written to, before any long work.

    Raises:
        OSError: If the directory is missing, or the name is that of a directory.
    """
    if not target.parent.is_dir():
        raise FileNotFoundError(f"directory '{target.parent}' does not exist. Type: mkdir -p {target.parent}")
    if target.is_dir():
        raise IsADirectoryError(f"'{target}' is a directory, expected a file name")
    if not target.exists() or target.is_file():  # a pipe or a device is written where it is
        _check_replaceable(real_place(target), str(target))


def _check_replaceable(place: Path, shown: str) -> None:
    """Refuse a place where no file may take its name: in a folder of others', or one that is mounted for reading."""
    folder = place.parent
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        number = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(number, os.strerror(number), shown)
    if not place.exists():
        return
    own, around = os.stat(place), os.stat(folder)
    if around.st_mode & stat.S_ISVTX and os.geteuid() not in (0, own.st_uid, around.st_uid):
        raise OSError(errno.EPERM, "belongs to another user, in a folder where each may replace his own alone", shown)


def real_place(target: Path) -> Path:
    """Where a name leads through all links.

    Raises:
        OSError: If its links lead in a circle, which `resolve` tells by another error before Python 3.13.
    """
    try:
        return target.resolve()
    except RuntimeError as error:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target)) from error


def given_path(path: Any, what: str, name: str = "path") -> Path:
    """A path that a caller passes.

    Args:
        path: The path.
        what: What it should be, for messages: "the path of a bundle: 'NAME.lnn'".
        name: Of the argument.

    Raises:
        TypeError: If it is none.
        ValueError: If no file can have that name.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise TypeError(f"`{name}` is {number_text(path)}, expected {what}")
    if not text or "\0" in text:
        raise ValueError(f"`{name}` is {number_text(text)}, a name that no file has; expected {what}")
    return Path(path)


def read_whole(path: Path, what: str, most: int) -> bytes:
    """All bytes of a file, read once and never more than it had when it was opened.

    A file that shrinks or is replaced meanwhile is refused; mapped into memory it would end the process.

    Args:
        path: The file.
        what: What it should be, for messages: "a checkpoint".
        most: Bytes that it may have.

    Raises:
        OSError: If it is not there, is a directory, or cannot be read.
        ValueError: If it is no plain file, too large, or changed while it was read.
    """
    with named_in_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # which waits for no pipe
    try:
        size = _plain_size(descriptor, path, what, most)
        data = bytearray()
        while chunk := os.read(descriptor, size + 1 - len(data)):
            data += chunk
    finally:
        os.close(descriptor)
    if len(data) != size:
        raise ValueError(f"'{path}' changed while it was read. Try again when nothing writes to it")
    return bytes(data)


def _plain_size(descriptor: int, path: Path, what: str, most: int) -> int:
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"'{path}' is a directory, expected {what}. Type: ls {path}")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"'{path}' is a pipe or a device, expected {what}")
    if status.st_size > most:
        raise ValueError(f"'{path}' has {status.st_size:,} bytes, expected {what} of at most {most:,}")
    return status.st_size


@contextmanager
def named_in_errors(target: Path | str, stage: Path | None = None) -> Iterator[None]:
    """Let the system's errors of the block name `target`, which is what the user typed.

    Args:
        target: The file or directory; without `stage`, nothing but writing it belongs in the block.
        stage: A temporary place that nobody knows: only errors that name it or what lies in it are changed.
    """
    try:
        yield
    except OSError as error:
        ours = stage is None or str(error.filename).startswith(str(stage))
        if error.errno is not None and ours:
            error.filename, error.filename2 = str(target), None
        raise


@contextmanager
def whole_file(target: Path, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Open a file that takes its place, on disk and complete, when the block ends without an error.

    A link stays a link: the file that it names is replaced. A pipe or a device is written where it is, when the block
    ends: nothing may take the place of /dev/null.

    Args:
        target: The file.
        mode: As for `open`.
        options: As for `open`.
    """
    check_output(target)
    if target.exists() and not target.is_file():
        with named_in_errors(target), open(target, "wb", buffering=0) as pipe:
            written = io.BytesIO()
            file: IO[Any] = written if "b" in mode else io.TextIOWrapper(written, **options)
            yield file
            file.flush()
            write_all(pipe.fileno(), written.getvalue())
        return
    place = real_place(target)
    with named_in_errors(target), _staged(place, mode, **options) as (file, temporary):
        yield file
        file.flush()
        _put_in_place(file, temporary, place)


def sync_names(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, as a power cut leaves them.

    Raises:
        OSError: If the disk fails.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with named_in_errors(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes, most_s: Callable[[], float] = lambda: math.inf) -> None:
    """Write every byte, and wait where a pipe or a terminal is full.

    It looks up now and then, as a signal that comes just before a wait wakes nobody. So a pipe, whether it blocks or
    not, gets no more at once than it takes without waiting.

    Args:
        descriptor: Open for writing.
        data: What to write.
        most_s: How long to wait for each part, seconds; asked again and again, as a signal may shorten it.

    Raises:
        OSError: If it cannot be written; `TimeoutError` if nobody takes it.
    """
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    most = len(data) if len(data) <= select.PIPE_BUF or _is_file(descriptor) else select.PIPE_BUF
    written = waited_ms = 0
    while written < len(data):
        if ready.poll(_LOOK_UP_MS):
            with suppress(BlockingIOError):
                written += os.write(descriptor, data[written : written + most])
                waited_ms = 0
        else:
            waited_ms += _LOOK_UP_MS
            if waited_ms >= 1e3 * most_s():
                raise TimeoutError(errno.ETIMEDOUT, "nobody reads what is written")


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


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
            self._heading = "" if self.size else line
            return
        self._begin()
        super().write(line)
        self._sum.update(line.encode())

    def sync(self) -> None:
        """Wait until all finished lines are on the disk."""
        if self._descriptor >= 0:
            with named_in_errors(self._target):
                os.fsync(self._descriptor)

    def open(self) -> None:
        """Open the file, which nobody else continues meanwhile, and cut it where the lines go on.

        Raises:
            ValueError: If another process continues it, or it has not the lines that were written.
            OSError: If it cannot be written.
        """
        with named_in_errors(self._target):
            mode = os.O_RDWR | os.O_CLOEXEC | (0 if self.size else os.O_CREAT)
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
        """Cut what is no finished line, and close; `whole` says that no line is to come, and there is a file then."""
        try:
            if whole and self._refused is None:
                self._begin()
                self.sync()
            if self._descriptor >= 0:
                _cut(self._descriptor, self.size)
        finally:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _begin(self) -> None:
        if self._refused is not None:
            raise self._refused
        if self._descriptor < 0:
            try:
                self.open()
            except ValueError as error:
                self._refused = error
                raise
        if self._heading:
            line, self._heading = self._heading, ""
            super().write(line, heading=True)
            self._sum.update(line.encode())
        self.in_place = True

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
            file, temporary = stack.enter_context(_staged(place, "wb", buffering=0))
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


@contextmanager
def _staged(place: Path, mode: str, **options: Any) -> Iterator[tuple[IO[Any], Path]]:
    """A new file beside `place`, and its temporary name, which is gone after the block."""
    with (
        staged(place, lambda name: _make_file(name, place)) as (temporary, descriptor),
        open(descriptor, mode, closefd=False, **options) as file,
    ):
        yield file, temporary


def _make_file(path: Path, place: Path) -> int:
    """For the same readers as the file that it will replace, from its first byte on; else as the umask has it."""
    private = place.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if private else 0o666)
    if private:
        keep_rights(descriptor, place)
    return descriptor


def _put_in_place(file: IO[Any], temporary: Path, place: Path) -> None:
    os.fsync(file.fileno())
    os.replace(temporary, place)
