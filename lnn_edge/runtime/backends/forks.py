"""Legacy of threads that are not there in the child of a fork: locks that nobody gives back, and locked files."""

from __future__ import annotations

import os
import weakref
from threading import RLock, get_ident

__all__ = ["Turns", "closed_in_children", "left_open"]

_locked: dict[int, int] = {}  # descriptors of locked files, and the thread that opened each
_turns: weakref.WeakSet[Turns] = weakref.WeakSet()


class Turns:
    """One thread at a time, a signal's handler among it.

    Attributes:
        lock: To be held; in a fork's child another one, where a thread held it that is not there.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        _turns.add(self)

    def renew(self) -> None:
        """See `lock`."""
        if self.lock.acquire(blocking=False):
            self.lock.release()
        else:
            self.lock = RLock()


def closed_in_children(descriptor: int) -> int:
    """Have a file closed in children of forks by other threads: open there, it would stay locked when closed here."""
    _locked[descriptor] = get_ident()
    return descriptor


def left_open(descriptor: int) -> int:
    """Take that back, before the file is closed."""
    _locked.pop(descriptor, None)
    return descriptor


def _in_a_child() -> None:
    for turns in list(_turns):
        turns.renew()
    me = get_ident()
    for descriptor in [own for own, thread in _locked.items() if thread != me]:
        os.close(left_open(descriptor))


os.register_at_fork(after_in_child=_in_a_child)
