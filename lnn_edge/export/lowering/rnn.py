"""torch's recurrent layers as a graph (equations: `lnn_edge.reference.recurrent`).

Not the ONNX operators GRU and LSTM, which TensorRT runs as loops. One step needs no loop, and as plain operators
everything folds: the two biases of a gate become one, input and state are joined once for all gates, and onnxruntime
takes a Gemm and the activation behind it as one node. A gate is a Gemm of its own, so that nothing is split.
"""

from __future__ import annotations

import numpy as np

from ...arrays import Array
from ...reference import GruLayer, LstmLayer, RnnLayer
from ..graph.builder import GraphBuilder

__all__ = ["lower_layer"]

Gate = tuple[Array, Array]  # weight (in, units) on [input, h] and bias (units,)


def _gated_memory(
    graph: GraphBuilder, z: str, c: str, candidate: Gate, input_gate: Gate, forget_gate: Gate, output_gate: Gate
) -> tuple[str, str]:
    """Add an LSTM: the gated memory o tanh(c') and the memory c' = f c + i g, each (batch, units).

    Written as it is, though in a small layer [f, i] * [c, g], summed by a matrix product, takes a node less: a
    converter was seen to make another number of that.
    """
    g = graph.node("Tanh", graph.linear(z, *candidate, role="candidate"))
    forget, let_in = _gate(graph, z, forget_gate, "forget_gate"), _gate(graph, z, input_gate, "input_gate")
    with graph.exact():
        memory = graph.node("Add", graph.node("Mul", forget, c), graph.node("Mul", let_in, g))
    return graph.node("Mul", _gate(graph, z, output_gate, "output_gate"), graph.node("Tanh", memory)), memory


def _gate(graph: GraphBuilder, z: str, gate: Gate, role: str) -> str:
    return graph.node("Sigmoid", graph.linear(z, *gate, role=role))


def lower_layer(
    graph: GraphBuilder, layer: GruLayer | LstmLayer | RnnLayer, x: str, h: str, c: str = ""
) -> tuple[str, ...]:
    """Add one step of a layer.

    Args:
        graph: Where to.
        layer: The layer.
        x: Input value, (rows, inputs).
        h: State value, (rows, width).
        c: Value of the memory in an LSTM, (rows, units).

    Returns:
        Values of the next h, and of the next c in an LSTM.
    """
    if isinstance(layer, GruLayer):
        return (_lower_gru(graph, layer, x, h),)
    joined = graph.concat([x, h])
    if isinstance(layer, LstmLayer):
        return _lower_lstm(graph, layer, joined, c)
    nonlinearity = {"tanh": "Tanh", "relu": "Relu"}[layer.nonlinearity]
    return (graph.node(nonlinearity, graph.linear(joined, *_stacked_gate(layer, 0), role="layer")),)


def _lower_gru(graph: GraphBuilder, layer: GruLayer, x: str, h: str) -> str:
    """n + z (h - n), with n = tanh(W x + b_in + r (U h + b_hn))."""
    new = slice(2 * layer.units, None)
    z = graph.concat([x, h])
    remembered = graph.linear(h, layer.w_recurrent[new].T, layer.b_recurrent[new], role="remembered")
    let_in = graph.node("Mul", _gate(graph, z, _stacked_gate(layer, 0), "reset_gate"), remembered)
    w_n, b_n = layer.w_input[new].T, layer.b_input[new]
    if np.any(b_n):
        new_state = graph.node("Add", graph.linear(x, w_n, b_n, role="new"), let_in)
    else:
        new_state = graph.linear(x, w_n, let_in, role="new")
    n = graph.node("Tanh", new_state)
    gate = _gate(graph, z, _stacked_gate(layer, 1), "update_gate")
    with graph.exact():
        return graph.node("Add", n, graph.node("Mul", gate, graph.node("Sub", h, n)))


def _lower_lstm(graph: GraphBuilder, layer: LstmLayer, joined: str, c: str) -> tuple[str, str]:
    i, f, g, o = (_stacked_gate(layer, k) for k in range(4))
    h, memory = _gated_memory(graph, joined, c, candidate=g, input_gate=i, forget_gate=f, output_gate=o)
    return (h if layer.projection is None else graph.linear(h, layer.projection.T, role="projection")), memory


def _stacked_gate(layer: GruLayer | LstmLayer | RnnLayer, k: int) -> Gate:
    """The k-th gate of the stacked weights, for input and h together, and the sum of its two biases."""
    rows = slice(k * layer.units, (k + 1) * layer.units)
    weight = np.concatenate([layer.w_input[rows], layer.w_recurrent[rows]], axis=1).T
    return weight, (layer.b_input + layer.b_recurrent)[rows]
