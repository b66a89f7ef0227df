"""torch's GRU as C: n + z (h - n), with n = tanh(W x + b_in + r (U h + b_hn))."""

from __future__ import annotations

import numpy as np

from ...bundle.step_cores import Gru
from ..dense import Source, add_products, begin_sums, groups_of_units
from ..emission import Emission

__all__ = ["emit_gru"]


def emit_gru(emission: Emission, node: Gru) -> None:
    """Write one sample."""
    w_input, w_recurrent, b_input, b_recurrent = (
        np.split(emission.tensors[name], 3) for name in (node.w_input, node.w_recurrent, node.b_input, node.b_recurrent)
    )
    units, h, made = emission.size(node.next), emission.at(node.state), emission.at(node.next)
    x = Source(emission.at(node.input), emission.size(node.input))
    for start, end in groups_of_units(emission, units, 4):
        part = slice(start, end)
        both = [(b_input[k] + b_recurrent[k])[part] for k in (0, 1)]
        with emission.braces():
            r, z, new, old = begin_sums(emission, [*both, b_input[2][part], b_recurrent[2][part]])
            add_products(emission, [r, z, new], [own[part] for own in w_input], x)
            add_products(emission, [r, z, old], [own[part] for own in w_recurrent], Source(h, units))
            emission.line(f"float before[{emission.padded(end - start)}] = {{0.0f}};")
            emission.line(f"copy(before, {h} + {start}, {end - start});")
            results = []
            for k, name in enumerate(new):
                n = emission.fresh("n")
                emission.line(f"const V {n} = tanhv({name} + sigmoidv({r[k]}) * {old[k]});")
                results.append(f"({n} + sigmoidv({z[k]}) * (get(before + {k * emission.lanes}) - {n}))")
            emission.store(f"{made} + {start}", results, end - start)
