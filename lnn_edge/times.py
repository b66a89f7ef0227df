"""Times in any unit or type as seconds: numbers, NumPy's and pandas' stamps and spans, `datetime`, units in names."""

from __future__ import annotations

import datetime
import math
import re
from typing import Any

import numpy as np

from .arrays import Array, plain_array
from .named import refuse_masked

__all__ = [
    "PER_SECOND",
    "UNIT_WORDS",
    "Stamp",
    "are_stamps",
    "coarse_unit",
    "likely_unit",
    "seconds_between",
    "span_seconds",
    "stamp_array",
    "stamp_seconds",
    "unit_advice",
    "unit_of_name",
]

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_COARSE = {"minutes": 60, "hours": 3600, "days, as spreadsheets count them": 86400}  # seconds
_NS = 10**9
_LARGEST = 10**308
_FINER = ("ps", "fs", "as")  # than nanoseconds
# How a column's name ends that tells its unit: t_ms, t.us, "t [ns]", "time (ms)", stampNs, or the unit alone.
_SPELLED = {
    "s": "s|secs?|seconds?",
    "ms": "ms|msecs?|millis|milliseconds?",
    "us": "us|\u00b5s|\u03bcs|usecs?|micros|microseconds?",
    "ns": "ns|nsecs?|nanos|nanoseconds?",
}
_ENDS = {unit: rf"(?i:(?:^|[\s_.,:/(\[{{-])(?:{words})\s*[)\]}}]?$)" for unit, words in _SPELLED.items()}
_CAMEL = {"ms": "M[sS]|Millis", "us": "U[sS]|Micros", "ns": "N[sS]|Nanos"}
_CAMEL_ENDS = {unit: rf"(?<=[a-z])(?:{words})$" for unit, words in _CAMEL.items()}
# A time between samples within these bounds of the period times 1e3, 1e6 or 1e9 is one in another unit.
_ALIKE = (0.3, 3.0)
_CHANCE = math.log(1e4)  # of an order that nobody would take for chance
_EVEN = (0.4, 2.5)  # over half of a sequence


def unit_of_name(name: str) -> str | None:
    """The unit in which a column's name says that it is: "ms" of "t_ms" or "time [ms]"; `None` if it says none."""
    for ends in (_ENDS, _CAMEL_ENDS):
        for unit, end in ends.items():
            if re.search(end, name.strip()):
                return unit
    return None


def likely_unit(between: float, period_s: float | None) -> str | None:
    """The unit that a time between samples must be in, if it is a thousand, million or billion times the period."""
    for unit in ("ms", "us", "ns"):
        if period_s and _ALIKE[0] <= between / (PER_SECOND[unit] * period_s) <= _ALIKE[1]:
            return unit
    return None


def coarse_unit(between: float, period_s: float | None) -> tuple[str, int] | None:
    """The unit that a time must be in, if it is far shorter than the period: in words, and its seconds; or `None`."""
    for words, seconds in _COARSE.items():
        if period_s and _ALIKE[0] <= between * seconds / period_s <= _ALIKE[1]:
            return words, seconds
    return None


def unit_advice(between: float, period_s: float | None) -> str | None:
    """What a caller should do about times that are a power of a thousand too long; `None` if they are not."""
    unit = likely_unit(between, period_s)
    if unit is None or period_s is None:
        return None
    factor = f"1e{round(math.log10(PER_SECOND[unit]))}"
    return f"That is {between / period_s:,.0f} periods: if it is in {UNIT_WORDS[unit]}, divide by {factor}"


class Stamp(float):
    """A time in seconds since 1970 that also knows its nanoseconds, which float64 is too coarse for.

    Attributes:
        ns: Nanoseconds since 1970.
    """

    ns: int

    def __new__(cls, ns: int) -> Stamp:
        """From nanoseconds since 1970."""
        own = super().__new__(cls, ns / _NS)
        own.ns = ns
        return own

    def __reduce__(self) -> tuple[type[Stamp], tuple[int]]:
        """For `pickle` and `copy`."""
        return Stamp, (self.ns,)


def seconds_between(now: Any, last: Any) -> float:
    """Seconds from one time to a later one, exact between two `Stamp`s."""
    if isinstance(now, Stamp) and isinstance(last, Stamp):
        return (now.ns - last.ns) / _NS
    return float(now) - float(last)


def stamp_seconds(value: Any, name: str) -> float:
    """A sample's time as a number of seconds; of a datetime, seconds since 1970 as a `Stamp`.

    Args:
        value: A real number, `numpy.datetime64`, `datetime.datetime` or pandas `Timestamp`. Without a zone it is UTC.
        name: What it is called, for messages.

    Raises:
        TypeError: If it is something else.
        ValueError: If it is `NaT`, more than a float holds, or a date beyond what nanoseconds of 64 bits hold.
    """
    if isinstance(value, float):  # NumPy's float64 as well
        return value if isinstance(value, Stamp) else float(value)
    array = _time_array(value, name) if np.ndim(value) else stamp_array(value, name)
    if array.ndim:
        raise ValueError(f"`{name}` has shape {array.shape}, expected one time")
    return Stamp(int(array)) if array.dtype.kind == "M" else float(array)


