"""The LTC step as C without vectors: synapses in one list, sorted by target, and two loops over it.

For processors on which memory for code is short; what is computed is told in `ltc` and `synapses`.
"""

from __future__ import annotations

import numpy as np

from ... import reference
from ...arrays import Array
from ..emission import Emission
from .synapses import Curves, numbers_of

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
    emission.line(f"float v[{units}], N[{units}], D[{units}];")
    emission.line(f"const float *p = {state};")
    inputs, synapses = Curves.of(cell.sensory, cell.input_map), Curves.of(cell.synapses)
    begin = (f"{current}[i]", f"{conductance}[i] + {r}")
    with emission.block():
        _emit_neurons(emission, inputs, units, given, begin, ["N[i] = a;", "D[i] = b;"])
    with emission.block(emission.loop("j", cell.unfolds)):
        _emit_neurons(emission, synapses, units, "p", (f"N[i] + {r} * p[i]", "D[i]"), [f"{made}[i] = a / b;"])
        emission.line(f"copy(v, {made}, {units});")
        emission.line("p = v;")


def _emit_neurons(
    emission: Emission, curves: Curves, units: int, base: str, begin: tuple[str, str], end: list[str]
) -> None:
    """A loop over all neurons, which sums a and b, and then does what `end` says."""
    order = np.argsort(curves.target, kind="stable")
    counts = emission.small_integers(np.bincount(curves.target, minlength=units))
    emission.line("int edge = 0;")
    with emission.block(emission.loop("i", units)):
        emission.line(f"float a = allv({begin[0]}), b = allv({begin[1]});")
        emission.line(f"const int end = edge + {counts}[i];")
        with emission.block("for (; edge < end; ++edge)"):
            if len(order):
                _emit_synapse(emission, curves, order, base)
        for line in end:
            emission.line(line)


def _emit_synapse(emission: Emission, curves: Curves, order: Array, base: str) -> None:
    sources = emission.small_integers(curves.source[order])
    numbers, folded = numbers_of(curves, order[:, None], half=emission.half)
    table = emission.weights(numbers)
    slope, offset, weight, erev = (table.one(f"4 * edge + {part}") for part in range(4))
    emission.line(f"const float t = {base}[{sources}[edge]] * {slope} + {offset};")
    gain = f"conductance1(t, allv({weight}))" if folded else f"conductance1(t, allv(1.0f)) * {weight}"
    emission.line(f"const float g = {gain};")
    emission.line(f"a += g * {erev};")
    emission.line("b += g;")
