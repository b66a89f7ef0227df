"""Signals that end a command, which first puts away what it has begun, or keeps what it has done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..progress import READERS

__all__ = ["Stop", "stoppable"]

# Ctrl-C; systemd, docker and `kill`; the end of the terminal or of an ssh connection.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """What to do on a signal: raise KeyboardInterrupt, wherever the command is. `exit_code` says which one `came`."""

    def __init__(self) -> None:
        self.exit_code = 128 + signal.SIGINT
        self.came = False
        self._held = self._deferred = False

    def __call__(self, number: int, _frame: object) -> None:
        """The signal's handler."""
        if self._held:
            return
        again, self.exit_code, self.came = self.came, 128 + number, True
        READERS.hasten()
        if again or not self._deferred:
            raise KeyboardInterrupt

    def defer(self) -> None:
        """Let a signal wait until `release`, so that what lies between is done or not; a second one does not wait."""
        self._deferred = True

    def release(self) -> None:
        """Let a signal that has waited end the command here, and later ones wherever they come."""
        self._deferred = False
        if self.came:
            raise KeyboardInterrupt

    def hold(self) -> None:
        """Let no further signal end what follows, which is short: it puts in place what is to be kept."""
        self._held = True


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let signals raise KeyboardInterrupt in the `with`. Who ignores a signal, as `nohup` does, goes on ignoring it.

    Of one within another, the inner one is told, and the outer one of what ends the inner one's `with`.
    """
    stop = Stop()
    usual: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers, nor gets signals
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler in (signal.SIG_DFL, signal.default_int_handler) or isinstance(handler, Stop):
                usual[number] = signal.signal(number, stop)
    outer = next((own for own in usual.values() if isinstance(own, Stop)), None)
    try:
        yield stop
    except KeyboardInterrupt:
        if outer is not None and stop.came:
            outer.exit_code, outer.came = stop.exit_code, True
        raise
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        if outer is None:
            READERS.wait()
