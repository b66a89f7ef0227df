"""Loops over rows of synapses of an LTC as C, for wirings that are too large to be written out.

Rows that take all from one neuron come first, those of two runs together where they take the same. The permuted rows of
all runs are one loop, two rows in each of five stages: while some are divided, the sources of others are permuted. One
loop, as stages that run empty and fill again between one run and the next take as long as several rows; and a function
of its own, in which it has all registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ...arrays import Array
from ..emission import Emission
from .runs import SUMMED, Run, Together, together
from .synapses import (
    Curves,
    Part,
    Row,
    add_conductances,
    emit_conductances,
    emit_together,
    exponent_of,
    numbers_of_row,
    part_of,
    source_of_row,
)

__all__ = ["emit_in_loops"]

_SPARE = 8  # rows behind the last one, which stages ahead of it read
_FAR = 500  # permuted rows, whose tables a processor does not bring near soon enough by itself
_EARLY = 16  # rows before they are needed
_LINE = 16  # numbers that come together


def emit_in_loops(
    emission: Emission,
    curves: Curves,
    runs: Sequence[Run],
    positions: Array,
    base: str,
    sums: Sequence[tuple[str, str]],
    *,
    limited: bool,
) -> None:
    """Add all rows of some runs in loops: first those from one neuron, of two runs at a time, then all permuted ones.

    Args:
        emission: What is written to.
        curves: Synapses that exist.
        runs: The runs.
        positions: Of the sources.
        base: Where the sources begin.
        sums: Of each run its registers for current and conductance.
        limited: Whether the sources are.
    """
    few = [replace(run, edges=run.edges[: run.single], starts=run.starts[: run.single]) for run in runs]
    parts = [
        part_of(emission, curves, run, positions, base, own, limited=limited)
        for run, own in zip(few, sums, strict=True)
    ]
    for own in _alike([part for part in parts if part.run.single]):
        _emit_single(emission, own)
    permuted = [(run, own) for run, own in zip(runs, sums, strict=True) if run.single < len(run.starts)]
    if permuted:
        rows = together([run for run, _ in permuted], _SPARE)
        part = part_of(emission, curves, rows.run, positions, base, ("", ""), limited=limited)
        _emit_permuted(emission, part, rows, base, [own for _, own in permuted])


def _emit_permuted(emission: Emission, part: Part, rows: Together, base: str, sums: Sequence[tuple[str, str]]) -> None:
    """The loop over permuted rows, whose sums go by way of memory, as it is the same for all."""
    lanes, own = emission.lanes, _Loop(emission, [part], 0, len(part.run.starts))
    with emission.braces():
        emission.line(f"float X[{len(sums) * lanes}], Y[{len(sums) * lanes}];")
        for k, (current, conductance) in enumerate(sums):
            emission.line(f"put(X + {k * lanes}, {current});")
            emission.line(f"put(Y + {k * lanes}, {conductance});")
        places = emission.integers(np.array(rows.into) * lanes)
        name = emission.fresh("rows")
        with emission.function(f"{name}(const float *{base}, float *X, float *Y)"):
            own.emit_staged(emission.integers(np.array(rows.ends)), places, len(rows.ends))
        emission.line(f"{name}({base}, X, Y);")
        for k, (current, conductance) in enumerate(sums):
            emission.line(f"{current} = get(X + {k * lanes});")
            emission.line(f"{conductance} = get(Y + {k * lanes});")


def _alike(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Two at a time where they have the same sources, else one by one."""
    left = list(parts)
    while left:
        first, *left = left
        same = [k for k, part in enumerate(left) if np.array_equal(part.run.starts, first.run.starts)]
        yield [first, *([left.pop(same[0])] if same else [])]


