"""A loop that goes on where it was killed: kept with the state, and found again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import field

from ...wording import plural
from ..console import note
from ..keeping.kept_file import KeptFile
from ..keeping.kept_run import Keeping, KeptRun
from ..results import Written

if TYPE_CHECKING:
    from ...runtime.guard.guarded import Guarded
    from ...runtime.record.snapshot import Snapshot
    from ...runtime.transport.csv_file import Columns, Table
    from ...runtime.transport.marked_lines import MarkedLines

__all__ = ["LoopKeeper"]


class _KeptLoop(KeptRun, frozen=True, forbid_unknown_fields=True):
    """A loop between two ticks.

    Args:
        guard: What `kept_guard` gave.
        by_status: Ticks by the words of their status; none of a file that is older than this was kept.
    """

    guard: dict[str, Any]
    by_status: dict[str, int] = field(default_factory=dict)


class LoopKeeper:
    """Knows the loop that is kept in a file, and says what is to be kept of this one.

    Args:
        keeping: What the user chose.
        guarded: The guarded stream, new.
        live: See `is_live`.
        source: What is read, for messages.
        output: Where results go; "-" is standard output.
        counts: Gives the ticks of this run until now, by the words of their status.

    Attributes:
        steps: Steps that were made before.
        by_status: Ticks that were made before, by the words of their status.

    Raises:
        ValueError, OSError: As `KeptFile`.
    """

    def __init__(
        self,
        keeping: Keeping,
        guarded: Guarded,
        live: bool,
        source: str,
        output: str,
        counts: Callable[[], Mapping[str, int]],
    ) -> None:
        self.steps = 0
        self.by_status: dict[str, int] = {}
        self._guarded, self._live, self._source, self._counts = guarded, live, source, counts
        self._file = KeptFile(_KeptLoop, keeping, guarded.model, live, source, output)
        self._about: tuple[MarkedLines | None, Columns] | None = None

    @property
    def written(self) -> Written:
        """The results of the run that goes on."""
        return self._file.written

    @property
    def goes_on(self) -> bool:
        """Whether there is a run to go on from."""
        return self._file.found is not None

    def go_on(self, table: Table, lines: MarkedLines | None, columns: Columns) -> None:
        """Stand where the loop that is kept stood, if there is one.

        Args:
            table: The input, behind its header.
            lines: Its lines; `None` of a live input.
            columns: Where what lies in it.

        Raises:
            ValueError: If the input is another, what is kept does not fit, or it is too old for the policy on gaps.
        """
        self._about = lines, columns
        if lines is not None:
            self._file.pass_over(table, lines)
        if self._file.found is None:
            return
        snapshot, run = self._file.found
        self.steps, self.by_status = snapshot.steps, run.by_status
        try:
            since_s = float(run.guard["since_s"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._file.refusal(f"does not fit: {error}") from error
        if lines is None and not self._is_young(snapshot, since_s, timed=columns.time is not None):
            note(f"remark: the snapshot '{self._file.place}' is too old to go on from: the state begins anew")
            return
        from ...runtime.guard.kept_guard import go_on

        try:
            columns.times.go_on(run.times)
            self._guarded.restore(snapshot.state)
            go_on(self._guarded, run.guard)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise self._file.refusal(f"does not fit: {error}") from error
        behind = self._file.behind(snapshot, lines)
        steps = "" if lines is None else f", {plural(snapshot.steps, 'step')}"
        note(f"remark: goes on from {self._file.place}, behind {behind}{steps}")

    def with_those_before(self, by_status: Mapping[str, int]) -> dict[str, int]:
        """Ticks of this run, by the words of their status, and those that were made before."""
        return dict(Counter(self.by_status) + Counter(by_status))

    def kept(self) -> dict[str, Any]:
        """What is to be kept with the state, between two ticks, but for the results; for the thread of the loop."""
        from ...runtime.guard.kept_guard import kept_guard

        if self._about is None:
            raise RuntimeError("the input has not been opened")
        by_status = self.with_those_before(self._counts())
        return {**self._file.about(*self._about), "guard": kept_guard(self._guarded), "by_status": by_status}

    def _is_young(self, snapshot: Snapshot, since_s: float, *, timed: bool) -> bool:
        """Whether the state is worth going on with, by the clock where samples do not tell the model themselves.

        Raises:
            ValueError: If it is not, and the guard does not say how to go on.
        """
        from ...runtime.guard.dt_policy import longest_pause_s

        model, guard = self._guarded.model, self._guarded.guard
        longest_s = None if timed and model.time.mode == "measured" else longest_pause_s(model.time, guard)
        pause_s = abs(self._file.age_s(snapshot)) + since_s
        if longest_s is None or pause_s <= longest_s:
            return True
        if guard.on_gap == "refuse":
            raise self._file.refusal(
                f"is of a state {pause_s:.3g} s ago, and '{model.name}' goes on within {longest_s:g} s. To begin with "
                "the initial state and keep the results, pass --on-gap reset"
            )
        return False
