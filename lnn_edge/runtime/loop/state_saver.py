"""Saver of a loop's state: taken in memory by the loop, written to disk beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...files.whole import check_kept, given_path
from ...given_numbers import nanoseconds, whole_number
from ...wording import one_line
from ..state import State
from .summary import Lost

if TYPE_CHECKING:
    from ..guard.guarded import Guarded
    from ..model import Model
    from .sink import Behind

__all__ = ["StateSaver", "saver_of"]


class _Taken(NamedTuple):
    """A state, its number of steps, what belongs to it, and what completes that by where results stand."""

    state: State
    steps: int
    extra: Mapping[str, Any]
    mark: Callable[[], Mapping[str, Any]] | None


class StateSaver:
    """Keeps the newest state that is to be written, and writes it.

    Where the sink says where its results stand, a state waits until the results of all ticks before it are written.

    Args:
        path: The file.
        model: Whose state it is.
        every_s: How often, seconds, > 0.
        extra: Gives what else belongs to the state, when it is taken.
        steps: Steps that were made before.

    Attributes:
        sink: Who writes results, `None` where nobody does.

    Raises:
        TypeError, ValueError: If a number is none, `extra` no function, or the path that of a pipe or a device.
        OSError: If the file cannot be written.
    """

    def __init__(
        self, path: Path, model: Model, every_s: float, extra: Callable[[], Mapping[str, Any]] | None, steps: int
    ) -> None:
        self.sink: Behind | None = None
        self._path, self._model, self._extra = path, model, extra
        self._every_ns, self._before = _checked(every_s, extra, steps)
        check_kept(path)
        self._waiting: deque[_Taken] = deque(maxlen=1)  # for the disk
        self._behind = False  # whether one waits for results
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
        if now_ns is not None and self._behind:  # a newer one would have to wait as well
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
        taken = _Taken(state, self._before + steps, extra, None)
        if self.sink is None:
            self._waiting.append(taken)
            return
        self._behind = True
        self.sink.then(lambda mark: self._let_go(taken._replace(mark=mark)))

    def save(self) -> None:
        """Write what waits; for a thread that may wait for the disk."""
        try:
            state, steps, extra, mark = self._waiting.popleft()
        except IndexError:
            return
        from ..record.snapshot import save_snapshot

        try:
            whole = extra if mark is None else {**extra, **mark()}
            save_snapshot(self._path, state, model=self._model, steps=steps, extra=whole)
        except Exception as error:  # a full disk: the file that was there stays
            self._fail(error)
            return
        self._written += 1
        self._error = None

    def give_up(self) -> None:
        """Count what waits as lost: the disk, or who writes results, did not take it in time."""
        if self._waiting or self._behind:
            self._waiting.clear()
            self._behind = False
            self._fail(TimeoutError("the disk did not take the last one in time"))

    def _let_go(self, taken: _Taken) -> None:
        """The results before a state are written; for the thread that does that."""
        self._waiting.append(taken)
        self._behind = False

    def _fail(self, error: BaseException) -> None:
        self._failed += 1
        self._error = f"{type(error).__name__}: {one_line(error)}"


def saver_of(
    snapshot: Any, model: Model, every_s: float, extra: Callable[[], Mapping[str, Any]] | None, steps: int
) -> StateSaver | None:
    """The saver of a loop's arguments, which are checked also where there is no file.

    Raises:
        As `StateSaver`; and TypeError, ValueError: If `snapshot` is no path.
    """
    if snapshot is not None:
        path = given_path(snapshot, "the name of a file for the state: 'NAME.snapshot'", "snapshot")
        return StateSaver(path, model, every_s, extra, steps)
    _checked(every_s, extra, steps)
    return None


def _checked(every_s: Any, extra: Any, steps: Any) -> tuple[int, int]:
    """How often, nanoseconds, and the steps that were made before."""
    if extra is not None and not callable(extra):
        raise TypeError(f"`extra` is {extra!r}, expected a function that returns a dict")
    return nanoseconds("snapshot_every_s", every_s), whole_number("steps", steps, 0)
