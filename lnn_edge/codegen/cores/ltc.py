"""The LTC step as C.

Per neuron and unfold v' = (r v + N) / (r + D), where r = cm unfolds / timespan, N are the currents and D the
conductances: leak, synapses and epsilon. What the inputs contribute is computed once per sample. Neurons lie in lanes,
in an order of our own. What synapses take is a copy of the state, in which the neurons of all vectors follow one
another, and which is limited where a synapse does not change any more.

A small wiring is written out, its state in registers. In a large one all is in memory, and rows are loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ... import reference
from ...arrays import Array
from ...bundle import step_cores as records
from ...reference.cells import ltc_cell
from ..c_text import number
from ..emission import Emission
from .levels import ROWS, VECTORS, Groups, Order, Wiring, order_of, positions
from .runs import Edges, Run, Sources, make_run
from .scalar_ltc import emit_scalar_ltc
from .synapse_loops import emit_in_loops
from .synapses import Curves, Part, emit_one_by_one, limits_of, part_of
from .timespan import fixed_timespan

__all__ = ["emit_ltc"]

_SEPARATE = 64  # neurons that are put in order one by one
_MANY = 32  # unfolds, beyond which it is not
_UNROLLED = 24  # rows of a large wiring that are written out


def emit_ltc(emission: Emission, node: records.Ltc) -> None:
    """Write one sample."""
    cell = ltc_cell(node, emission.tensors, emission.size(node.input))
    rate, state, given = _rate(emission, cell, node.elapsed), emission.at(node.state), emission.at(node.input)
    if emission.lanes == 1:
        emit_scalar_ltc(emission, cell, rate, state, given, emission.at(node.next))
        _emit_motor(emission, cell, emission.at(node.next), emission.at(node.output))
        return
    own = _Step(emission, cell)
    own.begin(state, given, rate)
    if own.small:
        own.small_unfolds()
    else:
        own.large_unfolds()
    own.end(emission.at(node.next))
    _emit_motor(emission, cell, emission.at(node.next), emission.at(node.output))
    emission.line("if (anyv(bad)) return 1;")
    emission.checked.add(node.next)


def _rate(emission: Emission, cell: reference.LtcCell, elapsed: str) -> float | None:
    """What the capacitances are multiplied with; `None` where it is measured, and is then a variable."""
    fixed = fixed_timespan(emission, elapsed)
    if fixed is None:
        emission.line(f"const float rate = {number(cell.unfolds)} / {emission.at(elapsed)}[0];")
        return None
    return cell.unfolds / fixed


@dataclass(frozen=True)
class _From:
    """Sources of synapses between neurons: where they lie, and the vectors that are stored there.

    Args:
        name: Of the array.
        groups: The vectors.
        places: Of each neuron, -1 for those that are not there.
        starts: Of each vector.
        width: Of the array.
    """

    name: str
    groups: Groups
    places: Array
    starts: list[int]
    width: int


class _Step:
    """A sample while it is written. Vector g of the neurons is called g in all names."""

    def __init__(self, emission: Emission, cell: reference.LtcCell) -> None:
        self._emission, self._cell, self._lanes = emission, cell, emission.lanes
        self._curves, self._given = Curves.of(cell.synapses), Curves.of(cell.sensory, cell.input_map)
        self._wiring = Wiring(
            Edges(self._curves.source, self._curves.target),
            Edges(self._given.source, self._given.target),
            cell.units,
            cell.inputs,
            cell.unfolds,
            self._lanes,
        )
        self._order: Order = order_of(self._wiring)
        self._limits = limits_of(self._curves, cell.units, half=emission.half)
        free, chain = len(self._order.free), len(self._order.chain)
        self._free, self._chain = range(free), range(free, free + chain)
        self._last = range(free + chain, len(self._order.groups))
        self._reached = range(free, len(self._order.groups))
        self._places = np.zeros(cell.units, np.int64)
        for g, group in enumerate(self._order.groups):
            self._places[list(group)] = g * self._lanes + np.arange(len(group))
        self.small = self._is_small()

    def _is_small(self) -> bool:
        if self._lanes < 8 or len(self._reached) > VECTORS or self._cell.unfolds > _MANY:
            return False
        runs = (self._run(g, own, aligned=False) for g in self._reached for own in self._sources())
        return sum(len(run.starts) for run in runs) <= ROWS

    # ---------------------------------------------------------------- where all lies

    def _from(self, name: str, groups: Groups, *, packed: bool = True) -> _From:
        return _From(name, groups, *positions(groups, self._cell.units, self._lanes, packed=packed))

    def _sources(self) -> tuple[_From, _From]:
        return self._from("f", self._order.free), self._from("k", self._order.chain)

    def _run(self, g: int, own: _From, *, aligned: bool) -> Run:
        sources = Sources(own.places, own.width, self._lanes, aligned)
        return make_run(self._wiring.synapses, self._order.groups[g], sources)

    def _part(self, g: int, own: _From, sums: tuple[str, str], *, registers: bool = False) -> Part:
        run = self._run(g, own, aligned=registers)
        return part_of(
            self._emission,
            self._curves,
            run,
            own.places,
            own.name,
            sums,
            limited=self._limits is not None,
            registers=registers,
        )

    def _spread(self, values: Array, filler: float = 0.0) -> Array:
        """Numbers of the neurons where these lie."""
        found = np.full(len(self._order.groups) * self._lanes, filler)
        for g, own in enumerate(self._order.groups):
            found[g * self._lanes : g * self._lanes + len(own)] = values[list(own)]
        return found

    def _limited(self, g: int, value: str) -> str:
        """What synapses take of a vector."""
        if self._limits is None:
            return value
        table = self._emission.table(self._spread(self._limits, 1.0))
        return f"withinv({value}, get({table} + {g * self._lanes}))"

    # ---------------------------------------------------------------- before the unfolds

    def begin(self, state: str, given: str, rate: float | None) -> None:
        """The state in its order; R, N and D without the synapses between neurons, which all unfolds share."""
        emission, width = self._emission, len(self._order.groups) * self._lanes
        emission.line("VI bad = unusualv(allv(0.0f));")
        emission.line(f"float v[{width}], N[{width}], D[{width}], R[{width}];")
        if width != self._cell.units:
            emission.line(f"for (int i = 0; i < {width}; ++i) v[i] = 0.0f;")
        if self._cell.units <= _SEPARATE:
            for unit, place in enumerate(self._places.tolist()):
                emission.line(f"v[{place}] = {state}[{unit}];")
        else:
            index = emission.integers(self._places)
            emission.line(f"for (int i = 0; i < {self._cell.units}; ++i) v[{index}[i]] = {state}[i];")
        self._emit_inputs(given)
        with emission.braces():
            self._emit_shared(rate)

    def _emit_inputs(self, given: str) -> None:
        """The inputs as synapses take them."""
        emission, lanes, count = self._emission, self._lanes, self._cell.inputs
        limits = limits_of(self._given, count, half=emission.half)
        self._inputs_limited = limits is not None
        if lanes > 1 and count < lanes:
            emission.line(f"float u[{lanes}] = {{0.0f}};")
            emission.line(f"copy(u, {given}, {count});")
            given = "u"
            emission.line("(void)u;")
        if limits is None or lanes == 1:
            self._inputs_limited = limits is not None and lanes > 1
            emission.line(f"const float *const U = {given};")
            return
        emission.line(f"float U[{max(count, lanes)}];")
        table = emission.table(np.pad(limits, (0, max(lanes - count, 0)), constant_values=1.0))
        for start in _windows(max(count, lanes), lanes):
            emission.line(f"put(U + {start}, withinv(get({given} + {start}), get({table} + {start})));")

    def _emit_shared(self, rate: float | None) -> None:
        emission, lanes, cell = self._emission, self._lanes, self._cell
        capacitance = emission.table(self._spread(cell.cm * (1.0 if rate is None else rate)))
        current = emission.table(self._spread(cell.gleak * cell.vleak))
        # A lane without a neuron gets a conductance of 1, so that it stays 0 and finite.
        conductance = emission.table(self._spread(cell.gleak + cell.epsilon, 1.0))
        sources = self._wiring.of_inputs()
        runs = [make_run(self._wiring.sensory, group, sources) for group in self._order.groups]
        self._emit(range(len(runs)), self._given, runs, sources.positions, "U", limited=self._inputs_limited)
        for g, run in enumerate(runs):
            with emission.braces():
                place, scale = g * lanes, " * rate" if rate is None else ""
                emission.line(f"const V r = get({capacitance} + {place}){scale};")
                self._emit_joins(run, f"n{g}", f"d{g}")
                emission.line(f"put(N + {place}, n{g} + get({current} + {place}));")
                emission.line(f"put(D + {place}, d{g} + get({conductance} + {place}) + r);")
                emission.line(f"put(R + {place}, r);")

    def _emit(
        self, groups: Sequence[int], curves: Curves, runs: list[Run], positions: Array, base: str, *, limited: bool
    ) -> None:
        """Sum the runs into the vectors of some neurons, as n and d of each."""
        emission, sums = self._emission, [(f"n{g}", f"d{g}") for g in groups]
        for current, conductance in sums:
            emission.line(f"V {current} = allv(0.0f), {conductance} = allv(0.0f);")
        if not self.small and sum(len(run.starts) for run in runs) > _UNROLLED:
            emit_in_loops(emission, curves, runs, positions, base, sums, limited=limited)
            return
        parts = zip(runs, sums, strict=True)
        emit_one_by_one(
            emission, [part_of(emission, curves, run, positions, base, own, limited=limited) for run, own in parts]
        )

    def _emit_joins(self, run: Run, current: str, conductance: str) -> None:
        """Add what further lanes have summed."""
        joins = run.joins
        if not joins:
            return
        emission = self._emission
        names = [(emission.fresh("x"), own) for own in (current, conductance)]
        for name, own in names:
            emission.line(f"const V {name} = {own};")
        for join in joins:
            index = emission.integers(np.maximum(join, 0))
            mask = emission.table(np.array(join) >= 0)
            for name, own in names:
                emission.line(f"{own} += permuted({name}, {index}) * get({mask});")

    # ---------------------------------------------------------------- unfolds

    def small_unfolds(self) -> None:
        """The state in registers: v of each vector, k of those on the chain as synapses take them."""
        emission, lanes = self._emission, self._lanes
        free, _ = self._sources()
        for g in range(len(self._order.groups)):
            emission.line(f"V v{g} = get(v + {g * lanes});")
        emission.line(f"float F[{self._cell.unfolds}][{free.width}];")
        emission.line("(void)F;")
        self._emit_free(free)
        self._emit_chain("V ")
        with emission.braces(emission.loop("j", self._cell.unfolds)):
            emission.line("const float *const f = F[j];")
            emission.line("(void)f;")
            self._emit_small_unfold(free)
        for g in range(len(self._order.groups)):
            emission.line(f"put(v + {g * lanes}, v{g});")

    def _emit_free(self, free: _From) -> None:
        """The neurons that no neuron reaches: all their unfolds, and what synapses take of them in each."""
        emission, lanes = self._emission, self._lanes
        if not free.groups:
            return
        for g in self._free:
            emission.line(f"const V a{g} = get(R + {g * lanes}) / get(D + {g * lanes});")
            emission.line(f"const V b{g} = get(N + {g * lanes}) / get(D + {g * lanes});")
        with emission.braces(emission.loop("j", self._cell.unfolds)):
            for start, g in zip(free.starts, self._free, strict=True):
                # A vector after the other, so that each covers the lanes of the one before that have no neuron.
                emission.line(f"put(F[j] + {start}, {self._limited(g, f'v{g}')});")
            for g in self._free:
                emission.line(f"v{g} = a{g} * v{g} + b{g};")

    def _emit_small_unfold(self, free: _From) -> None:
        emission = self._emission
        for g in self._reached:
            emission.line(f"V n{g} = allv(0.0f), d{g} = allv(0.0f), p{g} = allv(0.0f), q{g} = allv(0.0f);")
        given = [self._part(g, free, (f"n{g}", f"d{g}")) for g in self._reached]
        emit_one_by_one(emission, given)
        for part, g in zip(given, self._reached, strict=True):
            self._emit_joins(part.run, f"n{g}", f"d{g}")
            place = g * self._lanes
            emission.line(f"n{g} += get(R + {place}) * v{g} + get(N + {place});")
            emission.line(f"d{g} += get(D + {place});")
        chain = self._from("k", self._order.chain, packed=False)
        inner = [self._part(g, chain, (f"p{g}", f"q{g}"), registers=True) for g in self._reached]
        emit_one_by_one(emission, inner)
        self._emit_quotients(inner)
        self._emit_chain("")

    def _emit_quotients(self, parts: list[Part]) -> None:
        for part, g in zip(parts, self._reached, strict=True):
            self._emit_joins(part.run, f"p{g}", f"q{g}")
            self._emission.line(f"v{g} = (n{g} + p{g}) / (d{g} + q{g});")

    def _emit_chain(self, kind: str) -> None:
        """The neurons on the chain as synapses take them."""
        for k, g in enumerate(self._chain):
            self._emission.line(f"{kind}k{k} = {self._limited(g, f'v{g}')};")

    def large_unfolds(self) -> None:
        """The state in memory, and what synapses take of it twice, before and after."""
        emission, lanes = self._emission, self._lanes
        own = self._from("p", (*self._order.free, *self._order.chain))
        emission.line(f"float S[2][{own.width}];")
        for g, start in enumerate(own.starts):
            emission.line(f"put(S[0] + {start}, {self._limited(g, f'get(v + {g * lanes})')});")
        for place in (g * lanes for g in self._free):  # so that a product and a sum are left of each unfold
            for table in "RN":
                emission.line(f"put({table} + {place}, get({table} + {place}) / get(D + {place}));")
        with emission.braces(emission.loop("j", self._cell.unfolds)):
            emission.line("const float *const p = S[j & 1];")
            emission.line("float *const q = S[1 - (j & 1)];")
            emission.line("(void)p, (void)q;")
            for g in self._free:
                self._emit_new(g, own, f"get(R + {g * lanes}) * get(v + {g * lanes}) + get(N + {g * lanes})")
            runs = [self._run(g, own, aligned=False) for g in self._reached]
            self._emit(self._reached, self._curves, runs, own.places, "p", limited=self._limits is not None)
            for g, run in zip(self._reached, runs, strict=True):
                self._emit_joins(run, f"n{g}", f"d{g}")
                place = g * lanes
                above = f"n{g} + (get(R + {place}) * get(v + {place}) + get(N + {place}))"
                self._emit_new(g, own, f"({above}) / (d{g} + get(D + {place}))")

    def _emit_new(self, g: int, own: _From, made: str) -> None:
        emission, place = self._emission, g * self._lanes
        with emission.braces():
            emission.line(f"const V made = {made};")
            emission.line(f"put(v + {place}, made);")
            if g < len(own.starts):
                emission.line(f"put(q + {own.starts[g]}, {self._limited(g, 'made')});")

    # ---------------------------------------------------------------- after them

    def end(self, state: str) -> None:
        """The state in the order of the model."""
        emission, cell = self._emission, self._cell
        for g in range(len(self._order.groups)):
            emission.line(f"bad |= unusualv(get(v + {g * self._lanes}));")
        if cell.units <= _SEPARATE:
            for unit, place in enumerate(self._places.tolist()):
                emission.line(f"{state}[{unit}] = v[{place}];")
        else:
            index = emission.integers(self._places)
            emission.line(f"for (int i = 0; i < {cell.units}; ++i) {state}[i] = v[{index}[i]];")


def _emit_motor(emission: Emission, cell: reference.LtcCell, state: str, output: str) -> None:
    text, own = f"{state}[i]", cell.output_map
    text += "" if own.scale is None else f" * {emission.table(own.scale)}[i]"
    text += "" if own.shift is None else f" + {emission.table(own.shift)}[i]"
    emission.line(f"for (int i = 0; i < {cell.motor}; ++i) {output}[i] = {text};")


def _windows(count: int, lanes: int) -> list[int]:
    """Where vectors begin that cover so many numbers, the last one over those before."""
    return [*range(0, count - lanes + 1, lanes), *([count - lanes] if count % lanes else [])]
