"""Timer slack: by how much Linux may let a thread's sleeps end late, to wake for several at once."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["set_timer_slack", "timer_slack", "timer_slack_ns"]

_SET, _GET = 29, 30  # PR_SET_TIMERSLACK and PR_GET_TIMERSLACK of linux/prctl.h


def timer_slack_ns() -> int:
    """The slack of the calling thread, nanoseconds; usually 50,000.

    Raises:
        OSError: If this is not Linux.
    """
    return _prctl(_GET, 0)


def set_timer_slack(slack_ns: int) -> None:
    """Set it for the calling thread, >= 1; 0 is the default of the thread that started it.

    Raises:
        OSError: If this is not Linux, or the kernel refuses.
    """
    _prctl(_SET, slack_ns)


@contextmanager
def timer_slack(slack_ns: int) -> Iterator[None]:
    """Set the slack of the calling thread within a `with`.

    Raises:
        OSError: If this is not Linux, or the kernel refuses.
    """
    usual = timer_slack_ns()
    set_timer_slack(slack_ns)
    try:
        yield
    finally:
        set_timer_slack(usual)


def _prctl(option: int, argument: int) -> int:
    if sys.platform != "linux":
        raise OSError("timer slack is a setting of Linux")
    function = ctypes.CDLL(None, use_errno=True).prctl
    function.restype = ctypes.c_int
    result: int = function(ctypes.c_int(option), *map(ctypes.c_ulong, (argument, 0, 0, 0)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl: {os.strerror(error)}")
    return result
