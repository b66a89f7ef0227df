"""The memory cell that ncps puts before a core with `mixed_memory=True`.

    [4] Lechner, Hasani: Learning Long-Term Dependencies in Irregularly-Sampled Time Series, 2020, arXiv:2006.04418.
    [5] Hochreiter, Schmidhuber: Long Short-Term Memory, Neural Computation 9, 1997; with the forget gate of
        Gers, Schmidhuber, Cummins 2000.

It runs before the core: its output goes into the core as state, and the core's new state comes back as its own h. In
ncps the gates lie in the order (candidate, input, forget, output) and 1 is added to the forget gate's argument.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from .functions import sigmoid

__all__ = ["LstmCell"]


@dataclass(frozen=True)
class LstmCell:
    """The LSTM cell of ncps, float64.

    Args:
        w_input: Input weights, (4 * units, inputs).
        b_input: Bias, (4 * units,); the recurrent map has none.
        w_recurrent: Recurrent weights, (4 * units, units).
    """

    w_input: Array
    b_input: Array
    w_recurrent: Array

    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """Next h and c, each (batch, units)."""
        z = x @ self.w_input.T + self.b_input + h @ self.w_recurrent.T
        candidate, input_gate, forget_gate, output_gate = np.split(z, 4, axis=1)
        c = c * sigmoid(forget_gate + 1.0) + np.tanh(candidate) * sigmoid(input_gate)
        return np.tanh(c) * sigmoid(output_gate), c
