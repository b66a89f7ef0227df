"""A folder in memory for what tests write, where the machine has some to spare; it is given back.

Tests make tens of thousands of files, each of which costs a disk's file system ten times what memory takes. Another
folder is used where `--basetemp` or PYTEST_DEBUG_TEMPROOT names one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["FOLDER", "claimed", "forget", "pytest_sessionfinish", "pytest_sessionstart", "serves"]

FOLDER = Path("/dev/shm")
_MACHINE = Path("/proc/meminfo")
_NEEDED = 4 << 30  # bytes, several times what a run writes
_NAME = "lnn."  # short, as the name of a socket in there has 107 bytes
_OWN = pytest.StashKey[Path]()
_locks: list[int] = []


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.option.basetemp is not None or "PYTEST_DEBUG_TEMPROOT" in os.environ:
        return
    if not serves(FOLDER):
        for old in _left(FOLDER):  # which may be what fills it
            forget(old)
    if serves(FOLDER):
        session.config.stash[_OWN] = claimed(FOLDER)
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(session.config.stash[_OWN])  # where pytest, and what it starts, looks


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Give memory back, once everything is said; what failed stays to be looked at."""
    yield
    if exitstatus == 0 and (own := session.config.stash.get(_OWN, None)):
        forget(own)


def serves(folder: Path) -> bool:
    """Whether it takes all that a run writes, also libraries that are loaded from there, and programs leave as much."""
    try:
        found = os.statvfs(folder)
        told = dict(line.split(":", 1) for line in _MACHINE.read_text().splitlines())
    except OSError:
        return False
    allowed = not found.f_flag & (os.ST_NOEXEC | os.ST_RDONLY) and os.access(folder, os.W_OK | os.X_OK)
    available = int(told["MemAvailable"].split()[0]) << 10
    return allowed and min(found.f_bavail * found.f_frsize, available) >= _NEEDED


def claimed(folder: Path) -> Path:
    """A new folder in there, for this process and its forks until the last of them ends, however it does.

    Of what is left of those that have ended the newest stays; pytest would keep that of a killed one for three days.
    """
    for old in _left(folder)[:-1]:
        forget(old)
    own = Path(tempfile.mkdtemp(prefix=f"new-{_NAME}", dir=folder))
    _locks.append(os.open(own, os.O_RDONLY))
    fcntl.flock(_locks[-1], fcntl.LOCK_EX)
    return own.rename(own.with_name(own.name.removeprefix("new-")))  # now that no other run takes it for left


def _left(folder: Path) -> list[Path]:
    """What is left of this user's processes that have ended, the newest last."""
    found = []
    for path in folder.glob(f"{_NAME}*"):
        with contextlib.suppress(OSError):  # in use, another user's, or gone meanwhile
            number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                status = os.fstat(number)
            finally:
                os.close(number)
            if status.st_uid == os.geteuid():
                found.append((status.st_mtime_ns, path))
    return [path for _, path in sorted(found)]


def forget(folder: Path) -> None:
    """Remove it with all that is in it, also where nothing may be changed."""
    for path, names, _ in os.walk(folder):
        for inner in (os.path.join(path, name) for name in names):
            if not os.path.islink(inner):
                with contextlib.suppress(OSError):
                    os.chmod(inner, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
