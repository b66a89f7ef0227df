"""Tally of rows that came and results that went, for the summary, and whether it is a result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from ...wording import listed, plural
from .handling import Handling, Unsuccessful

if TYPE_CHECKING:
    from ...runtime.model import Model
    from ...runtime.seen_ranges import Beyond
    from .held_rows import Holding
    from .row_times import RowTimes

__all__ = ["Counts", "Tally"]

_USUAL = 1.0  # width of the range that the example had: an estimator's export allows for as much outside it
_SHOWN = 4  # columns


class Counts(Struct):
    """Numbers that grow.

    Args:
        came: Rows, usable or not.
        stepped: Samples.
        recordings: Recordings that began.
        left: Samples at the ends of recordings that filled no unroll block.
        waiting: Samples of the block that is not full yet.
        skipped: Rows that were refused.
        untimely: Those of them that were refused for their time alone.
        first_fault: Why the first of them was.
    """

    came: int = 0
    stepped: int = 0
    recordings: int = 0
    left: int = 0
    waiting: int = 0
    skipped: int = 0
    untimely: int = 0
    first_fault: str | None = None


class Tally:
    """Tells what a `Feed` did.

    Args:
        model: A loaded model.
        handling: What the user chose.
        counts: What the feed counts.
        times: What it does about times.
        holding: What fills its missing values, or `None`.
        outside: Gives the values outside the range that the export's example had, by column.
    """

    def __init__(
        self,
        model: Model,
        handling: Handling,
        counts: Counts,
        times: RowTimes,
        holding: Holding | None,
        outside: Callable[[], Mapping[str, Beyond]],
    ) -> None:
        self._handling, self._counts, self._times, self._holding = handling, counts, times, holding
        self._outside, self._unroll = outside, model.manifest.unroll
        streamed = model.manifest.streamed
        prefixes = [f"{tensor.name}." if len(streamed) > 1 else "" for tensor in streamed]  # as `SeenRanges` has them
        self._seen = {
            f"{prefix}{f.name}": f.range
            for prefix, tensor in zip(prefixes, streamed, strict=True)
            for f in tensor.features
            if f.range
        }

    def text(self, steps: int) -> str:
        """What came and went, for the summary; `steps` results are written, one of each sample or window."""
        counts, times, window = self._counts, self._times, self._handling.window
        left = counts.left + counts.waiting
        parts = [f"{plural(counts.stepped if window else steps, 'sample')} in {plural(counts.recordings, 'recording')}"]
        if window:
            parts.append(f"{plural(steps, 'window')} of {window}")
        if times.resets_after_gaps:
            parts.append(f"state reset after {plural(times.resets_after_gaps, 'gap')}")
        if times.resets_at_late_rows:
            parts.append(f"state reset at {plural(times.resets_at_late_rows, 'late row')}")
        if times.dropped:
            parts.append(f"{plural(times.dropped, 'late row')} left out")
        if self._holding is not None and self._holding.held:
            parts.append(f"{plural(self._holding.held, 'missing value')} held")
        if counts.skipped:
            parts.append(f"{plural(counts.skipped, 'bad row')} skipped")
        if left:
            parts.append(f"{left:,} at the ends of recordings filled no block")
        return ", ".join(parts)

    def facts(self, steps: int) -> dict[str, object]:
        """What came and went, for `--json`; see `text`."""
        counts, times = self._counts, self._times
        return {
            "samples": counts.stepped if self._handling.window else steps,
            "recordings": counts.recordings,
            "results": steps,
            "resets_after_gaps": times.resets_after_gaps,
            "resets_at_late_rows": times.resets_at_late_rows,
            "late_rows_dropped": times.dropped,
            "values_held": 0 if self._holding is None else self._holding.held,
            "values_held_by_column": {} if self._holding is None else self._holding.held_by_column,
            "bad_rows_skipped": counts.skipped,
            "samples_left": counts.left + counts.waiting,
            "outside_seen_range": {name: own._asdict() for name, own in self._outside().items()},
        }

    def outside_text(self) -> str | None:
        """What the user should know about values that nothing was proven for, if there are any."""
        outside = self._outside()
        if not outside:
            return None
        far = {name: self._widths_outside(name, own.farthest) for name, own in outside.items()}
        names = sorted(far, key=lambda name: -far[name])
        count = plural(sum(own.number for own in outside.values()), "value")
        what = f"{count} in {plural(self._counts.stepped, 'sample')} outside the range of the example of the export"
        if far[names[0]] <= _USUAL:
            return f"remark: {what}, at most by {far[names[0]]:.0%} of that range, in '{names[0]}'"
        told = (f"'{name}' {outside[name].number:,}, up to {outside[name].farthest:.4g}" for name in names)
        return f"warning: {what}: {listed(told, _SHOWN)}. To refuse such values, export it with --margin {_USUAL:g}"

    def warnings(self) -> list[str]:
        """What the user should know about the samples, if there is anything."""
        return [text for text in (self._times.warning(), self.outside_text()) if text is not None]

    def conclude(self, results: int) -> None:
        """Say that the rows gave nothing that could be used, if it is so; `results` were written.

        Raises:
            Unsuccessful: If rows came and none became a result, most were refused for their time, or the state was
                reset at most of them.
        """
        counts, times = self._counts, self._times
        if counts.came and not results:
            raise Unsuccessful(self._nothing())
        if 2 * counts.untimely > counts.came:
            raise Unsuccessful(
                f"{counts.untimely:,} of {plural(counts.came, 'row')} are not in time after the one before: see "
                f"whether {self._time_question()}; the first: {counts.first_fault}"
            )
        if 2 * times.dropped > counts.came:
            raise Unsuccessful(
                f"{times.dropped:,} of {plural(counts.came, 'sample')} came late and were left out: see whether "
                f"{self._time_question()}"
            )
        resets = times.resets_after_gaps + times.resets_at_late_rows + counts.recordings - 1
        if 2 * resets > counts.stepped:
            timed = times.resets_after_gaps or times.resets_at_late_rows
            hint = self._time_question() if timed else "--reset-column is one that tells recordings apart"
            raise Unsuccessful(
                f"the state was reset at {resets:,} of {plural(counts.stepped, 'sample')}, so hardly two belong "
                f"together: see whether {hint}"
            )

    def _time_question(self) -> str:
        return (
            f"'{self._handling.time_column}' is the time of each sample, and in which unit: --time-column NAME:ms, "
            "NAME:us or NAME:ns"
        )

    def _nothing(self) -> str:
        came = f"{plural(self._counts.came, 'row')} came from {self._handling.source}"
        if self._counts.first_fault is not None and not self._counts.stepped:
            return f"{came}, and none could be used; the first: {self._counts.first_fault}"
        if self._handling.window:
            return f"{came}, and no recording filled a window of {plural(self._handling.window, 'sample')}"
        return f"{came}, and no recording filled a block of {plural(self._unroll, 'sample')}"

    def _widths_outside(self, name: str, value: float) -> float:
        """How far a value of a column lies outside the range that the example had, in widths of it."""
        low, high = self._seen[name]
        return max(low - value, value - high) / (high - low) if high > low else math.inf
