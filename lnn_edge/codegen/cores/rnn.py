"""torch's RNN as C: tanh or relu of W x + U h + b."""

from __future__ import annotations

from ...bundle.step_cores import Rnn
from ..dense import Source, add_products, begin_sums
from ..emission import Emission

__all__ = ["emit_rnn"]


def emit_rnn(emission: Emission, node: Rnn) -> None:
    """Write one sample."""
    tensors, function = emission.tensors, {"tanh": "tanhv", "relu": "reluv"}[node.nonlinearity]
    bias, most = tensors[node.b_input] + tensors[node.b_recurrent], emission.sums * emission.lanes
    pairs = ((node.input, node.w_input), (node.state, node.w_recurrent))
    for start in range(0, len(bias), most):
        part = slice(start, start + most)
        with emission.braces():
            sums = begin_sums(emission, [bias[part]])
            for given, weight in pairs:
                add_products(emission, sums, [tensors[weight][part]], Source(emission.at(given), emission.size(given)))
            made = [f"{function}({name})" for name in sums[0]]
            emission.store(f"{emission.at(node.next)} + {start}", made, len(bias[part]))
