"""Policies for the time between samples: gaps that are too long, and a pace that is not the model's period."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...bundle.spec import Guard, Time
from ...errors import Gap
from ...times import UNIT_WORDS, likely_unit, seconds_between, stamp_seconds
from ..clock import MISSING

__all__ = ["FoundGap", "GapError", "GapPolicy", "OffPace", "PaceCheck", "longest_pause_s"]

_TOLERANCE = 0.1  # of the period; a timer's jitter is below, another rate or a lost sample above


@dataclass(frozen=True)
class FoundGap:
    """A time after which a stream cannot go on, only begin anew. Prints as what follows "the time is ...".

    Args:
        model: Name of the model.
        now_s: Time of the sample, seconds.
        last_s: Time of the sample before it, seconds.
        longest_s: Longest time between samples that the model was proven for, seconds.
        unit: "ms", "us" or "ns" where the time between the samples is as long as the period in that unit would be.
    """

    model: str
    now_s: float
    last_s: float
    longest_s: float
    unit: str | None = None

    def __str__(self) -> str:
        side = "after" if self.now_s > self.last_s else "before"
        return (
            f"{self.now_s}, {abs(self.now_s - self.last_s):g} s {side} the last sample at {self.last_s}, but "
            f"'{self.model}' was proven for at most {self.longest_s:g} s between samples"
        )


class GapError(Gap):
    """A gap lies before a sample, and the policy is to stop there.

    Attributes:
        gap: What was found.
    """

    def __init__(self, gap: FoundGap) -> None:
        unit = "" if gap.unit is None else f"If it is in {UNIT_WORDS[gap.unit]}, pass seconds. "
        super().__init__(f"`t_s` is {gap}. {unit}To go on, call stream.reset() and step with `t_s` from there")
        self.gap = gap


class GapPolicy:
    """Finds gaps, and decides what becomes of the samples behind one.

    A sample a little too early is one bad sample: the next is later. But behind a gap longer than the legal dt every
    further sample is later still, and after a clock was set back every sample is too early for as long as it was set
    back; skipping such a sample as bad would skip all that follow. What comes late for once is told from that by a
    `LatePolicy` in front of this one.

    Args:
        model: Name of the model, for messages.
        time: How the model sees time; with fixed time there are no gaps.
        on_gap: "stop": raise; "reset": count the gap, and let the caller reset the stream.

    Attributes:
        resets: How many gaps there were to reset at.
    """

    def __init__(self, model: str, time: Time, on_gap: Literal["stop", "reset"] = "stop") -> None:
        self.resets = 0
        self._model = model
        self._longest_s = None if time.dt_range_s is None else time.dt_range_s[1]
        self._period_s = time.period_s
        self._on_gap = on_gap

    def check(self, now_s: Any, last_s: Any) -> FoundGap | None:
        """Look at the times of a sample and of the last one stepped, seconds or datetimes; `None` where there is none.

        Returns:
            The gap before this sample, with which a new sequence begins: reset the stream first. `None`: go on.

        Raises:
            GapError: If there is a gap and the policy is to stop.
        """
        gap = self.find(now_s, last_s)
        return None if gap is None else self.decide(gap)

    def decide(self, gap: FoundGap) -> FoundGap:
        """Count a gap that somebody found, with which a new sequence begins.

        Raises:
            GapError: If the policy is to stop.
        """
        if self._on_gap == "stop":
            raise GapError(gap)
        self.resets += 1
        return gap

    def between(self, now_s: Any, last_s: Any) -> FoundGap:
        """What lies between two times, whether or not it is too long."""
        longest_s = float("inf") if self._longest_s is None else self._longest_s
        return FoundGap(self._model, stamp_seconds(now_s, "t_s"), stamp_seconds(last_s, "t_s"), longest_s)

    def find(self, now_s: Any, last_s: Any) -> FoundGap | None:
        """The gap between two times, as for `check`, which is neither counted nor refused."""
        if now_s is None or last_s is None or self._longest_s is None:
            return None
        now, last = stamp_seconds(now_s, "t_s"), stamp_seconds(last_s, "t_s")
        between_s = seconds_between(now, last)
        if abs(between_s) <= self._longest_s:
            return None
        return FoundGap(self._model, now, last, self._longest_s, likely_unit(between_s, self._period_s))


@dataclass(frozen=True)
class OffPace:
    """Times that are off a model's period. Prints as a clause, "there are ... s between samples, ...".

    Args:
        model: Name of the model.
        period_s: Its period, seconds.
        smallest_s, largest_s: Shortest and longest time between two samples, seconds.
        off: How often the time was more than 10 % off.
        count: How often it was looked at.
        unit: "ms", "us" or "ns" where most times between samples are as long as the period in that unit would be.
    """

    model: str
    period_s: float
    smallest_s: float
    largest_s: float
    off: int
    count: int
    unit: str | None = None

    def __str__(self) -> str:
        return (
            f"there are {self.smallest_s:g} to {self.largest_s:g} s between samples, in {self.off:,} of {self.count:,} "
            f"cases more than 10 % off the {self.period_s:g} s that '{self.model}' was exported with and that every "
            "sample counts as"
        )


class PaceCheck:
    """Compares the times of samples with the period of a model with fixed time, which takes no times itself.

    Args:
        model: Name of the model.
        time: How it sees time; with measured time nothing is off.
    """

    def __init__(self, model: str, time: Time) -> None:
        self._model = model
        self._period_s = time.period_s if time.mode == "fixed" else None
        self._smallest_s, self._largest_s = float("inf"), float("-inf")
        self._off = self._count = 0
        self._units: Counter[str | None] = Counter()

    def take(self, now_s: Any, last_s: Any) -> float | None:
        """Take the times of a sample and of the one before it in the same recording, seconds or datetimes.

        Returns:
            Seconds between the two if that is no jitter: a sample is missing before this one, or it came late. Else
            `None`.
        """
        if self._period_s is None or now_s is None or last_s is None:
            return None
        if type(now_s) is type(last_s) is float:
            between_s = now_s - last_s
        else:
            between_s = seconds_between(stamp_seconds(now_s, "t_s"), stamp_seconds(last_s, "t_s"))
        self._smallest_s, self._largest_s = min(self._smallest_s, between_s), max(self._largest_s, between_s)
        self._count += 1
        if abs(between_s - self._period_s) > _TOLERANCE * self._period_s:
            self._off += 1
            self._units[likely_unit(between_s, self._period_s)] += 1
        else:
            self._units[None] += 1
        return None if 0 < between_s <= MISSING * self._period_s else between_s

    def kept(self) -> dict[str, Any]:
        """What was seen, as JSON has it; see `go_on`."""
        span = [self._smallest_s, self._largest_s] if self._count else None
        units = {unit or "": count for unit, count in self._units.items()}
        return {"span_s": span, "off": self._off, "count": self._count, "units": units}

    def go_on(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `kept` gave."""
        if kept["span_s"] is not None:
            self._smallest_s, self._largest_s = kept["span_s"]
        self._off, self._count = kept["off"], kept["count"]
        self._units = Counter({unit or None: count for unit, count in kept["units"].items()})

    def finding(self) -> OffPace | None:
        """What was off, if anything was."""
        if self._period_s is None or not self._off:
            return None
        unit = max(self._units, key=lambda own: self._units[own])
        return OffPace(self._model, self._period_s, self._smallest_s, self._largest_s, self._off, self._count, unit)


def longest_pause_s(time: Time, guard: Guard) -> float | None:
    """How long nothing may have come, seconds, for a stream to go on; `None` where nobody can say.

    It is what the guard takes for a gap. Without one, it is the longest time between samples that a model with measured
    time was proven for; with fixed time the longest pause with which the mean over the guard's window still keeps to
    the pace: of 100 samples and at most 1.2 periods it is 21 periods.
    """
    if time.mode == "measured":
        limits = [own for own in (guard.gap_s, time.dt_range_s and time.dt_range_s[1]) if own is not None]
        return min(limits, default=None)
    if guard.gap_s is not None:
        return guard.gap_s
    if time.period_s is None:
        return None
    return time.period_s * (1 + max(0.0, guard.pace[1] - 1) * guard.pace_window)
