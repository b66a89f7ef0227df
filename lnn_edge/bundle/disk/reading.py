"""A bundle's directory as its readers hold it: open, so that every file is of one bundle, whatever takes its place.

Who replaces a bundle where the system has no exchange leaves a moment with none; the old one lies beside the place
then, locked as long as its writer lives. A reader waits for it, and puts it back if the writer is gone.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ...errors import BundleError
from ...staging import OLD, free, leftovers, settle

__all__ = ["Directory", "opened_directory"]

_WAIT_S = 1.0  # for a bundle on its way: two renames take microseconds, on a network or a busy card milliseconds
_TURN_S = 0.002
_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC  # which needs no right to list it


@dataclass(frozen=True)
class Directory:
    """A bundle's directory, held open."""

    root: Path
    descriptor: int
    status: os.stat_result  # when it was opened

    def open(self, name: str) -> int:
        """Open one file, without waiting for a pipe; links are refused, because a bundle points at nothing outside.

        Raises:
            BundleError: If that is not possible.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return os.open(name, flags, dir_fd=self.descriptor)
        except FileNotFoundError:
            raise BundleError(f"{name} is missing. Export the bundle again or copy the whole directory") from None
        except OSError as error:
            link = error.errno == errno.ELOOP
            reason = "it is a link, and a bundle holds plain files only" if link else error.strerror
            raise BundleError(f"{name} cannot be read: {reason}") from error

    def is_changed(self) -> bool:
        """Whether another has its place since, or is about to; or files in it were added, removed or replaced."""
        try:
            now = os.stat(self.root)
        except OSError:
            return True
        return not os.path.samestat(now, self.status) or now.st_mtime_ns != self.status.st_mtime_ns


@contextmanager
def opened_directory(root: Path) -> Iterator[Directory]:
    """Hold a bundle's directory open.

    Raises:
        BundleError: If there is none, even after a second where one is on its way; or if it cannot be opened.
    """
    descriptor = _descriptor(root)
    try:
        yield Directory(root, descriptor, os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _descriptor(root: Path) -> int:
    end = time.monotonic() + _WAIT_S
    while True:
        try:
            return os.open(root, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            if not isinstance(error, FileNotFoundError) or time.monotonic() > end or not _is_on_its_way(root):
                raise BundleError(_missing(root)) from None
        except OSError as error:
            raise BundleError(f"bundle '{root}' cannot be read: {error.strerror}") from error
        time.sleep(_TURN_S)


def _is_on_its_way(root: Path) -> bool:
    """Whether it is worth to look again: a bundle was moved out of the way for another, or has come since."""
    place = root.resolve()
    olds = [path for path, target, kind in leftovers(place.parent) if kind == OLD and target == place]
    for old in olds:
        with free(old) as unused:
            if unused:
                settle(old, place, OLD)
    return bool(olds) or place.exists()


def _missing(root: Path) -> str:
    with suppress(OSError, ValueError):
        if not stat.S_ISDIR(os.stat(root).st_mode):
            return f"'{root}' is a file, but a bundle is a directory that `lnn-edge export` writes"
    return f"no bundle at '{root}'. Type: lnn-edge export FILE.py:FACTORY {root}"
