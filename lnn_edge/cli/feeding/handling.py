"""The user's choices about the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from .held_rows import Holding

if TYPE_CHECKING:
    from ...runtime.guard.late_samples import OnLate
    from ...runtime.model import Model
    from ...runtime.stream import Stream
    from ...runtime.transport.row import BadRowError, Row

__all__ = ["Ahead", "Handling", "Unsuccessful", "UntimelyRow"]


class Handling(Struct, frozen=True):
    """What the user chose about the rows.

    Args:
        source: Where they come from, for messages.
        time_column: Column with each row's time, or `None`.
        on_bad, on_gap: What to do with a row that cannot be used, and at a gap.
        on_late: What to do with a row whose time is not after that of the one before; `None` for what fits the others.
        hold_for_s: With on_bad="hold", for how long, seconds; `None` for ten periods.
        window, every: Samples of a window, and to the beginning of the next; see `Model.stream`.
        constants: Constant inputs of every recording by name, or `None`.
        unit: Of the time column's numbers, `None` for seconds.
    """

    source: str
    time_column: str | None
    on_bad: Literal["stop", "skip", "hold"]
    on_gap: Literal["stop", "reset"]
    window: int | None = None
    every: int | None = None
    constants: dict[str, list[float]] | None = None
    unit: str | None = None
    on_late: OnLate | None = None
    hold_for_s: float | None = None

    def late(self, measured: bool) -> OnLate | None:
        """What to do with late rows; `None`: step them as they come. Who said how to go on elsewhere meant to go on."""
        if self.on_late is not None or not measured:
            return self.on_late
        return "stop" if self.on_bad == self.on_gap == "stop" else "drop"

    def holding(self, model: Model) -> Holding | None:
        """What fills missing values, if the user wants that.

        Raises:
            ValueError: If nothing says for how long.
        """
        if self.on_bad != "hold":
            return None
        from ...bundle.columns import InputColumns

        return Holding(model, InputColumns(model.manifest).names, self.hold_for_s, self.time_column is not None)

    def stream(self, model: Model) -> Stream:
        """A stream as the user wants it.

        Raises:
            TypeError, ValueError: If the model has no such stream.
        """
        return model.stream(window=self.window, every=self.every, constants=self.constants)

    def at(self, row: Row, text: str) -> str:
        """What is wrong with a row, and which row it is."""
        return f"{self.source}, line {row.line}: {text}"


class Ahead(Struct, frozen=True):
    """What has come already behind the newest row, and whether that is all."""

    rows: Sequence[Row | BadRowError] = ()
    all: bool = False


class Unsuccessful(ValueError):
    """All rows went through, and what came out is no result."""


class UntimelyRow(ValueError):
    """A row whose time alone is wrong."""
