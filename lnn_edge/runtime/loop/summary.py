"""Summary of a loop that ran: ticks by status, times, and what was lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ...wording import listed, microseconds, plural
from ..figures.durations import Distribution
from ..guard.pace import Pace
from ..guard.status import Status
from .rehearsal import RehearsalCounts
from .sink import Records
from .turn.functions import FunctionCounts

__all__ = ["Lost", "Summary", "kept_in_csv"]


@dataclass(frozen=True)
class Lost:
    """What a sink, a recorder or a snapshot took of a loop.

    Args:
        written: Ticks, or snapshots, that are where they belong.
        dropped: Those that are not.
        error: What went wrong last, in words; `None` for nothing.
    """

    written: int
    dropped: int
    error: str | None


@dataclass(frozen=True)
class Summary:
    """What became of a loop. Prints as sentences.

    Args:
        ended: Why it ended: "source ended", "all ticks", "stopped", "SIGTERM", "fault", ...
        ticks: Turns of the loop.
        steps: By how many steps the state advanced.
        by_status: Ticks by the words of their status.
        left_out: Ticks whose time was over, where a timer paces the loop.
        misses: Ticks whose response was longer than a period.
        seconds: How long it ran.
        lateness: By how much later than due ticks began; `None` where samples pace the loop.
        service: What a tick took, from its begin to the end of `after`.
        response: From when a tick was due, or its sample came, to the end of `after`.
        rehearsal: What became of the rehearsals, `None` without them.
        functions: The user's, by their place.
        sink, recorder, csv, snapshots: What they took, `None` where there are none; `csv` is the recorder's.
        source_failed: Reads of sources that raised.
        replaced: Samples that a newer one took the place of before a tick came.
        warnings: What could not be as it was asked for: real time on this machine.
        pace: Of the last samples of a model with fixed time, `None` where their times are not known.
        pauses: Of the garbage collector while the loop ran, `None` where they were not measured.
        error: What ended it, where that was a fault.
    """

    ended: str
    ticks: int
    steps: int
    by_status: dict[str, int]
    left_out: int
    misses: int
    seconds: float
    lateness: Distribution | None
    service: Distribution | None
    response: Distribution | None
    rehearsal: RehearsalCounts | None = None
    functions: dict[str, FunctionCounts] = field(default_factory=dict)
    sink: Lost | None = None
    recorder: Lost | None = None
    csv: Lost | None = None
    snapshots: Lost | None = None
    source_failed: int = 0
    replaced: int = 0
    warnings: tuple[str, ...] = ()
    pace: Pace | None = None
    pauses: Distribution | None = None
    error: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every tick ran at its time and all that was to be kept is kept."""
        kept = (self.sink, self.recorder, self.csv, self.snapshots)
        return not self.left_out and not any(own and own.dropped for own in kept)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        statuses = listed(f"{count:,} {words}" for words, count in self.by_status.items())
        yield f"{plural(self.ticks, 'tick')} in {self.seconds:.3g} s, then: {self.ended}; {statuses}"
        if self.response is not None:
            yield f"response {_times(self.response)}; {self.misses:,} longer than a period, {self.left_out:,} left out"
        if self.pace is not None and self.by_status.get(Status.OFF_PACE.text):
            yield f"pace: {self.pace}"
        if self.lateness is not None:
            yield f"lateness {_times(self.lateness)}"
        for name, own in self.functions.items():
            if own.failed or own.slow:
                yield f"function `{name}`: raised {plural(own.failed, 'time')}, too slow {plural(own.slow, 'time')}"
        if self.source_failed:
            yield f"sources: {plural(self.source_failed, 'read')} failed"
        for name in ("sink", "recorder", "csv", "snapshots"):
            lost: Lost | None = getattr(self, name)
            if lost is not None and (lost.dropped or lost.error):
                why = "" if lost.error is None else f": {lost.error}"
                yield f"{name}: {lost.written:,} written, {lost.dropped:,} lost{why}"
        if self.rehearsal is not None and self.rehearsal.off is not None:
            yield f"rehearsals are off: {self.rehearsal.off}"
        yield from self.warnings
        if self.error is not None:
            yield self.error


def kept_in_csv(recorder: Records) -> Lost | None:
    """What became of the ticks of a recorder that writes a CSV as well."""
    rows: int | None = getattr(recorder, "csv_rows", None)
    if rows is None:
        return None
    lost = recorder.written + recorder.dropped - rows
    return Lost(rows, lost, recorder.error if lost else None)


def _times(d: Distribution) -> str:
    """The percentiles that there are, and the longest."""
    known = [f"{name} {microseconds(value)}" for name, value in d.percentiles_us.items() if value is not None]
    return ", ".join([*known, f"max {microseconds(d.max_us)}"])
