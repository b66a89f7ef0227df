"""The stream's sense of time: which dt goes into the graph, and which must not.

A clock's `put` checks the caller's `dt_s` or `t_s`, writes the graph's `dt` and returns the time of the sample; the
stream stores it as `last_s` once the step has succeeded, so a refused step does not move the clock.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..manifest import Manifest

__all__ = ["Clock", "make_clock"]

Array = npt.NDArray[Any]


class Clock(Protocol):
    """See the module's text."""

    last_s: float | None

    def put(self, dt_s: Any, t_s: float | None) -> float | None:
        """Check the time of a sample, write it for the graph, return the sample's time if it is known."""


def make_clock(manifest: Manifest, buffer: Array | None) -> Clock:
    """The clock for a model; `buffer` is the graph's `dt` input, `None` with fixed time."""
    if buffer is None:
        return _FixedClock(manifest.name)
    time = manifest.time
    if time.period_s is None or time.dt_range_s is None:  # the manifest's own checks rule this out
        raise ValueError("measured time needs a period and a legal range in the manifest")
    return _MeasuredClock(manifest.name, buffer, time.period_s, time.dt_range_s)


class _FixedClock:
    def __init__(self, name: str) -> None:
        self._name = name
        self.last_s: float | None = None

    def put(self, dt_s: Any, t_s: float | None) -> None:
        if dt_s is not None or t_s is not None:
            raise ValueError(
                f"model '{self._name}' was exported with time='fixed' and takes no `dt_s` or `t_s`. "
                "Leave them out, or export with time='measured'"
            )


class _MeasuredClock:
    def __init__(self, name: str, buffer: Array, period_s: float, dt_range_s: tuple[float, float]) -> None:
        self._name = name
        self._buffer = buffer
        self._period_s = period_s
        self._range = dt_range_s
        self.last_s: float | None = None

    def put(self, dt_s: Any, t_s: float | None) -> float | None:
        if (dt_s is None) == (t_s is None):
            raise ValueError(
                f"model '{self._name}' was exported with time='measured': pass either `dt_s` (seconds since the "
                f"previous sample, nominally {self._period_s:g}) or `t_s` (the sample's time in seconds)"
            )
        now = None if t_s is None else float(t_s)
        dt = self._checked(dt_s if now is None else self._since(now))
        self._buffer[...] = dt
        if now is not None:
            return now
        return self.last_s + float(dt) if self.last_s is not None and np.ndim(dt) == 0 else None

    def _since(self, now: float) -> float:
        if not math.isfinite(now):
            raise ValueError(f"`t_s` is {now}, expected a time in seconds. The state is unchanged")
        if self.last_s is None:
            return self._period_s
        if now <= self.last_s:
            raise ValueError(
                f"`t_s` is {now}, not after the previous sample at {self.last_s}. Samples must come in order of time; "
                "for a new recording call stream.reset(). The state is unchanged"
            )
        return now - self.last_s

    def _checked(self, dt_s: Any) -> Any:
        low, high = self._range
        if isinstance(dt_s, float):  # the fast path; everything else goes through NumPy
            legal = low <= dt_s <= high
        else:
            dt_s = self._array(dt_s)
            legal = bool(((dt_s >= low) & (dt_s <= high)).all())
        if not legal:
            raise ValueError(
                f"`dt_s` is {np.array2string(np.asarray(dt_s), threshold=8)}, but model '{self._name}' was proven for "
                f"{low:g} to {high:g} seconds. After a longer gap call stream.reset(); the state is unchanged"
            )
        return dt_s

    def _array(self, dt_s: Any) -> Array:
        array = np.asarray(dt_s)
        if array.dtype.kind not in "fiu":
            raise TypeError(f"`dt_s` has dtype {array.dtype}, expected a number of seconds")
        if array.shape not in ((), self._buffer.shape):
            raise ValueError(f"`dt_s` has shape {array.shape}, expected one number or shape {self._buffer.shape}")
        return array
