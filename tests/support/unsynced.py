"""Files that wait for no disk: nothing in tests takes the machine's power away, after which alone it would show."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["nothing_waits_for_the_disk"]


@contextmanager
def nothing_waits_for_the_disk() -> Iterator[None]:
    """A block in which `os.fsync` only looks whether the disk could be asked: an export asks it a dozen times."""
    usual = os.fsync

    def fsync(file: int) -> None:
        mode = os.fstat(file).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            usual(file)

    os.fsync = fsync
    try:
        yield
    finally:
        os.fsync = usual
