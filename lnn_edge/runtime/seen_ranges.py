"""Values outside the range that the export's example had, counted for many samples at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..bundle.manifest import Manifest
from ..bundle.spec import Tensor

__all__ = ["RECENT", "Beyond", "Counts", "InputRanges", "Sample", "SeenRanges", "Tally"]

# Counted alone a sample would cost two more comparisons, each as much as the check that it is finite. A stream keeps
# its last samples, as bytes, and counts so many together. A power of two, as steps are masked with it.
RECENT = 256

_YES = b"\x01"  # a flag in memory


class Beyond(NamedTuple):
    """Values of a column outside the range that the export's example had.

    Args:
        number: How many.
        farthest: The one that lies farthest outside.
    """

    number: int
    farthest: float


Counts = Mapping[str, Beyond]  # by column

Sample = bytes | tuple[bytes, ...]  # the numbers of a call's samples in their own units; with several inputs of each


class Tally(NamedTuple):
    """What had been counted when a stream had made `steps`."""

    steps: int
    counts: Counts


class SeenRanges:
    """The ranges that the columns of a model's inputs had in the export's example.

    Attributes:
        known: Whether there are any.
        inputs: Those of each input, in the order of the manifest.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._several = len(manifest.streamed) > 1
        self.inputs = [InputRanges(tensor, f"{tensor.name}." if self._several else "") for tensor in manifest.streamed]
        self._unroll = manifest.unroll
        self.known = any(feature.range for tensor in manifest.streamed for feature in tensor.features)

    def counted(self, counts: Counts, samples: Sequence[Any]) -> Counts:
        """Counts, and what calls had that came after them: of each its `Sample`."""
        found = dict(counts)
        by_input = zip(*samples, strict=True) if self._several else [samples]
        for own, numbers in zip(self.inputs, by_input if samples else (), strict=False):
            own.count(found, b"".join(numbers))
        return found

    def up_to(self, steps: int, tally: Tally | None, recent: Sequence[Any]) -> Tally:
        """The tally after `steps`, at most `RECENT` calls after an older one; `recent` has a call's samples by step."""
        before = tally or Tally(0, {})
        later = range(before.steps + self._unroll, steps + 1, self._unroll)
        samples = recent if len(later) == RECENT else [recent[step % RECENT] for step in later]
        return Tally(steps, self.counted(before.counts, samples))


class InputRanges:
    """The ranges of one input's columns, which are compared as its port has them: centred ones in float64.

    Attributes:
        names: Of the columns, as `Stream.outside` calls them.
        low: The lowest value of each.
        high: The highest.
    """

    def __init__(self, tensor: Tensor, prefix: str) -> None:
        self.names = [prefix + feature.name for feature in tensor.features]
        self._dtype = np.dtype("float64" if tensor.center else tensor.dtype)
        kind = np.float32 if self._dtype == np.float32 else np.float64  # which holds every int32
        ranges = [feature.range or (-np.inf, np.inf) for feature in tensor.features] or [(-np.inf, np.inf)]
        with np.errstate(over="ignore"):
            self.low, self.high = (np.array(side, kind) for side in zip(*ranges, strict=True))
        # Long arrays of equal shape are compared several times faster than rows of a few columns with one row.
        self._lows, self._highs = np.tile(self.low, RECENT), np.tile(self.high, RECENT)

    def count(self, found: dict[str, Beyond], raw: bytes) -> None:
        """Add what lies outside in the numbers of some samples."""
        values, most = np.frombuffer(raw, self._dtype), self._lows.size
        for start in range(0, values.size, most):
            self._count_some(found, values[start : start + most])

    def _count_some(self, found: dict[str, Beyond], values: Array) -> None:
        outside = values < self._lows[: values.size]
        outside |= values > self._highs[: values.size]
        if _YES not in outside.tobytes():
            return
        columns, wrong = values.reshape(-1, self.low.size).T, outside.reshape(-1, self.low.size).T
        for k in np.flatnonzero(wrong.any(axis=1)).tolist():
            self._add(found, k, columns[k][wrong[k]])

    def _add(self, found: dict[str, Beyond], k: int, values: Array) -> None:
        name, low, high = self.names[k], float(self.low[k]), float(self.high[k])
        new = max(values.tolist(), key=lambda v: max(low - v, v - high))
        old = found.get(name, Beyond(0, new))
        farthest = max(old.farthest, new, key=lambda v: max(low - v, v - high))
        found[name] = Beyond(old.number + len(values), farthest)
