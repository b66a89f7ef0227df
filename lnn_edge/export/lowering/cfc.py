"""The CfC step as a graph (equations: `lnn_edge.reference.cfc`).

A fixed timespan turns the two time heads into one, with weight time_a * timespan + time_b; the constants of lecun_tanh
and gelu go into the weights around them.

At these sizes a small node costs more than its arithmetic: a microsecond is two small nodes or one Split, or 10 000
weights more in a matrix (measured with onnxruntime 1.32, x86-64, one thread, batch 1). So small layers trade the one
for the other, twice:

- The gated state ff1 (1 - gate) + ff2 gate is [ff1, ff2] * [1 - gate, gate], summed by a matrix product, with 1 - gate
  a head of its own, sigmoid(-a).
- In a chain of layers each takes the whole state, with weight 0 on what is not its own, so that nothing is split.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...arrays import Array
from ...reference import CfcCell, CfcLayer
from ...reference.cfc import LECUN_IN, LECUN_OUT, Linear, required
from ..graph.builder import GraphBuilder
from .step_time import StepTime

__all__ = ["lower_cfc"]


_MICROSECOND = 10_000  # in weights, see above


def lower_cfc(graph: GraphBuilder, cell: CfcCell, x: str, state: str, time: StepTime) -> tuple[str, str]:
    """Add one step of the cell; arguments and returns as `lower_ltc`."""
    states = []
    for k, (layer, own) in enumerate(_layers(graph, cell, state)):
        with graph.scope(f"layer_{k}" if len(cell.layers) > 1 else ""):
            x = _lower_layer(graph, layer, x, own, time)
        states.append(x)
    return x, graph.concat(states)


def _layers(graph: GraphBuilder, cell: CfcCell, state: str) -> list[tuple[CfcLayer, str]]:
    """Each layer with the value that holds its state: a piece of the cell's, or all of it."""
    units = [layer.units for layer in cell.layers]
    # Four heads per layer get zero weights for the states of all other layers; a Split spares them.
    if 4 * (cell.units**2 - sum(n**2 for n in units)) > _MICROSECOND:
        return list(zip(cell.layers, graph.split(state, units), strict=True))
    starts = np.cumsum(units) - units
    return [
        (_on_whole_state(layer, start, cell.units), state) for layer, start in zip(cell.layers, starts, strict=True)
    ]


def _on_whole_state(layer: CfcLayer, start: int, units: int) -> CfcLayer:
    """The layer as one that takes the state of the whole cell, where its own begins at `start`."""
    if layer.units == units:
        return layer

    def widened(head: Linear) -> Linear:
        weight = np.zeros((layer.units, layer.inputs + units))
        weight[:, : layer.inputs] = head[0][:, : layer.inputs]
        weight[:, layer.inputs + start :][:, : layer.units] = head[0][:, layer.inputs :]
        return weight, head[1]

    return replace(
        layer,
        ff1=widened(layer.ff1),
        ff2=layer.ff2 and widened(layer.ff2),
        time_a=layer.time_a and widened(layer.time_a),
        time_b=layer.time_b and widened(layer.time_b),
    )


@dataclass(frozen=True)
class _Features:
    """What the heads of a layer take: a value, and a factor that their weights take over.

    With measured time the gate's features end with dt itself, for its bias over time.
    """

    value: str
    pending: float
    timed: bool

    def linear(
        self, graph: GraphBuilder, role: str, *heads: Linear, per_dt: Array | None = None, addend: str | None = None
    ) -> str:
        """Several heads as one matrix product; `per_dt` is the weight of dt, the addend takes the place of the bias."""
        weight = np.concatenate([weight.T for weight, _ in heads], axis=1) * self.pending
        bias = np.concatenate([bias for _, bias in heads])
        if self.timed:
            weight = np.vstack([weight, np.zeros_like(bias) if per_dt is None else per_dt])
        return graph.linear(self.value, weight, bias if addend is None else addend, role)


def _lower_layer(graph: GraphBuilder, layer: CfcLayer, x: str, state: str, time: StepTime) -> str:
    timed = time.fixed is None and layer.mode != "pure"
    # dt joins behind the backbone: it is no feature of the layer, it only carries the bias that the gate scales by it.
    parts, pending = [x, state], 1.0
    if layer.backbone:
        z, pending = _backbone(graph, layer, graph.concat(parts))
        parts = [z]
    features = _Features(graph.concat([*parts, time.unit[0]] if timed else parts), pending, timed)
    return (_pure if layer.mode == "pure" else _gated)(graph, layer, features, time)


