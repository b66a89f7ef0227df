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

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from ..arrays import Array

__all__ = ["AffineMap", "LtcCell", "Synapses"]


@dataclass(frozen=True)
class Synapses:
    """The synapses that exist, (synapses,) each: the others contribute exactly nothing.

    Args:
        source, target: Neurons by number, int.
        w, mu, sigma, erev: Conductance, threshold, slope and reversal potential E.
    """

    source: Array
    target: Array
    w: Array
    mu: Array
    sigma: Array
    erev: Array

    def sums(self, pre: Array, targets: int) -> tuple[Array, Array]:
        """Current w sigmoid(.) E and conductance w sigmoid(.) into each neuron, (batch, targets); [2]."""
        ordered, starts, reached = self._by_target
        half_weights, half_sigma = self._halves
        twice = 1.0 + np.tanh(half_sigma * (pre.take(ordered.source, axis=1) - ordered.mu))  # 2 sigmoid(.)
        if not len(starts):
            return np.zeros((len(pre), targets), twice.dtype), np.zeros((len(pre), targets), twice.dtype)
        sums = np.add.reduceat(half_weights * twice, starts, axis=2)
        if len(starts) < targets:  # those that no synapse reaches get 0
            some, sums = sums, np.zeros((2, len(pre), targets), twice.dtype)
            sums[:, :, reached] = some
        return sums[0], sums[1]

    @cached_property
    def _by_target(self) -> tuple[Synapses, Array, Array | slice]:
        """The synapses in the order of their targets, where each target's begin, and those targets."""
        order = np.argsort(self.target, kind="stable")
        ordered = Synapses(*(getattr(self, f.name)[order] for f in fields(self)))
        reached, starts = np.unique(ordered.target, return_index=True)
        return ordered, starts, _as_slice(reached)

    @cached_property
    def _halves(self) -> tuple[Array, Array]:
        """Half of w E and w of each synapse in that order, (2, 1, synapses), and half of sigma: halves are exact."""
        ordered = self._by_target[0]
        return 0.5 * np.stack([ordered.w * ordered.erev, ordered.w])[:, None], 0.5 * ordered.sigma


def _as_slice(places: Array) -> Array | slice:
    """Ascending places, as a slice where none between them is missing: NumPy puts values there in half the time."""
    whole = len(places) and places[-1] - places[0] == len(places) - 1
    return slice(int(places[0]), int(places[-1]) + 1) if whole else places


@dataclass(frozen=True)
class AffineMap:
    """x scale + shift, (width,) each; `None` where the map has no such term."""

    scale: Array | None = None
    shift: Array | None = None

    def __call__(self, x: Array) -> Array:
        """The map of values (batch, width)."""
        scaled = x if self.scale is None else x * self.scale
        return scaled if self.shift is None else scaled + self.shift


@dataclass(frozen=True)
class LtcCell:
    """An LTC cell with what ncps computes with, as float64 arrays.

    Conductances and capacitances are as the solver uses them: after softplus, if the cell has it, and after the mask.

    Args:
        cm, gleak, vleak: Capacitance, leak conductance, leak potential; (units,).
        sensory: Synapses from the inputs.
        synapses: Synapses between neurons.
        input_map, output_map: Maps of the inputs, and of the motor neurons.
        inputs: Number of input features.
        motor: Number of motor neurons; the first `motor` of the state are the output.
        unfolds: Solver steps per sample.
        epsilon: Added to the denominator.
    """

    cm: Array
    gleak: Array
    vleak: Array
    sensory: Synapses
    synapses: Synapses
    input_map: AffineMap
    output_map: AffineMap
    inputs: int
    motor: int
    unfolds: int
    epsilon: float

    @property
    def units(self) -> int:
        """Number of neurons, the length of the state."""
        return len(self.cm)

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.motor

    def step(self, x: Array, state: Array, timespan: Array | float) -> tuple[Array, Array]:
        """Advance by one sample.

        Args:
            x: Input, (batch, inputs).
            state: Membrane potentials, (batch, units).
            timespan: Time since the previous sample in the unit of training, > 0; a number or (batch, 1).

        Returns:
            Output (batch, motor) and next state (batch, units).
        """
        sensory_current, sensory_conductance = self.sensory.sums(self.input_map(x), self.units)
        cm_dt = self.cm / (np.asarray(timespan) / self.unfolds)
        held_current = self.gleak * self.vleak + sensory_current  # as long as the input is
        held_conductance = cm_dt + self.gleak + sensory_conductance + self.epsilon
        v = state
        for _ in range(self.unfolds):
            current, conductance = self.synapses.sums(v, self.units)
            v = (cm_dt * v + held_current + current) / (held_conductance + conductance)  # [1] Eq. 3, times Cm/dt
        return self.output_map(v[:, : self.motor]), v
