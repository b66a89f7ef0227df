"""Rows of synapses of an LTC as C: in each lane a synapse, whose contributions are added to those of its lane.

A synapse contributes g = w sigmoid(sigma (v - mu)) to the conductance D of its target, and E g to its current N. With
t = S v + B, where S = -sigma log2 e and B = sigma mu log2 e, it is w / (1 + 2^t); with A = 1 / w, and log2 A in B, it
is 1 / (A + 2^t), which needs no product more. That takes positive weights; else, and in half precision, where A would
not keep its digits, w stays a factor.

t must stay within what 2^t is computed for. A source is limited once, where that changes nothing: where every synapse
that it has is closed or open beyond the limit. Where its synapses differ too much for that, each t is limited.

Rows are computed two at a time, step by step, as each step waits for the one before; and t of some rows is computed
while others are divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ... import reference
from ...arrays import Array
from ..emission import Emission, Weights
from .runs import Run

__all__ = [
    "Curves",
    "Part",
    "Row",
    "add_conductances",
    "emit_conductances",
    "emit_one_by_one",
    "emit_together",
    "exponent_of",
    "limit_of_all",
    "limits_of",
    "numbers_of",
    "numbers_of_row",
    "part_of",
    "source_of_row",
]

_LOG2_E = float(np.log2(np.e))
_NOTHING = 1e37  # A of a lane without a synapse: what it adds is lost beside every conductance
_SMALLEST = 1e-30  # w of which float32 keeps 1 / w
_WITHIN = 120.0  # of t, where 2^t and all that is made of it are finite
_CLOSED = 25.0  # of t without the weight: 2^-25 is less than the error of w / (1 + 2^t)
_AHEAD = 2  # pairs of rows


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


def limits_of(curves: Curves, sources: int, *, half: bool) -> Array | None:
    """How far each source counts, (sources,); `None` if there is one whose synapses do not allow it."""
    slope, offset = np.abs(curves.slope) * _LOG2_E, np.abs(curves.offset) * _LOG2_E
    weight = np.abs(np.log2(curves.w)) if _folds(curves, half=half) else np.zeros_like(slope)
    if np.any(offset + weight > _WITHIN):
        return None
    steep = slope > 0
    source, slope, offset, weight = (own[steep] for own in (curves.source, slope, offset, weight))
    limits: Array = np.full(sources, 1e30)
    for k, limit in zip(source.tolist(), ((_WITHIN - offset - weight) / slope).tolist(), strict=True):
        limits[k] = min(limits[k], limit)
    return limits if np.all(slope * limits[source] - offset >= _CLOSED) else None


def limit_of_all(curves: Curves, *, half: bool) -> float | None:
    """How far all sources count; `None` if no limit will do for all of them, or there is nothing to limit."""
    limits = limits_of(curves, int(curves.source.max(initial=-1)) + 1, half=half)
    if limits is None or not len(limits):
        return None
    limit, steep = float(limits.min()), curves.slope != 0
    reach = np.abs(curves.slope[steep]) * limit - np.abs(curves.offset[steep])
    return limit if np.all(reach * _LOG2_E >= _CLOSED) else None


def numbers_of(curves: Curves, edges: Array, *, half: bool) -> tuple[Array, bool]:
    """S, B, A or w, and E of synapses by number, -1 for none, (rows, lanes); whether A is 1 / w and in B too.

    Returns:
        (rows, 4, lanes), and that.
    """
    folded = _folds(curves, half=half)
    return _numbers(curves, edges, folded), folded


def _folds(curves: Curves, *, half: bool) -> bool:
    return not half and bool(np.all(curves.w > _SMALLEST))


@dataclass(frozen=True)
class Part:
    """The rows of a run, ready to be written.

    Args:
        run: The run.
        base: Where the sources begin; for registers their names without number.
        registers: Whether the sources are registers, a vector each.
        limited: Whether the sources are.
        folded: Whether A is 1 / w, and B holds its logarithm.
        table: S, B, A or w, E of each lane, (rows, 4, lanes).
        picks: Name of the table of the sources of each lane, of the rows that are permuted.
        current, conductance: Registers to which the rows are added.
    """

    run: Run
    base: str
    registers: bool
    limited: bool
    folded: bool
    table: Weights
    picks: str
    current: str
    conductance: str

    def source(self, k: str, start: str, lanes: int, *, single: bool) -> str:
        """The sources of a row."""
        if single:
            return f"allv({self.base}[{start}])"
        pick = f"{self.picks} + {k} * {lanes}"
        if self.registers:
            return f"permuted({self.base}{int(start) // lanes}, {pick})"
        return f"pick_from({self.base} + {start}, {pick})"

    def numbers(self, k: str, lanes: int, *, single: bool) -> list[str]:
        """S, B, A or w, and E of a row."""
        before = 0 if single else self.run.single * 4 * lanes
        return [self.table.vector(f"({k} * {4 * lanes} + {before + part * lanes})") for part in range(4)]


def part_of(
    emission: Emission,
    curves: Curves,
    run: Run,
    positions: Array,
    base: str,
    sums: tuple[str, str],
    *,
    limited: bool,
    registers: bool = False,
) -> Part:
    """The tables of a run; `positions` are those of the sources."""
    numbers, folded = numbers_of(curves, run.edges, half=emission.half)
    permuted = run.edges[run.single :]
    sources = np.where(permuted < 0, 0, positions[curves.source[permuted]] - run.starts[run.single :, None])
    table = emission.weights(numbers) if run.edges.size else Weights("")
    picks = emission.integers(sources) if sources.size else ""
    return Part(run, base, registers, limited, folded, table, picks, *sums)


def _numbers(curves: Curves, edges: Array, folded: bool) -> Array:
    """S, B, A or w, and E; where there is no synapse, those of one that contributes nothing."""
    w = curves.w[edges]
    slope, offset = -curves.slope[edges] * _LOG2_E, curves.offset[edges] * _LOG2_E
    values = [slope, offset - np.log2(w), 1.0 / w] if folded else [slope, offset, w]
    filler = np.array([0.0, 0.0, _NOTHING if folded else 0.0, 0.0])[None, :, None]
    return np.where(edges[:, None] < 0, filler, np.stack([*values, curves.erev[edges]], axis=1))


# Part, number among its single or permuted rows, where its sources begin, which of both.
Row = tuple[Part, str, str, bool]


def emit_one_by_one(emission: Emission, parts: Sequence[Part]) -> None:
    """Add all rows, each written out; t of each is there some rows before it is needed."""
    rows = _written_out(parts)
    names = [emission.fresh("t_") for _ in rows]
    pairs = [slice(k, k + 2) for k in range(0, len(rows), 2)]

    def known(pair: slice) -> None:
        for name, row in zip(names[pair], rows[pair], strict=True):
            emission.line(f"const V {name} = {exponent_of(emission, row)};")

    for k, pair in enumerate(pairs):
        for own in pairs[k + _AHEAD : k + _AHEAD + 1] if k else pairs[: _AHEAD + 1]:
            known(own)
        with emission.braces():
            emit_conductances(emission, rows[pair], names[pair])


def _written_out(parts: Sequence[Part]) -> list[Row]:
    return [
        (part, str(k if k < part.run.single else k - part.run.single), str(start), k < part.run.single)
        for part in parts
        for k, start in enumerate(part.run.starts.tolist())
    ]


def emit_together(emission: Emission, rows: Sequence[Row]) -> None:
    """One row, or two, step by step."""
    with emission.braces():
        names = ("tg", "th")[: len(rows)]
        for name, row in zip(names, rows, strict=True):
            emission.line(f"const V {name} = {exponent_of(emission, row)};")
        emit_conductances(emission, rows, names)


def source_of_row(emission: Emission, row: Row) -> str:
    """The sources of a row."""
    part, k, start, single = row
    return part.source(k, start, emission.lanes, single=single)


def exponent_of(emission: Emission, row: Row, source: str = "") -> str:
    """t of a row: what it takes of its sources, which may be known already."""
    slope, offset, *_ = numbers_of_row(emission, row)
    return f"{source or source_of_row(emission, row)} * {slope} + {offset}"


def emit_conductances(emission: Emission, rows: Sequence[Row], exponents: Sequence[str]) -> None:
    """Add one row, or two, of which t is known."""
    names = ("g", "h")[: len(rows)]
    factors = [numbers_of_row(emission, row)[2] if row[0].folded else "allv(1.0f)" for row in rows]
    end = "_near" if all(part.limited for part, *_ in rows) else ""
    emission.line(f"V {', '.join(names)};")
    if len(rows) == 2:
        given = ", ".join((exponents[0], factors[0], exponents[1], factors[1]))
        permuted = int(not all(single for *_, single in rows))
        emission.line(f"two_conductances{end}v({given}, &g, &h, {permuted});")
    else:
        emission.line(f"g = conductance{end}v({exponents[0]}, {factors[0]});")
    add_conductances(emission, rows, names)


def add_conductances(emission: Emission, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Add rows of which the conductances are known."""
    for name, row in zip(names, rows, strict=True):
        part, own = row[0], numbers_of_row(emission, row)
        if not part.folded:
            emission.line(f"{name} *= {own[2]};")
        emission.line(f"{part.current} += {name} * {own[3]};")
        emission.line(f"{part.conductance} += {name};")


def numbers_of_row(emission: Emission, row: Row) -> list[str]:
    """S, B, A or w, and E of a row."""
    part, k, _, single = row
    return part.numbers(k, emission.lanes, single=single)
