"""Rows of synapses of an LTC as C: in each lane a synapse, whose contributions are added to those of its lane.

A synapse contributes g = w sigmoid(sigma (v - mu)) to the conductance D of its target, and E g to its current N. With
t = S v + B, where S = -sigma log2 e and B = sigma mu log2 e, it is w / (1 + 2^t); with A = 1 / w, and log2 A in B, it
is 1 / (A + 2^t), which needs no product more. That takes positive weights; else, and in half precision, where A would
not keep its digits, w stays a factor.

t must stay within what 2^t is computed for. A source is limited once, where that changes nothing: where every synapse
that it has is closed or open beyond the limit. Where its synapses differ too much for that, each t is limited.

Rows are computed two at a time, step by step, as each step waits for the one before; and in stages, so that t of some
rows is computed while others are divided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ... import reference
from ...arrays import Array
from ..emission import Emission, Weights
from .runs import Run

__all__ = ["Curves", "Part", "emit_in_loops", "emit_one_by_one", "limit_of_all", "limits_of", "numbers_of", "part_of"]

_LOG2_E = float(np.log2(np.e))
_NOTHING = 1e38  # 1 / A of a lane without a synapse: below every float32 that is not 0
_SMALLEST = 1e-30  # w of which float32 keeps 1 / w
_WITHIN = 120.0  # of t, where 2^t and all that is made of it are finite
_CLOSED = 25.0  # of t without the weight: 2^-25 is less than the error of w / (1 + 2^t)
_AHEAD = 2  # pairs of rows
_SUMMED = 40  # rows of one sum: more are several sums, so that rounding does not add up


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
    """S, B, A or w, and E of synapses by number, -1 for none, (rows, lanes); whether A is 1 / w, and in B as well.

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


_Row = tuple[
    Part, str, str, bool
]  # part, number among its single or permuted rows, where its sources begin, which of both


def emit_one_by_one(emission: Emission, parts: Sequence[Part]) -> None:
    """Add all rows, each written out; t of each is there some rows before it is needed."""
    rows = _written_out(parts)
    names = [emission.fresh("t_") for _ in rows]
    pairs = [slice(k, k + 2) for k in range(0, len(rows), 2)]

    def known(pair: slice) -> None:
        for name, row in zip(names[pair], rows[pair], strict=True):
            emission.line(f"const V {name} = {_exponent(emission, row)};")

    for k, pair in enumerate(pairs):
        for own in pairs[k + _AHEAD : k + _AHEAD + 1] if k else pairs[: _AHEAD + 1]:
            known(own)
        with emission.block():
            _emit_conductances(emission, rows[pair], names[pair])


def _written_out(parts: Sequence[Part]) -> list[_Row]:
    return [
        (part, str(k if k < part.run.single else k - part.run.single), str(start), k < part.run.single)
        for part in parts
        for k, start in enumerate(part.run.starts.tolist())
    ]


def _emit_together(emission: Emission, rows: Sequence[_Row]) -> None:
    """One row, or two, step by step."""
    with emission.block():
        names = ("tg", "th")[: len(rows)]
        for name, row in zip(names, rows, strict=True):
            emission.line(f"const V {name} = {_exponent(emission, row)};")
        _emit_conductances(emission, rows, names)


def _source_of_row(emission: Emission, row: _Row) -> str:
    part, k, start, single = row
    return part.source(k, start, emission.lanes, single=single)


def _exponent(emission: Emission, row: _Row, source: str = "") -> str:
    """t of a row: what it takes of its sources, which may be known already."""
    slope, offset, *_ = _numbers_of_row(emission, row)
    return f"{source or _source_of_row(emission, row)} * {slope} + {offset}"


def _emit_conductances(emission: Emission, rows: Sequence[_Row], exponents: Sequence[str]) -> None:
    """Add one row, or two, of which t is known."""
    names = ("g", "h")[: len(rows)]
    factors = [_numbers_of_row(emission, row)[2] if row[0].folded else "allv(1.0f)" for row in rows]
    end = "_near" if all(part.limited for part, *_ in rows) else ""
    emission.line(f"V {', '.join(names)};")
    if len(rows) == 2:
        emission.line(f"two_conductances{end}v({exponents[0]}, {factors[0]}, {exponents[1]}, {factors[1]}, &g, &h);")
    else:
        emission.line(f"g = conductance{end}v({exponents[0]}, {factors[0]});")
    _add_conductances(emission, rows, names)


