"""Rows of a table through a stream: blocks filled, bad rows and gaps dealt with as the user chose, all counted."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..wording import plural
from .console import tell

if TYPE_CHECKING:
    from ..runtime.transport.csv_file import BadRowError, Row

__all__ = ["Feed"]

_SHOWN = 5  # of each kind of remark: a sensor that fails for an hour says nothing new in the second minute
_TOLERANCE = 0.1  # of the period; a timer's jitter is below, another rate or a lost sample above


class Feed:
    """Steps a model with one row after the other and writes what comes out.

    Args:
        model: A loaded model with one input of named features.
        arguments: Of `run`.
        source: Where the rows come from, for messages.
        write: Takes a row and its result.
    """

    def __init__(
        self, model: Any, arguments: argparse.Namespace, source: str, write: Callable[[Row, Any], None]
    ) -> None:
        self._stream = model.stream()
        self._arguments = arguments
        self._source = source
        self._write = write
        self._measured = model.time.mode == "measured"
        self._unroll = model.manifest.unroll
        self._gaps = _Gaps(model, arguments, source)
        self._block: list[Row] = []
        self._last_s: float | None = None  # time of the last row that was stepped since the state was reset
        self._recordings = self._bad = self._left = 0
        self._tell_bad = _Remarks("bad rows")
        self._pace = _Pace(model, arguments)

    def take(self, row: Row | BadRowError) -> None:
        """Step the row, or keep it until its block is full.

        Raises:
            ValueError: If the row cannot be used and the user did not say how to go on.
        """
        if isinstance(row, ValueError):
            self._refuse(row, 1)
            return
        self._recordings += row.reset
        row = self._gaps.checked(row, self._block[-1].t_s if self._block else self._last_s)
        if row.reset:
            self._left += len(self._block)
            self._block, self._last_s = [], None
        self._block.append(row)
        if len(self._block) == self._unroll:
            block, self._block = self._block, []
            self._take_block(block)

    def counts(self, steps: int) -> str:
        """What came and went, for the summary; `steps` of the samples have their result written."""
        left = self._left + len(self._block)
        parts = [f"{plural(steps, 'sample')} in {plural(self._recordings, 'recording')}"]
        if self._gaps.resets:
            parts.append(f"state reset after {plural(self._gaps.resets, 'gap')}")
        if self._bad:
            parts.append(f"{plural(self._bad, 'bad row')} skipped")
        if left:
            parts.append(f"{left:,} at the ends of recordings filled no block")
        return ", ".join(parts)

    def warning(self) -> str | None:
        """What the user should know about the times in the rows, if there is anything."""
        return self._pace.warning()

    def _take_block(self, block: list[Row]) -> None:
        try:
            ys = self._step(block)
        except ValueError as error:
            self._refuse(error, len(block))
            return
        for k, row in enumerate(block):
            self._pace.note(row.t_s, self._last_s)
            self._last_s = row.t_s
            self._write(row, ys if self._unroll == 1 else _sample(ys, k))

    def _refuse(self, error: ValueError, rows: int) -> None:
        if self._arguments.on_bad == "stop":
            raise ValueError(f"{error}. To go on with the next row, pass --on-bad skip") from error
        self._bad += rows
        self._tell_bad(str(error))

    def _step(self, block: list[Row]) -> Any:
        """Step one row, or a block of them; every error is a ValueError that names the line."""
        first, last = block[0], block[-1]
        if first.reset:
            self._stream.reset()
        x = first.values if first is last else [row.values for row in block]
        times = first.t_s if first is last else [row.t_s for row in block]
        try:
            return self._stream.step(x, t_s=times if self._measured else None)
        except ValueError as error:
            lines = f"line {first.line}" if first is last else f"lines {first.line} to {last.line}"
            raise ValueError(f"{self._source}, {lines}: {error}") from error


class _Gaps:
    """Finds times after which a stream cannot go on, only begin anew.

    A row a little too early is one bad row: the next is later. But behind a gap longer than the legal dt every further
    row is later still, and after a clock was set back every row is too early for as long as it was set back; skipping
    such a row as bad would skip all that follow.
    """

    def __init__(self, model: Any, arguments: argparse.Namespace, source: str) -> None:
        self.resets = 0
        self._longest_s = None if model.time.dt_range_s is None else model.time.dt_range_s[1]
        self._model = model.name
        self._arguments = arguments
        self._source = source
        self._tell = _Remarks("gaps")

    def checked(self, row: Row, last_s: float | None) -> Row:
        """The row as it is, or as the first one of a new sequence.

        Raises:
            ValueError: If a gap lies before the row and the user did not ask for a reset.
        """
        if row.reset or row.t_s is None or last_s is None or self._longest_s is None:
            return row
        if abs(row.t_s - last_s) <= self._longest_s:
            return row
        way = f"{abs(row.t_s - last_s):g} s {'after' if row.t_s > last_s else 'before'}"
        told = (
            f"{self._source}, line {row.line}: '{self._arguments.time_column}' is {row.t_s}, {way} the last sample at "
            f"{last_s}, but '{self._model}' was proven for at most {self._longest_s:g} s between samples"
        )
        if self._arguments.on_gap == "stop":
            raise ValueError(f"{told}. To reset the state there and go on, pass --on-gap reset")
        self.resets += 1
        self._tell(f"{told}: the state is reset")
        return dataclasses.replace(row, reset=True)


class _Pace:
    """Compares the rows' times with the period of a model that takes no times."""

    def __init__(self, model: Any, arguments: argparse.Namespace) -> None:
        self._period_s = model.time.period_s if model.time.mode == "fixed" else None
        self._model = model.name
        self._column = arguments.time_column
        self._smallest_s, self._largest_s = float("inf"), float("-inf")
        self._off = self._all = 0

    def note(self, now_s: float | None, last_s: float | None) -> None:
        """Take the times of a sample and of the one before it in the same recording, if it has them."""
        if self._period_s is None or now_s is None or last_s is None:
            return
        gap_s = now_s - last_s
        self._smallest_s, self._largest_s = min(self._smallest_s, gap_s), max(self._largest_s, gap_s)
        self._all += 1
        self._off += abs(gap_s - self._period_s) > _TOLERANCE * self._period_s

    def warning(self) -> str | None:
        """A sentence if times were off."""
        if not self._off:
            return None
        return (
            f"warning: by '{self._column}' there are {self._smallest_s:g} to {self._largest_s:g} s between samples, in "
            f"{self._off:,} of {self._all:,} cases more than 10 % off the {self._period_s:g} s that '{self._model}' "
            f"was exported with and that every sample counts as. Export it with --time measured, or resample the "
            f"input to one row every {self._period_s:g} s"
        )


class _Remarks:
    """Prints the first few remarks of a kind; the summary has the number of all."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._count = 0

    def __call__(self, text: str) -> None:
        self._count += 1
        if self._count <= _SHOWN:
            tell(text)
        elif self._count == _SHOWN + 1:
            tell(f"more {self._kind} follow; they are counted and no longer shown")


def _sample(ys: Any, k: int) -> Any:
    """One sample's outputs out of a block's."""
    return {name: y[k] for name, y in ys.items()} if isinstance(ys, dict) else ys[k]
