"""The LTC step as C without vectors: synapses in one list, sorted by target, and two loops over it.

For processors on which memory for code is short, and for many streams, one in each lane; what is computed is told in
`ltc` and `synapses`. Where one limit will do for all sources, they are limited once, and not at each synapse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ... import reference
from ...arrays import Array
from ..c_text import number
from ..emission import Emission
from .synapses import Curves, limit_of_all, numbers_of

__all__ = ["emit_scalar_ltc"]


def emit_scalar_ltc(
    emission: Emission, cell: reference.LtcCell, rate: float | None, state: str, given: str, made: str
) -> None:
    """Write the unfolds of one sample.

    Args:
        emission: Where to.
        cell: The cell.
        rate: What the capacitances are multiplied with; `None` where that is a variable.
        state: Where the state lies.
        given: Where the input lies.
        made: Where the next state belongs.
    """
    units = cell.units
    capacitance = emission.table(cell.cm * (1.0 if rate is None else rate))
    r = f"{capacitance}[i]" if rate is not None else f"{capacitance}[i] * rate"
    current, conductance = (emission.table(own) for own in (cell.gleak * cell.vleak, cell.gleak + cell.epsilon))
    # v is of the inputs, and then of the state: memory is short.
    emission.line(f"float v[{max(units, cell.inputs)}], N[{units}], D[{units}];")
    inputs, synapses = Curves.of(cell.sensory, cell.input_map), Curves.of(cell.synapses)
    limits = [limit_of_all(own, half=emission.half) for own in (inputs, synapses)]
    if limits[0] is not None:
        _emit_limited(emission, "v", given, cell.inputs, limits[0])
        given = "v"
    emission.line(f"copy({made}, {state}, {units});")
    begin = (f"{current}[i]", f"{conductance}[i] + {r}")
    with emission.braces():
        _emit_neurons(emission, inputs, units, _Sources(given, limits[0]), begin, ["N[i] = a;", "D[i] = b;"])
    with emission.braces(emission.loop("j", cell.unfolds)):
        _emit_limited(emission, "v", made, units, limits[1])
        begin = (f"N[i] + {r} * {made}[i]", "D[i]")
        _emit_neurons(emission, synapses, units, _Sources("v", limits[1]), begin, [f"{made}[i] = a / b;"])


@dataclass(frozen=True)
class _Sources:
    """Where the sources of synapses lie, and within which limit; `None` for no limit."""

    at: str
    limit: float | None


def _emit_limited(emission: Emission, to: str, given: str, count: int, limit: float | None) -> None:
    if limit is None:
        emission.line(f"copy({to}, {given}, {count});")
    else:
        emission.line(f"copy_within({to}, {given}, {count}, {number(limit)});")


def _emit_neurons(
    emission: Emission, curves: Curves, units: int, sources: _Sources, begin: tuple[str, str], end: list[str]
) -> None:
    """A loop over all neurons, which sums a and b, and then does what `end` says."""
    order = np.argsort(curves.target, kind="stable")
    counts = emission.small_integers(np.bincount(curves.target, minlength=units))
    emission.line("int edge = 0;")
    with emission.braces(emission.loop("i", units)):
        emission.line(f"float a = allv({begin[0]}), b = allv({begin[1]});")
        emission.line(f"const int end = edge + {counts}[i];")
        with emission.braces("for (; edge < end; ++edge)"):
            if len(order):
                _emit_synapse(emission, curves, order, sources)
        for line in end:
            emission.line(line)


def _emit_synapse(emission: Emission, curves: Curves, order: Array, sources: _Sources) -> None:
    places = emission.small_integers(curves.source[order])
    numbers, folded = numbers_of(curves, order[:, None], half=emission.half)
    table = emission.weights(numbers)
    slope, offset, weight, erev = (table.one(f"4 * edge + {part}") for part in range(4))
    emission.line(f"const float t = {sources.at}[{places}[edge]] * {slope} + {offset};")
    conductance = "conductance1" if sources.limit is None else "conductance_near1"
    gain = f"{conductance}(t, allv({weight}))" if folded else f"{conductance}(t, allv(1.0f)) * {weight}"
    emission.line(f"const float g = {gain};")
    emission.line(f"a += g * {erev};")
    emission.line("b += g;")
