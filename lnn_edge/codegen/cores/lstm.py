"""torch's LSTM as C: c' = f c + i tanh(g), h' = o tanh(c'), projected where it has a projection."""

from __future__ import annotations

import numpy as np

from ...bundle.step_cores import Lstm
from ..dense import Source, add_products, begin_sums, groups_of_units
from ..emission import Emission

__all__ = ["emit_lstm"]


def emit_lstm(emission: Emission, node: Lstm) -> None:
    """Write one sample."""
    tensors = emission.tensors
    weights = [np.split(tensors[name], 4) for name in (node.w_input, node.w_recurrent)]
    biases = np.split(tensors[node.b_input] + tensors[node.b_recurrent], 4)
    units = emission.size(node.next_memory)
    sources = [Source(emission.at(name), emission.size(name)) for name in (node.input, node.state)]
    emission.line(f"float h[{emission.padded(units)}], c[{emission.padded(units)}] = {{0.0f}};")
    emission.line(f"copy(c, {emission.at(node.memory)}, {units});")
    for start, end in groups_of_units(emission, units, 4):
        with emission.braces():
            sums = begin_sums(emission, [own[start:end] for own in biases])
            for source, own in zip(sources, weights, strict=True):
                add_products(emission, sums, [part[start:end] for part in own], source)
            _emit_memory(emission, sums, start)
    emission.line(f"copy({emission.at(node.next_memory)}, c, {units});")
    if node.projection is None:
        emission.line(f"copy({emission.at(node.next)}, h, {units});")
    else:
        _emit_projection(emission, node, node.projection, units)


def _emit_memory(emission: Emission, sums: list[list[str]], start: int) -> None:
    for k, (i, f, g, o) in enumerate(zip(*sums, strict=True)):
        place, memory = start + k * emission.lanes, emission.fresh("m")
        kept = f"sigmoidv({f}) * get(c + {place})"
        emission.line(f"const V {memory} = {kept} + sigmoidv({i}) * tanhv({g});")
        emission.line(f"put(c + {place}, {memory});")
        emission.line(f"put(h + {place}, sigmoidv({o}) * tanhv({memory}));")


def _emit_projection(emission: Emission, node: Lstm, projection: str, units: int) -> None:
    weight, most = emission.tensors[projection], emission.sums * emission.lanes
    for start in range(0, len(weight), most):
        part = weight[start : start + most]
        with emission.braces():
            sums = begin_sums(emission, [np.zeros(len(part))])
            add_products(emission, sums, [part], Source("h", units))
            emission.store(f"{emission.at(node.next)} + {start}", sums[0], len(part))
