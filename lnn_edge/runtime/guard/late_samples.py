"""Policy for late samples: those whose time is not after that of the sample before them."""

from __future__ import annotations

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
    """

    def __init__(self, on_late: OnLate = "stop") -> None:
        self.dropped = self.resets = 0
        self._on_late = on_late
        self._newest_s: float | None = None  # of the late samples that came since the last one in time
        self._run = 0

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
            self._run, self._newest_s = 0, None
            return None
        if self._on_late == "stop":
            raise LateError(now, last)
        if self._on_late == "reset":
            self.resets += 1
            return "reset"
        return self._dropped(now)

    def kept(self) -> dict[str, float | None]:
        """What later samples depend on, as JSON has it; see `go_on`."""
        newest_s = None if self._newest_s is None else float(self._newest_s)
        return {"dropped": self.dropped, "resets": self.resets, "run": self._run, "newest_s": newest_s}

    def go_on(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `kept` gave."""
        self.dropped, self.resets, self._run = kept["dropped"], kept["resets"], kept["run"]
        self._newest_s = kept["newest_s"]

    def _dropped(self, now: float) -> Literal["drop", "set back"]:
        follows = self._newest_s is not None and seconds_between(now, self._newest_s) > 0
        self._run = self._run + 1 if follows else 1
        self._newest_s = now
        if self._run < TURNED_BACK:
            self.dropped += 1
            return "drop"
        self._run, self._newest_s = 0, None
        return "set back"
