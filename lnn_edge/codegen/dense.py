"""Matrix products with their sums in registers: inputs one after the other, outputs side by side in the lanes.

Weights are stored column by column, as many outputs as sums are kept, so that they are read in one stream; an input is
spread over all lanes once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from .emission import Emission, Weights

__all__ = ["Source", "add_products", "begin_sums", "groups_of_units"]

_WRITTEN_OUT = 128  # products of vectors; more are a loop
_IN_FLIGHT = 8  # sums that keep both multipliers at work: four cycles each, two at a time


@dataclass(frozen=True)
class Source:
    """Inputs of a product: where they lie, and how many."""

    at: str
    count: int


def groups_of_units(emission: Emission, units: int, heads: int) -> list[tuple[int, int]]:
    """Runs of units, begin and end, whose heads are summed together."""
    most = max(emission.sums // heads, 1) * emission.lanes
    runs = -(-units // most)
    each = emission.padded(-(-units // runs))  # of the same length, not one short run at the end
    return [(start, min(start + each, units)) for start in range(0, units, each)]


def begin_sums(emission: Emission, biases: Sequence[Array]) -> list[list[str]]:
    """Registers that begin as biases; those of each bias, in order."""
    padded = np.concatenate([_padded(emission, bias) for bias in biases])
    table, names = emission.table(padded), []
    for k in range(len(padded) // emission.lanes):
        names.append(emission.fresh("a"))
        emission.line(f"V {names[-1]} = get({table} + {k * emission.lanes});")
    ends = np.cumsum([emission.padded(len(bias)) // emission.lanes for bias in biases]).tolist()
    return [names[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def add_products(emission: Emission, sums: Sequence[Sequence[str]], weights: Sequence[Array], source: Source) -> None:
    """Add the products of some matrices (outputs, inputs) with the same inputs to the registers of each."""
    registers = [name for own in sums for name in own]
    columns = np.concatenate([_padded(emission, weight) for weight in weights], axis=0).T
    if not source.count or not registers:
        return
    width = columns.shape[1]
    table = emission.weights(columns)
    sets = [registers]
    while len(sets) * len(registers) * emission.tiles < _IN_FLIGHT and len(sets) * 2 <= source.count:
        sets.append([emission.fresh("a") for _ in registers])
    for name in (name for own in sets[1:] for name in own):
        emission.line(f"V {name} = allv(0.0f);")
    together = len(sets)
    if emission.lanes > 1 and source.count * len(registers) <= _WRITTEN_OUT:
        for k in range(source.count):
            _one_input(emission, sets[k % together], table, source, "", k, width)
        _join(emission, sets)
        return
    with emission.braces(emission.loop("j", source.count // together * together, together)):
        for own, _ in enumerate(sets):
            _one_input(emission, sets[own], table, source, "j", own, width)
    for rest in range(source.count // together * together, source.count):
        _one_input(emission, sets[rest % together], table, source, "", rest, width)
    _join(emission, sets)


def _join(emission: Emission, sets: Sequence[Sequence[str]]) -> None:
    for names in zip(*sets, strict=True):
        if len(names) == 4:
            emission.line(f"{names[0]} = ({names[0]} + {names[1]}) + ({names[2]} + {names[3]});")
        elif len(names) > 1:
            emission.line(f"{names[0]} = {' + '.join(names)};")


def _one_input(
    emission: Emission, names: list[str], table: Weights, source: Source, index: str, offset: int, width: int
) -> None:
    place = " + ".join(filter(None, [index, str(offset) if offset or not index else ""]))
    spread = emission.fresh("q")
    emission.line(f"const V {spread} = allv({source.at}[{place}]);")
    for k, name in enumerate(names):
        start = f"{index} * {width} + " if index else ""
        vector = table.vector(f"({start}{offset * width + k * emission.lanes})")
        emission.line(f"{name} += {spread} * {vector};")


def _padded(emission: Emission, values: Array) -> Array:
    """With as many rows more, all zero, as fill the last vector."""
    missing = emission.padded(len(values)) - len(values)
    return np.pad(values, [(0, missing)] + [(0, 0)] * (np.ndim(values) - 1))