def _add_conductances(emission: Emission, rows: Sequence[_Row], names: Sequence[str]) -> None:
    for name, row in zip(names, rows, strict=True):
        part, own = row[0], _numbers_of_row(emission, row)
        if not part.folded:
            emission.line(f"{name} *= {own[2]};")
        emission.line(f"{part.current} += {name} * {own[3]};")
        emission.line(f"{part.conductance} += {name};")


def _numbers_of_row(emission: Emission, row: _Row) -> list[str]:
    part, k, _, single = row
    return part.numbers(k, emission.lanes, single=single)


def emit_in_loops(emission: Emission, parts: Sequence[Part]) -> None:
    """Add all rows in loops: those that take their sources from the same neurons together, each else by itself."""
    for own in _alike(parts):
        _emit_rows(emission, own, 0, own[0].run.single)
        for part in own:
            _emit_rows(emission, [part], part.run.single, len(part.run.starts))


def _alike(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Two at a time where they have the same single sources, else one by one."""
    left = list(parts)
    while left:
        first, *left = left
        same = [k for k, part in enumerate(left) if first.run.single and _singles(part) == _singles(first)]
        yield [first, *([left.pop(same[0])] if same else [])]


def _singles(part: Part) -> list[int]:
    return [int(start) for start in part.run.starts[: part.run.single]]


def _emit_rows(emission: Emission, parts: Sequence[Part], begin: int, end: int) -> None:
    """Rows `begin` to `end`, which are all permuted or none, in a few sums of equal length."""
    if begin == end:
        return
    own = _Loop(emission, parts, begin, end)
    sums = -(-(end - begin) // _SUMMED)
    length = min(-(-(end - begin) // (2 * sums)) * 2, end - begin)
    whole = (end - begin) // length * length
    with emission.block(emission.loop("j", whole, length)):
        own.emit("j", length)
    if whole < end - begin:
        with emission.block():
            own.emit(str(whole), end - begin - whole)


class _Stages:
    """Two rows on their way: their sources, t, then both sides of the quotients, then the conductances."""

    def __init__(self, emission: Emission, rows: Callable[[str], list[_Row]]) -> None:
        self._emission, self._rows = emission, rows
        self._given, self._t, self._above, self._below, self._g = (
            [emission.fresh(name) for _ in "gh"] for name in ("s_", "t_", "m", "z", "g")
        )
        emission.line(f"V {', '.join((*self._given, *self._t, *self._above, *self._below, *self._g))};")

    def take(self, index: str) -> None:
        """The sources of the rows."""
        for name, row in zip(self._given, self._rows(index), strict=True):
            self._emission.line(f"{name} = {_source_of_row(self._emission, row)};")

    def know(self, index: str) -> None:
        """What the rows take of their sources."""
        for name, source, row in zip(self._t, self._given, self._rows(index), strict=True):
            self._emission.line(f"{name} = {_exponent(self._emission, row, source)};")

    def oppose(self, index: str) -> None:
        """Both sides of the quotients."""
        rows = self._rows(index)
        factors = [_numbers_of_row(self._emission, row)[2] if row[0].folded else "allv(1.0f)" for row in rows]
        end = "_near" if all(part.limited for part, *_ in rows) else ""
        given = ", ".join(f"{t}, {factor}" for t, factor in zip(self._t, factors, strict=True))
        made = ", ".join(f"&{above}, &{below}" for above, below in zip(self._above, self._below, strict=True))
        self._emission.line(f"two_terms{end}v({given}, {made});")

    def divide(self) -> None:
        """The conductances."""
        for g, above, below in zip(self._g, self._above, self._below, strict=True):
            self._emission.line(f"{g} = {above} / {below};")

    def add(self, index: str) -> None:
        """Add them to the sums."""
        _add_conductances(self._emission, self._rows(index), self._g)

    def turn(self, places: Sequence[str | None], before: Sequence[Callable[[str], None]]) -> None:
        """Finish the rows at the first place, and bring those at the others a stage further; `None` for no rows."""
        at, *others = places
        if at:
            self.divide()
        for stage, place in zip(before, others, strict=True):
            if place:
                stage(place)
        if at:
            self.add(at)


class _Loop:
    """Loops over some rows of one part, or over the same of two."""

    def __init__(self, emission: Emission, parts: Sequence[Part], begin: int, end: int) -> None:
        self._emission, self._parts, self._begin = emission, parts, begin
        starts = parts[0].run.starts[begin:end]
        self._single, self._first = begin < parts[0].run.single, int(starts[0])
        self._follow = self._single and bool(np.all(np.diff(starts) == 1))
        self._starts = "" if self._follow else emission.integers(starts)

    def emit(self, first: str, count: int) -> None:
        """Sum so many rows, and add the sums."""
        emission = self._emission
        sums = [(emission.fresh("x"), emission.fresh("y")) for _ in self._parts]
        for x, y in sums:
            emission.line(f"V {x} = allv(0.0f), {y} = allv(0.0f);")
        parts = [replace(part, current=x, conductance=y) for part, (x, y) in zip(self._parts, sums, strict=True)]
        each = 2 // len(parts)
        whole = count // each * each
        if whole:
            emit = self._emit_ahead if self._single else self._emit_staged
            emit(parts, first, whole, each)
        if count % each:
            with emission.block():
                emission.line(f"const int i = {first} + {count - 1};")
                _emit_together(emission, list(self._row(parts, "i", 0)))
        for part, (x, y) in zip(self._parts, sums, strict=True):
            emission.line(f"{part.current} += {x};")
            emission.line(f"{part.conductance} += {y};")

    def _emit_ahead(self, parts: Sequence[Part], first: str, count: int, each: int) -> None:
        """The loop: t of two rows is computed while the two before are, as it waits longest, for its sources."""
        emission, steps = self._emission, range(each)
        ahead = [(emission.fresh("t_"), row) for k in steps for row in self._row(parts, first, k)]
        for name, row in ahead:
            emission.line(f"V {name} = {_exponent(emission, row)};")
        last = f"{first} + {count - each}"
        with emission.block(f"for (int i = {first}; i < {first} + {count}; i += {each})"):
            emission.line(f"const int f = i < {last} ? i + {each} : i;")
            for name, (known, _) in zip(("tg", "th"), ahead, strict=True):
                emission.line(f"const V {name} = {known};")
            following = [row for k in steps for row in self._row(parts, "f", k)]
            for (name, _), row in zip(ahead, following, strict=True):
                emission.line(f"{name} = {_exponent(emission, row)};")
            _emit_conductances(emission, [row for k in steps for row in self._row(parts, "i", k)], ("tg", "th"))

    def _emit_staged(self, parts: Sequence[Part], first: str, count: int, each: int) -> None:
        """The loop where t waits for permutations: all that comes before the quotients is known some turns before.

        What waits for a result would fill the processor's queues, and what could run stands behind it.
        """
        emission, turns = self._emission, count // each
        stages = _Stages(emission, lambda index: [row for k in range(each) for row in self._row(parts, index, k)])
        before = (stages.oppose, stages.know, stages.take)
        inside = max(turns - len(before), 0)

        def written_out(begin: int, end: int) -> None:
            for turn in range(begin, end):
                later = range(turn, turn + len(before) + 1)
                stages.turn([f"({first} + {k * each})" if 0 <= k < turns else None for k in later], before)

        written_out(-len(before), 0)
        if inside:
            with emission.block(f"for (int i = {first}; i < {first} + {inside * each}; i += {each})"):
                stages.turn(["i", *(f"(i + {k * each})" for k in range(1, len(before) + 1))], before)
        written_out(inside, turns)

    def _row(self, parts: Sequence[Part], index: str, more: int) -> Iterator[_Row]:
        place = f"({index} + {more})" if more else index  # an index may be a number
        start = f"({self._first} + {place})" if self._follow else f"{self._starts}[{place}]"
        for part in parts:
            yield part, place, start, self._single
