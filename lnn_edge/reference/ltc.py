"""The liquid time-constant cell.

    [1] Hasani, Lechner, Amini, Rus, Grosu: Liquid Time-constant Networks, AAAI 2021, arXiv:2006.04439.
    [2] Lechner, Hasani, Amini, Henzinger, Rus, Grosu: Neural circuit policies enabling auditable autonomy,
        Nature Machine Intelligence 2, 2020.

    x  state (membrane potentials)     tau  membrane time constant, Cm / g_leak
    I  input                           A    reversal potential, E
    f  synaptic conductance            dt   solver step: the timespan divided by the number of unfolds

[1] Eq. 1:  dx/dt = -[1/tau + f(x, I)] x + f(x, I) A
[1] Eq. 3:  x(t + dt) = (x(t) + dt f A) / (1 + dt (1/tau + f)), the fused semi-implicit step, repeated per unfold.

Where ncps departs from [1]:
- f is not one dense layer but a sum of synapses, the conductance-based model of [2]:
  f_j = sum_i w_ij sigmoid(sigma_ij (x_i - mu_ij)), each synapse with a reversal potential of its own, E_ij.
- Eq. 3 is multiplied by Cm/dt, so a capacitance Cm, a leak conductance g_leak and its potential v_leak appear one by
  one, and the leak pulls towards v_leak instead of 0.
- The denominator gets `epsilon` added, against division by zero.
- The synapses from the inputs are evaluated once per sample, not once per unfold: the input is held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from .functions import sigmoid, softplus

__all__ = ["LtcCell"]


@dataclass(frozen=True)
class LtcCell:
    """An LTC cell with the tensors that ncps registers, as float64 arrays.

    Args:
        gleak, vleak, cm: Leak conductance, leak potential, capacitance; (units,).
        w, mu, sigma, erev, mask: Synapses between neurons, [source, target]; (units, units).
        sensory_w, sensory_mu, sensory_sigma, sensory_erev, sensory_mask: Synapses from inputs; (inputs, units).
        input_w, input_b: Input mapping, (inputs,), or `None` where the mapping has no such term.
        output_w, output_b: Output mapping, (motor,), or `None`.
        motor: Number of motor neurons; the first `motor` of the state are the output.
        unfolds: Solver steps per sample.
        epsilon: Added to the denominator.
        implicit: Whether w, sensory_w, cm and gleak go through softplus before use.
    """

    gleak: Array
    vleak: Array
    cm: Array
    w: Array
    mu: Array
    sigma: Array
    erev: Array
    mask: Array
    sensory_w: Array
    sensory_mu: Array
    sensory_sigma: Array
    sensory_erev: Array
    sensory_mask: Array
    input_w: Array | None
    input_b: Array | None
    output_w: Array | None
    output_b: Array | None
    motor: int
    unfolds: int
    epsilon: float
    implicit: bool

    @property
    def inputs(self) -> int:
        """Number of input features."""
        return len(self.sensory_w)

    @property
    def units(self) -> int:
        """Number of neurons, the length of the state."""
        return len(self.cm)

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.motor

    def positive(self, parameter: Array) -> Array:
        """A conductance or capacitance as the solver uses it."""
        return softplus(parameter) if self.implicit else parameter

    def step(self, x: Array, state: Array, timespan: Array | float) -> tuple[Array, Array]:
        """Advance by one sample.

        Args:
            x: Input, (batch, inputs).
            state: Membrane potentials, (batch, units).
            timespan: Time since the previous sample in the unit of training, > 0; a number or (batch, 1).

        Returns:
            Output (batch, motor) and next state (batch, units).
        """
        sensed = self._mapped(x, self.input_w, self.input_b)
        sensory_current, sensory_conductance = _synapses(
            sensed, self.positive(self.sensory_w) * self.sensory_mask, self.sensory_mu, self.sensory_sigma,
            self.sensory_erev,
        )  # fmt: skip
        gleak = self.positive(self.gleak)
        cm_dt = self.positive(self.cm) / (np.asarray(timespan, np.float64) / self.unfolds)
        w = self.positive(self.w) * self.mask
        v = state
        for _ in range(self.unfolds):
            current, conductance = _synapses(v, w, self.mu, self.sigma, self.erev)
            # [1] Eq. 3, times Cm/dt
            numerator = cm_dt * v + gleak * self.vleak + current + sensory_current
            denominator = cm_dt + gleak + conductance + sensory_conductance
            v = numerator / (denominator + self.epsilon)
        return self._mapped(v[:, : self.motor], self.output_w, self.output_b), v

    @staticmethod
    def _mapped(x: Array, scale: Array | None, shift: Array | None) -> Array:
        scaled = x if scale is None else x * scale
        return scaled if shift is None else scaled + shift


def _synapses(pre: Array, w: Array, mu: Array, sigma: Array, erev: Array) -> tuple[Array, Array]:
    """Current w sigmoid(.) E and conductance w sigmoid(.) into each neuron, summed over sources; [2]."""
    conductance = w * sigmoid(sigma * (pre[:, :, None] - mu))
    return (conductance * erev).sum(axis=1), conductance.sum(axis=1)
