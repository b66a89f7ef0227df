"""Policy for late samples: those whose time is not after that of the sample before them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from ...errors import LateSample
from ...times import seconds_between, stamp_seconds

__all__ = ["TURNED_BACK", "LateError", "LatePolicy", "OnLate"]

TURNED_BACK = (
    5  # late samples in a row, each after the one before: a network mixes up fewer, a clock set back does not stop
)

OnLate = Literal["drop", "stop", "reset"]


class LateError(LateSample):
    """A sample came late, and the policy is to stop there."""

    def __init__(self, now_s: float, last_s: float) -> None:
        super().__init__(
            f"`t_s` is {now_s}, not after the previous sample at {last_s}. To go on, leave the sample out; or, if the "
            "clock was set back, call stream.reset() and step with `t_s` from there"
        )


class LatePolicy:
    """Decides what becomes of a sample that comes late.

    One sample that was overtaken on its way is old: left out, it costs nothing but itself. But after a clock was set
    back every sample is late, for as long as it was set back; so `TURNED_BACK` of them in a row, each after the one
    before, are told apart.

    Args:
        on_late: "stop": raise; "drop": leave the sample out; "reset": begin anew with it.

    Attributes:
        dropped: How many were left out.
        resets: How many there were to reset at.
        in_a_row: How many late ones came, each after the one before, since the last one in time.
        newest_s: The time of the newest of these, `None` before there is one.
    """

    def __init__(self, on_late: OnLate = "stop") -> None:
        self.dropped = self.resets = self.in_a_row = 0
        self.newest_s: float | None = None
        self._on_late = on_late

    def check(self, now_s: Any, last_s: Any) -> Literal["drop", "reset", "set back"] | None:
        """Look at the times of a sample and of the last one stepped, seconds or datetimes; `None` where there is none.

        Returns:
            `None`: it is not late. "drop": leave it out. "reset": reset the stream first. "set back": it is one of so
            many that the clock was set back, and a new sequence has to begin with it, as behind a gap.

        Raises:
            LateError: If it is late and the policy is to stop.
        """
        if now_s is None or last_s is None:
            return None
        now, last = stamp_seconds(now_s, "t_s"), stamp_seconds(last_s, "t_s")
        if seconds_between(now, last) > 0:
            self.in_time()
            return None
        if self._on_late == "stop":
            raise LateError(now, last)
        return self.behind(now)

    def in_time(self) -> None:
        """Say that a sample came in time."""
        self.in_a_row, self.newest_s = 0, None

    def behind(self, now_s: float | None) -> Literal["drop", "reset", "set back"]:
        """What becomes of a sample that is late, as `check` says it.

        Args:
            now_s: Its time, seconds; `None` where it has none, and so follows no other.
        """
        if self._on_late == "reset":
            self.resets += 1
            return "reset"
        now = -math.inf if now_s is None else now_s
        follows = self.newest_s is not None and seconds_between(now, self.newest_s) > 0
        self.in_a_row = self.in_a_row + 1 if follows else 1
        self.newest_s = now
        if self.in_a_row < TURNED_BACK:
            self.dropped += 1
            return "drop"
        self.in_time()
        return "set back"

    def kept(self) -> dict[str, float | None]:
        """What later samples depend on, as JSON has it; see `go_on`."""
        newest_s = None if self.newest_s is None else float(self.newest_s)
        return {"dropped": self.dropped, "resets": self.resets, "run": self.in_a_row, "newest_s": newest_s}

    def go_on(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `kept` gave."""
        self.dropped, self.resets, self.in_a_row = kept["dropped"], kept["resets"], kept["run"]
        self.newest_s = kept["newest_s"]
