"""The stream's clock: which dt goes into the graph, and which must not.

A clock's `put` checks the caller's `dt_s` or `t_s`, writes the graph's `dt` and returns the time of the sample. It
keeps nothing: the stream passes that time as `last_s` with the next sample, so a refused step does not move the clock.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from ..arrays import Array, shape_of
from ..bundle.manifest import Manifest
from ..errors import Gap, LateSample
from ..times import Stamp, seconds_between, span_seconds, stamp_array, stamp_seconds, unit_advice
from ..wording import chosen

__all__ = ["MISSING", "Clock", "make_clock", "missing_time", "no_time"]

MISSING = 1.5  # periods; beyond them a sample is missing between two, of a model with fixed time

_ALIKE = (0.3, 3.0)  # of the period: what a clock goes on by from sample to sample, give or take jitter and a lost one


class Clock(Protocol):
    """See the module's text."""

    def put(self, dt_s: Any, t_s: Any, last_s: float | None) -> float | None:
        """Check the time of a call's samples after one at `last_s`, write it for the graph, return the last one's time.

        `None` is a time that nobody knows.
        """


def make_clock(manifest: Manifest, buffer: Array | None) -> Clock:
    """The clock for a model; `buffer` is the graph's `dt` input, `None` with fixed time."""
    time = manifest.time
    if buffer is None:
        return _FixedClock(manifest.name, time.period_s, manifest.batch, manifest.unroll)
    if time.period_s is None or time.dt_range_s is None:  # the manifest's own checks rule this out
        raise ValueError("measured time needs a period and a legal range in the manifest")
    kind = _MeasuredClock if manifest.unroll == 1 else _UnrollClock
    return kind(manifest.name, buffer, time.period_s, time.dt_range_s)


class _FixedClock:
    """Every sample counts as a period, so a time is only checked: it goes forward, and no sample is missing."""

    def __init__(self, name: str, period_s: float | None, batch: int, unroll: int) -> None:
        self._name = name
        self._longest_s = math.inf if period_s is None else MISSING * period_s
        self._period_s = period_s or 0.0
        self._shape = (batch, unroll)

    def put(self, dt_s: Any, t_s: Any, last_s: float | None) -> float | None:
        if dt_s is not None:
            raise ValueError(no_time(self._name))
        if t_s is None:
            return None
        times = [stamp_seconds(t_s, "t_s")] if self._shape[1] == 1 else _block_times(self._name, self._shape, t_s)
        for now in map(_instant, times) if self._shape[1] > 1 else times:
            if not math.isfinite(now):
                raise ValueError(f"`t_s` is {now}, expected a time in seconds. The state is unchanged")
            if last_s is not None:
                self._check(now, last_s)
            last_s = now
        return last_s

    def _check(self, now: float, last: float) -> None:
        if now <= last:
            raise LateSample(_order_message(now, last))
        between_s = seconds_between(now, last)
        if between_s > self._longest_s:
            unit = unit_advice(between_s, self._period_s)
            raise Gap(
                f"`t_s` is {now}, {between_s:g} s after the previous sample at {last}, but model '{self._name}' has "
                f"fixed time and counts every sample as {self._period_s:g} s. {'' if unit is None else f'{unit}. '}"
                "Call stream.reset() and step it again, or export with "
                f"{chosen('time', 'measured')}. The state is unchanged"
            )


