"""Holding of values: where a column of a sample is missing, its last good value stands in, for a stated time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...arrays import Array

__all__ = ["Filled", "HeldValues"]


@dataclass(frozen=True)
class Filled:
    """A sample without holes.

    Args:
        values: The columns, float64 (features,).
        columns: Names of those that hold an earlier value.
        missing: bool (features,); where there was none.
    """

    values: Array
    columns: tuple[str, ...]
    missing: Array


class HeldValues:
    """Fills columns that are NaN or infinite with the last value that was stepped, as a sensor's driver would.

    Nothing stands in before there was a good value, and none longer than the stated time: then a sensor is gone, and a
    model that goes on seeing its last value would go on as if it were there.

    Args:
        columns: Their names.
        hold_for_s: How long a value may stand in, seconds.
        predict: Whether the line through a column's last two good values stands in, and not the last one; of all
            columns, or bool (columns,).

    Attributes:
        held_by_column: How many values stood in, of those columns where some did.
    """

    def __init__(self, columns: Sequence[str], hold_for_s: float, *, predict: bool | Array = False) -> None:
        self.held_by_column: Counter[str] = Counter()
        self._columns = tuple(columns)
        self._hold_for_s = hold_for_s
        self._straight = np.broadcast_to(np.asarray(predict, np.bool_), len(self._columns))
        self._predict = bool(self._straight.any())
        self.forget()

    @property
    def held(self) -> int:
        """How many values stood in."""
        return sum(self.held_by_column.values())

    def forget(self) -> None:
        """Begin a new sequence: what another recording measured stands in for nothing."""
        self._values = np.full(len(self._columns), np.nan)
        self._times_s = np.full(len(self._columns), np.nan)
        self._slopes = np.zeros(len(self._columns))  # per second

    def fill(self, values: Array, at_s: float) -> Filled:
        """Fill a sample.

        Args:
            values: The columns, (features,).
            at_s: When it was measured, seconds, on a clock that is the same for all.

        Raises:
            ValueError: If a value is missing that nothing may stand in for.
        """
        missing = ~np.isfinite(values)
        if not missing.any():
            return Filled(values, (), missing)
        for k in np.flatnonzero(missing):
            self._check(int(k), at_s)
        names = tuple(self._columns[k] for k in np.flatnonzero(missing))
        standing = self._values
        if self._predict:
            standing = standing + self._slopes * (at_s - self._times_s)
        return Filled(np.where(missing, standing, values), names, missing)

    def _check(self, column: int, at_s: float) -> None:
        name, last_s = self._columns[column], self._times_s[column]
        if np.isnan(last_s):
            raise ValueError(f"'{name}' is missing, and no good value came before it that could be held")
        if at_s < last_s:
            raise ValueError(f"'{name}' is missing, and its last good value is of a time after this sample's")
        if at_s - last_s > self._hold_for_s * (1 + 1e-9):
            raise ValueError(
                f"'{name}' is missing, and its last good value is {at_s - last_s:g} s old: values are held for "
                f"{self._hold_for_s:g} s"
            )

    def kept(self) -> dict[str, Any]:
        """What stands in for later samples and what was counted, as JSON has it; see `go_on`."""
        columns = {
            name: [float(value), float(at_s), float(slope)]
            for name, value, at_s, slope in zip(self._columns, self._values, self._times_s, self._slopes, strict=True)
            if not np.isnan(at_s)
        }
        return {"columns": columns, "held": dict(self.held_by_column)}

    def go_on(self, kept: Mapping[str, Any], later_s: float = 0.0) -> None:
        """Go on from what `kept` gave, by a clock that stands so much later."""
        self.forget()
        self.held_by_column = Counter(kept["held"])
        for name, (value, at_s, slope) in kept["columns"].items():
            k = self._columns.index(name)
            self._values[k], self._times_s[k] = value, at_s + later_s
            self._slopes[k] = slope if self._straight[k] else 0.0

    def keep(self, filled: Filled, at_s: float) -> None:
        """Remember the good values of a sample that can be stepped, and count what stood in."""
        good = ~filled.missing
        if self._predict:
            self._note_slopes(filled.values, good, at_s)
        self._values[good] = filled.values[good]
        self._times_s[good] = at_s
        self.held_by_column.update(filled.columns)

    def _note_slopes(self, values: Array, good: Array, at_s: float) -> None:
        """Between each good value and the one before; none where that is unknown, or of the same time."""
        spans = at_s - self._times_s[good]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            slopes = (values[good] - self._values[good]) / spans
        known = self._straight[good] & (spans > 0) & np.isfinite(slopes)
        self._slopes[good] = np.where(known, slopes, 0.0)
