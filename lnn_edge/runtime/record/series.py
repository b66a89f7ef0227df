"""The files of a recording, one after the other: walk.mcap, walk-0001.mcap, ...; each opens by itself.

No file that is there is overwritten: a program that is started again goes on with the next number.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors.numpy import save

from ...files.whole import check_still_there, named_in_errors, sync_names
from ..state import State
from .library import mcap_records
from .mcap_file import Face, McapFile
from .messages import Encoded

__all__ = ["GIVEN", "STATE_MEDIA", "STATE_PREFIX", "Series", "state_bytes"]

STATE_PREFIX, STATE_MEDIA = "state-before-", "application/x-safetensors"  # of attachments
GIVEN = ".given"  # in their names, where the loop went on from a state that no tick led to
_T = TypeVar("_T")
_MOST = 1 << 20  # files of one recording


class Series:
    """Writes the files; for the writer's thread alone, but for the first opening.

    Args:
        target: The path of the first file, or an object with `write` that takes bytes, which is not closed.
        face: What every file begins with.

    Attributes:
        paths: The files, as they were opened.
        dead: Whether nothing can be written any more.
    """

    def __init__(self, target: Any, face: Face) -> None:
        mcap_records()  # first, as it may be missing
        self._face = face
        self._path = Path(target) if isinstance(target, (str, os.PathLike)) else None
        self._sink: Any = None if self._path is not None else target
        self._plain = False  # a file that can be cut back to its last complete chunk
        self._file: McapFile | None = None
        self._faced = False  # whether what stands before the ticks is written
        self.paths: list[Path] = []
        self.dead = False
        self._number = 0

    @property
    def is_open(self) -> bool:
        """Whether a file is open."""
        return self._file is not None

    @property
    def size(self) -> int:
        """Bytes of the file that is written."""
        return 0 if self._file is None else self._file.size

    @property
    def chunks(self) -> int:
        """Chunks of the file that is written."""
        return 0 if self._file is None else self._file.chunks

    @property
    def rotates(self) -> bool:
        """Whether another file can follow."""
        return self._plain

    def open(self) -> None:
        """Open the next file, empty.

        Raises:
            OSError: If it cannot be opened.
        """
        file, path = McapFile(self._write, self._face), self._path
        self._faced = False
        if path is not None and path.exists() and not path.is_file() and not path.is_dir():  # a pipe or a device
            self._sink = os.fdopen(os.open(path, os.O_WRONLY | os.O_CLOEXEC), "wb", buffering=0)
            self.paths.append(path)
        elif path is not None:
            self._open_plain(path, file)
        self._file = file

    def _open_plain(self, first: Path, file: McapFile) -> None:
        """A new file that has its name only once it can be read, so that no kill leaves one that cannot."""
        if not first.parent.is_dir():
            raise FileNotFoundError(f"directory '{first.parent}' does not exist. Type: mkdir -p {first.parent}")
        nameless = _nameless(first)
        if nameless is not None:
            with os.fdopen(nameless, "wb", buffering=0, closefd=False) as self._sink:
                try:
                    with named_in_errors(first):
                        file.begin()
                        self._faced = True
                        os.fsync(nameless)
                    own = f"/proc/self/fd/{nameless}"
                    # With a folder's descriptor, whatever it is, Python follows the link that this is.
                    path, _ = self._named(first, lambda path: os.link(own, path, src_dir_fd=nameless))
                except BaseException:
                    os.close(nameless)
                    raise
            descriptor = nameless
        else:  # a file system that has none without a name
            create = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            path, descriptor = self._named(first, lambda path: os.open(path, create, 0o666))
        self._sink = os.fdopen(descriptor, "wb", buffering=0)
        self._plain = True
        self.paths.append(path)
        sync_names(path.parent)

    def _named(self, first: Path, make: Callable[[Path], _T]) -> tuple[Path, _T]:
        """The first name of the row that is free, and what was made there."""
        for number in range(self._number, _MOST):
            path = first if number == 0 else first.with_name(f"{first.stem}-{number:04d}{first.suffix}")
            try:
                with named_in_errors(path):
                    made = make(path)
            except FileExistsError:
                if path.is_dir():
                    raise IsADirectoryError(f"'{path}' is a directory, expected a file name") from None
                continue
            self._number = number + 1
            return path, made
        raise FileExistsError(f"'{first}' has {_MOST:,} files already. Record to another name")

    def begin(self, start: State | None, tick: int) -> None:
        """Write what stands before the ticks, of which `tick` is the first, and the state before it if it is known."""
        if not self._faced:
            self._all_or_nothing(self._opened.begin)
            self._faced = True
        if start is not None:
            self.attach(start, tick)

    def attach(self, state: State, tick: int, *, given: bool = False) -> None:
        """Write the state before a tick; `given` if no tick led there."""
        name = f"{STATE_PREFIX}{tick}{GIVEN if given else ''}.safetensors"
        self._all_or_nothing(self._opened.attach, name, STATE_MEDIA, state_bytes(state), 0)

    def chunk(self, encoded: Encoded) -> None:
        """Write ticks as a chunk, and wait for the disk.

        Raises:
            OSError: If they cannot be written; the file holds none of them then.
        """
        self._all_or_nothing(self._opened.chunk, encoded)
        self.sync()

    def end(self, metadata: dict[str, str]) -> None:
        """Complete the file, and close it."""
        file = self._opened
        try:
            self._all_or_nothing(file.end, metadata)
            self.sync()
        finally:
            self.close()

    def close(self) -> None:
        """Close what was opened here."""
        self._file = None
        if self._path is not None and self._sink is not None:
            self._sink.close()

    def sync(self) -> None:
        """Wait until what was written is on the disk; a pipe has none."""
        if not self._plain:
            flush = getattr(self._sink, "flush", None)
            if flush is not None:
                flush()
            return
        with named_in_errors(self.paths[-1]):
            os.fsync(self._sink.fileno())
            check_still_there(self._sink.fileno())

    @property
    def _opened(self) -> McapFile:
        if self._file is None:
            raise OSError(errno.EBADF, "no file is open")
        return self._file

    def _all_or_nothing(self, write: Callable[..., object], *arguments: object) -> None:
        """Write, and cut off what is there if it fails; where nothing can be cut off, that was the last writing."""
        file = self._opened
        before = file.mark()
        try:
            write(*arguments)
        except BaseException:
            self.dead = not self._plain
            if self._plain:
                self._sink.truncate(before[0])
                self._sink.seek(before[0])
                file.back_to(before)
            raise

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                written = self._sink.write(rest)
                rest = rest[len(rest) if written is None else written :]
        except OSError as error:
            error.filename = str(self.paths[-1]) if self.paths else None
            raise


def state_bytes(state: State) -> bytes:
    """A state as safetensors: its tensors as `state.NAME`, what a stream keeps beside them as `kept.NAME`."""
    tensors = {f"state.{name}": np.ascontiguousarray(value) for name, value in state.tensors.items()}
    kept = {f"kept.{name}": np.ascontiguousarray(value) for name, value in state.kept.items()}
    data: bytes = save(tensors | kept)
    return data


def _nameless(target: Path) -> int | None:
    """A file without a name, on the disk of a folder; `None` where there is none."""
    try:
        with named_in_errors(target):
            descriptor = os.open(target.parent, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL) and target.parent.is_dir():
            return None
        raise
    if not Path(f"/proc/self/fd/{descriptor}").exists():  # no name can be given to it then
        os.close(descriptor)
        return None
    return descriptor