def stamp_array(value: Any, name: str) -> Array:
    """Times as float64 seconds, or as datetime64[ns] if they are datetimes; see `stamp_seconds`."""
    array = _time_array(value, name)
    if array.dtype.kind == "m":
        raise TypeError(
            f"`{name}` is a span of time ({array.dtype}), expected a time. Pass it as the time between samples"
        )
    if array.dtype.kind != "M":
        return array.astype(np.float64)
    return _whole_ns(array, name)


def span_seconds(value: Any, name: str) -> Any:
    """A time between samples, or an array of them, in seconds; a float comes back as it is.

    Args:
        value: Real numbers, `numpy.timedelta64`, `datetime.timedelta`, pandas `Timedelta`, or arrays of them.
        name: What it is called, for messages.

    Raises:
        TypeError: If it is a time, a text, or something else.
        ValueError: If it holds `NaT`, or a span of more than 292 years.
    """
    array = _time_array(value, name)
    if array.dtype.kind == "M":
        raise TypeError(
            f"`{name}` holds times ({array.dtype}), expected the time since the sample before. Type: np.diff(t), with "
            "one for the first sample"
        )
    if array.dtype.kind != "m":
        return value if isinstance(value, float) else array  # a whole number may be more than a float holds
    seconds: Array = _whole_ns(array, name).astype(np.int64) / _NS
    return seconds if seconds.ndim else float(seconds)


def are_stamps(parts: list[Array]) -> bool:
    """Whether what should be times between samples are the samples' times: they grow all along, by steps alike.

    An order by chance, and spans that grow by a factor as in a logarithmic protocol, are none.

    Args:
        parts: Per sequence float (time,).
    """
    if not parts or any(len(part) > 1 and not (np.diff(part) > 0).all() for part in parts):
        return False
    if sum(math.lgamma(len(part) + 1) for part in parts) < _CHANCE:
        return False
    return all(len(part) < 4 or _grows_evenly(np.diff(part)) for part in parts)


def _grows_evenly(steps: Array) -> bool:
    """Whether steps of the second half are like those of the first; medians, so that a gap or two are of no matter."""
    half = len(steps) // 2
    return bool(_EVEN[0] < np.median(steps[half:]) / np.median(steps[:half]) < _EVEN[1])


def _whole_ns(array: Array, name: str) -> Array:
    if np.isnat(array).any():
        raise ValueError(
            f"`{name}` holds NaT, which is no time. The first of a pandas diff() is one: give it the period, as in "
            "spans.bfill()"
        )
    if np.datetime_data(array.dtype)[0] == "generic":
        raise TypeError(f"`{name}` has no unit ({array.dtype}). Give it one: .astype('{array.dtype.kind}8[ms]')")
    found: Array = array.astype(f"{array.dtype.kind}8[ns]")
    lost = np.asarray(found.astype(array.dtype) != array)  # NumPy goes on at the other end: of 9999 it makes 1815
    if lost.any() and np.datetime_data(array.dtype)[0] not in _FINER:
        held = "a date within 1678 and 2262" if array.dtype.kind == "M" else "at most 292 years"
        raise ValueError(f"`{name}` is {array[lost].flat[0]}, expected {held}: nanoseconds of 64 bits hold no more")
    return found


def _time_array(value: Any, name: str) -> Array:
    """Numbers, datetime64 or timedelta64; anything else is refused by its name, and so are masked values."""
    refuse_masked(value, name)
    array = plain_array(name, value)
    if array.dtype == object:
        items = [_time_item(item) for item in array.ravel()]
        array = np.array(items).reshape(array.shape) if items else array.astype(float)
    if array.dtype.kind in "US":
        text = array.ravel()[0]
        raise TypeError(
            f"`{name}` is the text {str(text)!r} (dtype {array.dtype}), expected seconds. Type: float(text), or "
            "np.datetime64(text) for a date and time"
        )
    if array.dtype.kind not in "fiumM":
        found = f"dtype {array.dtype}" if array.dtype != object else type(value).__name__
        raise TypeError(f"`{name}` is {value!r} ({found}), expected a number of seconds")
    return array


def _time_item(item: Any) -> Any:
    for convert in ("to_datetime64", "to_timedelta64"):  # pandas, in UTC and with nanoseconds
        if hasattr(item, convert):
            return getattr(item, convert)()
    if isinstance(item, datetime.datetime):
        utc = item if item.tzinfo is None else item.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return np.datetime64(utc, "us")
    if isinstance(item, datetime.timedelta):
        return np.timedelta64(item, "us")
    if isinstance(item, int) and not isinstance(item, bool):  # beyond what NumPy's integers hold
        return float(item) if abs(item) < _LARGEST else math.copysign(math.inf, item > 0 or -1)
    return item
