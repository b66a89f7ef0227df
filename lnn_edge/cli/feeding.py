"""Rows of a table through a stream: unroll blocks filled, policies on bad rows and gaps applied, all counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from ..wording import plural
from .console import LimitedNotes

if TYPE_CHECKING:
    from ..runtime.guard.dt_policy import Gap
    from ..runtime.model import Model
    from ..runtime.stream import Stream
    from ..runtime.transport.row import BadRowError, Row
    from .results import Outputs

__all__ = ["Feed", "Handling"]


class Handling(Struct, frozen=True):
    """What the user chose about the rows.

    Args:
        source: Where they come from, for messages.
        time_column: Column with each row's time, or `None`.
        on_bad, on_gap: What to do with a row that cannot be used, and at a gap.
        window, every: Samples of a window, and to the beginning of the next; see `Model.stream`.
        constants: Constant inputs of every recording by name, or `None`.
    """

    source: str
    time_column: str | None
    on_bad: Literal["stop", "skip"]
    on_gap: Literal["stop", "reset"]
    window: int | None = None
    every: int | None = None
    constants: dict[str, list[float]] | None = None

    def stream(self, model: Model) -> Stream:
        """A stream as the user wants it.

        Raises:
            TypeError, ValueError: If the model has no such stream.
        """
        return model.stream(window=self.window, every=self.every, constants=self.constants)


class Feed:
    """Steps a model with one row after the other and writes what comes out.

    Args:
        model: A loaded model with one input of named features.
        handling: What the user chose.
        write: Takes a row and its outputs.
    """

    def __init__(self, model: Model, handling: Handling, write: Callable[[Row, Outputs], None]) -> None:
        from ..runtime.guard.bad_samples import BadSamplePolicy
        from ..runtime.guard.dt_policy import GapError, GapPolicy, PaceCheck

        self._stream = handling.stream(model)
        self._stepped = 0  # samples
        self._handling = handling
        self._write = write
        self._measured = model.time.mode == "measured"
        self._unroll = model.manifest.unroll
        self._gaps = GapPolicy(model.name, model.time, handling.on_gap)
        self._bad = BadSamplePolicy(handling.on_bad)
        self._pace = PaceCheck(model.name, model.time)
        self._gap_error = GapError  # imported once, not with every row
        self._note_bad, self._note_gap = LimitedNotes("bad rows"), LimitedNotes("gaps")
        self._rows: list[Row] = []  # of the unroll block that is not full yet
        self._last_s: float | None = None  # time of the last row that was stepped since the state was reset
        self._recordings = self._left = 0

    def take(self, row: Row | BadRowError) -> None:
        """Step the row, or keep it until its unroll block is full.

        Raises:
            ValueError: If the row cannot be used and the user did not say how to go on.
        """
        if isinstance(row, ValueError):
            self._refuse(row, 1)
            return
        self._recordings += row.reset
        if not row.reset:
            row = self._behind_gap(row, self._rows[-1].t_s if self._rows else self._last_s)
        if row.reset:
            self._left += len(self._rows)
            self._rows, self._last_s = [], None
        self._rows.append(row)
        if len(self._rows) == self._unroll:
            rows, self._rows = self._rows, []
            self._take_rows(rows)

    def counts(self, steps: int) -> str:
        """What came and went, for the summary; `steps` results are written, one of each sample or window."""
        left, window = self._left + len(self._rows), self._handling.window
        parts = [f"{plural(self._stepped if window else steps, 'sample')} in {plural(self._recordings, 'recording')}"]
        if window:
            parts.append(f"{plural(steps, 'window')} of {window}")
        if self._gaps.resets:
            parts.append(f"state reset after {plural(self._gaps.resets, 'gap')}")
        if self._bad.skipped:
            parts.append(f"{plural(self._bad.skipped, 'bad row')} skipped")
        if left:
            parts.append(f"{left:,} at the ends of recordings filled no block")
        return ", ".join(parts)

    def warning(self) -> str | None:
        """What the user should know about the times in the rows, if there is anything."""
        off = self._pace.finding()
        if off is None:
            return None
        return (
            f"warning: by '{self._handling.time_column}' {off}. Export it with --time measured, or resample the input "
            f"to one row every {off.period_s:g} s"
        )

    def _behind_gap(self, row: Row, last_s: float | None) -> Row:
        """The row as it is, or, behind a gap at which the state is reset, as the first one of a new sequence."""
        try:
            gap = self._gaps.check(row.t_s, last_s)
        except self._gap_error as error:
            message = self._gap_message(row, error.gap)
            raise ValueError(f"{message}. To reset the state there and go on, pass --on-gap reset") from error
        if gap is None:
            return row
        self._note_gap(f"{self._gap_message(row, gap)}: the state is reset")
        return dataclasses.replace(row, reset=True)

    def _gap_message(self, row: Row, gap: Gap) -> str:
        return f"{self._handling.source}, line {row.line}: '{self._handling.time_column}' is {gap}"

    def _refuse(self, error: ValueError, rows: int) -> None:
        try:
            self._bad.refuse(error, rows)
        except ValueError:
            raise ValueError(f"{error}. To go on with the next row, pass --on-bad skip") from error
        self._note_bad(str(error))

    def _take_rows(self, rows: list[Row]) -> None:
        try:
            ys = self._step(rows)
        except ValueError as error:
            self._refuse(error, len(rows))
            return
        each = not self._stream.one_per_call
        for k, row in enumerate(rows):
            self._pace.take(row.t_s, self._last_s)
            self._last_s = row.t_s
            if each:
                self._write(row, ys if self._unroll == 1 else _sample(ys, k))
        self._stepped += len(rows)
        if not each and self._stream.fresh:
            self._write(rows[-1], ys)

    def _step(self, rows: list[Row]) -> Outputs:
        """Step one row, or an unroll block of them; every error is a ValueError that names the line."""
        first, last = rows[0], rows[-1]
        if first.reset:
            self._stream.reset()
        x = first.values if first is last else [row.values for row in rows]
        times = first.t_s if first is last else [row.t_s for row in rows]
        try:
            outputs: Outputs = self._stream.step(x, t_s=times if self._measured else None)
        except ValueError as error:
            lines = f"line {first.line}" if first is last else f"lines {first.line} to {last.line}"
            raise ValueError(f"{self._handling.source}, {lines}: {error}") from error
        return outputs


def _sample(ys: Outputs, k: int) -> Outputs:
    """One sample's outputs out of an unroll block's."""
    return {name: y[k] for name, y in ys.items()} if isinstance(ys, dict) else ys[k]
