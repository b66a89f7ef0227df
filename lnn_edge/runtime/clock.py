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
from ..times import Stamp, seconds_between, span_seconds, stamp_array, stamp_seconds, unit_advice
from ..wording import chosen

__all__ = ["Clock", "make_clock", "missing_time", "no_time"]

_ALIKE = (0.3, 3.0)  # of the period: what a clock goes on by from sample to sample, give or take jitter and a lost one


class Clock(Protocol):
    """See the module's text."""

    def put(self, dt_s: Any, t_s: Any, last_s: float | None) -> float | None:
        """Check the time of a call's samples after one at `last_s`, write it for the graph, return the last one's time.

        `None` is a time that nobody knows.
        """


def make_clock(manifest: Manifest, buffer: Array | None) -> Clock:
    """The clock for a model; `buffer` is the graph's `dt` input, `None` with fixed time."""
    if buffer is None:
        return _FixedClock(manifest.name)
    time = manifest.time
    if time.period_s is None or time.dt_range_s is None:  # the manifest's own checks rule this out
        raise ValueError("measured time needs a period and a legal range in the manifest")
    kind = _MeasuredClock if manifest.unroll == 1 else _UnrollClock
    return kind(manifest.name, buffer, time.period_s, time.dt_range_s)


class _FixedClock:
    def __init__(self, name: str) -> None:
        self._name = name

    def put(self, dt_s: Any, t_s: float | None, last_s: float | None) -> None:  # noqa: ARG002 - no time, no last one
        if dt_s is not None or t_s is not None:
            raise ValueError(no_time(self._name))


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
        dt = self._checked(dt_s if now is None else self._since(now, last_s))
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
            raise ValueError(_order_message(now, last_s))
        return now - last_s if type(now) is float else seconds_between(now, last_s)

    def _checked(self, dt_s: Any) -> Any:
        low, high = self._range
        if isinstance(dt_s, float):  # the fast path; everything else goes through NumPy
            if not low <= dt_s <= high:
                raise ValueError(_range_message(self._name, dt_s, self._range, self._period_s, self._buffer))
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
            times = self._times(t_s)
            since = self._since(times, last_s)
            self._buffer[...] = _legal_array(self._name, since, [times.shape], self._range, self._period_s)
            return _instant(times[-1])
        dt = _legal_array(self._name, dt_s, self._shapes, self._range, self._period_s, self._buffer)
        self._buffer[...] = dt
        if last_s is None or (len(self._buffer) > 1 and dt.ndim):
            return None
        return last_s + float(np.broadcast_to(dt, self._buffer.shape).sum())

    def _times(self, t_s: Any) -> Array:
        shape = shape_of("t_s", t_s)
        if shape != self._buffer.shape[1:]:  # before what may be large is converted
            raise ValueError(self._refusal(f"has shape {shape}"))
        times = stamp_array(t_s, "t_s")
        if times.dtype.kind != "M" and not np.isfinite(times).all():
            raise ValueError(self._refusal(f"is {np.array2string(times, threshold=8)}"))
        return times

    def _refusal(self, what: str) -> str:
        return (
            f"`t_s` {what}, but model '{self._name}' takes blocks: expected the times in seconds of all "
            f"{self._buffer.shape[1]} samples. The state is unchanged"
        )

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
            raise ValueError(_order_message(instants[k], before[k]))
        return since


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
    if not bool(((array >= legal[0]) & (array <= legal[1])).all()):
        raise ValueError(_range_message(name, array, legal, period_s, before))
    return array


def _check_shape(found: tuple[int, ...], shapes: list[tuple[int, ...]]) -> None:
    if found not in shapes:
        wanted = " or ".join(f"shape {shape}" for shape in shapes if shape)
        raise ValueError(f"`dt_s` has shape {found}, expected one number or {wanted}")


def no_time(name: str) -> str:
    """What to say of a time that a model does not take."""
    return (
        f"model '{name}' was exported with time='fixed' and takes no `dt_s` or `t_s`. "
        f"Leave them out, or export with {chosen('time', 'measured')}"
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


def _range_message(
    name: str, dt_s: Any, legal: tuple[float, float], period_s: float, before: Array | None = None
) -> str:
    array = np.asarray(dt_s)
    first_bad = array[~((array >= legal[0]) & (array <= legal[1]))].flat[0]
    clock = "" if before is None else _clock_advice(array, before, period_s)
    return (
        f"`dt_s` is {np.array2string(array, threshold=8)}, but model '{name}' was proven for {legal[0]:g} to "
        f"{legal[1]:g} seconds. {clock or _dt_advice(float(first_bad), legal[0], period_s)}. The state is unchanged"
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
