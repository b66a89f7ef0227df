"""Longest pause behind which a stream's state is worth going on with."""

from __future__ import annotations

from ...bundle.spec import Guard, Time

__all__ = ["longest_pause_s"]


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