class _MeasuredClock:
    """One sample per call."""

    def __init__(self, name: str, buffer: Array, period_s: float, dt_range_s: tuple[float, float]) -> None:
        self._name = name
        self._buffer = buffer
        self._period_s = period_s
        self._range = dt_range_s

    def put(self, dt_s: Any, t_s: Any, last_s: float | None) -> float | None:
        if (dt_s is None) == (t_s is None):
            raise ValueError(missing_time(self._name, self._period_s))
        # The common case first: a float costs no call.
        now = t_s if t_s is None or type(t_s) is float else stamp_seconds(t_s, "t_s")
        dt = self._checked(dt_s) if now is None else self._since(now, last_s)
        self._buffer[...] = dt
        if now is not None:
            return now
        return last_s + float(dt) if last_s is not None and np.ndim(dt) == 0 else None

    def _since(self, now: float, last_s: float | None) -> float:
        if not math.isfinite(now):
            raise ValueError(f"`t_s` is {now}, expected a time in seconds. The state is unchanged")
        if last_s is None:
            return self._period_s
        if now <= last_s:
            raise LateSample(_order_message(now, last_s))
        since = now - last_s if type(now) is float else seconds_between(now, last_s)
        low, high = self._range
        if not low <= since <= high:
            raise _range_error(self._name, since, self._range, self._period_s, now=now)
        return since

    def _checked(self, dt_s: Any) -> Any:
        low, high = self._range
        if isinstance(dt_s, float):  # the fast path; everything else goes through NumPy
            if not low <= dt_s <= high:
                raise _range_error(self._name, dt_s, self._range, self._period_s, self._buffer)
            return dt_s
        return _legal_array(self._name, dt_s, [(), self._buffer.shape], self._range, self._period_s, self._buffer)


class _UnrollClock:
    """An unroll block of samples per call: one dt for all of them or one each, or the time of each."""

    def __init__(self, name: str, buffer: Array, period_s: float, dt_range_s: tuple[float, float]) -> None:
        self._name = name
        self._buffer = buffer
        self._period_s = period_s
        self._range = dt_range_s
        # (unroll,) only for a single row: with several rows it could be mistaken for one dt per row
        self._shapes = [(), buffer.shape] if len(buffer) > 1 else [(), buffer.shape[1:], buffer.shape]

    def put(self, dt_s: Any, t_s: Any, last_s: float | None) -> float | None:
        if (dt_s is None) == (t_s is None):
            raise ValueError(missing_time(self._name, self._period_s))
        if t_s is not None:
            times = _block_times(self._name, self._buffer.shape, t_s)
            self._buffer[...] = self._since(times, last_s)
            return _instant(times[-1])
        dt = _legal_array(self._name, dt_s, self._shapes, self._range, self._period_s, self._buffer)
        self._buffer[...] = dt
        if last_s is None or (len(self._buffer) > 1 and dt.ndim):
            return None
        return last_s + float(np.broadcast_to(dt, self._buffer.shape).sum())

    def _since(self, times: Array, last_s: float | None) -> Array:
        instants = list(map(_instant, times))
        before = [last_s, *instants[:-1]]
        if last_s is None:
            before[0] = instants[0] - self._period_s
        since = np.array([seconds_between(now, last) for now, last in zip(instants, before, strict=True)])
        if last_s is None:
            since[0] = self._period_s
        if since.min() <= 0:
            k = int(np.argmin(since > 0))
            raise LateSample(_order_message(instants[k], before[k]))
        if not _legal(since, self._range).all():
            k = int(np.argmin(_legal(since, self._range)))
            raise _range_error(self._name, since, self._range, self._period_s, now=instants[k])
        return since


def _block_times(name: str, block: tuple[int, ...], t_s: Any) -> Array:
    """The times of the samples of a block of shape (batch, unroll)."""
    shape = shape_of("t_s", t_s)
    if shape != block[1:]:  # before what may be large is converted
        raise ValueError(_times_message(name, block, f"has shape {shape}"))
    times = stamp_array(t_s, "t_s")
    if times.dtype.kind != "M" and not np.isfinite(times).all():
        raise ValueError(_times_message(name, block, f"is {np.array2string(times, threshold=8)}"))
    return times


def _times_message(name: str, block: tuple[int, ...], what: str) -> str:
    return (
        f"`t_s` {what}, but model '{name}' takes blocks: expected the times in seconds of all {block[1]} samples. The "
        "state is unchanged"
    )


def _instant(time: Any) -> float:
    """One of `stamp_array`'s times."""
    return Stamp(int(time.astype(np.int64))) if time.dtype.kind == "M" else float(time)


