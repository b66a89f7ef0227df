"""A program in a folder of its own, which ends with all that it started: also when whoever waits is interrupted."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # here and below: a machine without a compiler must not wait for what it has no use for
    import subprocess

__all__ = ["watched"]

_TICK_S = 0.2


def watched(command: list[str], folder: Path, timeout_s: float, memory_bytes: int | None = None) -> tuple[str, int]:
    """Run a command to its end.

    Args:
        command: What to start, without a shell.
        folder: In which it is started, and which is its folder for temporary files.
        timeout_s: How long it may take, seconds.
        memory_bytes: What it and each program that it starts may take; `None` for no limit.

    Returns:
        What it said, and its status, below 0 for a signal.

    Raises:
        OSError: If it cannot be started.
    """
    running = _Running(command, folder, timeout_s, memory_bytes)
    try:
        running.thread.start()
        while not running.ended.wait(_TICK_S):  # a signal that another thread received wakes nobody who waits
            pass
    except BaseException:  # Ctrl-C as well, which comes to this thread alone: the other is never between two steps
        running.stop()
        if running.thread.ident is not None:
            running.ended.wait()
        raise
    if isinstance(running.result, BaseException):
        raise running.result
    return running.result


class _Running:
    """A command in a thread of its own, where no signal's handler runs: what was started is always known."""

    def __init__(self, command: list[str], folder: Path, timeout_s: float, memory_bytes: int | None) -> None:
        self.thread = threading.Thread(target=self._run, name="compiler")
        self.ended = threading.Event()
        import signal

        self.result: tuple[str, int] | BaseException = ("error: it was stopped", -signal.SIGKILL)
        self._command, self._folder, self._timeout_s, self._memory_bytes = command, folder, timeout_s, memory_bytes
        self._lock, self._stopped = threading.Lock(), False
        self._process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """End it, and what it started."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                _end(self._process)

    def _run(self) -> None:
        try:
            with self._lock:
                if self._stopped:
                    return
                self._process = _started(self._command, self._folder)
                if self._memory_bytes is not None:
                    _limit(self._process.pid, self._memory_bytes)
            self.result = _finished(self._process, self._timeout_s)
        except BaseException as error:
            self.result = error
        finally:
            self.ended.set()


def _started(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    import subprocess

    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"LC_ALL": "C", "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # what it starts ends with it, and a Ctrl-C at the terminal is ours to pass on
    )


def _finished(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[str, int]:
    import subprocess

    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        import signal

        _end(process)
        process.communicate()
        return f"error: it took more than {timeout_s:.0f} seconds", -signal.SIGKILL
    return said.decode(errors="replace"), process.returncode


def _limit(pid: int, memory_bytes: int) -> None:
    """Memory of what was just started and of what it starts; a system that cannot limit it compiles all the same."""
    import resource

    with suppress(OSError, AttributeError, ValueError):
        resource.prlimit(pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _end(process: subprocess.Popen[bytes]) -> None:
    import signal

    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
