"""The CfC step as a graph (equations: `lnn_edge.reference.cfc`).

The heads that share an activation are one matrix product; a fixed timespan turns the two time heads into one, with
weight time_a * timespan + time_b; the constants of lecun_tanh and gelu go into the weights around them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..reference import CfcCell, CfcLayer
from ..reference.cfc import LECUN_IN, LECUN_OUT, Linear, required
from .graph import GraphBuilder
from .steptime import StepTime

__all__ = ["lower_cfc"]

Array = npt.NDArray[Any]


def lower_cfc(graph: GraphBuilder, cell: CfcCell, x: str, state: str, time: StepTime) -> tuple[str, str]:
    """Add one step of the cell; arguments and returns as `lower_ltc`."""
    states = []
    for layer, own in zip(cell.layers, graph.split(state, [layer.units for layer in cell.layers]), strict=True):
        x = _lower_layer(graph, layer, x, own, time)
        states.append(x)
    return x, graph.concat(states)


def _lower_layer(graph: GraphBuilder, layer: CfcLayer, x: str, state: str, time: StepTime) -> str:
    features, pending = _backbone(graph, layer, graph.concat([x, state]))
    if layer.mode == "pure":
        return _pure(graph, layer, features, pending, time)
    return _gated(graph, layer, features, pending, time)


def _backbone(graph: GraphBuilder, layer: CfcLayer, z: str) -> tuple[str, float]:
    """The backbone's value and a factor that the next weights take over."""
    pending = 1.0
    for weight, bias in layer.backbone:
        z, pending = _activated(graph, layer.activation, z, weight.T * pending, bias)
    return z, pending


def _activated(graph: GraphBuilder, activation: str, z: str, weight: Array, bias: Array) -> tuple[str, float]:
    if activation == "lecun_tanh":
        return graph.node("Tanh", graph.linear(z, weight * LECUN_IN, bias * LECUN_IN)), LECUN_OUT
    value = graph.linear(z, weight, bias)
    if activation == "relu":
        return graph.node("Relu", value), 1.0
    if activation == "tanh":
        return graph.node("Tanh", value), 1.0
    if activation == "silu":
        return graph.node("Mul", value, graph.node("Sigmoid", value)), 1.0
    # gelu: x/2 (1 + erf(x / sqrt 2)); the half goes into the next weights
    inner = graph.node("Erf", graph.node("Mul", value, graph.constant(1.0 / np.sqrt(2.0))))
    return graph.node("Mul", value, graph.node("Add", inner, graph.constant(1.0))), 0.5


def _gated(graph: GraphBuilder, layer: CfcLayer, z: str, pending: float, time: StepTime) -> str:
    heads = graph.node("Tanh", _heads(graph, z, pending, layer.ff1, required(layer.ff2)))
    ff1, ff2 = graph.split(heads, [layer.units, layer.units])
    gate = graph.node("Sigmoid", _gate(graph, layer, z, pending, time))
    # default: ff1 (1 - gate) + gate ff2, written with one product less
    difference = ff2 if layer.mode == "no_gate" else graph.node("Sub", ff2, ff1)
    return graph.node("Add", ff1, graph.node("Mul", gate, difference))


def _gate(graph: GraphBuilder, layer: CfcLayer, z: str, pending: float, time: StepTime) -> str:
    """time_a timespan + time_b before the sigmoid."""
    time_a, time_b = required(layer.time_a), required(layer.time_b)
    (weight_a, bias_a), (weight_b, bias_b) = time_a, time_b
    if time.fixed is not None:
        folded = (weight_a * time.fixed + weight_b, bias_a * time.fixed + bias_b)
        return _heads(graph, z, pending, folded)
    slope, offset = graph.split(_heads(graph, z, pending, time_a, time_b), [layer.units, layer.units])
    return graph.node("Add", graph.node("Mul", slope, time.times(1.0)), offset)


def _pure(graph: GraphBuilder, layer: CfcLayer, z: str, pending: float, time: StepTime) -> str:
    """-A exp(-t (|w_tau| + |ff1|)) ff1 + A."""
    w_tau, a = required(layer.w_tau), required(layer.a)
    ff1 = _heads(graph, z, pending, layer.ff1)
    rate = graph.node("Add", graph.node("Abs", ff1), graph.constant(np.abs(w_tau)[None]))
    minus_t = graph.constant(-time.fixed) if time.fixed is not None else time.times(-1.0)
    decayed = graph.node("Mul", graph.node("Exp", graph.node("Mul", rate, minus_t)), ff1)
    scaled = graph.node("Mul", decayed, graph.constant(-a[None]))
    return graph.node("Add", scaled, graph.constant(a[None]))


def _heads(graph: GraphBuilder, z: str, pending: float, *heads: Linear) -> str:
    """Several heads as one matrix product."""
    weight = np.concatenate([weight.T for weight, _ in heads], axis=1) * pending
    return graph.linear(z, weight, np.concatenate([bias for _, bias in heads]))
