"""The time column of a table: numbers in any unit, or dates and times, as seconds."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from ...times import PER_SECOND, unit_of_name

__all__ = ["TimeColumn", "find_time_column", "number"]

_EPOCH = datetime.datetime(1970, 1, 1)
_ISO = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[T ](?P<clock>\d\d:\d\d(?::\d\d)?)(?:[.,](?P<part>\d+))?\s?(?P<zone>Z|z|[+-]\d\d:?\d\d|)"
)
_LOOKS_LIKE_TIME = re.compile(r"\d+[:/.-]\d+[:/.-]?\d*")
_EXPECTED = "expected seconds, or a date and time as 2024-05-01T12:00:00.02"


def number(cell: str) -> float:
    """A finite number.

    Raises:
        ValueError: Saying what was expected.
    """
    try:
        value = float(cell.replace("_", "?"))  # Python alone reads 1_0 as ten
    except ValueError:
        point = cell.replace(",", ".", 1)
        advice = f" with a decimal point, {point}" if re.fullmatch(r"[+-]?\d+,\d*(?:[eE][+-]?\d+)?", cell) else ""
        raise ValueError(f"'{cell}', expected a number{advice}") from None
    if not math.isfinite(value):
        raise ValueError(f"{cell}, expected a finite number")
    return value


def find_time_column(wanted: str, columns: Sequence[str]) -> tuple[str, str | None]:
    """Name and unit of what the user calls `t`, `t:ms`, or `t_ms`; the unit is `None` where nothing says one."""
    name, colon, unit = wanted.rpartition(":")
    if colon and wanted not in columns and unit in PER_SECOND:
        return name, unit
    return wanted, unit_of_name(wanted)


class TimeColumn:
    """Reads the cells of one column, from the first to the last.

    Seconds are as they are. In another unit, and with dates, they are counted from the first cell: float64 is too
    coarse for the nanoseconds since 1970.

    Args:
        unit: Of the numbers, by the argument or by the column's name; `None` for seconds.
    """

    def __init__(self, unit: str | None) -> None:
        self.unit = unit
        self._per_second = PER_SECOND[unit or "s"]
        self._first: Decimal | None = None
        self._dated: bool | None = None

    def seconds(self, cell: str) -> float:
        """The time in a cell.

        Raises:
            ValueError: If it is none, or a number among dates or the other way round.
        """
        date = _ISO.fullmatch(cell)
        if date is None:
            value = _plain(cell)
            time = None if self._per_second == 1 else Decimal(cell) / self._per_second
        else:
            value, time = 0.0, _since_1970(date, cell)
        if self._dated is not None and self._dated != (date is not None):
            raise ValueError(f"'{cell}', expected {'a date and time' if self._dated else 'a number'} as before")
        self._dated = date is not None
        if time is None:
            return value
        self._first = time if self._first is None else self._first
        return float(time - self._first)

    def kept(self) -> dict[str, Any]:
        """What later cells are counted from, as JSON has it; see `go_on`."""
        return {"first": None if self._first is None else str(self._first), "dated": self._dated}

    def go_on(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `kept` gave."""
        self._first = None if kept["first"] is None else Decimal(kept["first"])
        self._dated = kept["dated"]


def _plain(cell: str) -> float:
    try:
        return number(cell)
    except ValueError as error:
        if _LOOKS_LIKE_TIME.match(cell):
            raise ValueError(f"'{cell}', {_EXPECTED}") from None
        raise error from None


def _since_1970(date: re.Match[str], cell: str) -> Decimal:
    try:
        time = datetime.datetime.fromisoformat(f"{date['day']} {date['clock']}") - _EPOCH
    except ValueError as error:
        raise ValueError(f"'{cell}', no date and time: {error}") from None
    return time.days * 86400 + time.seconds - _offset(date["zone"]) + Decimal(f"0.{date['part'] or 0}")


def _offset(zone: str) -> int:
    """Seconds east of Greenwich."""
    if zone in ("", "Z", "z"):
        return 0
    sign = -1 if zone[0] == "-" else 1
    return sign * (int(zone[1:3]) * 3600 + int(zone[-2:]) * 60)
