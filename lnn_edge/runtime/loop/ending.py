"""End of a loop by a signal: behind the tick that it is at, so that all is put away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...progress import READERS

__all__ = ["stopped_by_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopped_by_signals(stop: Callable[[str], object]) -> Iterator[Callable[[], None]]:
    """Within a `with`, SIGINT and SIGTERM call a function with their name, and a second one raises KeyboardInterrupt.

    What it gives is called where the end begins: a user who is impatient sends two at once, and of those that come from
    there on the second one raises again.

    In another thread than the main one, which alone gets signals, nothing is changed. Who ignores a signal, as `nohup`
    does, goes on ignoring it.
    """
    usual: dict[int, Any] = {}
    patience_s = READERS.patience_s
    came: list[int] = []

    def handle(number: int, _frame: object) -> None:
        came.append(number)
        READERS.hasten()  # reports as well, which another thread prints
        if len(came) > 1:
            raise KeyboardInterrupt
        stop(signal.Signals(number).name)

    if threading.current_thread() is threading.main_thread():  # no other may set handlers, nor gets signals
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
                usual[number] = signal.signal(number, handle)
    try:
        yield came.clear
    finally:
        for own, handler in usual.items():
            signal.signal(own, handler)
        READERS.patience_s = patience_s
