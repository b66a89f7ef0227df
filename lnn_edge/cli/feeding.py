"""Rows of a table through a stream: unroll blocks filled, policies on bad rows and gaps applied, all counted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from ..wording import listed, plural
from .console import LiveNotes
from .holding import Holding
from .time_unit import coarse_question, longer_unit, unit_question

if TYPE_CHECKING:
    from ..arrays import Array
    from ..runtime.guard.dt_policy import Gap, OffPace
    from ..runtime.guard.late_samples import OnLate
    from ..runtime.model import Model
    from ..runtime.seen_ranges import Beyond
    from ..runtime.stream import Stream
    from ..runtime.transport.row import BadRowError, Row
    from .results import Outputs

__all__ = ["Ahead", "Feed", "Handling", "Unsuccessful"]

_BAD_SHOWN = 5  # bad rows that are told each by itself: in a table each may be bad in another way
_LATE_ADVICE = (
    "Samples must come in order of time; a column that tells recordings apart goes into --reset-column. To leave late "
    "rows out, pass --on-late drop; to begin anew with each, --on-late reset"
)
_USUAL = 1.0  # width of the range that the example had: an estimator's export allows for as much outside it
_SHOWN = 4  # columns


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
        return Holding(model, self.hold_for_s, self.time_column is not None) if self.on_bad == "hold" else None

    def stream(self, model: Model) -> Stream:
        """A stream as the user wants it.

        Raises:
            TypeError, ValueError: If the model has no such stream.
        """
        return model.stream(window=self.window, every=self.every, constants=self.constants)


class Ahead(Struct, frozen=True):
    """What has come already behind the newest row, and whether that is all."""

    rows: Sequence[Row | BadRowError] = ()
    all: bool = False


class Unsuccessful(ValueError):
    """All rows went through, and what came out is no result."""


class _Untimely(ValueError):
    """A row whose time alone is wrong."""


class Feed:
    """Steps a model with one row after the other and writes what comes out.

    Args:
        model: A loaded model with one input of named features.
        handling: What the user chose.
        write: Takes a row and its outputs.
        ahead: Looks at the rows to come, so that no advice is given that helps none of them.
    """

    def __init__(
        self,
        model: Model,
        handling: Handling,
        write: Callable[[Row, Outputs], None],
        ahead: Callable[[], Ahead] = Ahead,
    ) -> None:
        from ..runtime.guard.bad_samples import BadSamplePolicy
        from ..runtime.guard.dt_policy import GapError, GapPolicy, PaceCheck
        from ..runtime.guard.late_samples import LateError, LatePolicy
        from ..runtime.guard.row_check import RowCheck
        from ..runtime.transport.row import BadRowError

        self._stream = handling.stream(model)
        self._stepped = 0  # samples
        self._handling = handling
        self._write = write
        self._ahead = ahead
        self._name = model.name
        self._seen = {f.name: f.range for tensor in model.manifest.streamed for f in tensor.features if f.range}
        self._measured = model.time.mode == "measured"
        self._period_s = model.time.period_s
        self._unroll = model.manifest.unroll
        self._check = RowCheck(model)
        self._gaps = GapPolicy(model.name, model.time, handling.on_gap)
        self._bad = BadSamplePolicy(handling.on_bad)
        self._pace = PaceCheck(model.name, model.time)
        self._holding = handling.holding(model)
        on_late = handling.late(self._measured)
        self._late = None if on_late is None else LatePolicy(on_late)
        self._gap_error, self._late_error, self._bad_row_error = GapError, LateError, BadRowError  # imported once
        self._note_bad, self._note_gap = LiveNotes("bad rows", first=_BAD_SHOWN), LiveNotes("gaps")
        self._note_late, self._note_held = LiveNotes("late rows"), LiveNotes("held values")
        self._notes = (self._note_bad, self._note_gap, self._note_late, self._note_held)
        self._rows: list[Row] = []  # of the unroll block that is not full yet
        self._samples: list[Array] = []  # theirs, checked and converted
        self._last: Row | None = None  # that was stepped since the state was reset
        self._to_begin = False  # the row with which a recording begins was refused, so the next one does
        self._came = self._recordings = self._left = 0
        self._untimely = 0  # rows refused for their time alone
        self._on_time = self._unit_gaps = 0  # rows that came in time, and those a power of a thousand too late
        self._first_fault: ValueError | None = None

    def take(self, row: Row | BadRowError) -> None:
        """Step the row, or keep it until its unroll block is full.

        Raises:
            ValueError: If the row cannot be used and the user did not say how to go on.
        """
        self._came += 1
        for notes in self._notes:
            if notes.waiting:  # asked here, as it is seldom so and this is done for every row
                notes.tick()
        if isinstance(row, ValueError):
            self._refuse(row, 1)
            return
        begins = row.reset or self._to_begin
        last = None if begins else self._previous()
        whole, fault = self._whole(row, begins)
        fault = fault or self._fault(whole, last)
        if fault is not None:
            self._untimely += isinstance(fault, _Untimely)
            self._to_begin = begins
            self._refuse(fault, 1)
            return
        sample = self._check.sample()
        late = self._lateness(whole, last)
        if late == "drop":
            return
        self._recordings += begins
        self._to_begin = False
        self._hold(whole)
        begins = begins or late == "reset" or self._is_behind_gap(whole, last)
        self._keep(whole if whole.reset == begins else dataclasses.replace(whole, reset=begins), sample)

    def _whole(self, row: Row, begins: bool) -> tuple[Row, ValueError | None]:
        """The row with what is missing in it filled, if the user wants that, or why it cannot be."""
        if self._holding is None:
            return row, None
        if begins:
            self._holding.forget()
        try:
            return self._holding.fill(row, self._came), None
        except ValueError as error:
            return row, self._fault_of(row, str(error))

    def _hold(self, row: Row) -> None:
        """Remember the row's values, and tell which of them are those of an earlier one."""
        held = () if self._holding is None else self._holding.keep(row, self._came)
        for name in held:
            self._note_held(
                f"{self._handling.source}, line {row.line}: '{name}' is missing; the last good value is held", name
            )

    def _lateness(self, row: Row, last: Row | None) -> Literal["drop", "reset"] | None:
        """What becomes of a row that is late.

        Raises:
            ValueError: If the user did not say how to go on.
        """
        if last is None or self._late is None:
            return None
        text = f"'{self._handling.time_column}' is {row.time}, not after the previous sample at {last.time}"
        try:
            found = self._late.check(row.t_s, last.t_s)
        except self._late_error as error:
            raise self._fault_of(row, f"{text}. {_LATE_ADVICE}") from error
        if found == "set back":
            return self._set_back(row, last, text)
        if found is not None:
            done = "it is left out" if found == "drop" else "the state is reset"
            self._note_late(str(self._fault_of(row, f"{text}: {done}")))
        return found

    def _set_back(self, row: Row, last: Row, text: str) -> Literal["reset"] | None:
        """Begin anew, as behind a gap, where so many late rows came that the clock was set back."""
        message = str(self._fault_of(row, f"{text}, as with the rows before it: the clock was set back"))
        if not self._measured:
            self._note_late(f"{message}. The rows are stepped again from there")
            return None
        try:
            self._gaps.decide(self._gaps.between(row.t_s, last.t_s))
        except self._gap_error as error:
            raise ValueError(f"{message}. To reset the state there and go on, pass --on-gap reset") from error
        self._note_gap(f"{message}. The state is reset")
        return "reset"

    def _keep(self, row: Row, sample: Array) -> None:
        if row.reset:
            self._left += len(self._rows)
            self._rows, self._samples, self._last = [], [], None
        self._rows.append(row)
        self._samples.append(sample)
        if len(self._rows) == self._unroll:
            rows, samples = self._rows, self._samples
            self._rows, self._samples = [], []
            self._take_rows(rows, samples)

    def counts(self, steps: int) -> str:
        """What came and went, for the summary; `steps` results are written, one of each sample or window."""
        left, window = self._left + len(self._rows), self._handling.window
        parts = [f"{plural(self._stepped if window else steps, 'sample')} in {plural(self._recordings, 'recording')}"]
        if window:
            parts.append(f"{plural(steps, 'window')} of {window}")
        if self._gaps.resets:
            parts.append(f"state reset after {plural(self._gaps.resets, 'gap')}")
        if self._late is not None and self._late.resets:
            parts.append(f"state reset at {plural(self._late.resets, 'late row')}")
        if self._late is not None and self._late.dropped:
            parts.append(f"{plural(self._late.dropped, 'late row')} left out")
        if self._holding is not None and self._holding.held:
            parts.append(f"{plural(self._holding.held, 'missing value')} held")
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
        coarse = self._coarse(off)
        if coarse:
            return f"warning: by '{self._handling.time_column}' {off}{coarse}"
        unit = longer_unit(self._handling.unit, off.unit)
        advice = (
            f"Export it with --time measured, or resample the input to one row every {off.period_s:g} s"
            if unit is None
            else unit_question(self._handling.time_column, unit)
        )
        return f"warning: by '{self._handling.time_column}' {off}. {advice}"

    def _coarse(self, off: OffPace) -> str:
        """What to do where all times are off as minutes, hours or days would be that are taken for seconds."""
        if self._handling.unit is not None or 2 * off.off < off.count:
            return ""
        return coarse_question(self._handling.time_column, off.largest_s, off.period_s)

    @property
    def outside(self) -> dict[str, Beyond]:
        """Values outside the range that the export's example had, by column."""
        return self._stream.outside

    def facts(self, steps: int) -> dict[str, object]:
        """What came and went, for `--json`; see `counts`."""
        return {
            "samples": self._stepped if self._handling.window else steps,
            "recordings": self._recordings,
            "results": steps,
            "resets_after_gaps": self._gaps.resets,
            "resets_at_late_rows": 0 if self._late is None else self._late.resets,
            "late_rows_dropped": 0 if self._late is None else self._late.dropped,
            "values_held": 0 if self._holding is None else self._holding.held,
            "values_held_by_column": {} if self._holding is None else self._holding.held_by_column,
            "bad_rows_skipped": self._bad.skipped,
            "samples_left": self._left + len(self._rows),
            "outside_seen_range": {name: own._asdict() for name, own in self.outside.items()},
        }

    def outside_text(self) -> str | None:
        """What the user should know about values that nothing was proven for, if there are any."""
        if not self.outside:
            return None
        far = {name: self._widths_outside(name, own.farthest) for name, own in self.outside.items()}
        names = sorted(far, key=lambda name: -far[name])
        count = plural(sum(own.number for own in self.outside.values()), "value")
        what = f"{count} in {plural(self._stepped, 'sample')} outside the range of the example of the export"
        if far[names[0]] <= _USUAL:
            return f"remark: {what}, at most by {far[names[0]]:.0%} of that range, in '{names[0]}'"
        told = (f"'{name}' {self.outside[name].number:,}, up to {self.outside[name].farthest:.4g}" for name in names)
        return f"warning: {what}: {listed(told, _SHOWN)}. To refuse such values, export it with --margin {_USUAL:g}"

    def _widths_outside(self, name: str, value: float) -> float:
        """How far a value of a column lies outside the range that the example had, in widths of it."""
        low, high = self._seen[name]
        return max(low - value, value - high) / (high - low) if high > low else math.inf

    def conclude(self, results: int) -> None:
        """Say that the rows gave nothing that could be used, if it is so; `results` were written.

        Raises:
            Unsuccessful: If rows came and none became a result, most were refused for their time, or the state was
                reset at most of them.
        """
        if self._came and not results:
            raise Unsuccessful(self._nothing())
        if 2 * self._untimely > self._came:
            raise Unsuccessful(
                f"{self._untimely:,} of {plural(self._came, 'row')} are not in time after the one before: see whether "
                f"{self._time_question()}; the first: {self._first_fault}"
            )
        begun, dropped = (0, 0) if self._late is None else (self._late.resets, self._late.dropped)
        if 2 * dropped > self._came:
            raise Unsuccessful(
                f"{dropped:,} of {plural(self._came, 'sample')} came late and were left out: see whether "
                f"{self._time_question()}"
            )
        resets = self._gaps.resets + begun + self._recordings - 1
        if 2 * resets > self._stepped:
            timed = self._gaps.resets or begun
            hint = self._time_question() if timed else "--reset-column is one that tells recordings apart"
            raise Unsuccessful(
                f"the state was reset at {resets:,} of {plural(self._stepped, 'sample')}, so hardly two belong "
                f"together: see whether {hint}"
            )

    def _time_question(self) -> str:
        return (
            f"'{self._handling.time_column}' is the time of each sample, and in which unit: --time-column NAME:ms, "
            "NAME:us or NAME:ns"
        )

    def _nothing(self) -> str:
        came = f"{plural(self._came, 'row')} came from {self._handling.source}"
        if self._first_fault is not None and not self._stepped:
            return f"{came}, and none could be used; the first: {self._first_fault}"
        if self._handling.window:
            return f"{came}, and no recording filled a window of {plural(self._handling.window, 'sample')}"
        return f"{came}, and no recording filled a block of {plural(self._unroll, 'sample')}"

    def _previous(self) -> Row | None:
        """The row that the next one follows."""
        return self._rows[-1] if self._rows else self._last

    def _fault(self, row: Row, last: Row | None) -> ValueError | None:
        """Why a row cannot be used; a gap is no fault of a row, and late rows have a policy of their own."""
        try:
            self._check.values(row.values)
        except ValueError as error:
            return self._fault_of(row, str(error))
        between_s = None if last is None or not self._measured else _between_s(row, last)
        if between_s is None or last is None or between_s <= 0 or self._gaps.find(row.t_s, last.t_s) is not None:
            return None
        shown = f"'{self._handling.time_column}' is {row.time}"
        shortest_s = self._check.too_early(between_s)
        if shortest_s is None:
            return None
        return self._untimely_row(
            row,
            f"{shown}, {between_s:g} s after the previous sample at {last.time}, but '{self._name}' was proven for at "
            f"least {shortest_s:g} s between samples{self._taken_as(between_s)}",
        )

    def _taken_as(self, between_s: float) -> str:
        if self._handling.unit is None:
            return coarse_question(self._handling.time_column, between_s, self._period_s)
        name = self._handling.time_column
        return f". '{name}' is taken in {self._handling.unit}; for seconds type: --time-column '{name}:s'"

    def _untimely_row(self, row: Row, text: str) -> ValueError:
        return _Untimely(f"{self._handling.source}, line {row.line}: {text}")

    def _fault_of(self, row: Row, text: str) -> ValueError:
        return ValueError(f"{self._handling.source}, line {row.line}: {text}")

    def _is_behind_gap(self, row: Row, last: Row | None) -> bool:
        """Whether there is a gap before the row at which the state is reset."""
        if last is None:
            return False
        try:
            gap = self._gaps.check(row.t_s, last.t_s)
        except self._gap_error as error:
            raise ValueError(f"{self._gap_message(row, last, error.gap)}{self._gap_advice(row, error.gap)}") from error
        if gap is None:
            self._on_time += 1
            return False
        message, unit = self._gap_message(row, last, gap), self._other_unit(row, gap)
        self._unit_gaps += unit is not None
        if unit is not None and self._unit_gaps > 1:
            raise ValueError(f"{message}. {unit_question(self._handling.time_column, unit)}")
        self._note_gap(f"{message}: the state is reset")
        return True

    def _gap_message(self, row: Row, last: Row, gap: Gap) -> str:
        """As the policy says it, with the times as they stand in the column."""
        side = "after" if gap.now_s > gap.last_s else "before"
        return (
            f"{self._handling.source}, line {row.line}: '{self._handling.time_column}' is {row.time}, "
            f"{abs(gap.now_s - gap.last_s):g} s {side} the last sample at {last.time}, but '{self._name}' was proven "
            f"for at most {gap.longest_s:g} s between samples"
        )

    def _gap_advice(self, row: Row, gap: Gap) -> str:
        unit = self._other_unit(row, gap)
        if unit is not None:
            return f". {unit_question(self._handling.time_column, unit)}"
        behind = self._gaps_ahead(row)
        if behind and all(own is not None for own in behind):
            return f". So it is with {plural(len(behind), 'row')} behind it: is it the time of each sample, in seconds?"
        return ". To reset the state there and go on, pass --on-gap reset"

    def _other_unit(self, row: Row, gap: Gap) -> str | None:
        """The unit that the column must be in; a single gap in a table with others is but a long one."""
        if gap.unit is None or self._on_time:
            return None
        if any(own is None or own.unit != gap.unit for own in self._gaps_ahead(row)):
            return None
        return longer_unit(self._handling.unit, gap.unit)

    def _gaps_ahead(self, row: Row) -> list[Gap | None]:
        """The gap before each row to come, as far as they are here and belong to the same recording."""
        rows = [own for own in self._ahead().rows if not isinstance(own, ValueError) and own.recording == row.recording]
        return [self._gaps.find(own.t_s, before.t_s) for before, own in zip([row, *rows], rows, strict=False)]

    def _refuse(self, error: ValueError, rows: int) -> None:
        self._first_fault = self._first_fault or error
        try:
            self._bad.refuse(error, rows)
        except ValueError:
            raise ValueError(f"{error}. {self._skip_advice(error)}".removesuffix(". ")) from error
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
        gap = None if before is None else self._gaps.find(row.t_s, before.t_s)
        late = self._late is not None and before is not None and (_between_s(row, before) or 1.0) <= 0
        return gap is None and not late and self._fault(row, before) is None

    def _take_rows(self, rows: list[Row], samples: list[Array]) -> None:
        try:
            ys = self._step(rows, samples)
        except ValueError as error:
            self._refuse(error, len(rows))
            return
        each = not self._stream.one_per_call
        for k, row in enumerate(rows):
            self._watch_pace(row)
            self._last = row
            if each:
                self._write(row, ys if self._unroll == 1 else _sample(ys, k))
        self._stepped += len(rows)
        if not each and self._stream.fresh:
            self._write(rows[-1], ys)

    def _watch_pace(self, row: Row) -> None:
        """Tell where a row comes too late or a sample is missing before it, in a model that takes no times."""
        last = self._last
        between_s = self._pace.take(row.t_s, None if last is None else last.t_s)
        if between_s is None or last is None:
            return
        shown = f"'{self._handling.time_column}' is {row.time}"
        alike = f"'{self._name}' has fixed time and steps every row alike"
        if between_s <= 0:
            text = f"{shown}, not after the previous sample at {last.time}; {alike}. To leave such out: --on-late drop"
            self._note_late(str(self._fault_of(row, text)))
        else:
            text = f"{shown}, {between_s:g} s after the last sample at {last.time}; {alike}"
            self._note_gap(str(self._fault_of(row, text)))

    def _step(self, rows: list[Row], samples: list[Array]) -> Outputs:
        """Step one row, or an unroll block of them; every error is a ValueError that names the line."""
        first, last = rows[0], rows[-1]
        if first.reset:
            self._stream.reset()
        x = samples[0] if first is last else samples
        times = first.t_s if first is last else [row.t_s for row in rows]
        try:
            outputs: Outputs = self._stream.step(x, t_s=times if self._measured else None)
        except ValueError as error:
            lines = f"line {first.line}" if first is last else f"lines {first.line} to {last.line}"
            raise ValueError(f"{self._handling.source}, {lines}: {error}") from error
        return outputs


def _between_s(row: Row, last: Row) -> float | None:
    return None if row.t_s is None or last.t_s is None else row.t_s - last.t_s


def _sample(ys: Outputs, k: int) -> Outputs:
    """One sample's outputs out of an unroll block's."""
    return {name: y[k] for name, y in ys.items()} if isinstance(ys, dict) else ys[k]
