"""Rows of a table through a stream: unroll blocks filled, policies on bad rows and gaps applied, all counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...wording import plural
from ..console import LiveNotes
from .handling import Ahead, Handling, UntimelyRow
from .kept_feed import KeptFeed, joined, kept_row, row_again
from .row_times import RowTimes
from .tally import Counts, Tally

if TYPE_CHECKING:
    from ...arrays import Array
    from ...runtime.model import Model
    from ...runtime.seen_ranges import Beyond
    from ...runtime.state import State
    from ...runtime.transport.row import BadRowError, Row
    from ..results import Outputs

__all__ = ["Feed"]

_BAD_SHOWN = 5  # bad rows that are told each by itself: in a table each may be bad in another way


class Feed:
    """Steps a model with one row after the other and writes what comes out.

    Args:
        model: A loaded model whose inputs are rows of named features.
        handling: What the user chose.
        write: Takes a row and its outputs.
        ahead: Looks at the rows to come, so that no advice is given that helps none of them.

    Attributes:
        tally: Tells what came and went.
    """

    def __init__(
        self,
        model: Model,
        handling: Handling,
        write: Callable[[Row, Outputs], None],
        ahead: Callable[[], Ahead] = Ahead,
    ) -> None:
        from ...bundle.columns import InputColumns
        from ...runtime.guard.bad_samples import BadSamplePolicy
        from ...runtime.guard.row_check import RowCheck
        from ...runtime.transport.row import BadRowError

        self._columns = InputColumns(model.manifest)
        self._manifest, self._unroll = model.manifest, model.manifest.unroll
        self._handling, self._write, self._ahead = handling, write, ahead
        self._stream = handling.stream(model)
        self._check = RowCheck(model)
        self._times = RowTimes(model, handling, self._check, ahead)
        self._bad = BadSamplePolicy(handling.on_bad)
        self._holding = handling.holding(model)
        self._bad_row_error = BadRowError  # imported once
        self._note_bad, self._note_held = LiveNotes("bad rows", first=_BAD_SHOWN), LiveNotes("held values")
        self._notes = (self._note_bad, *self._times.notes, self._note_held)
        self._rows: list[Row] = []  # of the unroll block that is not full yet
        self._samples: list[Outputs] = []  # theirs, checked and converted
        self._last: Row | None = None  # that was stepped since the state was reset
        self._to_begin = False  # the row with which a recording begins was refused, so the next one does
        self._newest: Row | None = None  # that could be read, whether or not it was stepped
        self._before: dict[str, Beyond] = {}  # what lay outside in rows before those of this stream
        self._counts = Counts()
        self.tally = Tally(model, handling, self._counts, self._times, self._holding, self._outside)

    def take(self, row: Row | BadRowError) -> None:
        """Step the row, or keep it until its unroll block is full.

        Raises:
            ValueError: If the row cannot be used and the user did not say how to go on.
        """
        self._counts.came += 1
        for notes in self._notes:
            if notes.waiting:  # asked here, as it is seldom so and this is done for every row
                notes.tick()
        if isinstance(row, ValueError):
            self._refuse(row, 1)
            return
        self._newest = row
        begins = row.reset or self._to_begin
        last = None if begins else self._previous()
        whole, fault = self._whole(row, begins)
        fault = fault or self._fault(whole, last)
        if fault is not None:
            self._counts.untimely += isinstance(fault, UntimelyRow)
            self._to_begin = begins
            self._refuse(fault, 1)
            return
        sample = self._check.sample()
        late = self._times.lateness(whole, last)
        if late == "drop":
            return
        self._counts.recordings += begins
        self._to_begin = False
        self._hold(whole)
        begins = begins or late == "reset" or self._times.is_behind_gap(whole, last)
        self._keep(whole if whole.reset == begins else dataclasses.replace(whole, reset=begins), sample)

    def kept(self) -> tuple[State, KeptFeed]:
        """The stream's state, and all else that later results depend on, between two rows."""
        own = KeptFeed(
            self._counts,
            self._times.kept(),
            None if self._holding is None else self._holding.kept(),
            [row for row in (kept_row(own, values=True) for own in self._rows) if row is not None],
            kept_row(self._last),
            kept_row(self._newest),
            self._to_begin,
            {name: (own.number, own.farthest) for name, own in self._outside().items()},
        )
        return self._stream.snapshot(), own

    def go_on(self, state: State, kept: KeptFeed, pause_s: float | None = None) -> None:
        """Go on from what `kept` gave, before the first row.

        Args:
            state: The stream's, as `kept` gave it.
            kept: All else.
            pause_s: Seconds since its last row, by the clock, of a live input; `None` of a file, whose rows wait.

        Raises:
            TypeError, ValueError, NonFiniteError: If it does not fit the model.
        """
        from ...runtime.seen_ranges import Beyond

        self._stream.restore(state)
        for name in kept.counts.__struct_fields__:
            setattr(self._counts, name, getattr(kept.counts, name))
        self._bad.skipped = kept.counts.skipped
        self._times.go_on(kept.times, pause_s)
        if self._holding is not None and kept.holding is not None:
            self._holding.go_on(kept.holding)
        self._rows = [row for row in map(row_again, kept.rows) if row is not None]
        self._samples = [self._sample_of(row) for row in self._rows]
        self._last, self._newest, self._to_begin = row_again(kept.last), row_again(kept.newest), kept.to_begin
        self._before = {name: Beyond(*own) for name, own in kept.outside.items()}

    def _sample_of(self, row: Row) -> Outputs:
        check = self._check
        check.values(self._columns.sample(row.values))
        return check.sample()

    def _outside(self) -> dict[str, Beyond]:
        return joined(self._before, self._stream.outside, self._manifest)

    def _whole(self, row: Row, begins: bool) -> tuple[Row, ValueError | None]:
        """The row with what is missing in it filled, if the user wants that, or why it cannot be."""
        if self._holding is None:
            return row, None
        if begins:
            self._holding.forget()
        try:
            return self._holding.fill(row, self._counts.came), None
        except ValueError as error:
            return row, ValueError(self._handling.at(row, str(error)))

    def _hold(self, row: Row) -> None:
        """Remember the row's values, and tell which of them are those of an earlier one."""
        held = () if self._holding is None else self._holding.keep(row, self._counts.came)
        for name in held:
            self._note_held(self._handling.at(row, f"'{name}' is missing; the last good value is held"), name)

    def _keep(self, row: Row, sample: Outputs) -> None:
        if row.reset:
            self._counts.left += len(self._rows)
            self._rows, self._samples, self._last = [], [], None
        self._rows.append(row)
        self._samples.append(sample)
        if len(self._rows) == self._unroll:
            rows, samples = self._rows, self._samples
            self._rows, self._samples = [], []
            self._take_rows(rows, samples)
        self._counts.waiting = len(self._rows)

    def _previous(self) -> Row | None:
        """The row that the next one follows."""
        return self._rows[-1] if self._rows else self._last

    def _fault(self, row: Row, last: Row | None) -> ValueError | None:
        """Why a row cannot be used; a gap is no fault of a row, and late rows have a policy of their own."""
        try:
            self._check.values(self._columns.sample(row.values))
        except ValueError as error:
            return ValueError(self._handling.at(row, str(error)))
        return self._times.too_early(row, last)

    def _refuse(self, error: ValueError, rows: int) -> None:
        self._counts.first_fault = self._counts.first_fault or str(error)
        try:
            self._bad.refuse(error, rows)
        except ValueError:
            raise ValueError(f"{error}. {self._skip_advice(error)}".removesuffix(". ")) from error
        self._counts.skipped = self._bad.skipped
        self._note_bad(str(error))

    def _hold_advice(self, error: ValueError) -> str:
        """To hold helps where a value is missing, after a row that had one."""
        missing = isinstance(error, self._bad_row_error) and error.missing and self._handling.on_bad == "stop"
        return "; to let the last good value of the column stand in, --on-bad hold" if missing else ""

    def _skip_advice(self, error: ValueError) -> str:
        """To skip helps where a row behind it can be used, or might."""
        ahead, last = self._ahead(), self._previous()
        if any(self._is_usable(row, last) for row in ahead.rows) or (not ahead.rows and (last or not ahead.all)):
            return f"To go on with the next row, pass --on-bad skip{self._hold_advice(error)}"
        return f"{plural(len(ahead.rows), 'row')} behind it cannot be used either" if ahead.rows else ""

    def _is_usable(self, row: Row | BadRowError, last: Row | None) -> bool:
        if isinstance(row, ValueError):
            return False
        before = last if last is not None and last.recording == row.recording else None
        return self._times.follows(row, before) and self._fault(row, before) is None

    def _take_rows(self, rows: list[Row], samples: list[Outputs]) -> None:
        try:
            ys = self._step(rows, samples)
        except ValueError as error:
            self._refuse(error, len(rows))
            return
        each = not self._stream.one_per_call
        for k, row in enumerate(rows):
            self._times.watch_pace(row, self._last)
            self._last = row
            if each:
                self._write(row, ys if self._unroll == 1 else _sample(ys, k))
        self._counts.stepped += len(rows)
        if not each and self._stream.fresh:
            self._write(rows[-1], ys)

    def _step(self, rows: list[Row], samples: list[Outputs]) -> Outputs:
        """Step one row, or an unroll block of them; every error is a ValueError that names the line."""
        first, last = rows[0], rows[-1]
        if first.reset:
            self._stream.reset()
        x = samples[0] if first is last else _block(samples)
        times = first.t_s if first is last else [row.t_s for row in rows]
        try:
            outputs: Outputs = self._stream.step(x, t_s=times if self._times.measured else None)
        except ValueError as error:
            lines = f"line {first.line}" if first is last else f"lines {first.line} to {last.line}"
            raise ValueError(f"{self._handling.source}, {lines}: {error}") from error
        return outputs


def _block(samples: list[Outputs]) -> list[Outputs] | dict[str, list[Array]]:
    """An unroll block of samples, by input if there are several."""
    if not isinstance(samples[0], dict):
        return samples
    return {name: [own[name] for own in samples] for name in samples[0]}


def _sample(ys: Outputs, k: int) -> Outputs:
    """One sample's outputs out of an unroll block's."""
    return {name: y[k] for name, y in ys.items()} if isinstance(ys, dict) else ys[k]
