"""Signals that end a command, which first puts away what it has begun, or keeps what it has done."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import Any

from ..progress import READERS

__all__ = ["Stop", "stoppable"]

# Ctrl-C; systemd, docker and `kill`; the end of the terminal or of an ssh connection.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S = 0.02
_IMPORTLIB = ExtensionFileLoader.exec_module.__code__.co_filename


class Stop:
    """What to do on a signal: raise KeyboardInterrupt, wherever the command is. `exit_code` says which one `came`."""

    def __init__(self) -> None:
        self.exit_code = 128 + signal.SIGINT
        self.came = False
        self._held = self._deferred = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler."""
        if self._held:
            return
        if _loads_native_code(frame):  # which dies of what is raised in it; it takes a moment
            later = threading.Timer(_AGAIN_S, self._again, (number,))
            later.daemon = True
            later.start()
            return
        again, self.exit_code, self.came = self.came, 128 + number, True
        READERS.hasten()
        if again or not self._deferred:
            raise KeyboardInterrupt

    @staticmethod
    def _again(number: int) -> None:
        if isinstance(signal.getsignal(number), Stop):  # else the command is over
            os.kill(os.getpid(), number)

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


def _loads_native_code(frame: FrameType | None) -> bool:
    """Whether an extension module is being loaded, by whatever frame called this one."""
    while frame is not None:
        code = frame.f_code
        loads = code.co_name in ("create_module", "exec_module") and code.co_filename == _IMPORTLIB
        if loads and isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        frame = frame.f_back
    return False


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