def _backbone(graph: GraphBuilder, layer: CfcLayer, z: str) -> tuple[str, float]:
    """The backbone's value and a factor that the next weights take over."""
    pending = 1.0
    for k, (weight, bias) in enumerate(layer.backbone):
        z, pending = _activated(graph, layer.activation, z, weight.T * pending, bias, f"backbone_{k}")
    return z, pending


def _activated(
    graph: GraphBuilder, activation: str, z: str, weight: Array, bias: Array, role: str
) -> tuple[str, float]:
    if activation == "lecun_tanh":
        return graph.node("Tanh", graph.linear(z, weight * LECUN_IN, bias * LECUN_IN, role)), LECUN_OUT
    value = graph.linear(z, weight, bias, role)
    if activation == "relu":
        return graph.node("Relu", value), 1.0
    if activation == "tanh":
        return graph.node("Tanh", value), 1.0
    if activation == "silu":
        return graph.node("Mul", value, graph.node("Sigmoid", value)), 1.0
    # gelu: x/2 (1 + erf(x / sqrt 2)); the half goes into the next weights
    inner = graph.node("Erf", graph.node("Mul", value, graph.constant(1.0 / np.sqrt(2.0))))
    return graph.node("Mul", value, graph.node("Add", inner, graph.constant(1.0))), 0.5


def _gated(graph: GraphBuilder, layer: CfcLayer, z: _Features, time: StepTime) -> str:
    ff1, ff2, units = layer.ff1, required(layer.ff2), layer.units
    time_a, time_b = required(layer.time_a), required(layer.time_b)
    # What the form with fewer nodes multiplies in addition: the gate's head again with the other sign (both parts of it
    # with measured time), and the matrix of ones that sums the two halves.
    weights_more = time_b[0].size * (2 if z.timed else 1) + 2 * units**2
    if layer.mode == "default" and weights_more < _MICROSECOND:
        # One product and one Tanh for both candidates, which stay side by side: a Split of them would be a node more.
        heads = graph.node("Tanh", z.linear(graph, "ff1_ff2", ff1, ff2))
        gates = graph.node("Sigmoid", _gate(graph, z, _both_signs(time_a), _both_signs(time_b), time))
        return graph.linear(graph.node("Mul", heads, gates), np.tile(np.eye(units), (2, 1)), role="sum")
    g, h = (graph.node("Tanh", z.linear(graph, role, head)) for role, head in (("ff1", ff1), ("ff2", ff2)))
    gate = graph.node("Sigmoid", _gate(graph, z, time_a, time_b, time))
    # default: g (1 - gate) + gate h, written with one product less
    difference = h if layer.mode == "no_gate" else graph.node("Sub", h, g)
    return graph.node("Add", g, graph.node("Mul", gate, difference))


def _both_signs(head: Linear) -> Linear:
    weight, bias = head
    return np.concatenate([-weight, weight]), np.concatenate([-bias, bias])


def _gate(graph: GraphBuilder, z: _Features, time_a: Linear, time_b: Linear, time: StepTime) -> str:
    """time_a timespan + time_b before the sigmoid: with measured time (dt z) A' + z B' + dt a' + b'."""
    (weight_a, bias_a), (weight_b, bias_b) = time_a, time_b
    if time.fixed is not None:
        return z.linear(graph, "gate", (weight_a * time.fixed + weight_b, bias_a * time.fixed + bias_b))
    # Two products, the second with the first as its addend. Both heads in one product, then Split, Mul and Add, took a
    # node more. The bias of time_a, which dt multiplies as well, is the weight of the column that holds dt.
    dt, scale = time.unit
    over_time = replace(z, value=graph.node("Mul", z.value, dt)).linear(graph, "time_a", (weight_a * scale, bias_b))
    return z.linear(graph, "time_b", time_b, per_dt=bias_a * scale, addend=over_time)


def _pure(graph: GraphBuilder, layer: CfcLayer, z: _Features, time: StepTime) -> str:
    """-A exp(-t (|w_tau| + |ff1|)) ff1 + A."""
    w_tau, a = required(layer.w_tau), required(layer.a)
    ff1 = z.linear(graph, "ff1", layer.ff1)
    rate = graph.node("Add", graph.node("Abs", ff1), graph.row(np.abs(w_tau), "w_tau"))
    minus_t = graph.constant(-time.fixed) if time.fixed is not None else time.times(-1.0)
    decayed = graph.node("Mul", graph.node("Exp", graph.node("Mul", rate, minus_t)), ff1)
    return graph.node("Add", graph.node("Mul", decayed, graph.row(-a, "minus_a")), graph.row(a, "a"))
