"""The time of a sample: what the model is told of it, by the guard's policies, or why it is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ...bundle.spec import Guard, Time
from ...errors import Gap, LateSample
from ...times import seconds_between, span_seconds, stamp_seconds, unit_advice
from ..clock import no_time
from .late_samples import TURNED_BACK, LatePolicy

__all__ = ["MOST_PARTS", "At", "Plan", "SampleTimes"]

_ABOVE_ZERO = 5e-324
MOST_PARTS = 100  # of a gap that is split; a longer one would hold up a loop


class At(NamedTuple):
    """When a sample was: by its own stamp, and by the monotonic clock, seconds; `None` where nobody knows."""

    stamp_s: float | None = None
    monotonic_s: float | None = None


_new = tuple.__new__  # of a named tuple, whose own `__new__` takes twice as long


class Plan(NamedTuple):
    """What is to be done with a sample.

    Args:
        at: When it was.
        dt_s: What the model is told for each step; `None` with fixed time.
        steps: How often it is stepped; 0 where it only starts the clock.
        reset: Whether the state is reset first.
        between_s: Seconds since the sample before, `None` where nobody knows.
    """

    at: At
    dt_s: float | None
    steps: int
    reset: bool
    between_s: float | None


class SampleTimes:
    """Plans what is done with samples. It keeps nothing of those it refuses but how many came late in a row.

    Args:
        name: Of the model, for messages.
        time: How it sees time.
        guard: The policies.
        clock: The monotonic clock, nanoseconds.

    Attributes:
        measured: Whether the model is told the time between samples.
        from_sample: Whether samples may bring their time.
        clock: The clock, where it is read for each sample; else `None`.
        shortest_s, longest_s: What may lie between two samples.
        nominal_s: What the model is told where nothing says how much there is, and the clock is not asked.
        late: Counts those that are not after the one before, and says what becomes of them.
    """

    def __init__(self, name: str, time: Time, guard: Guard, clock: Callable[[], int]) -> None:
        self._name, self._guard, self._clock = name, guard, clock
        self.measured = time.mode == "measured"
        self._period_s = time.period_s
        low, high = time.dt_range_s or (0.0, math.inf)
        self.shortest_s = low if self.measured else _ABOVE_ZERO
        self.longest_s = min(high, guard.gap_s or math.inf)
        self.late = LatePolicy("reset" if guard.on_late == "reset" else "drop")
        self.from_sample = guard.dt_from == "sample"
        self._nominal = guard.dt_from == "nominal"
        self.nominal_s = time.period_s if self.measured else None
        self.clock = clock if guard.dt_from == "clock" or (self.measured and not self._nominal) else None

    def read_clock(self) -> None:
        """Let the clock say when samples came that bring no time, with fixed time as well."""
        self.clock = None if self._nominal else self._clock

    def plan(self, t_s: Any, dt_s: Any, before: tuple[Any, ...], now_s: float | None = None) -> Plan:
        """What is to be done with a sample.

        Args:
            t_s: As `Guarded.tick`.
            dt_s: As `Guarded.tick`.
            before: Begins with when the sample before it was, as `At`; with `None` twice where there was none.
            now_s: What the clock says, where it was asked already.

        Raises:
            LateSample: If it is not after that one.
            Gap: If there is more time between the two than the model knows, and the policy is to refuse.
            TypeError, ValueError: If the time is none, or the sample came too soon.
        """
        if now_s is None and self.clock is not None:
            now_s = self.clock() * 1e-9
        if not self.from_sample:
            t_s = dt_s = None
        if t_s.__class__ is before[0].__class__ is float and dt_s is None:  # the usual
            between_s = t_s - before[0]
            if self.shortest_s <= between_s <= self.longest_s:
                self.late.in_time()
                told_s = between_s if self.measured else None
                return _new(Plan, (_new(At, (t_s, now_s)), told_s, 1, False, between_s))
        last = At(before[0], before[1])
        if t_s is not None and t_s.__class__ is not float:
            t_s = stamp_seconds(t_s, "t_s")
        if t_s is not None and not math.isfinite(t_s):
            raise ValueError(f"`t_s` is {t_s}, expected a time in seconds. The state is unchanged")
        if dt_s is not None:
            return self._after(self._span(dt_s, t_s), t_s, now_s, last)
        if t_s is not None:
            since_s = None if last.stamp_s is None else seconds_between(t_s, last.stamp_s)
        else:
            since_s = None if now_s is None or last.monotonic_s is None else now_s - last.monotonic_s
        if since_s is None:
            return self._first(At(t_s, now_s))
        return self._after(since_s, t_s, now_s, last)

    def since_s(self, last: At) -> float:
        """Seconds since a sample, as far as the monotonic clock was read."""
        return 0.0 if last.monotonic_s is None else max(0.0, self._clock() * 1e-9 - last.monotonic_s)

    def later_s(self, then_s: float) -> float:
        """By how much the monotonic clock is ahead of a time; less than 0 after another start of the machine."""
        return self._clock() * 1e-9 - then_s

    def kept(self) -> dict[str, Any]:
        """The late samples in a row, as JSON has them; see `go_on`."""
        newest_s = self.late.newest_s
        if newest_s is not None:
            newest_s = float(newest_s) if math.isfinite(newest_s) else None
        return {"in_a_row": self.late.in_a_row, "newest_s": newest_s}

    def go_on(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `kept` gave.

        Raises:
            KeyError, TypeError, ValueError: If it is none of that.
        """
        newest_s = -math.inf if kept["newest_s"] is None else float(kept["newest_s"])
        self.late.in_a_row, self.late.newest_s = int(kept["in_a_row"]), newest_s

    def _span(self, dt_s: Any, t_s: Any) -> float:
        if not self.measured:
            raise ValueError(no_time(self._name))
        if t_s is not None:
            raise ValueError("pass either `dt_s` or `t_s`, not both")
        between_s = float(span_seconds(dt_s, "dt_s"))
        if not math.isfinite(between_s):
            raise ValueError(f"`dt_s` is {between_s}, expected the finite number of seconds since the previous sample")
        return between_s

    def _first(self, at: At) -> Plan:
        waits = self.measured and self._guard.first == "wait" and not self._nominal
        return Plan(at, self._period_s if self.measured else None, 0 if waits else 1, False, None)

    def _after(self, between_s: float, t_s: float | None, now_s: float | None, last: At) -> Plan:
        """The plan for a sample so much later than the one before."""
        if t_s is None and last.stamp_s is not None:
            t_s = last.stamp_s + between_s
        at = At(t_s, now_s)
        if between_s <= 0:
            return self._behind(between_s, at, last)
        self.late.in_time()
        if between_s > self.longest_s:
            return self._gap(between_s, at)
        if between_s < self.shortest_s:
            return self._too_soon(between_s, at)
        return Plan(at, between_s if self.measured else None, 1, False, between_s)

    def _behind(self, between_s: float, at: At, last: At) -> Plan:
        """The plan for a sample that is not after the one before."""
        found = self.late.behind(at.stamp_s)
        if found == "reset":
            return self._anew(at)
        if found == "drop":
            shown = f"`dt_s` is {between_s:g}" if last.stamp_s is None else f"`t_s` is {at.stamp_s}"
            after = "expected above 0" if last.stamp_s is None else f"not after the previous sample at {last.stamp_s}"
            raise LateSample(f"{shown}, {after}. Leave the sample out. The state is unchanged")
        if self._guard.on_gap == "refuse":
            raise Gap(
                f"`t_s` is {at.stamp_s}, after {TURNED_BACK} samples in a row that are not after the one at "
                f"{last.stamp_s}: the clock was set back. Call reset() and pass the sample again, or guard with "
                "on_gap='reset'. The state is unchanged"
            )
        return self._anew(at)

    def _gap(self, between_s: float, at: At) -> Plan:
        """The plan for a sample after more time than the model knows."""
        policy, part_s = self._guard.on_gap, self.longest_s if self.measured else self._period_s or self.longest_s
        if policy == "refuse":
            raise Gap(self._gap_message(between_s, at))
        if policy == "clamp":
            return Plan(at, self.longest_s if self.measured else None, 1, False, between_s)
        if policy == "reset" or between_s > (MOST_PARTS + 1) * part_s:  # of more parts than can be counted as well
            return self._anew(at)
        parts = math.ceil(between_s / part_s - 1e-9) if self.measured else round(between_s / part_s)
        if parts > MOST_PARTS:
            return self._anew(at)
        each_s = max(between_s / parts, self.shortest_s) if self.measured else None
        return Plan(at, each_s, max(1, parts), False, between_s)

    def _too_soon(self, between_s: float, at: At) -> Plan:
        if self._guard.on_gap == "clamp":
            return Plan(at, self.shortest_s, 1, False, between_s)
        raise ValueError(
            f"the sample came {between_s:g} s after the previous one, but model '{self._name}' was proven for at least "
            f"{self.shortest_s:g} s. Leave it out, or guard with on_gap='clamp'. The state is unchanged"
        )

    def _anew(self, at: At) -> Plan:
        """The plan for the first sample of a new sequence."""
        return self._first(at)._replace(reset=True)

    def _gap_message(self, between_s: float, at: At) -> str:
        shown = "the sample came" if at.stamp_s is None else f"`t_s` is {at.stamp_s},"
        proven = "was proven for" if self.measured else "has a guard that allows"
        unit = unit_advice(between_s, self._period_s or 0.0)
        return (
            f"{shown} {between_s:g} s after the previous sample, but model '{self._name}' {proven} at most "
            f"{self.longest_s:g} s. {'' if unit is None else f'{unit}. '}Call reset() and pass the sample again, or "
            "guard with on_gap='reset', 'clamp' or 'split'. The state is unchanged"
        )
