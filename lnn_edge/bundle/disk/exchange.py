"""Exchange of two names in one call of the system, so that at every moment both are there."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

__all__ = ["exchange"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# The kernel, the file system or a sandbox does not have it; what else forbids it forbids plain renames as well.
_REFUSED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths of one file system trade what they name, on Linux; say whether it was done.

    Returns:
        False where the system has no exchange, or if nothing is at `other`; then nothing was changed.

    Raises:
        OSError: If it is not allowed.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # macOS, and C libraries before 2018
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _REFUSED or (number == errno.ENOENT and not os.path.lexists(other)):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))
