"""Record of a feed between two rows, as a file holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from .tally import Counts

if TYPE_CHECKING:
    from ...bundle.manifest import Manifest
    from ...runtime.seen_ranges import Beyond
    from ...runtime.transport.row import Row

__all__ = ["KeptFeed", "KeptRow", "joined", "kept_row", "row_again"]


class KeptRow(Struct, frozen=True, forbid_unknown_fields=True):
    """A row; see `Row`. One that was stepped keeps no values."""

    line: int
    values: list[float]
    recording: str | None
    t_s: float | None
    reset: bool
    time: str | None


class KeptFeed(Struct, frozen=True, forbid_unknown_fields=True):
    """What a feed stands at, beside the state of its stream.

    Args:
        counts: What it counted.
        times: What `RowTimes.kept` gave.
        holding: What `Holding.kept` gave, or `None`.
        rows: Those of the unroll block that is not full yet.
        last: The newest that was stepped since the state was reset.
        newest: The newest that could be read.
        to_begin: Whether the next row begins a recording, whatever it says.
        outside: Values outside the range that the export's example had: number and farthest by column.
    """

    counts: Counts
    times: dict[str, Any]
    holding: dict[str, Any] | None
    rows: list[KeptRow]
    last: KeptRow | None
    newest: KeptRow | None
    to_begin: bool
    outside: dict[str, tuple[int, float]]


def kept_row(row: Row | None, *, values: bool = False) -> KeptRow | None:
    """A row for a file, with or without its values."""
    if row is None:
        return None
    numbers = [float(value) for value in row.values] if values else []
    return KeptRow(row.line, numbers, row.recording, row.t_s, row.reset, row.time)


def row_again(kept: KeptRow | None) -> Row | None:
    """The row out of a file."""
    if kept is None:
        return None
    import numpy as np

    from ...runtime.transport.row import Row

    return Row(kept.line, np.array(kept.values), kept.recording, kept.t_s, kept.reset, kept.time)


def joined(before: Mapping[str, Beyond], now: Mapping[str, Beyond], manifest: Manifest) -> dict[str, Beyond]:
    """What lay outside in the rows of two streams, the one after the other, in the order of the columns."""
    if not before and len(now) < 2:
        return dict(now)
    from ...runtime.seen_ranges import Beyond, SeenRanges

    found: dict[str, Beyond] = {}
    for ranges in SeenRanges(manifest).inputs:
        for name, low, high in zip(ranges.names, ranges.low.tolist(), ranges.high.tolist(), strict=True):
            both = [own[name] for own in (before, now) if name in own]
            if both:
                far = [own.farthest for own in both]
                beyond = [max(low - value, value - high) for value in far]
                found[name] = Beyond(sum(own.number for own in both), far[beyond.index(max(beyond))])
    return found
