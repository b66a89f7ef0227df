"""The order in which an LTC's neurons lie in lanes: by levels of the wiring, and so that rows of synapses fill well.

Neurons that no neuron reaches come first: their unfolds are products and sums. Then those on the chain, which reach
others and are reached; then those that reach none. What the first give, and what the last get, waits for nothing, so
that only the synapses among the second are passed through one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...arrays import Array
from .runs import Edges, Run, Sources, make_run

__all__ = ["ROWS", "VECTORS", "Groups", "Order", "Wiring", "order_of", "positions"]

VECTORS = 5  # of neurons that synapses reach, in a wiring that is written out
ROWS = 80  # into all of them
_SMALL = 64  # neurons of which several orders are tried
_FEW = 1000  # synapses of a wiring in loops: rows of few fill less well, and take less time to count
_IDLE, _IDLE_OF_FEW, _IDLE_OF_LARGE = 100, 64, 40  # exchanges that gain nothing, after which no more are tried
_DIVISION = 0.5  # in rows
_SLACK = (1, 4)  # synapses that lists of a vector may differ by, so that its neurons lie better as sources

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Wiring:
    """Synapses that exist.

    Args:
        synapses: Between neurons.
        sensory: From the inputs to neurons.
        units, inputs: How many there are.
        unfolds: How often the synapses between neurons are computed for one sample.
        lanes: Of a vector.
    """

    synapses: Edges
    sensory: Edges
    units: int
    inputs: int
    unfolds: int
    lanes: int

    def of_inputs(self) -> Sources:
        """Inputs where they lie."""
        padded = -(-self.inputs // self.lanes) * self.lanes
        return Sources(np.arange(self.inputs), max(self.inputs, self.lanes) if self.lanes >= 8 else padded, self.lanes)


@dataclass(frozen=True)
class Order:
    """Neurons by vector.

    Args:
        free: Vectors of neurons that no neuron reaches.
        chain: Vectors of those that reach neurons and are reached.
        last: Vectors of those that reach none.
    """

    free: Groups
    chain: Groups
    last: Groups

    @property
    def groups(self) -> Groups:
        """All vectors."""
        return (*self.free, *self.chain, *self.last)


def positions(groups: Groups, units: int, lanes: int, *, packed: bool) -> tuple[Array, list[int], int]:
    """Where neurons lie when their vectors are stored one after the other.

    Args:
        groups: The vectors.
        units: Of the model.
        lanes: Of a vector.
        packed: Whether the next begins where the neurons of one end, and not its lanes.

    Returns:
        Position of each neuron, -1 for those that are in none; where each vector begins; numbers that may be read.
    """
    found, starts, place = np.full(units, -1), list[int](), 0
    for own in groups:
        starts.append(place)
        found[list(own)] = place + np.arange(len(own))
        place += len(own) if packed else lanes
    return found, starts, (starts[-1] if starts else 0) + lanes


def order_of(wiring: Wiring) -> Order:
    """The best order that is found; the same each time."""
    search = _Search(wiring)
    return search.small() if wiring.units <= _SMALL and wiring.lanes >= 8 else search.large()


@dataclass
class _Search:
    wiring: Wiring
    known: dict[tuple[object, ...], Run] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = self.wiring
        reached, reaching = (
            np.bincount(part, minlength=own.units) for part in (own.synapses.target, own.synapses.source)
        )
        self.fan_in = reached * own.unfolds + np.bincount(own.sensory.target, minlength=own.units)
        kinds = (reached == 0, (reached > 0) & (reaching > 0), (reached > 0) & (reaching == 0))
        self.levels = [np.flatnonzero(kind) for kind in kinds]
        self.levels = [part[np.argsort(-self.fan_in[part], kind="stable")] for part in self.levels]
        self.draw = np.random.default_rng(0)
        self.reaches = np.zeros((own.units, own.units))
        self.reaches[own.synapses.source, own.synapses.target] = 1.0

    def small(self) -> Order:
        """Ways to share out a level over a few vectors, and then exchanges that lower the cost."""
        ways, cost, patience = [list(self._shared()), list(self._even())], self._cost_of_small, _IDLE
        if self._in_loops():
            few = len(self.wiring.synapses.target) + len(self.wiring.sensory.target) <= _FEW
            ways, cost = ways if few else [[*ways[0], *ways[1]]], self._cost_of_large
            patience = _IDLE_OF_FEW if few else _IDLE_OF_LARGE
        return min((self._improved(own, cost, patience) for own in ways), key=lambda own: own[1])[0]

    def _improved(self, orders: Sequence[Order], cost: Callable[[Order], float], patience: int) -> tuple[Order, float]:
        """The best of some orders, and exchanges from there on; with its cost."""
        found = min(orders, key=cost)
        best, idle = cost(found), 0
        while idle < patience:
            other = self._exchanged(found)
            other_cost = cost(other)
            idle = 0 if other_cost < best else idle + 1
            if other_cost <= best:
                found, best = other, other_cost
        return found, best

    def _in_loops(self) -> bool:
        """Whether the rows are too many to be written out, however the neurons lie."""
        reached = np.concatenate(self.levels[1:])
        lists = np.sort(np.bincount(self.wiring.synapses.target, minlength=self.wiring.units)[reached])[::-1]
        return self._fewest(reached) > VECTORS or lists[:: self.wiring.lanes].sum() > ROWS

    def large(self) -> Order:
        """Full vectors; the longest lists together, or sources so that they fill rows, if that costs less."""
        free, chain, last = (self._in_full(own) for own in self.levels)
        if self.wiring.lanes < 8:
            return Order(free, chain, last)
        chains = [chain, *(self._in_full(self._evened(self.levels[1], slack)) for slack in _SLACK)]
        chain = min(chains, key=lambda own: self._cost_of_large(Order(free, own, last)))
        frees = (free, self._in_full(self._evened(self.levels[0], np.inf)))
        return min((Order(own, chain, last) for own in frees), key=self._cost_of_large)

    def _fewest(self, units: Array) -> int:
        return -(-len(units) // self.wiring.lanes)

    def _in_full(self, units: Array) -> Groups:
        return _filled(units, self._fewest(units), dealt=False)

    def _evened(self, units: Array, slack: float) -> Array:
        """Units in an order in which each target is reached at even distances, as far as one can have that for all.

        A row takes its sources from near each other, so that a target whose sources lie closer than those of another
        in the same vector waits for it. The first of a vector has the longest list of those left, but for so many
        unfolds; the others have no shorter ones.
        """
        targets = np.concatenate(self.levels[1:])
        reaches = self.reaches[np.ix_(units, targets)]
        surplus = reaches - reaches.mean(axis=0) if len(units) else reaches
        size, fan_in = (surplus**2).sum(axis=1), self.fan_in[units]
        total, order, left, least = np.zeros(len(targets)), list[int](), np.ones(len(units), bool), 0.0
        for place in range(len(units)):
            longest = fan_in[left].max()
            least = longest - slack * self.wiring.unfolds if place % self.wiring.lanes == 0 else min(least, longest)
            allowed = left & (fan_in >= least)
            order.append(int(np.argmin(np.where(allowed, 2.0 * surplus @ total + size, np.inf))))
            total += surplus[order[-1]]
            left[order[-1]] = False
        return units[order]

    def _shared(self) -> Iterator[Order]:
        free, chain, last = self.levels
        first = self._in_full(free)
        for more in range(2 if len(chain) else 1):
            for end in range(2 if len(last) else 1):
                for dealt in (False, True):
                    middle = _filled(chain, self._fewest(chain) + more, dealt=dealt)
                    yield Order(first, middle, _filled(last, self._fewest(last) + end, dealt=dealt))

    def _even(self) -> Iterator[Order]:
        free, chain, last = self.levels
        for own in (free, self._evened(free, np.inf)):
            for slack in _SLACK:
                yield Order(*map(self._in_full, (own, self._evened(chain, slack), last)))

    def _exchanged(self, order: Order) -> Order:
        """With two neurons of a level exchanged; in the same vector that changes how they lie as sources."""
        levels = [order.free, order.chain, order.last]
        wide = [k for k, own in enumerate(levels) if sum(map(len, own)) > 1]
        if not wide:
            return order
        level = wide[int(self.draw.integers(len(wide)))]
        groups = [list(own) for own in levels[level]]
        places = [(g, k) for g, own in enumerate(groups) for k in range(len(own))]
        (a, i), (b, j) = (places[k] for k in self.draw.choice(len(places), 2, replace=False).tolist())
        groups[a][i], groups[b][j] = groups[b][j], groups[a][i]
        levels[level] = tuple(map(tuple, groups))
        return Order(*levels)

    def _cost_of_small(self, order: Order) -> float:
        """Of a sample, in rows."""
        own = self.wiring
        total = sum(self._run("input", group, own.of_inputs(), ()) for group in order.groups)
        each = 0.0
        for part, targets, aligned in (
            (order.free, (*order.chain, *order.last), False),
            (order.chain, order.chain, True),
            (order.chain, order.last, own.lanes >= 8),
        ):
            places, _, width = positions(part, own.units, own.lanes, packed=not aligned)
            sources = Sources(places, width, own.lanes, aligned)
            each += sum(self._run("unit", group, sources, part) for group in targets)
        return total + own.unfolds * (each + _DIVISION * len((*order.chain, *order.last)))

    def _cost_of_large(self, order: Order) -> float:
        """The same where all sources are one array."""
        own, part = self.wiring, (*order.free, *order.chain)
        places, _, width = positions(part, own.units, own.lanes, packed=True)
        sources = Sources(places, width, own.lanes)
        each = sum(self._run("unit", group, sources, part) for group in (*order.chain, *order.last))
        return own.unfolds * each + sum(self._run("input", group, own.of_inputs(), ()) for group in order.groups)

    def _run(self, kind: str, group: tuple[int, ...], sources: Sources, part: Groups) -> float:
        key = (kind, group, part, sources.aligned)
        if key not in self.known:
            edges = self.wiring.sensory if kind == "input" else self.wiring.synapses
            self.known[key] = make_run(edges, group, sources)
        return self.known[key].cost


def _filled(units: Array, count: int, *, dealt: bool) -> Groups:
    """Units in so many vectors: one after the other, or dealt."""
    if not len(units):
        return ()
    if dealt:
        return tuple(tuple(units[k::count].tolist()) for k in range(count))
    return tuple(tuple(own.tolist()) for own in np.array_split(units, count))
