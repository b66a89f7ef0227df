"""The LTC step as C.

Per neuron and unfold v' = (r v + N) / (r + D), where r = cm unfolds / timespan, N are the currents and D the
conductances: leak, synapses and epsilon. What the inputs contribute is computed once per sample. Neurons lie in lanes.
"""

from __future__ import annotations

import numpy as np

from ... import reference
from ...arrays import Array
from ...bundle import step_cores as records
from ...reference.cells import ltc_cell
from ..c_text import number
from ..emission import Emission
from .split_rows import SplitRows, split_rows
from .synapses import Curves, Rows, emit_rows, rows_of_targets
from .timespan import fixed_timespan

__all__ = ["emit_ltc"]


def emit_ltc(emission: Emission, node: records.Ltc) -> None:
    """Write one sample."""
    cell = ltc_cell(node, emission.tensors, emission.size(node.input))
    units, wide = cell.units, emission.padded(cell.units)
    emission.line(f"float v[2][{wide}], u[{emission.padded(cell.inputs)}], N[{wide}], D[{wide}], R[{wide}];")
    _copy_padded(emission, "v[0]", emission.at(node.state), units)
    _copy_padded(emission, "u", emission.at(node.input), cell.inputs)
    _emit_shared(emission, cell, _rate(emission, cell, node.elapsed))
    with emission.block(emission.loop("k", cell.unfolds)):
        emission.line("const float *p = v[k & 1];")
        emission.line("float *q = v[1 - (k & 1)];")
        split = _split(emission, Curves.of(cell.synapses), units, "p")
        for first, rows in _rows(emission, Curves.of(cell.synapses), units, split):
            _emit_unfold(emission, first, rows, split)
    last = f"v[{cell.unfolds & 1}]"
    emission.line(f"copy({emission.at(node.next)}, {last}, {units});")
    _emit_motor(emission, cell, last, emission.at(node.output), emission.is_padded(node.output))


def _copy_padded(emission: Emission, to: str, from_: str, count: int) -> None:
    emission.line(f"copy({to}, {from_}, {count});")
    for k in range(count, emission.padded(count)):
        emission.line(f"{to}[{k}] = 0.0f;")


def _rate(emission: Emission, cell: reference.LtcCell, elapsed: str) -> float | None:
    """What the capacitances are multiplied with; `None` where it is measured, and is then a variable."""
    fixed = fixed_timespan(emission, elapsed)
    if fixed is None:
        emission.line(f"const float rate = {number(cell.unfolds)} / {emission.at(elapsed)}[0];")
        return None
    return cell.unfolds / fixed


def _emit_shared(emission: Emission, cell: reference.LtcCell, rate: float | None) -> None:
    """R, N and D without the synapses between neurons, which all unfolds share."""
    units = emission.padded(cell.units)
    capacitance = emission.table(_padded(cell.cm * (1.0 if rate is None else rate), units))
    current = emission.table(_padded(cell.gleak * cell.vleak, units))
    # A lane without a neuron gets a conductance of 1, so that it stays 0 and finite.
    conductance = emission.table(_padded(cell.gleak + cell.epsilon, units, 1.0))
    mapped = Curves.of(cell.sensory, cell.input_map)
    split = _split(emission, mapped, cell.units, "u")
    for first, rows in _rows(emission, mapped, cell.units, split):
        with emission.block():
            emission.line(f"V a = get({current} + {first}), b = get({conductance} + {first});")
            emission.line(f"const V r = get({capacitance} + {first}){' * rate' if rate is None else ''};")
            _emit_sums(emission, first, rows, split, "u")
            emission.line(f"put(N + {first}, a);")
            emission.line(f"put(D + {first}, b + r);")
            emission.line(f"put(R + {first}, r);")


def _emit_unfold(emission: Emission, first: int, rows: Rows, split: SplitRows | None) -> None:
    with emission.block():
        emission.line(f"V a = get(R + {first}) * get(p + {first}) + get(N + {first}), b = get(D + {first});")
        _emit_sums(emission, first, rows, split, "p")
        emission.line(f"put(q + {first}, a / b);")


def _emit_motor(emission: Emission, cell: reference.LtcCell, v: str, to: str, padded: bool) -> None:
    scale, shift = cell.output_map.scale, cell.output_map.shift
    for first in range(0, cell.motor, emission.lanes):
        part, text = slice(first, first + emission.lanes), f"get({v} + {first})"
        if scale is not None:
            text += f" * get({emission.table(_padded(scale[part], emission.lanes))})"
        if shift is not None:
            text += f" + get({emission.table(_padded(shift[part], emission.lanes))})"
        emission.store(f"{to} + {first}", [f"({text})"], cell.motor - first, padded=padded)


def _split(emission: Emission, curves: Curves, units: int, base: str) -> SplitRows | None:
    """Runs of rows where they cost less, already summed."""
    split = split_rows(curves, units, emission.lanes, emission.fresh("e"), half=emission.half)
    if split is not None:
        split.emit_runs(emission, base)
    return split


def _rows(emission: Emission, curves: Curves, units: int, split: SplitRows | None) -> list[tuple[int, Rows]]:
    """The rows of each vector of targets; none where they are split."""
    own = Curves.none() if split is not None else curves
    firsts = range(0, units, emission.lanes)
    return [(first, rows_of_targets(own, first, emission.lanes, half=emission.half)) for first in firsts]


def _emit_sums(emission: Emission, first: int, rows: Rows, split: SplitRows | None, base: str) -> None:
    emit_rows(emission, rows, base, "a", "b")
    if split is not None:
        split.emit_picks(emission, first, "a", "b")


def _padded(values: Array, width: int, filler: float = 0.0) -> Array:
    return np.pad(values, (0, width - len(values)), constant_values=filler)
