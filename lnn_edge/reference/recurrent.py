"""torch's own recurrent layers: what people put beside liquid cores.

    [5] Hochreiter, Schmidhuber: Long Short-Term Memory, Neural Computation 9, 1997; with the forget gate of
        Gers, Schmidhuber, Cummins 2000, and with `proj_size` the projection of Sak, Senior, Beaufays 2014,
        arXiv:1402.1128.
    [6] Cho, van Merrienboer, Gulcehre, Bahdanau, Bougares, Schwenk, Bengio: Learning Phrase Representations using RNN
        Encoder-Decoder for Statistical Machine Translation, 2014, arXiv:1406.1078.
    [7] Elman: Finding Structure in Time, Cognitive Science 14, 1990.

    x  input      h  hidden state      c  memory
    r, z, n     reset gate, update gate, new state
    i, f, g, o  input gate, forget gate, candidate, output gate

Where torch departs from [6], as its documentation says: the reset gate multiplies U h + b_hn, not the h inside that
product. The gates of torch's stacked weights lie in the order (r, z, n) for the GRU and (i, f, g, o) for the LSTM.

Layers on top of one another each take the h of the one below. Dropout between them does nothing in eval mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..arrays import Array
from .functions import sigmoid

__all__ = ["GruLayer", "LstmLayer", "RnnLayer"]

_State = dict[str, Array]

_NONLINEARITIES: dict[str, Callable[[Array], Array]] = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0.0)}


@dataclass(frozen=True)
class _Layer:
    """Stacked weights as torch stores them, float64.

    Args:
        w_input: (gates * units, inputs).
        w_recurrent: (gates * units, width of h).
        b_input, b_recurrent: (gates * units,); zeros with `bias=False`.
    """

    w_input: Array
    w_recurrent: Array
    b_input: Array
    b_recurrent: Array

    @property
    def inputs(self) -> int:
        """Number of inputs, the layer's own state not among them."""
        return int(self.w_input.shape[1])


@dataclass(frozen=True)
class GruLayer(_Layer):
    """One layer of `torch.nn.GRU`."""

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.b_input) // 3

    @property
    def state_widths(self) -> dict[str, int]:
        """Width of each state by name."""
        return {"h": self.units}

    def step(self, x: Array, state: _State) -> _State:
        """Next state, by name (batch, width), from input (batch, inputs) and state."""
        h = state["h"]
        from_x = _gates(x @ self.w_input.T + self.b_input, 3)
        from_h = _gates(h @ self.w_recurrent.T + self.b_recurrent, 3)
        r, z = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
        n = np.tanh(from_x[2] + r * from_h[2])
        return {"h": (1.0 - z) * n + z * h}


@dataclass(frozen=True)
class LstmLayer(_Layer):
    """One layer of `torch.nn.LSTM`.

    Args:
        projection: With `proj_size`, (proj_size, units): h is this times the gated memory. Else `None`.
    """

    projection: Array | None = None

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.b_input) // 4

    @property
    def state_widths(self) -> dict[str, int]:
        """Width of each state by name; a projected h is narrower than c."""
        return {"h": self.units if self.projection is None else len(self.projection), "c": self.units}

    def step(self, x: Array, state: _State) -> _State:
        """As `GruLayer.step`."""
        z = x @ self.w_input.T + self.b_input + state["h"] @ self.w_recurrent.T + self.b_recurrent
        i, f, g, o = _gates(z, 4)
        c = sigmoid(f) * state["c"] + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return {"h": h if self.projection is None else h @ self.projection.T, "c": c}


@dataclass(frozen=True)
class RnnLayer(_Layer):
    """One layer of `torch.nn.RNN`."""

    nonlinearity: Literal["tanh", "relu"] = "tanh"

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.b_input)

    @property
    def state_widths(self) -> dict[str, int]:
        """Width of each state by name."""
        return {"h": self.units}

    def step(self, x: Array, state: _State) -> _State:
        """As `GruLayer.step`."""
        z = x @ self.w_input.T + self.b_input + state["h"] @ self.w_recurrent.T + self.b_recurrent
        return {"h": _NONLINEARITIES[self.nonlinearity](z)}


def _gates(stacked: Array, count: int) -> Array:
    """The gates of (batch, gates * units), (gates, batch, units): a view, which takes `np.split` far longer."""
    gates: Array = stacked.reshape(len(stacked), count, -1).swapaxes(0, 1)
    return gates
