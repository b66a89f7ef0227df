"""Rows of synapses of an LTC: in each lane a target, and one synapse into it.

A synapse contributes g = w sigmoid(sigma (v - mu)) to the conductance D of its target, and E g to its current N. With
t = S v + B, where S = -sigma log2 e and B = sigma mu log2 e, it is w / (1 + 2^t); with A = 1 / w, and log2 A in B, it
is 1 / (A + 2^t), which needs no product more. That takes positive weights; else, and in half precision, where A would
not keep its digits, w stays a factor.

Targets lie in lanes in the order of the state. A row takes its sources from one vector of the state by a permutation;
where a target has no synapse left from that vector, its lane gets one that contributes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ... import reference
from ...arrays import Array
from ..emission import Emission

__all__ = ["Curves", "Rows", "emit_rows", "rows_of", "rows_of_targets"]

_LOG2_E = float(np.log2(np.e))
_NOTHING = 1e38  # 1 / A of a lane without a synapse: below every float32 that is not 0
_SMALLEST = 1e-30  # w of which float32 keeps 1 / w
_UNROLLED = 24  # rows that are written one by one; more are a loop


@dataclass(frozen=True)
class Curves:
    """Synapses that exist, (synapses,) each: source, target, w, erev; sigma (v - mu) = slope v - offset."""

    source: Array
    target: Array
    w: Array
    erev: Array
    slope: Array
    offset: Array

    @classmethod
    def of(cls, own: reference.Synapses, mapped: reference.AffineMap | None = None) -> Curves:
        """Those of a cell whose weight is not 0, with the map of the sources folded in."""
        pick = own.w != 0
        source, sigma = own.source[pick], own.sigma[pick]
        scale, shift = (None, None) if mapped is None else (mapped.scale, mapped.shift)
        slope = sigma if scale is None else sigma * scale[source]
        offset = sigma * (own.mu[pick] if shift is None else own.mu[pick] - shift[source])
        return cls(source, own.target[pick], own.w[pick], own.erev[pick], slope, offset)

    @classmethod
    def none(cls) -> Curves:
        """No synapses."""
        return cls(*np.zeros((2, 0), np.int64), *np.zeros((4, 0)))


@dataclass(frozen=True)
class Rows:
    """The rows of the targets of one vector.

    Args:
        starts: Where the vector begins from which each row takes its sources, (rows,).
        sources: Number of the source of each lane from there, (rows, lanes).
        numbers: S, B, A or w, E of each lane, (rows, 4, lanes).
        folded: Whether A is 1 / w, and B holds its logarithm.
    """

    starts: Array
    sources: Array
    numbers: Array
    folded: bool


def rows_of_targets(curves: Curves, first: int, lanes: int, *, half: bool) -> Rows:
    """The rows of the targets `first` to `first + lanes`."""
    chunk = lanes if lanes >= 8 else 1 << 30  # with fewer lanes a source is loaded by itself, wherever it is
    starts, rows = list[int](), list[list[int]]()
    for start in np.unique(curves.source // chunk * chunk).tolist():
        near = curves.source // chunk * chunk == start
        lists = [np.flatnonzero(near & (curves.target == first + lane)).tolist() for lane in range(lanes)]
        longest = max(map(len, lists))
        rows += [[own[k] if k < len(own) else -1 for own in lists] for k in range(longest)]
        starts += [start] * longest
    return rows_of(curves, np.array(rows, np.int64).reshape(-1, lanes), np.array(starts, np.int64), half=half)


def rows_of(curves: Curves, picks: Array, starts: Array, *, half: bool) -> Rows:
    """The rows of synapses by number, (rows, lanes), -1 for none; `starts` are those of `Rows`."""
    folded = not half and bool(np.all(curves.w > _SMALLEST))
    sources = np.where(picks < 0, 0, curves.source[picks] - starts[:, None]) if len(picks) else picks
    return Rows(starts, sources, _numbers(curves, picks, folded), folded)


def _numbers(curves: Curves, picks: Array, folded: bool) -> Array:
    """S, B, A or w, and E; where there is no synapse, those of one that contributes nothing."""
    if not picks.size:
        return np.zeros((0, 4, picks.shape[1]))
    w = curves.w[picks]
    slope, offset = -curves.slope[picks] * _LOG2_E, curves.offset[picks] * _LOG2_E
    values = [slope, offset - np.log2(w), 1.0 / w] if folded else [slope, offset, w]
    filler = np.array([0.0, 0.0, _NOTHING if folded else 0.0, 0.0])[None, :, None]
    return np.where(picks[:, None] < 0, filler, np.stack([*values, curves.erev[picks]], axis=1))


def emit_rows(emission: Emission, rows: Rows, base: str, current: str, conductance: str) -> None:
    """Add the rows to two registers; `base` is where the sources lie."""
    count, lanes = len(rows.starts), emission.lanes
    if not count:
        return
    picks, width = emission.integers(rows.sources), 4 * lanes
    table = emission.weights(rows.numbers)

    def row(start: str, k: str) -> None:
        parts = [table.vector(f"({k} * {width} + {part * lanes})") for part in range(4)]
        emission.line(f"t = pick_from({base} + {start}, {picks} + {k} * {lanes}) * {parts[0]} + {parts[1]};")
        gain = f"conductancev(t, {parts[2]})" if rows.folded else f"conductancev(t, allv(1.0f)) * {parts[2]}"
        emission.line(f"g = {gain};")
        emission.line(f"{current} += g * {parts[3]};")
        emission.line(f"{conductance} += g;")

    with emission.block():
        emission.line("V t, g;")
        if count <= _UNROLLED:
            for k, start in enumerate(rows.starts.tolist()):
                row(str(start), str(k))
        else:
            starts = emission.integers(rows.starts)
            with emission.block(emission.loop("i", count)):
                row(f"{starts}[i]", "i")
