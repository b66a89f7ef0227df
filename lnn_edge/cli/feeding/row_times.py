"""Times of rows: gaps, late rows, rows that come too early and a pace that is not the model's, told apart and told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ...wording import plural
from ..console import LiveNotes
from .handling import Ahead, Handling, UntimelyRow
from .time_unit import coarse_question, longer_unit, unit_question

if TYPE_CHECKING:
    from ...runtime.guard.dt_policy import FoundGap, OffPace
    from ...runtime.guard.row_check import RowCheck
    from ...runtime.model import Model
    from ...runtime.transport.row import Row

__all__ = ["RowTimes"]

_LATE_ADVICE = (
    "Samples must come in order of time; a column that tells recordings apart goes into --reset-column. To leave late "
    "rows out, pass --on-late drop; to begin anew with each, --on-late reset"
)


class RowTimes:
    """Applies the policies on time to each row and the one before it, and counts.

    Args:
        model: A loaded model.
        handling: What the user chose.
        check: What the model allows.
        ahead: Looks at the rows to come, so that no advice is given that helps none of them.

    Attributes:
        measured: Whether the model takes times.
        notes: What is told of the rows as they come.
    """

    def __init__(self, model: Model, handling: Handling, check: RowCheck, ahead: Callable[[], Ahead]) -> None:
        from ...bundle.spec import Guard
        from ...runtime.guard.dt_policy import GapError, GapPolicy, PaceCheck, longest_pause_s
        from ...runtime.guard.late_samples import LateError, LatePolicy

        self.measured = model.time.mode == "measured"
        self._handling, self._ahead, self._name = handling, ahead, model.name
        self._period_s, self._check = model.time.period_s, check
        self._gaps = GapPolicy(model.name, model.time, handling.on_gap)
        self._pace = PaceCheck(model.name, model.time)
        on_late = handling.late(self.measured)
        self._late = None if on_late is None else LatePolicy(on_late)
        self._gap_error, self._late_error = GapError, LateError  # imported once
        self._note_gap, self._note_late = LiveNotes("gaps"), LiveNotes("late rows")
        self.notes = (self._note_gap, self._note_late)
        self._longest_s = longest_pause_s(model.time, model.manifest.guard or Guard())
        self._pause_s: float | None = None  # before the next row, behind a restart, of a model that takes no times
        self._on_time = self._unit_gaps = 0  # rows that came in time, and those a power of a thousand too late

    @property
    def resets_after_gaps(self) -> int:
        """How many gaps the state was reset after."""
        return self._gaps.resets

    @property
    def resets_at_late_rows(self) -> int:
        """How many late rows the state was reset at."""
        return 0 if self._late is None else self._late.resets

    @property
    def dropped(self) -> int:
        """How many late rows were left out."""
        return 0 if self._late is None else self._late.dropped

    def too_early(self, row: Row, last: Row | None) -> ValueError | None:
        """What is wrong with a row that follows another sooner than the model allows."""
        between_s = None if last is None or not self.measured else _between_s(row, last)
        if between_s is None or last is None or between_s <= 0 or self._gaps.find(row.t_s, last.t_s) is not None:
            return None
        shortest_s = self._check.too_early(between_s)
        if shortest_s is None:
            return None
        text = (
            f"{self._shown(row)}, {between_s:g} s after the previous sample at {last.time}, but '{self._name}' was "
            f"proven for at least {shortest_s:g} s between samples{self._taken_as(between_s)}"
        )
        return UntimelyRow(self._handling.at(row, text))

    def lateness(self, row: Row, last: Row | None) -> Literal["drop", "reset"] | None:
        """What becomes of a row that is late.

        Raises:
            ValueError: If the user did not say how to go on.
        """
        if last is None or self._late is None:
            return None
        text = f"{self._shown(row)}, not after the previous sample at {last.time}"
        try:
            found = self._late.check(row.t_s, last.t_s)
        except self._late_error as error:
            raise ValueError(self._handling.at(row, f"{text}. {_LATE_ADVICE}")) from error
        if found == "set back":
            return self._set_back(row, last, text)
        if found is not None:
            done = "it is left out" if found == "drop" else "the state is reset"
            self._note_late(self._handling.at(row, f"{text}: {done}"))
        return found

    def is_behind_gap(self, row: Row, last: Row | None) -> bool:
        """Whether there is a gap before the row at which the state is reset.

        Raises:
            ValueError: If the user did not say how to go on.
        """
        pause_s, self._pause_s = self._pause_s, None
        if last is None:
            return False
        if pause_s is not None:
            return self._is_behind_pause(row, last, pause_s)
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

    def _is_behind_pause(self, row: Row, last: Row, pause_s: float) -> bool:
        """The same behind a restart, with fixed time, which else knows no gaps.

        Raises:
            ValueError: If the user did not say how to go on.
        """
        between_s = _between_s(row, last)
        pause_s = pause_s if between_s is None else abs(between_s)
        if self._longest_s is None or pause_s <= self._longest_s:
            return False
        by = "by the clock of this computer" if between_s is None else f"by '{self._handling.time_column}'"
        text = f"{pause_s:.3g} s after the last sample, {by}, and '{self._name}' goes on within {self._longest_s:g} s"
        message = self._handling.at(row, text)
        if self._handling.on_gap == "stop":
            raise ValueError(f"{message}. To reset the state there and go on, pass --on-gap reset")
        self._gaps.resets += 1
        self._note_gap(f"{message}: the state is reset")
        return True

    def follows(self, row: Row, last: Row | None) -> bool:
        """Whether a row comes in time after another, as far as gaps and late rows go."""
        if last is None:
            return True
        late = self._late is not None and (_between_s(row, last) or 1.0) <= 0
        return not late and self._gaps.find(row.t_s, last.t_s) is None

    def watch_pace(self, row: Row, last: Row | None) -> None:
        """Tell where a row comes too late or a sample is missing before it, in a model that takes no times."""
        between_s = self._pace.take(row.t_s, None if last is None else last.t_s)
        if between_s is None or last is None:
            return
        alike = f"'{self._name}' has fixed time and steps every row alike"
        if between_s <= 0:
            after = f"not after the previous sample at {last.time}"
            text = f"{self._shown(row)}, {after}; {alike}. To leave such out: --on-late drop"
            self._note_late(self._handling.at(row, text))
        else:
            text = f"{self._shown(row)}, {between_s:g} s after the last sample at {last.time}; {alike}"
            self._note_gap(self._handling.at(row, text))

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

    def kept(self) -> dict[str, Any]:
        """What later rows depend on, as JSON has it; see `go_on`."""
        late = None if self._late is None else self._late.kept()
        own = {"on_time": self._on_time, "unit_gaps": self._unit_gaps, "resets": self._gaps.resets}
        return own | {"late": late, "pace": self._pace.kept()}

    def go_on(self, kept: dict[str, Any], pause_s: float | None) -> None:
        """Go on from what `kept` gave, though the user now chose otherwise about late rows; see `Feed.go_on`."""
        self._pause_s = None if self.measured else pause_s
        self._on_time, self._unit_gaps, self._gaps.resets = kept["on_time"], kept["unit_gaps"], kept["resets"]
        self._pace.go_on(kept["pace"])
        if self._late is not None and kept["late"] is not None:
            self._late.go_on(kept["late"])

    def _shown(self, row: Row) -> str:
        return f"'{self._handling.time_column}' is {row.time}"

    def _set_back(self, row: Row, last: Row, text: str) -> Literal["reset"] | None:
        """Begin anew, as behind a gap, where so many late rows came that the clock was set back."""
        message = self._handling.at(row, f"{text}, as with the rows before it: the clock was set back")
        if not self.measured:
            self._note_late(f"{message}. The rows are stepped again from there")
            return None
        try:
            self._gaps.decide(self._gaps.between(row.t_s, last.t_s))
        except self._gap_error as error:
            raise ValueError(f"{message}. To reset the state there and go on, pass --on-gap reset") from error
        self._note_gap(f"{message}. The state is reset")
        return "reset"

    def _coarse(self, off: OffPace) -> str:
        """What to do where all times are off as minutes, hours or days would be that are taken for seconds."""
        if self._handling.unit is not None or 2 * off.off < off.count:
            return ""
        return coarse_question(self._handling.time_column, off.largest_s, off.period_s)

    def _taken_as(self, between_s: float) -> str:
        if self._handling.unit is None:
            return coarse_question(self._handling.time_column, between_s, self._period_s)
        name = self._handling.time_column
        return f". '{name}' is taken in {self._handling.unit}; for seconds type: --time-column '{name}:s'"

    def _gap_message(self, row: Row, last: Row, gap: FoundGap) -> str:
        """As the policy says it, with the times as they stand in the column."""
        side = "after" if gap.now_s > gap.last_s else "before"
        text = (
            f"{self._shown(row)}, {abs(gap.now_s - gap.last_s):g} s {side} the last sample at {last.time}, but "
            f"'{self._name}' was proven for at most {gap.longest_s:g} s between samples"
        )
        return self._handling.at(row, text)

    def _gap_advice(self, row: Row, gap: FoundGap) -> str:
        unit = self._other_unit(row, gap)
        if unit is not None:
            return f". {unit_question(self._handling.time_column, unit)}"
        behind = self._gaps_ahead(row)
        if behind and all(own is not None for own in behind):
            return f". So it is with {plural(len(behind), 'row')} behind it: is it the time of each sample, in seconds?"
        return ". To reset the state there and go on, pass --on-gap reset"

    def _other_unit(self, row: Row, gap: FoundGap) -> str | None:
        """The unit that the column must be in; a single gap in a table with others is but a long one."""
        if gap.unit is None or self._on_time:
            return None
        if any(own is None or own.unit != gap.unit for own in self._gaps_ahead(row)):
            return None
        return longer_unit(self._handling.unit, gap.unit)

    def _gaps_ahead(self, row: Row) -> list[FoundGap | None]:
        """The gap before each row to come, as far as they are here and belong to the same recording."""
        rows = [own for own in self._ahead().rows if not isinstance(own, ValueError) and own.recording == row.recording]
        return [self._gaps.find(own.t_s, before.t_s) for before, own in zip([row, *rows], rows, strict=False)]


def _between_s(row: Row, last: Row) -> float | None:
    return None if row.t_s is None or last.t_s is None else row.t_s - last.t_s
