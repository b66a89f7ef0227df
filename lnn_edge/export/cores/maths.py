"""Maths of cores, read from modules: a liquid core with what ncps puts around it, or torch's recurrent layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ...reference import CfcCell, GruLayer, LstmLayer, LtcCell, RnnLayer
from ...reference.cfc import Linear

__all__ = ["CoreMaths", "LiquidCore", "RecurrentCore"]


class CoreMaths(Protocol):
    """What every core of a network is: something with states that one sample advances."""

    @property
    def outputs(self) -> int:
        """Number of outputs."""

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states, in order."""

    @property
    def state_widths(self) -> tuple[int, ...]:
        """Width of each state, in the order of the names; each is (batch, width)."""


@dataclass(frozen=True)
class LiquidCore:
    """What an ncps `LTC` or `CfC` module computes for one sample, float64.

    With `mixed_memory=True` a memory cell runs first (Lechner, Hasani: Learning Long-Term Dependencies in
    Irregularly-Sampled Time Series, 2020, arXiv:2006.04418): its output goes into the cell as state, and the cell's new
    state comes back as the memory cell's own h.

    Args:
        cell: The cell.
        memory: The memory cell, else `None`.
        projection: Linear layer after the output (`proj_size`), else `None`.
    """

    cell: LtcCell | CfcCell
    memory: LstmLayer | None = None
    projection: Linear | None = None

    @property
    def inputs(self) -> int:
        """Number of input features."""
        return self.cell.inputs

    @property
    def outputs(self) -> int:
        """Number of outputs, after the projection."""
        return self.cell.outputs if self.projection is None else len(self.projection[1])

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states, each (batch, units): h, and c with mixed memory."""
        return ("h",) if self.memory is None else ("h", "c")

    @property
    def state_widths(self) -> tuple[int, ...]:
        """Width of each state, in the order of the names: the units of the cell."""
        return (self.cell.units,) * len(self.state_names)


@dataclass(frozen=True)
class RecurrentCore:
    """What a `torch.nn.GRU`, `LSTM` or `RNN` computes for one sample, float64.

    Each layer keeps states of its own: "h" (and "c") for one layer, "h_l0", "h_l1", ... for several, as
    torch numbers its weights; all h before all c.
    """

    layers: tuple[GruLayer | LstmLayer | RnnLayer, ...]

    @property
    def inputs(self) -> int:
        """Number of input features."""
        return self.layers[0].inputs

    @property
    def units(self) -> int:
        """Number of units in all layers."""
        return sum(layer.units for layer in self.layers)

    @property
    def outputs(self) -> int:
        """Number of outputs: the width of the last layer's h."""
        return self.layers[-1].state_widths["h"]

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states."""
        return tuple(self.state_name(kind, k) for kind in self.kinds for k in range(len(self.layers)))

    @property
    def state_widths(self) -> tuple[int, ...]:
        """Width of each state, in the order of the names; each is (batch, width)."""
        return tuple(layer.state_widths[kind] for kind in self.kinds for layer in self.layers)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The states that every layer has: h, and c in an LSTM."""
        return tuple(self.layers[0].state_widths)

    def state_name(self, kind: str, layer: int) -> str:
        """The name of a layer's state."""
        return kind if len(self.layers) == 1 else f"{kind}_l{layer}"
