"""Sparse synapses in full rows: lanes that belong to any target, summed apart and then joined.

Rows with a target in each lane (`synapses`) are as many as the longest list of a target, and stay half empty where
lists differ. Here a run of rows takes sources from one vector, as many synapses as there are lanes in each row,
whatever their targets: a long list is cut over several lanes. What its lanes have summed is then picked by permutations
into the lanes of the targets, which costs about half a row. The first of an NCP's neurons do not wait for the others,
but taking them through all unfolds first gained nothing: 28 units were 4 % slower, as their rows then fill less well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..emission import Emission
from .synapses import Curves, Rows, emit_rows, rows_of, rows_of_targets

__all__ = ["SplitRows", "split_rows"]

_PICK, _RUN = 0.5, 0.3  # what a pick of both sums costs, and a run beside its rows, in rows


@dataclass(frozen=True)
class _Run:
    """Rows with the same lanes.

    Args:
        rows: The rows.
        targets: Of each lane; -1 for none.
    """

    rows: Rows
    targets: tuple[int, ...]

    def picks(self, first: int, lanes: int) -> list[list[int]]:
        """For the targets `first` to `first + lanes`: the lanes to pick, one per target and pick; -1 for none."""
        own = [[k for k, target in enumerate(self.targets) if target == first + lane] for lane in range(lanes)]
        return [[part[j] if j < len(part) else -1 for part in own] for j in range(max(map(len, own)))]


@dataclass(frozen=True)
class SplitRows:
    """The runs of some synapses; their sums lie in an array of the step that is called as `name` says."""

    runs: tuple[_Run, ...]
    name: str

    def emit_runs(self, emission: Emission, base: str) -> None:
        """Sum every run."""
        lanes = emission.lanes
        emission.line(f"float {self.name}[{max(2 * len(self.runs) * lanes, 1)}];")
        for k, run in enumerate(self.runs):
            with emission.block():
                emission.line("V n = allv(0.0f), d = allv(0.0f);")
                emit_rows(emission, run.rows, base, "n", "d")
                emission.line(f"put({self.name} + {2 * k * lanes}, n);")
                emission.line(f"put({self.name} + {(2 * k + 1) * lanes}, d);")

    def emit_picks(self, emission: Emission, first: int, current: str, conductance: str) -> None:
        """Add what belongs to the targets of a vector to two registers."""
        lanes = emission.lanes
        for k, run in enumerate(self.runs):
            for pick in run.picks(first, lanes):
                index = emission.integers(np.maximum(pick, 0))
                mask = emission.table(np.array(pick) >= 0)
                for place, register in ((2 * k, current), (2 * k + 1, conductance)):
                    picked = f"pick_from({self.name} + {place * lanes}, {index})"
                    emission.line(f"{register} += {picked} * get({mask});")


def split_rows(curves: Curves, units: int, lanes: int, name: str, *, half: bool) -> SplitRows | None:
    """The runs of synapses, or `None` where rows with a target in each lane cost less."""
    if lanes < 8 or not len(curves.source):
        return None
    starts = np.unique(curves.source // lanes * lanes).tolist()
    runs = tuple(run for start in starts for run in _runs_from(curves, start, units, lanes, half))
    direct = sum(len(rows_of_targets(curves, first, lanes, half=half).starts) for first in range(0, units, lanes))
    return SplitRows(runs, name) if _cost(runs, units, lanes) < direct else None


def _cost(runs: Sequence[_Run], units: int, lanes: int) -> float:
    """In rows."""
    picks = sum(len(run.picks(first, lanes)) for run in runs for first in range(0, units, lanes))
    return sum(len(run.rows.starts) for run in runs) + _RUN * len(runs) + _PICK * picks


def _runs_from(curves: Curves, start: int, units: int, lanes: int, half: bool) -> list[_Run]:
    """The runs that take their sources from one vector, as long as costs least."""
    near = np.flatnonzero(curves.source // lanes * lanes == start)
    lists = [near[curves.target[near] == target].tolist() for target in np.unique(curves.target[near]).tolist()]
    options = [_cut(curves, start, lists, length, lanes, half) for length in range(1, max(map(len, lists)) + 1)]
    return min(options, key=lambda runs: _cost(runs, units, lanes))


def _cut(curves: Curves, start: int, lists: list[list[int]], length: int, lanes: int, half: bool) -> list[_Run]:
    """Runs of so many rows."""
    parts = [own[k : k + length] for own in lists for k in range(0, len(own), length)]
    return [_run(curves, start, parts[k : k + lanes], lanes, half) for k in range(0, len(parts), lanes)]


def _run(curves: Curves, start: int, parts: list[list[int]], lanes: int, half: bool) -> _Run:
    own = parts + [[]] * (lanes - len(parts))
    longest = max(map(len, own))
    picks = np.array([[part[k] if k < len(part) else -1 for part in own] for k in range(longest)])
    targets = tuple(int(curves.target[part[0]]) if part else -1 for part in own)
    return _Run(rows_of(curves, picks, np.full(longest, start), half=half), targets)
