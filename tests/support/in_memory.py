"""A folder in memory for what tests write, where the machine has one that serves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["FOLDER", "forget", "serves"]

FOLDER = Path("/dev/shm")
_NEEDED = 4 << 30  # bytes, several times what a run writes


def serves(folder: Path = FOLDER) -> bool:
    """Whether it takes all that a run writes, also libraries that are loaded from there.

    Tests make tens of thousands of files, each of which costs a disk's file system ten times what memory takes.
    """
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    allowed = not found.f_flag & (os.ST_NOEXEC | os.ST_RDONLY) and os.access(folder, os.W_OK | os.X_OK)
    return allowed and found.f_bavail * found.f_frsize >= _NEEDED


def forget(folder: Path) -> None:
    """Remove what a run left in memory; on a disk pytest keeps that of the last runs."""
    if folder.is_relative_to(FOLDER):
        shutil.rmtree(folder, ignore_errors=True)
