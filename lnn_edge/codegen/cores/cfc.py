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
from ..dense import Source, add_products, begin_sums, groups_of_units
from ..emission import Emission
from .timespan import fixed_timespan

__all__ = ["emit_cfc"]

_LOG2_E = float(np.log2(np.e))
_BEND, _GATE = 2.0 * _LOG2_E, -_LOG2_E  # what `bendv` and `gatev` take is the argument times these

_PACKED = 4  # vectors of packed heads

Head = tuple[Array, Array]  # weight (units, inputs) and bias (units,)


def emit_cfc(emission: Emission, node: records.Cfc) -> None:
    """Write one sample."""
    cell = cfc_cell(node, emission.tensors)
    fixed = fixed_timespan(emission, node.elapsed)
    if fixed is None:
        emission.line(f"const float elapsed = {emission.at(node.elapsed)}[0];")
    emission.line("VI bad = unusualv(allv(0.0f));")
    given, start, last = Source(emission.at(node.input), cell.inputs), 0, len(cell.layers) - 1
    for place, layer in enumerate(cell.layers):
        own = Source(f"({emission.at(node.state)} + {start})", layer.units)
        made = f"({emission.at(node.next)} + {start})"
        behind = sum(own.units for own in cell.layers[place:])  # a vector that ends in the next layer may be stored
        with emission.braces():
            _emit_layer(emission, layer, [own, given], (made, behind), fixed)
        if place == last:
            emission.line(f"copy({emission.at(node.output)}, {made}, {layer.units});")
        given, start = Source(made, layer.units), start + layer.units
    emission.line("if (anyv(bad)) return 1;")
    emission.checked |= {node.next, node.output}


def _emit_layer(
    emission: Emission, layer: CfcLayer, sources: list[Source], made: tuple[str, int], fixed: float | None
) -> None:
    pending = 1.0
    for weight, bias in layer.backbone:
        sources, pending = _emit_backbone(emission, layer.activation, sources, (weight * pending, bias))
    heads = _heads(layer, pending, fixed)
    if fixed is not None and layer.mode != "pure" and _packs(emission, layer.units):
        _emit_packed(emission, layer, heads, sources, made)
        return
    for start, end in groups_of_units(emission, layer.units, len(heads)):
        with emission.braces():
            sums = begin_sums(emission, [bias[start:end] for _, bias in heads])
            _add(emission, sums, [weight[start:end] for weight, _ in heads], sources)
            results = [
                _combined(emission, layer, parts, start + k * emission.lanes, fixed) for k, parts in _units(sums)
            ]
            _store(emission, results, made, start, end)


def _store(emission: Emission, results: list[str], made: tuple[str, int], start: int, end: int) -> None:
    """Store the next state of some units, and look at it while it is in registers."""
    names, (to, behind) = [emission.fresh("y") for _ in results], made
    for name, result in zip(names, results, strict=True):
        emission.line(f"const V {name} = {result};")
        emission.line(f"bad |= unusualv({name});")
    padded = start + emission.padded(end - start) <= behind
    emission.store(f"{to} + {start}", names, end - start, padded=padded)


def _packs(emission: Emission, units: int) -> bool:
    """Whether three heads behind one another fill fewer vectors than side by side."""
    together = emission.padded(3 * units) // emission.lanes
    return emission.lanes >= 8 and together <= _PACKED and together < 3 * (emission.padded(units) // emission.lanes)


def _emit_packed(
    emission: Emission, layer: CfcLayer, heads: list[Head], sources: list[Source], made: tuple[str, int]
) -> None:
    """The three heads behind one another, all as tanh: sigmoid(x) is (1 + tanh(x / 2)) / 2."""
    (f, f_bias), (g, g_bias), (when, when_bias) = heads
    weight, bias = np.concatenate([f, g, -when]), np.concatenate([f_bias, g_bias, -when_bias])
    sums = begin_sums(emission, [bias])
    _add(emission, sums, [weight], sources)
    names = [emission.fresh("h") for _ in sums[0]]
    for name, own in zip(names, sums[0], strict=True):
        emission.line(f"const V {name} = bendv({own});")
    results = []
    for first in range(0, layer.units, emission.lanes):
        a, b, c = (_taken(emission, names, head * layer.units, first, layer.units) for head in range(3))
        part = f"(0.5f + 0.5f * {c})"
        results.append(f"({a} + {part} * {b if layer.mode == 'no_gate' else f'({b} - {a})'})")
    _store(emission, results, made, 0, layer.units)


def _taken(emission: Emission, names: list[str], start: int, first: int, units: int) -> str:
    """The numbers of some units from packed vectors; lanes without a unit get those of the last one."""
    places = start + np.minimum(first + np.arange(emission.lanes), units - 1)
    own, lanes = emission.fresh("u"), emission.lanes
    text = ""
    for vector in np.unique(places // lanes).tolist():
        if np.array_equal(places, vector * lanes + np.arange(lanes)):
            text = names[vector]
            break
        index = emission.integers(places % lanes)
        found = f"permuted({names[vector]}, {index})"
        if text:
            mask = emission.integers(-(places // lanes == vector).astype(np.int64))
            found = f"pickv(*(const VIU *){mask}, {found}, {text})"
        text = found
    emission.line(f"const V {own} = {text};")
    return own


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
    most = emission.sums * emission.lanes
    for start in range(0, units, most):
        part = slice(start, start + most)
        with emission.braces():
            sums = begin_sums(emission, [bias[part] * factor])
            _add(emission, sums, [weight[part] * factor], sources)
            made = [f"{function}({name})" for name in sums[0]]
            emission.store(f"{z} + {start}", made, len(bias[part]), padded=True)
    return [Source(z, units)], pending


def _add(emission: Emission, sums: list[list[str]], weights: list[Array], sources: Sequence[Source]) -> None:
    """The products with a state, which is there from the beginning, and then with what is given; or with one source.

    Weights have the columns of what is given first.
    """
    end = sum(source.count for source in sources)
    for source in sources:
        columns = slice(end - source.count, end)
        add_products(emission, sums, [weight[:, columns] for weight in weights], source)
        end -= source.count


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
