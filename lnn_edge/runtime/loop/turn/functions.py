"""Functions of the user's in a loop: what they raise, and take too long for, is counted; leaving alone ends a loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ....wording import microseconds, one_line
from ..timer import Timer

__all__ = ["FunctionCounts", "FunctionFault", "UserFunction"]


class FunctionFault(Exception):
    """A function of the user's raised, or took too long.

    Args:
        name: Its place in the loop: before, after, on_fault.
        what: What happened, in words.
    """

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"the function `{name}` {what}")
        self.name = name


@dataclass(frozen=True)
class FunctionCounts:
    """What became of a function's calls.

    Args:
        calls: How many there were.
        failed: Of these, how many raised, or returned what cannot be used.
        slow: How many took longer than the limit.
        longest_us: What the longest took, microseconds.
    """

    calls: int
    failed: int
    slow: int
    longest_us: float


class UserFunction:
    """Calls a function and looks at what becomes of it. It cannot be interrupted: that it is slow is known afterwards.

    Args:
        name: Its place in the loop.
        call: The function.
        limit_ns: How long it may take, nanoseconds.
        timer: The clock.
        leave: Called with the SystemExit by which it leaves the program, a fault as well.

    Attributes:
        fault: What the last call did wrong, `None` for nothing.
    """

    def __init__(
        self,
        name: str,
        call: Callable[..., Any],
        limit_ns: int,
        timer: Timer,
        leave: Callable[[SystemExit], object],
    ) -> None:
        if not callable(call):
            raise TypeError(f"`{name}` is {call!r}, expected a function")
        self.fault: FunctionFault | None = None
        self._name, self._call, self._limit_ns, self._timer, self._leave = name, call, limit_ns, timer, leave
        self._calls = self._failed = self._slow = self._longest_ns = 0

    def __call__(self, argument: object) -> Any:
        """What the function returns; `None` if it raised. `fault` says what was wrong."""
        self.fault, found = None, None
        self._calls += 1
        began = self._timer.monotonic_ns()
        try:
            found = self._call(argument)
        except KeyboardInterrupt:  # no fault of the function
            raise
        except BaseException as error:  # GeneratorExit as well
            if isinstance(error, SystemExit):
                self._leave(error)
            self._fail(f"raised {type(error).__name__}: {one_line(error)}", error)
        took = self._timer.monotonic_ns() - began
        if took > self._longest_ns:
            self._longest_ns = took
        if took > self._limit_ns:
            self._slow += 1
            limit = f"took {microseconds(took / 1e3)}, and its limit is {microseconds(self._limit_ns / 1e3)}"
            self.fault = self.fault or FunctionFault(self._name, limit)
        return found

    def refuse(self, what: str, error: Exception) -> None:
        """Count as failed what the last call returned; `what` says why, in words."""
        self._fail(what, error)

    def _fail(self, what: str, error: BaseException) -> None:
        self._failed += 1
        self.fault = FunctionFault(self._name, what)
        self.fault.__cause__ = error

    @property
    def counts(self) -> FunctionCounts:
        """What became of its calls."""
        return FunctionCounts(self._calls, self._failed, self._slow, self._longest_ns / 1e3)