def _emit_single(emission: Emission, parts: Sequence[Part]) -> None:
    """Rows that take all from one neuron, in a few sums of equal length."""
    count = parts[0].run.single
    own = _Loop(emission, parts, 0, count)
    length = min(-(-count // (2 * -(-count // SUMMED))) * 2, count)
    whole = count // length * length
    with emission.braces(emission.loop("j", whole, length)):
        own.emit("j", length)
    if whole < count:
        with emission.braces():
            own.emit(str(whole), count - whole)


class _Stages:
    """Two rows on their way: their sources, t, its rest, then both sides of the quotients, then the conductances."""

    def __init__(self, emission: Emission, rows: Callable[[str], list[Row]]) -> None:
        self._emission, self._rows = emission, rows
        self._given, self._t, self._whole, self._rest, self._above, self._below, self._g = (
            [emission.fresh(name) for _ in "gh"] for name in ("s_", "t_", "n_", "f_", "m", "z", "g")
        )
        names = (*self._given, *self._t, *self._whole, *self._rest, *self._above, *self._below, *self._g)
        emission.line(f"V {', '.join(names)};")

    def take(self, index: str) -> None:
        """The sources of the rows."""
        for name, row in zip(self._given, self._rows(index), strict=True):
            self._emission.line(f"{name} = {source_of_row(self._emission, row)};")

    def know(self, index: str) -> None:
        """What the rows take of their sources."""
        for name, source, row in zip(self._t, self._given, self._rows(index), strict=True):
            self._emission.line(f"{name} = {exponent_of(self._emission, row, source)};")

    def round(self, index: str) -> None:
        """t as a whole number and a rest."""
        end = "_near" if all(part.limited for part, *_ in self._rows(index)) else ""
        made = ", ".join(f"&{name}" for name in (*self._whole, *self._rest))
        self._emission.line(f"two_rests{end}v({', '.join(self._t)}, {made});")

    def oppose(self, index: str) -> None:
        """Both sides of the quotients."""
        rows = self._rows(index)
        factors = [numbers_of_row(self._emission, row)[2] if row[0].folded else "allv(1.0f)" for row in rows]
        made = ", ".join(f"&{name}" for name in (*self._above, *self._below))
        self._emission.line(f"two_termsv({', '.join((*self._whole, *self._rest, *factors))}, {made}, 1);")

    def divide(self) -> None:
        """The conductances."""
        for g, above, below in zip(self._g, self._above, self._below, strict=True):
            self._emission.line(f"{g} = {above} / {below};")

    def add(self, index: str) -> None:
        """Add them to the sums."""
        add_conductances(self._emission, self._rows(index), self._g)


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
            self._emit_ahead(parts, first, whole, each)
        if count % each:
            with emission.braces():
                emission.line(f"const int i = {first} + {count - 1};")
                emit_together(emission, list(self._row(parts, "i", 0)))
        for part, (x, y) in zip(self._parts, sums, strict=True):
            emission.line(f"{part.current} += {x};")
            emission.line(f"{part.conductance} += {y};")

    def _emit_ahead(self, parts: Sequence[Part], first: str, count: int, each: int) -> None:
        """The loop: t of two rows is computed while the two before are, as it waits longest, for its sources."""
        emission, steps = self._emission, range(each)
        ahead = [(emission.fresh("t_"), row) for k in steps for row in self._row(parts, first, k)]
        for name, row in ahead:
            emission.line(f"V {name} = {exponent_of(emission, row)};")
        last = f"{first} + {count - each}"
        with emission.braces(f"for (int i = {first}; i < {first} + {count}; i += {each})"):
            emission.line(f"const int f = i < {last} ? i + {each} : i;")
            for name, (known, _) in zip(("tg", "th"), ahead, strict=True):
                emission.line(f"const V {name} = {known};")
            following = [row for k in steps for row in self._row(parts, "f", k)]
            for (name, _), row in zip(ahead, following, strict=True):
                emission.line(f"{name} = {exponent_of(emission, row)};")
            emit_conductances(emission, [row for k in steps for row in self._row(parts, "i", k)], ("tg", "th"))

    def emit_staged(self, ends: str, places: str, sums: int) -> None:
        """The loop where t waits for permutations: all that comes before the quotients is known some turns before.

        What waits for a result would fill the processor's queues, and what could run stands behind it. Sums alone stand
        behind their quotients, whose registers are then free. The rows to spare let the stages run on from each sum
        into the next, and behind the last one.

        Args:
            ends: Name of the table of the rows before which sums end.
            places: Name of that of their places in X and Y.
            sums: How many there are.
        """
        emission, x, y = self._emission, self._emission.fresh("x"), self._emission.fresh("y")
        parts = [replace(part, current=x, conductance=y) for part in self._parts]
        stages = _Stages(emission, lambda index: [row for k in range(2) for row in self._row(parts, index, k)])
        for index, ready in (("0", 4), ("2", 3), ("4", 2), ("6", 1)):
            for stage in (stages.take, stages.know, stages.round, stages.oppose)[:ready]:
                stage(index)
        emission.line("int i = 0;")
        with emission.braces(emission.loop("j", sums)):
            emission.line(f"float *const at = X + {places}[j], *const by = Y + {places}[j];")
            emission.line(f"const int end = {ends}[j];")
            emission.line(f"V {x} = allv(0.0f), {y} = allv(0.0f);")
            with emission.braces("for (; i < end; i += 2)"):
                self._emit_prefetches()
                stages.divide()
                stages.add("i")
                stages.oppose("(i + 2)")
                stages.round("(i + 4)")
                stages.know("(i + 6)")
                stages.take("(i + 8)")
            emission.line(f"put(at, get(at) + {x});")
            emission.line(f"put(by, get(by) + {y});")

    def _emit_prefetches(self) -> None:
        """Ask for the numbers of later rows where there are many."""
        part, lanes = self._parts[0], self._emission.lanes
        if len(part.run.starts) < _FAR or part.table.scale is not None:
            return
        for name, numbers in ((part.table.name, 4 * lanes), (part.picks, lanes)):
            for place in range(0, 2 * numbers, _LINE):
                self._emission.line(f"__builtin_prefetch({name} + (i + {_EARLY}) * {numbers} + {place});")

    def _row(self, parts: Sequence[Part], index: str, more: int) -> Iterator[Row]:
        place = f"({index} + {more})" if more else index  # an index may be a number
        start = f"({self._first} + {place})" if self._follow else f"{self._starts}[{place}]"
        for part in parts:
            yield part, place, start, self._single
