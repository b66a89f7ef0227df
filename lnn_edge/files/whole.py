"""Files that appear whole or not at all, what callers name them by, and their bytes read and written to the last."""

from __future__ import annotations

import errno
import io
import math
import os
import select
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..given_numbers import number_text
from .staging import keep_rights, staged

__all__ = [
    "check_kept",
    "check_output",
    "check_still_there",
    "given_path",
    "named_in_errors",
    "read_whole",
    "real_place",
    "staged_file",
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


def check_kept(target: Path) -> None:
    """As `check_output`, of what is read again: who opens a pipe that nobody reads would wait for ever.

    Raises:
        OSError: As `check_output`.
        ValueError: If it is a pipe or a device.
    """
    check_output(target)
    if target.exists() and not target.is_file():
        raise ValueError(f"'{target}' is a pipe or a device, expected the name of a file")


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
            error.filename = str(target)
            del error.filename2  # set to None it would be told: 'y.csv' -> None
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
    with named_in_errors(target), staged_file(place, mode, **options) as (file, temporary):
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


def check_still_there(descriptor: int) -> None:
    """Refuse a file that has no name any more, as what is written to it goes when it is closed.

    Raises:
        FileNotFoundError: If it was removed.
    """
    if not os.fstat(descriptor).st_nlink:
        raise FileNotFoundError(errno.ENOENT, "The file was removed while it was written")


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


@contextmanager
def staged_file(place: Path, mode: str, **options: Any) -> Iterator[tuple[IO[Any], Path]]:
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