def _legal_array(
    name: str,
    dt_s: Any,
    shapes: list[tuple[int, ...]],
    legal: tuple[float, float],
    period_s: float,
    before: Array | None = None,
) -> Array:
    """A dt that is no plain float, checked; `before` holds those of the call before."""
    if isinstance(getattr(dt_s, "shape", None), tuple):  # before what may be large is converted
        _check_shape(tuple(dt_s.shape), shapes)
    array = np.asarray(span_seconds(dt_s, "dt_s"))
    _check_shape(array.shape, shapes)
    if not bool(_legal(array, legal).all()):
        raise _range_error(name, array, legal, period_s, before)
    return array


def _legal(dt_s: Array, legal: tuple[float, float]) -> Array:
    within: Array = (dt_s >= legal[0]) & (dt_s <= legal[1])
    return within


def _check_shape(found: tuple[int, ...], shapes: list[tuple[int, ...]]) -> None:
    if found not in shapes:
        wanted = " or ".join(f"shape {shape}" for shape in shapes if shape)
        raise ValueError(f"`dt_s` has shape {found}, expected one number or {wanted}")


def no_time(name: str) -> str:
    """What to say of a time that a model does not take."""
    return (
        f"model '{name}' was exported with time='fixed' and takes no `dt_s`. "
        f"Leave it out, pass the sample's time as `t_s` to have it checked, or export with {chosen('time', 'measured')}"
    )


def missing_time(name: str, period_s: float) -> str:
    """What to say where a model's time is missing."""
    return (
        f"model '{name}' was exported with time='measured': pass either `dt_s` (seconds since the previous sample, "
        f"nominally {period_s:g}) or `t_s` (the sample's time in seconds)"
    )


def _order_message(now: Any, last: Any) -> str:
    return (
        f"`t_s` is {now}, not after the previous sample at {last}. Samples must come in order of time; for a new "
        "recording call stream.reset(). The state is unchanged"
    )


def _range_error(
    name: str,
    dt_s: Any,
    legal: tuple[float, float],
    period_s: float,
    before: Array | None = None,
    now: float | None = None,
) -> ValueError:
    """A `Gap` where the time is too long, a `LateSample` where it does not go forward, else a `ValueError`.

    `now` is the time of the first illegal sample where times were passed, and not what lies between them.
    """
    array = np.asarray(dt_s)
    first_bad = float(array[~_legal(array, legal)].flat[0])
    clock = "" if before is None else _clock_advice(array, before, period_s)
    late = math.isfinite(first_bad) and first_bad <= 0
    kind = LateSample if late else Gap if legal[1] < first_bad < math.inf else ValueError
    given = f"`dt_s` is {np.array2string(array, threshold=8)}"
    if now is not None:
        given = f"`t_s` is {now}, {first_bad:g} s after the previous sample"
    return kind(
        f"{given}, but model '{name}' was proven for {legal[0]:g} to {legal[1]:g} seconds. "
        f"{clock or _dt_advice(first_bad, legal[0], period_s)}. The state is unchanged"
    )


def _clock_advice(dt_s: Array, before: Array, period_s: float) -> str:
    """What to say of a dt that is about a period more than the one before it, as the times of samples are.

    Within the legal range nobody can tell: there, a dt that grows is what a sensor that slows down has.
    """
    last = np.append(before.reshape(-1)[-1:], dt_s.reshape(-1)).astype(np.float64)
    grown = np.diff(last) / period_s
    if not (last[0] > 0 and (_ALIKE[0] <= grown).all() and (grown <= _ALIKE[1]).all()):
        return ""
    return "It grows from sample to sample by about a period, as the time of a sample does. Pass times as `t_s`"


def _dt_advice(dt_s: float, low: float, period_s: float) -> str:
    """What to do about an illegal dt: a gap that is too long is only one of the reasons."""
    if not math.isfinite(dt_s):
        return "It must be the finite number of seconds since the previous sample"
    if dt_s <= 0:
        return "Samples must come in order of time: leave out one that is not after the previous one"
    if dt_s < low:
        return "Leave out samples that come faster, or export with a wider `dt_range_s`"
    unit = unit_advice(dt_s, period_s)
    advice = "After a longer gap call stream.reset()"
    return advice if unit is None else f"{unit}. {advice}"
