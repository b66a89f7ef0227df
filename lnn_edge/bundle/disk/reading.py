"""A bundle's files as its readers hold them: all open, so that each is of one bundle, whatever takes its place.

Who replaces a bundle where the system has no exchange leaves a moment with none; the old one lies beside the place
then, locked as long as its writer lives. A reader waits for it, and puts it back if the writer is gone.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from ...errors import BundleError
from ...files.staging import OLD, free, leftovers, settle
from ...files.whole import named_in_errors, real_place

__all__ = ["OpenBundle", "opened_bundle"]

_WAIT_S = 1.0  # for a bundle on its way: two renames take microseconds, on a network or a busy card milliseconds
_TURN_S = 0.002
# What is wrong with the machine, and with no bundle: it may be read in a moment.
_OF_THE_MACHINE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT})
_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC  # which needs no right to list it


class OpenBundle(msgspec.Struct, frozen=True):
    """The files of a bundle, each by its descriptor or by what is said where it cannot be opened."""

    root: Path
    status: os.stat_result  # of the directory, before they were opened
    files: dict[str, int | BundleError]

    def descriptor(self, name: str) -> int:
        """Of one of them.

        Raises:
            BundleError: If it could not be opened.
        """
        found = self.files[name]
        if isinstance(found, BundleError):
            raise found
        return found

    def is_changed(self) -> bool:
        """Whether another has its place since, or is about to; or files in it were added, removed or replaced."""
        try:
            now = os.stat(self.root)
        except OSError:
            return True
        return not os.path.samestat(now, self.status) or now.st_mtime_ns != self.status.st_mtime_ns


@contextmanager
def opened_bundle(root: Path, names: Iterable[str]) -> Iterator[OpenBundle]:
    """Open the files of those names that a bundle may have, all at once.

    What is open stays as it is, though another bundle takes the place of this one and this one is removed. If that
    comes while they are opened, they are opened anew.

    Raises:
        BundleError: If there is no bundle, even after a second where one is on its way; or if it cannot be opened.
        OSError: If the machine opens none now: too many are open, or the disk does not answer.
    """
    end = time.monotonic() + _WAIT_S
    while True:
        with ExitStack() as stack:
            found = _opened(root, names, stack, end)
            if not found.is_changed() or time.monotonic() > end:
                yield found
                return


def _opened(root: Path, names: Iterable[str], stack: ExitStack, end: float) -> OpenBundle:
    directory = _directory(root, end)
    stack.callback(os.close, directory)
    found = OpenBundle(root, os.fstat(directory), {})
    for name in names:
        try:
            with named_in_errors(root / name):
                found.files[name] = descriptor = _opened_file(directory, name)
        except BundleError as error:
            found.files[name] = error
        else:
            stack.callback(os.close, descriptor)
    return found


def _opened_file(directory: int, name: str) -> int:
    """One file, without waiting for a pipe; links are refused, because a bundle points at nothing outside itself."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        raise BundleError(f"{name} is missing. Export the bundle again or copy the whole directory") from None
    except OSError as error:
        if error.errno in _OF_THE_MACHINE:
            raise
        reason = "it is a link, and a bundle holds plain files only" if error.errno == errno.ELOOP else error.strerror
        raise BundleError(f"{name} cannot be read: {reason}") from error


def _directory(root: Path, end: float) -> int:
    while True:
        try:
            return os.open(root, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            if not isinstance(error, FileNotFoundError) or time.monotonic() > end or not _is_on_its_way(root):
                raise BundleError(_missing(root)) from None
        except OSError as error:
            if error.errno in _OF_THE_MACHINE:
                raise
            raise BundleError(f"bundle '{root}' cannot be read: {error.strerror}") from error
        time.sleep(_TURN_S)


def _is_on_its_way(root: Path) -> bool:
    """Whether it is worth to look again: a bundle was moved out of the way for another, or has come since."""
    place = real_place(root)
    olds = [path for path, target, kind in leftovers(place.parent) if kind == OLD and target == place]
    for old in olds:
        with free(old) as unused:
            if unused:
                settle(old, place, OLD)
    return bool(olds) or place.exists()


def _missing(root: Path) -> str:
    with suppress(OSError, ValueError):
        if not stat.S_ISDIR(os.stat(root).st_mode):
            engine = f". For an engine type: lnn-edge build BUNDLE --backend tensorrt-rtx --from {root}"
            hint = engine if root.suffix == ".engine" else ""
            return f"'{root}' is a file, but a bundle is a directory that `lnn-edge export` writes{hint}"
    if root.suffix == ".engine":
        return f"no engine at '{root}'. Type: lnn-edge build BUNDLE --backend tensorrt-rtx --for GPU -o {root}"
    return f"no bundle at '{root}'. Type: lnn-edge export FILE.py:FACTORY {root}"
