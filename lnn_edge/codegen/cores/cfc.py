"""The CfC step as C.

The heads of a layer are summed side by side, one unit in the same lane of each. A fixed timespan makes one head of the
two of the gate; factors of exponents and of lecun_tanh go into the weights before and behind them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...arrays import Array
from ...bundle import step_cores as records
from ...reference import CfcLayer
from ...reference.cells import cfc_cell
from ...reference.cfc import LECUN_IN, LECUN_OUT, required
from ..c_text import number
from ..dense import MOST_SUMS, Source, add_products, begin_sums, groups_of_units
from ..emission import Emission
from .timespan import fixed_timespan

__all__ = ["emit_cfc"]

_LOG2_E = float(np.log2(np.e))
_BEND, _GATE = 2.0 * _LOG2_E, -_LOG2_E  # what `bendv` and `gatev` take is the argument times these

Head = tuple[Array, Array]  # weight (units, inputs) and bias (units,)


def emit_cfc(emission: Emission, node: records.Cfc) -> None:
    """Write one sample."""
    cell = cfc_cell(node, emission.tensors)
    fixed = fixed_timespan(emission, node.elapsed)
    if fixed is None:
        emission.line(f"const float elapsed = {emission.at(node.elapsed)}[0];")
    given, start, last = Source(emission.at(node.input), cell.inputs), 0, len(cell.layers) - 1
    for place, layer in enumerate(cell.layers):
        own = Source(f"({emission.at(node.state)} + {start})", layer.units)
        made = f"({emission.at(node.next)} + {start})"
        with emission.block():
            _emit_layer(emission, layer, [given, own], made, fixed)
        if place == last:
            emission.line(f"copy({emission.at(node.output)}, {made}, {layer.units});")
        given, start = Source(made, layer.units), start + layer.units


def _emit_layer(emission: Emission, layer: CfcLayer, sources: list[Source], made: str, fixed: float | None) -> None:
    pending = 1.0
    for weight, bias in layer.backbone:
        sources, pending = _emit_backbone(emission, layer.activation, sources, (weight * pending, bias))
    heads = _heads(layer, pending, fixed)
    for start, end in groups_of_units(emission, layer.units, len(heads)):
        with emission.block():
            sums = begin_sums(emission, [bias[start:end] for _, bias in heads])
            _add(emission, sums, [weight[start:end] for weight, _ in heads], sources)
            results = [
                _combined(emission, layer, parts, start + k * emission.lanes, fixed) for k, parts in _units(sums)
            ]
            emission.store(f"{made} + {start}", results, end - start)


def _units(sums: list[list[str]]) -> list[tuple[int, tuple[str, ...]]]:
    """The registers of the same units, one of each head."""
    return list(enumerate(zip(*sums, strict=True)))


def _emit_backbone(
    emission: Emission, activation: str, sources: list[Source], layer: Head
) -> tuple[list[Source], float]:
    """A layer and its activation; returns the result, and a factor that the next weights take over."""
    (weight, bias), factor, pending = layer, 1.0, 1.0
    function = {"relu": "reluv", "silu": "siluv", "gelu": "geluv"}.get(activation, "bendv")
    if activation == "lecun_tanh":
        factor, pending = LECUN_IN * _BEND, LECUN_OUT
    elif activation == "tanh":
        factor = _BEND
    z, units = emission.fresh("z"), len(bias)
    emission.line(f"float {z}[{emission.padded(units)}];")
    for start in range(0, units, MOST_SUMS * emission.lanes):
        part = slice(start, start + MOST_SUMS * emission.lanes)
        with emission.block():
            sums = begin_sums(emission, [bias[part] * factor])
            _add(emission, sums, [weight[part] * factor], sources)
            made = [f"{function}({name})" for name in sums[0]]
            emission.store(f"{z} + {start}", made, len(bias[part]), padded=True)
    return [Source(z, units)], pending


def _add(emission: Emission, sums: list[list[str]], weights: list[Array], sources: Sequence[Source]) -> None:
    """The products with inputs that lie one after the other."""
    start = 0
    for source in sources:
        columns = slice(start, start + source.count)
        add_products(emission, sums, [weight[:, columns] for weight in weights], source)
        start += source.count


def _heads(layer: CfcLayer, pending: float, fixed: float | None) -> list[Head]:
    """The heads in the order in which `_combined` takes them, with what is folded into them."""
    if layer.mode == "pure":
        return [_scaled(layer.ff1, pending, 1.0)]
    candidates = [_scaled(required(head), pending, _BEND) for head in (layer.ff1, layer.ff2)]
    a, b = (_scaled(required(head), pending, _GATE) for head in (layer.time_a, layer.time_b))
    if fixed is None:
        return [*candidates, a, b]
    return [*candidates, (a[0] * fixed + b[0], a[1] * fixed + b[1])]


def _scaled(head: Head, pending: float, factor: float) -> Head:
    weight, bias = head
    return weight * (pending * factor), bias * factor


def _combined(emission: Emission, layer: CfcLayer, sums: tuple[str, ...], first: int, fixed: float | None) -> str:
    """The next state of the units of a vector."""
    if layer.mode == "pure":
        return _direct(emission, layer, sums[0], first, fixed)
    f, g, gate = emission.fresh("f"), emission.fresh("g"), emission.fresh("s")
    when = sums[2] if fixed is not None else f"{sums[2]} * elapsed + {sums[3]}"
    emission.line(f"const V {f} = bendv({sums[0]}), {g} = bendv({sums[1]}), {gate} = gatev({when});")
    # default: f (1 - s) + s g, with one product less
    return f"({f} + {gate} * {g if layer.mode == 'no_gate' else f'({g} - {f})'})"


def _direct(emission: Emission, layer: CfcLayer, f: str, first: int, fixed: float | None) -> str:
    """a - a exp(-t (|w_tau| + |f|)) f."""
    part = slice(first, first + emission.lanes)
    rate, a = (_row(emission, values[part]) for values in (np.abs(required(layer.w_tau)), required(layer.a)))
    minus = "allv(-elapsed)" if fixed is None else f"allv({number(-fixed)})"
    size = f"valuev(bitsv({f}) & 0x7fffffff)"
    return f"({a} - {a} * expv({minus} * ({rate} + {size})) * {f})"


def _row(emission: Emission, values: Array) -> str:
    return f"get({emission.table(np.pad(values, (0, emission.lanes - len(values))))})"
