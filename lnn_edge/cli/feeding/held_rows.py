"""Rows with missing cells, filled with the last good values of their columns for as long as the user said."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...runtime.model import Model
    from ...runtime.transport.row import Row

__all__ = ["Holding", "hold_for"]

_PERIODS = 10.0  # that a value is held for by default: a lost packet or two, and no sensor that was pulled out


def hold_for(model: Model, hold_for_s: float | None) -> float:
    """How long values are held, seconds: as the user said, else ten periods of the model.

    Raises:
        ValueError: If the user did not say, and the model has no period.
    """
    if hold_for_s is not None:
        return hold_for_s
    if model.time.period_s is None:
        raise ValueError(
            f"--on-bad hold needs to know for how long, and '{model.name}' was exported without a period. Type: "
            "--hold-for SECONDS"
        )
    return _PERIODS * model.time.period_s


class Holding:
    """Fills rows; see `HeldValues`.

    Args:
        model: A loaded model.
        columns: Names of the columns of a row.
        hold_for_s: See `hold_for`.
        timed: Whether rows have a time; else each counts as one period of the model.

    Raises:
        ValueError: If nothing says how long a row takes.
    """

    def __init__(self, model: Model, columns: Sequence[str], hold_for_s: float | None, timed: bool) -> None:
        from ...runtime.guard.held_values import Filled, HeldValues

        self._period_s = model.time.period_s
        if not timed and self._period_s is None:
            raise ValueError(
                f"--on-bad hold counts seconds, and neither the rows nor '{model.name}' say how long a row takes: name "
                "the column with the time, --time-column t"
            )
        self._values = HeldValues(columns, hold_for(model, hold_for_s))
        self._filled: Filled | None = None  # the newest row

    @property
    def held(self) -> int:
        """How many values stood in."""
        return self._values.held

    @property
    def held_by_column(self) -> dict[str, int]:
        """The same by column, of those where it was so."""
        return dict(self._values.held_by_column)

    def forget(self) -> None:
        """Begin a new recording."""
        self._values.forget()

    def fill(self, row: Row, number: int) -> Row:
        """The row, the `number`-th that came, without holes.

        Raises:
            ValueError: If a cell is missing that nothing may stand in for.
        """
        self._filled = self._values.fill(row.values, self._at_s(row, number))
        return dataclasses.replace(row, values=self._filled.values) if self._filled.columns else row

    def keep(self, row: Row, number: int) -> tuple[str, ...]:
        """Remember the good values of the row that was filled last, as it is used; the columns that hold others."""
        if self._filled is None:
            return ()
        self._values.keep(self._filled, self._at_s(row, number))
        return self._filled.columns

    def kept(self) -> dict[str, Any]:
        """What stands in for later rows, as JSON has it; see `go_on`."""
        return self._values.kept()

    def go_on(self, kept: dict[str, Any]) -> None:
        """Go on from what `kept` gave."""
        self._values.go_on(kept)

    def _at_s(self, row: Row, number: int) -> float:
        return number * (self._period_s or 0.0) if row.t_s is None else row.t_s
