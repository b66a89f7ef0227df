"""The closed-form continuous-time cell.

    [3] Hasani, Lechner, Amini, Liebenwein, Ray, Tschaikowski, Teschl, Rus: Closed-form continuous-time neural networks,
        Nature Machine Intelligence 4, 992-1003, 2022, arXiv:2106.13898.

    x  state      I  input      t  timespan      f, g, h  the three heads on the backbone      B, A  bias vectors

[3] the gated solution, "CfC" (mode "default"):
        x(t) = sigmoid(-f(x, I) t) g(x, I) + [1 - sigmoid(-f(x, I) t)] h(x, I)
[3] the direct solution, "Cf-S" (mode "pure"):
        x(t) = B exp(-[w_tau + f(x, I)] t) f(-x, -I) + A
[3] without the second gate, "CfC-noGate" (mode "no_gate"):
        x(t) = g(x, I) + sigmoid(.) h(x, I)

Where ncps departs from [3]:
- The gate is sigmoid(time_a t + time_b): two heads instead of one, so the gate has an offset of its own, and no minus
  sign. It multiplies ff2, so ff1 plays g and ff2 plays h with the sign absorbed by the weights.
- "pure" uses -A for B, |w_tau| and |ff1| in the exponent, and ff1 itself for f(-x, -I).
- Wired cells mask ff1 and ff2 only; time_a and time_b stay dense, as in ncps.
- "lecun_tanh" is 1.7159 tanh(0.666 x), with 0.666 and not 2/3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from ..arrays import Array
from .functions import gelu, sigmoid, silu

__all__ = ["ACTIVATIONS", "LECUN_IN", "LECUN_OUT", "Activation", "CfcCell", "CfcLayer", "Linear", "required"]

Activation = Literal["lecun_tanh", "relu", "tanh", "silu", "gelu"]
Linear = tuple[Array, Array]  # weight (out, in) as torch stores it, bias (out,)

_T = TypeVar("_T")

LECUN_OUT, LECUN_IN = 1.7159, 0.666

ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "lecun_tanh": lambda x: LECUN_OUT * np.tanh(LECUN_IN * x),
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "silu": silu,
    "gelu": gelu,
}


@dataclass(frozen=True)
class CfcLayer:
    """One CfC cell of ncps: a backbone and its heads, float64.

    Args:
        mode: "default", "pure" or "no_gate".
        activation: Name of the backbone's activation.
        backbone: Linear layers, each followed by the activation; empty for none.
        ff1: Head, (weight, bias); in wired cells the weight is already masked.
        ff2, time_a, time_b: The other heads; `None` in mode "pure".
        w_tau, a: Only in mode "pure", (units,).
    """

    mode: Literal["default", "pure", "no_gate"]
    activation: Activation
    backbone: tuple[Linear, ...]
    ff1: Linear
    ff2: Linear | None = None
    time_a: Linear | None = None
    time_b: Linear | None = None
    w_tau: Array | None = None
    a: Array | None = None

    @property
    def units(self) -> int:
        """Number of neurons."""
        return len(self.ff1[1])

    @property
    def inputs(self) -> int:
        """Number of inputs, the layer's own state not among them."""
        first = self.backbone[0] if self.backbone else self.ff1
        return int(first[0].shape[1]) - self.units

    def step(self, x: Array, state: Array, timespan: Array | float) -> Array:
        """Next state (batch, units) from input (batch, inputs), state (batch, units) and timespan."""
        z = np.concatenate([x, state], axis=1)
        for layer in self.backbone:
            z = ACTIVATIONS[self.activation](_linear(z, layer))
        ff1 = _linear(z, self.ff1)
        if self.mode == "pure":
            return self._direct(ff1, timespan)
        g, h = np.tanh(ff1), np.tanh(_linear(z, required(self.ff2)))
        gate = sigmoid(_linear(z, required(self.time_a)) * timespan + _linear(z, required(self.time_b)))
        if self.mode == "no_gate":
            ungated: Array = g + gate * h
            return ungated
        gated: Array = g * (1.0 - gate) + gate * h
        return gated

    def _direct(self, ff1: Array, timespan: Array | float) -> Array:
        a = required(self.a)
        decay: Array = np.exp(-timespan * (np.abs(required(self.w_tau)) + np.abs(ff1)))
        return -a * decay * ff1 + a


@dataclass(frozen=True)
class CfcCell:
    """One CfC layer, or the chain of layers of a wired CfC: the state is their states in order, the output the last."""

    layers: tuple[CfcLayer, ...]

    @property
    def inputs(self) -> int:
        """Number of input features."""
        return self.layers[0].inputs

    @property
    def units(self) -> int:
        """Number of neurons, the length of the state."""
        return sum(layer.units for layer in self.layers)

    @property
    def outputs(self) -> int:
        """Number of outputs: the neurons of the last layer."""
        return self.layers[-1].units

    def step(self, x: Array, state: Array, timespan: Array | float) -> tuple[Array, Array]:
        """Advance by one sample; see `LtcCell.step`."""
        states, taken = [], 0
        for layer in self.layers:
            x = layer.step(x, state[:, taken : taken + layer.units], timespan)
            states.append(x)
            taken += layer.units
        return x, states[0] if len(states) == 1 else np.concatenate(states, axis=1)


def required(part: _T | None) -> _T:
    """A part that the layer's mode always has."""
    if part is None:
        raise TypeError("a CfC layer lacks a part that its mode needs: 'pure' has w_tau and a, the others three heads")
    return part


def _linear(x: Array, layer: Linear) -> Array:
    weight, bias = layer
    result: Array = x @ weight.T + bias
    return result
