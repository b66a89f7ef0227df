"""Staged names: hidden places beside a target, each locked by who fills it, so that what a kill leaves is known.

A file or bundle is made as `.NAME.xxxxxxxx.lnn-edge.partial` and then takes its place. Its lock (`flock`, on the place
itself) is free once its maker is gone, whatever ended it; whoever stages something in the same folder removes it then.
Where a file system has no such locks nothing is removed. A claim of a file is such a place as well, always the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "OLD",
    "PARTIAL",
    "beside",
    "claimed",
    "free",
    "keep_rights",
    "leftovers",
    "lock",
    "moved",
    "settle",
    "staged",
    "sweep",
]

PARTIAL = "partial"  # not whole yet, or no longer wanted: its owner is gone, so it may go
OLD = "old"  # a whole bundle, moved out of the way for another
_CLAIM = "0" * 8
_CLAIM_TRIES, _CLAIM_REST_S = 5, 0.01  # somebody who sweeps has the lock for a moment
_STAGED = r"(?s:\.(.+)\.[0-9a-f]{8}\.lnn-edge\.(partial|old))"


def beside(place: Path, kind: str) -> Path:
    """A new hidden name in the same folder."""
    return place.with_name(f".{place.name}.{os.urandom(4).hex()}.lnn-edge.{kind}")


@contextmanager
def staged(place: Path, make: Callable[[Path], int | None]) -> Iterator[tuple[Path, int]]:
    """Make something beside `place` under a name that is locked in the block, and gone after it unless it was moved.

    Args:
        place: What it is to become.
        make: Makes it and opens it; `None` if it was swept before it was open.

    Yields:
        The name, and the descriptor that holds the lock.
    """
    sweep(place.parent)
    name, descriptor = beside(place, PARTIAL), None
    try:  # from before it is there, so that no signal comes between
        while descriptor is None:
            descriptor = _made(name, make)
        yield name, descriptor
    finally:
        try:
            _discard(name)
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _made(name: Path, make: Callable[[Path], int | None]) -> int | None:
    """Its descriptor, locked; `None` if somebody swept it before it was."""
    descriptor = make(name)
    if descriptor is None:
        return None
    lock(descriptor, wait=True)
    if _is_at(descriptor, name):
        return descriptor
    os.close(descriptor)
    return None


def lock(descriptor: int, *, wait: bool = False) -> bool:
    """Lock what is open, and say whether that worked; it does not if somebody has it or there are no such locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether a name is still that of what is open."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


@contextmanager
def claimed(place: Path) -> Iterator[bool]:
    """Claim a file that is replaced again and again, for the block; False if another process has claimed it.

    Where a file system has no such locks, or none can be made there, everybody may.
    """
    name = place.with_name(f".{place.name}.{_CLAIM}.lnn-edge.{PARTIAL}")
    try:
        descriptor = _claim(name)
    except BlockingIOError:
        yield False
        return
    except OSError:
        yield True
        return
    try:
        yield True
    finally:
        _discard(name)
        os.close(descriptor)


def _claim(name: Path) -> int:
    """The descriptor that holds the lock; `BlockingIOError` if somebody else has it, OSError if there are none."""
    for left in reversed(range(_CLAIM_TRIES)):
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, name):
                return descriptor
        except BlockingIOError:
            if not left:
                os.close(descriptor)
                raise
        except OSError:
            _discard(name)
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(_CLAIM_REST_S)
    raise BlockingIOError


@contextmanager
def free(path: Path) -> Iterator[bool]:
    """Whether nobody is at a staged name; if so, nobody else takes it in the block."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # gone, or somebody else's
        yield False
        return
    try:
        yield lock(descriptor) and _is_at(descriptor, path)
    finally:
        os.close(descriptor)


def leftovers(folder: Path) -> Iterator[tuple[Path, Path, str]]:
    """Staged names in a folder, in use or not: the name, the place that it is for, and its kind."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        found = re.fullmatch(_STAGED, name)
        if found:
            yield folder / name, folder / found[1], found[2]


def sweep(folder: Path) -> None:
    """Remove what killed programs left in a folder; the last whole bundle of a name that has none is put back."""
    for path, place, kind in leftovers(folder):
        with free(path) as unused:
            if unused:
                settle(path, place, kind)


def settle(path: Path, place: Path, kind: str) -> None:
    """Put a bundle back that was moved out of the way if its place is free; remove what is not wanted any more."""
    if kind != OLD or not _put_back(path, place):
        _discard(path)


def _put_back(old: Path, place: Path) -> bool:
    """Give a bundle that was moved out of the way its place again; False if another has it, so that it may go."""
    try:
        return moved(old, place)
    except OSError:  # it may be the only one: it stays
        return True


def moved(path: Path, place: Path) -> bool:
    """Rename a bundle; False if another is there, which no rename of a directory replaces.

    Raises:
        OSError: If it cannot be done for another reason.
    """
    try:
        os.rename(path, place)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _discard(path: Path) -> None:
    """Remove a staged name, though a signal comes meanwhile; what cannot be removed stays."""
    with suppress(OSError):
        if path.name.endswith(OLD):  # half of it must not look like a whole one
            partial = path.with_name(path.name.removesuffix(OLD) + PARTIAL)
            os.rename(path, partial)
            path = partial
    try:
        _remove(path)
    except BaseException:
        _remove(path)
        raise


def _remove(path: Path) -> None:
    with suppress(OSError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            import shutil  # which takes as long as all else here

            os.chmod(path, 0o700)  # it may have the mode of a bundle that nobody may write to
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


def keep_rights(descriptor: int, place: Path) -> None:
    """Give what is open the mode, owner and group of what it will replace, if there is anything."""
    try:
        old = os.stat(place)
    except FileNotFoundError:
        return
    for owner, group in ((old.st_uid, -1), (-1, old.st_gid)):
        with suppress(PermissionError):  # only root gives files away
            os.fchown(descriptor, owner, group)
    with suppress(PermissionError):
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
