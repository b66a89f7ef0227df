"""Synapses in rows of lanes: which lane has which synapse of which row.

A run sums what reaches the neurons of one vector. A row has a synapse in each lane. Its sources lie next to one
another, as many as there are lanes, so that one permutation brings them; or all are one, which costs less. Neuron j of
the vector has lane j; lanes that no neuron has are given to those with the longest lists, whose parts are joined by
permutations when all rows are summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ...arrays import Array

__all__ = ["SUMMED", "Edges", "Run", "Sources", "Together", "make_run", "together"]

_PERMUTED = 1.22  # what a row with a permutation costs beside one that takes all from one neuron
_JOIN = 0.5  # what a permutation of both sums costs
_ANYWHERE = 1 << 30
SUMMED = 40  # rows of one sum: more are several sums, so that rounding does not add up

_Lists = list[list[tuple[int, int]]]  # of each lane: position of the source and number of the synapse, in order
_Row = tuple[int, list[int]]  # where it begins to take its sources, and its synapses


@dataclass(frozen=True)
class Edges:
    """Synapses by number: source and target, (synapses,) each."""

    source: Array
    target: Array

    @cached_property
    def into(self) -> list[list[tuple[int, int]]]:
        """Source and number of the synapses into each target."""
        found: list[list[tuple[int, int]]] = [[] for _ in range(int(self.target.max(initial=-1)) + 1)]
        for edge, (source, target) in enumerate(zip(self.source.tolist(), self.target.tolist(), strict=True)):
            found[target].append((source, edge))
        return found


@dataclass(frozen=True)
class Sources:
    """Where the sources of some synapses lie.

    Args:
        positions: Of each source, by its number; below 0 for those that are left out.
        width: Numbers that may be read.
        lanes: Of a vector. With fewer than eight a source is loaded by itself, wherever it is.
        aligned: Whether a row takes its sources from one whole vector.
    """

    positions: Array
    width: int
    lanes: int
    aligned: bool = False

    @cached_property
    def places(self) -> list[int]:
        """The positions as numbers of Python, of which few are taken faster."""
        found: list[int] = self.positions.tolist()
        return found

    def start(self, position: int) -> int:
        """Where a row begins whose first source lies there."""
        if self.lanes < 8:
            return 0
        return position // self.lanes * self.lanes if self.aligned else min(position, self.width - self.lanes)

    @property
    def reach(self) -> int:
        """How many sources a row can take from its beginning on."""
        return self.lanes if self.lanes >= 8 else _ANYWHERE


@dataclass(frozen=True)
class Run:
    """The rows into the neurons of one vector.

    Args:
        edges: Number of the synapse, (rows, lanes); -1 for none.
        starts: Where each row begins to take its sources, (rows,).
        single: How many rows, the first ones, take all from the neuron at which they begin.
        joins: The lane from which each neuron takes each further part of its list, -1 for none; (parts, lanes).
        cost: In rows from one neuron.
    """

    edges: Array
    starts: Array
    single: int = 0
    joins: list[list[int]] = field(default_factory=list)
    cost: float = 0.0


@dataclass(frozen=True)
class Together:
    """The permuted rows of some runs, one after the other, an even number of each.

    Args:
        run: The rows, and behind them some without synapses.
        ends: The rows before which sums end, all even.
        into: Of each sum the number of the run to which it belongs.
    """

    run: Run
    ends: list[int]
    into: list[int]


def make_run(edges: Edges, units: Sequence[int], sources: Sources) -> Run:
    """The run of all synapses into some neurons, one vector of them at most, that costs least."""
    lists = _lists(edges, units, sources)
    by_source = dict[int, list[tuple[int, int]]]()
    for place, own in enumerate(lists):
        for position, edge in own:
            by_source.setdefault(position, []).append((place, edge))
    if not by_source:
        return Run(np.zeros((0, sources.lanes), np.int64), np.zeros(0, np.int64))
    if sources.lanes < 8:  # each source is loaded by itself, so a row gains nothing from having one alone
        return _with_single(lists, by_source, len(units) + 1, sources)
    most = max(map(len, by_source.values()))
    options = [least for least in {1, (len(units) + 1) // 2, len(units) - 1, len(units)} if 0 < least <= most]
    options = [] if sources.aligned else sorted(options)
    best = _with_single(lists, by_source, most + 1, sources)
    for least in options:
        # Rows are laid out only where they could cost less at all: the bound is a sum, the layout a search.
        if _least_cost(by_source, least, sources) < best.cost:
            best = min(best, _with_single(lists, by_source, least, sources), key=lambda run: run.cost)
    return best


def _least_cost(by_source: dict[int, list[tuple[int, int]]], least: int, sources: Sources) -> float:
    """What the run of `_with_single` costs if its permuted rows have a synapse in each lane."""
    counts = [len(own) for own in by_source.values()]
    permuted = sum(count for count in counts if count < least)
    return sum(count >= least for count in counts) + _PERMUTED * permuted / sources.lanes


def _lists(edges: Edges, units: Sequence[int], sources: Sources) -> _Lists:
    into, places = edges.into, sources.places
    found: _Lists = []
    for unit in units:
        own = into[unit] if unit < len(into) else []
        found.append(sorted((places[source], edge) for source, edge in own if places[source] >= 0))
    return found


def _with_single(lists: _Lists, by_source: dict[int, list[tuple[int, int]]], least: int, sources: Sources) -> Run:
    """The run in which neurons that reach so many of the targets have rows of their own."""
    alone = sorted(position for position, own in by_source.items() if len(own) >= least)
    single: list[_Row] = []
    for position in alone:
        row = [-1] * sources.lanes
        for place, edge in by_source[position]:
            row[place] = edge
        single.append((position, row))
    taken = set(alone)
    rest = [[own for own in part if own[0] not in taken] for part in lists]
    parts, permuted = _parted(rest, sources)
    cost = len(single) + _PERMUTED * len(permuted) + _JOIN * (max(map(len, parts)) - 1)
    rows = [*single, *permuted]
    edges = np.array([row for _, row in rows], np.int64).reshape(-1, sources.lanes)
    joins = _joins(parts, sources.lanes)
    return Run(edges, np.array([start for start, _ in rows], np.int64), len(single), joins, cost)


def _parted(lists: _Lists, sources: Sources) -> tuple[list[list[int]], list[_Row]]:
    """The lanes of each neuron, one more to the longest list as long as that saves rows; and the rows."""
    counts = [1] * len(lists)
    best_lanes = _lanes_of(counts)
    best = _rows(_dealt(lists, best_lanes, sources.lanes), sources)
    cost = _PERMUTED * len(best)
    while sources.lanes >= 8 and sum(counts) < sources.lanes and best:
        longest = max(range(len(lists)), key=lambda k: len(lists[k]) / counts[k])
        counts[longest] += 1
        rest = _JOIN * (max(counts) - 1)
        # Even if each row were full it would cost as much; another lane for the next longest list may still save more.
        if _PERMUTED * max(-(-len(own) // count) for own, count in zip(lists, counts, strict=True)) + rest >= cost:
            continue
        lanes_of = _lanes_of(counts)
        rows = _rows(_dealt(lists, lanes_of, sources.lanes), sources)
        other = _PERMUTED * len(rows) + rest
        if other < cost:
            best_lanes, best, cost = lanes_of, rows, other
    return best_lanes, best


def _lanes_of(counts: list[int]) -> list[list[int]]:
    found, following = list[list[int]](), len(counts)
    for k, count in enumerate(counts):
        found.append([k, *range(following, following + count - 1)])
        following += count - 1
    return found


def _dealt(lists: _Lists, lanes_of: list[list[int]], lanes: int) -> _Lists:
    found: _Lists = [[] for _ in range(lanes)]
    for own, places in zip(lists, lanes_of, strict=True):
        for k, edge in enumerate(own):
            found[places[k % len(places)]].append(edge)
    return found


def _rows(columns: _Lists, sources: Sources) -> list[_Row]:
    """Each row begins at the first source that is left, and takes from each lane the next that it reaches."""
    left, rows = [own[::-1] for own in columns], list[_Row]()
    while firsts := [own[-1][0] for own in left if own]:
        start = sources.start(min(firsts))
        end = start + sources.reach
        rows.append((start, [own.pop()[1] if own and own[-1][0] < end else -1 for own in left]))
    return rows


def _joins(lanes_of: list[list[int]], lanes: int) -> list[list[int]]:
    most = max(map(len, lanes_of), default=1)
    found = [[own[part] if part < len(own) else -1 for own in lanes_of] for part in range(1, most)]
    return [own + [-1] * (lanes - len(own)) for own in found]


def together(runs: Sequence[Run], spare: int) -> Together:
    """Bring the permuted rows of some runs together, with so many rows to spare; one run at least has such rows."""
    edges, starts, ends, into = list[Array](), list[Array](), list[int](), list[int]()
    for k, run in enumerate(runs):
        count, begin = len(run.starts) - run.single, ends[-1] if ends else 0
        pairs, sums = -(-count // 2), -(-count // SUMMED)
        edges.append(np.pad(run.edges[run.single :], ((0, count % 2), (0, 0)), constant_values=-1))
        starts.append(np.pad(run.starts[run.single :], (0, count % 2)))
        ends += [begin + 2 * (pairs * own // sums) for own in range(1, sums + 1)]
        into += [k] * sums
    all_edges = np.pad(np.concatenate(edges), ((0, spare), (0, 0)), constant_values=-1)
    return Together(Run(all_edges, np.pad(np.concatenate(starts), (0, spare))), ends, into)
