"""Unit of a time column, as it is asked about and typed."""

from __future__ import annotations

__all__ = ["coarse_question", "longer_unit", "unit_question"]

_POWERS = ("s", "ms", "us", "ns")  # each is a thousandth of the one before
_WORDS = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


def longer_unit(own: str | None, factor: str | None) -> str | None:
    """The unit in which numbers are that were taken in `own` and are a "ms", "us" or "ns" too large; `None` if none."""
    if factor is None:
        return None
    power = _POWERS.index(own or "s") + _POWERS.index(factor)
    return _POWERS[power] if power < len(_POWERS) else None


def unit_question(column: str | None, unit: str) -> str:
    """What to type where a column seems to be in another unit."""
    return f"That looks like {_WORDS[unit]}. If it is, type: --time-column '{column}:{unit}'"


def coarse_question(column: str | None, between_s: float, period_s: float | None) -> str:
    """What to do where a column, taken in seconds, seems to be in minutes, hours or days; "" where it does not."""
    from ...times import coarse_unit  # which brings NumPy

    found = coarse_unit(between_s, period_s)
    return "" if found is None else f". That looks like {found[0]}. If it is, multiply '{column}' by {found[1]:,}"
