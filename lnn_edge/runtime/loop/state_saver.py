"""Saver of a loop's state: taken in memory by the loop, written to disk beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import check_output
from ...given_numbers import nanoseconds, whole_number
from ...wording import one_line
from ..state import State
from .summary import Lost

if TYPE_CHECKING:
    from ..guard.guarded import Guarded
    from ..model import Model

__all__ = ["StateSaver"]


class StateSaver:
    """Keeps the newest state that is to be written, and writes it.

    Args:
        path: The file.
        model: Whose state it is.
        every_s: How often, seconds, > 0.
        extra: Gives what else belongs to the state, when it is taken.
        steps: Steps that were made before.

    Raises:
        TypeError, ValueError: If a number is none, or `extra` no function.
        OSError: If the file cannot be written.
    """

    def __init__(
        self, path: Path, model: Model, every_s: float, extra: Callable[[], Mapping[str, Any]] | None, steps: int
    ) -> None:
        self._path, self._model, self._extra = path, model, extra
        self._every_ns = nanoseconds("snapshot_every_s", every_s)
        self._before = whole_number("steps", steps, 0)
        check_output(path)
        if extra is not None and not callable(extra):
            raise TypeError(f"`extra` is {extra!r}, expected a function that returns a dict")
        self._waiting: tuple[State, int, Mapping[str, Any]] | None = None
        self._taken_ns: int | None = None
        self._written = self._failed = 0
        self._error: str | None = None

    @property
    def lost(self) -> Lost:
        """How many were written and how many failed."""
        return Lost(self._written, self._failed, self._error)

    def offer(self, guarded: Guarded, steps: int, now_ns: int | None) -> None:
        """Take the state if it is time; for the thread of the loop. `now_ns` is `None` for the last one of all."""
        if now_ns is not None and self._taken_ns is not None and now_ns - self._taken_ns < self._every_ns:
            return
        try:
            state = guarded.snapshot()
        except RuntimeError as error:  # another thread is using it: at the next tick then, if there is one
            if now_ns is None:
                self._fail(error)
            return
        self._taken_ns = now_ns
        try:
            extra = {} if self._extra is None else self._extra()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._fail(error)
            return
        self._waiting = (state, self._before + steps, extra)

    def save(self) -> None:
        """Write what waits; for a thread that may wait for the disk."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        from ..record.snapshot import save_snapshot

        state, steps, extra = waiting
        try:
            save_snapshot(self._path, state, model=self._model, steps=steps, extra=extra)
        except Exception as error:  # a full disk: the file that was there stays
            self._fail(error)
            return
        self._written += 1
        self._error = None

    def give_up(self) -> None:
        """Count what waits as lost: the disk did not take it in time."""
        if self._waiting is not None:
            self._waiting = None
            self._fail(TimeoutError("the disk did not take the last one in time"))

    def _fail(self, error: BaseException) -> None:
        self._failed += 1
        self._error = f"{type(error).__name__}: {one_line(error)}"
