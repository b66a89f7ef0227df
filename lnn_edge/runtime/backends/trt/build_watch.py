"""A build in a thread of its own: the caller sees how far it is, and Ctrl-C ends it.

TensorRT works for seconds to minutes in one call, during which Python in the same thread sees no signal. Versions from
9.1 on report phases and can be asked to stop; 8.6 does neither, so there an interrupted build is waited for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Generic, TypeVar

from ....progress import Progress

__all__ = ["PERCENT", "Watch", "unfinished", "watched"]

_Result = TypeVar("_Result")

PERCENT = 100  # the total of what is reported, once phases are known
_TICK_S = 0.2
_LOGGER = logging.getLogger("lnn_edge.tensorrt")


class Watch:
    """How far a build is. TensorRT calls the first three from its threads, anyone may read.

    Attributes:
        stop: Set to ask the build to end.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._phases: tuple[tuple[str, int, int], ...] = ()  # (name, steps done, steps), the outermost first

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase began, inside `parent` or on its own."""
        self._phases = (*self._down_to(parent), (phase, 0, max(steps, 1)))

    def step(self, phase: str, done: int) -> bool:
        """`done` steps of a phase are complete; whether to go on."""
        self._phases = tuple(
            (name, done if name == phase else before, steps) for name, before, steps in self._down_to(phase)
        )
        return not self.stop.is_set()

    def finish(self, phase: str) -> None:
        """A phase is over, whether all its steps were reported or not."""
        self._phases = self._down_to(phase)[:-1]

    def percent(self) -> int:
        """How much is done: steps of the outermost phase, and of the phases in its current step."""
        fraction, share = 0.0, 1.0
        for _, done, steps in self._phases:
            share /= steps
            fraction += share * min(done, steps)
        return int(PERCENT * min(fraction, 1.0))

    def phase(self) -> str:
        """The innermost phase, or "" before the first and after the last, and where none are reported."""
        phases = self._phases
        return phases[-1][0] if phases else ""

    def _down_to(self, phase: str | None) -> tuple[tuple[str, int, int], ...]:
        """The phases up to this one; none if it is not among them."""
        names = [name for name, _, _ in self._phases]
        return self._phases[: names.index(phase) + 1] if phase in names else ()


class _Work(threading.Thread, Generic[_Result]):
    """Not a daemon: Python ends daemons while they are inside TensorRT, whose next call of Python then aborts."""

    def __init__(self, work: Callable[[Watch], _Result], watch: Watch) -> None:
        super().__init__(name="lnn-edge-build")
        self._work, self._watch = work, watch
        self._context = copy_context()  # of the caller: whether advice is for a shell or for Python
        # Not `join`: up to Python 3.12 a join that Ctrl-C interrupts takes the thread for ended.
        self.ended = threading.Event()
        self._result: list[_Result] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._result.append(self._context.run(self._work, self._watch))
        except BaseException as error:
            self._error = error
        self.ended.set()

    def outcome(self) -> _Result:
        if self._error is not None:
            raise self._error
        return self._result[0]


def watched(work: Callable[[Watch], _Result], progress: Progress) -> _Result:
    """Run `work` and report how far it is until it ends.

    Args:
        work: Called once, in another thread.
        progress: Called in this thread with (phase, percent done, 100), or with (phase, 0, 0) where nothing is known.

    Returns:
        What `work` returns.

    Raises:
        KeyboardInterrupt: After the work was asked to stop and has ended. A second one does not wait for that, but
            Python does when it ends; see `unfinished`.
    """
    watch = Watch()
    thread = _Work(work, watch)
    try:
        thread.start()
        while not thread.ended.wait(_TICK_S):
            phase = watch.phase()
            progress(phase, watch.percent() if phase else 0, PERCENT if phase else 0)
    except BaseException:
        watch.stop.set()
        if thread.ident is not None and not thread.ended.is_set():
            _LOGGER.warning("waiting for TensorRT to stop the build; press Ctrl-C once more not to wait")
            thread.ended.wait()
        raise
    return thread.outcome()


def unfinished() -> bool:
    """Whether a build that nobody waited for is still running; only `os._exit` ends the process before the build."""
    return any(isinstance(thread, _Work) for thread in threading.enumerate())
