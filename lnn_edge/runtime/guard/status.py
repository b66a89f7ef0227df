"""The status of a tick, and what a tick gave."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

__all__ = ["Status", "Tick"]


class Status(IntEnum):
    """What became of a sample. The numbers stand in recordings and never change.

    Attributes:
        OK: It was stepped, and its output can be trusted.
        WARMING_UP: It was stepped, or started the clock, too soon after a reset for its output to be trusted.
        LATE: It was stepped, later than it was due.
        STALE: There was no sample, or one that is too old.
        NOT_FINITE_INPUT, BAD_INPUT: It was refused, for NaN or infinity; for its shape, type, names, limits, or
            because it came too soon.
        GAP: It was refused, after more time than the model knows.
        CLOCK_BACKWARD: It was refused, as its time is not after that of the one before.
        NOT_FINITE_OUTPUT: It was refused, as the step gave NaN or infinity.
        STATE_OUT_OF_BOUNDS: It was refused, as the step took the state out of its bounds.
        BACKEND_ERROR: It was refused, as the backend failed.
        FUNCTION_FAILED: A function of the user's failed or took too long.
        STOPPED: Nothing is stepped until it is enabled again.
        OFF_PACE: It was stepped, and the samples of a model with fixed time do not come at its period.
    """

    OK = 0
    WARMING_UP = 1
    LATE = 2
    STALE = 3
    NOT_FINITE_INPUT = 4
    BAD_INPUT = 5
    GAP = 6
    CLOCK_BACKWARD = 7
    NOT_FINITE_OUTPUT = 8
    STATE_OUT_OF_BOUNDS = 9
    BACKEND_ERROR = 10
    FUNCTION_FAILED = 11
    STOPPED = 12
    OFF_PACE = 13

    @property
    def text(self) -> str:
        """The same in words."""
        return _TEXTS[self]

    @property
    def trusted(self) -> bool:
        """Whether the output is one of this sample that can be trusted."""
        return self in _TRUSTED


_TEXTS = {status: status.name.lower().replace("_", " ") for status in Status} | {
    Status.OK: "ok",
    Status.NOT_FINITE_INPUT: "non-finite input",
    Status.NOT_FINITE_OUTPUT: "non-finite output",
    Status.FUNCTION_FAILED: "user function failed",
}
_TRUSTED = frozenset({Status.OK, Status.LATE, Status.OFF_PACE})


class Tick(NamedTuple):
    """What became of one sample.

    Args:
        status: In one word.
        y: What the robot gets, limits applied: shape (outputs,), or a dict of these; where no output can be trusted,
            the last one that could, or the safe output. `None` before there is any. It is read-only, as the guard
            holds the same array: change a copy.
        raw: What the model gave for the sample, `None` where the sample was refused.
        stepped: By how many steps the state advanced: 0 where it was refused, more than 1 where a gap was split.
        reset: Whether the state was reset before this sample, or by it.
        dt_s: Seconds that the model was told, of each of these steps; `None` with fixed time.
        x: The sample as it was stepped, with holes filled; as it was given where it was refused.
        error: Why it was refused.
        limited: Whether a limit of an output, or of its slew, changed `y`.
    """

    status: Status
    y: Any
    raw: Any
    stepped: int
    reset: bool
    dt_s: float | None
    x: Any
    error: Exception | None
    limited: bool
