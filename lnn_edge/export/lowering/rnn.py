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

# Weights that cost as much as a small node: half a microsecond, see `lower_cfc`.
_NODE = 5_000


def _gated_memory(
    graph: GraphBuilder, z: str, c: str, candidate: Gate, input_gate: Gate, forget_gate: Gate, output_gate: Gate
) -> tuple[str, str]:
    """Add an LSTM: the gated memory o tanh(c') and the memory c' = f c + i g, each (batch, units).

    In a small layer f c + i g is [f, i] * [c, g], summed by a matrix product: one node less. In half precision the
    memory, which goes on over steps, is not summed by one.
    """
    units = len(candidate[1])
    g = graph.node("Tanh", graph.linear(z, *candidate))
    if 2 * units**2 < _NODE and not graph.half:
        both = np.concatenate([forget_gate[0], input_gate[0]], axis=1), np.concatenate([forget_gate[1], input_gate[1]])
        products = graph.node("Mul", _gate(graph, z, both), graph.concat([c, g]))
        memory = graph.linear(products, np.tile(np.eye(units), (2, 1)))
    else:
        forget, let_in = _gate(graph, z, forget_gate), _gate(graph, z, input_gate)
        with graph.exact():
            memory = graph.node("Add", graph.node("Mul", forget, c), graph.node("Mul", let_in, g))
    return graph.node("Mul", _gate(graph, z, output_gate), graph.node("Tanh", memory)), memory


def _gate(graph: GraphBuilder, z: str, gate: Gate) -> str:
    return graph.node("Sigmoid", graph.linear(z, *gate))


def lower_layer(
    graph: GraphBuilder, layer: GruLayer | LstmLayer | RnnLayer, rows: int, x: str, h: str, c: str = ""
) -> tuple[str, ...]:
    """Add one step of a layer for a number of rows.

    Args:
        graph: Where to.
        layer: The layer.
        rows: Rows per step.
        x: Input value, (rows, inputs).
        h: State value, (rows, width).
        c: Value of the memory in an LSTM, (rows, units).

    Returns:
        Values of the next h, and of the next c in an LSTM.
    """
    if isinstance(layer, GruLayer):
        return (_lower_gru(graph, layer, rows, x, h),)
    joined = graph.concat([x, h])
    if isinstance(layer, LstmLayer):
        return _lower_lstm(graph, layer, joined, c)
    nonlinearity = {"tanh": "Tanh", "relu": "Relu"}[layer.nonlinearity]
    return (graph.node(nonlinearity, graph.linear(joined, *_block(layer, 0))),)


def _lower_gru(graph: GraphBuilder, layer: GruLayer, rows: int, x: str, h: str) -> str:
    """n + z (h - n), with n = tanh(W x + b_in + r (U h + b_hn)).

    The Gemm of n has r (U h + b_hn) as its addend and no place left for b_in. In a small layer b_in is the weight of a
    constant 1 joined to input and state, in a large one it is added.
    """
    new = slice(2 * layer.units, None)
    joined = [x, h]
    (w_r, b_r), (w_z, b_z), w_n, b_n = _block(layer, 0), _block(layer, 1), layer.w_input[new].T, layer.b_input[new]
    with_one = bool(np.any(b_n)) and layer.units**2 < _NODE
    if with_one:
        joined.append(graph.constant(np.ones((rows, 1))))
        w_r, w_z = (np.vstack([weight, np.zeros_like(b_n)]) for weight in (w_r, w_z))
        w_n = np.vstack([w_n, np.zeros((layer.units, layer.units)), b_n])
    z = graph.concat(joined)
    remembered = graph.linear(h, layer.w_recurrent[new].T, layer.b_recurrent[new])
    let_in = graph.node("Mul", _gate(graph, z, (w_r, b_r)), remembered)
    if np.any(b_n) and not with_one:
        let_in = graph.node("Add", let_in, graph.row(b_n))
    n = graph.node("Tanh", graph.linear(z if with_one else x, w_n, let_in))
    gate = _gate(graph, z, (w_z, b_z))
    with graph.exact():
        return graph.node("Add", n, graph.node("Mul", gate, graph.node("Sub", h, n)))


def _lower_lstm(graph: GraphBuilder, layer: LstmLayer, joined: str, c: str) -> tuple[str, str]:
    i, f, g, o = (_block(layer, k) for k in range(4))
    h, memory = _gated_memory(graph, joined, c, candidate=g, input_gate=i, forget_gate=f, output_gate=o)
    return (h if layer.projection is None else graph.linear(h, layer.projection.T)), memory


def _block(layer: GruLayer | LstmLayer | RnnLayer, k: int) -> Gate:
    """The k-th block of the stacked weights, for input and h together, and the sum of its two biases."""
    rows = slice(k * layer.units, (k + 1) * layer.units)
    weight = np.concatenate([layer.w_input[rows], layer.w_recurrent[rows]], axis=1).T
    return weight, (layer.b_input + layer.b_recurrent)[rows]
