"""A whole liquid core: the cell, the memory cell before it and the projection after it; and what any core is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..arrays import Array
from .cfc import CfcCell, Linear
from .lstm import LstmCell
from .ltc import LtcCell

__all__ = ["LiquidCore", "ReferenceCore"]


class ReferenceCore(Protocol):
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

    def step(self, x: Array, state: dict[str, Array], timespan: Array | float, /) -> tuple[Array, dict[str, Array]]:
        """Advance by one sample; see `LiquidCore.step`."""


@dataclass(frozen=True)
class LiquidCore:
    """What an ncps `LTC` or `CfC` module computes for one sample, float64.

    Args:
        cell: The cell.
        lstm: The memory cell with `mixed_memory=True`, else `None`.
        projection: Linear layer after the output (`proj_size`), else `None`.
    """

    cell: LtcCell | CfcCell
    lstm: LstmCell | None = None
    projection: Linear | None = None

    @property
    def outputs(self) -> int:
        """Number of outputs, after the projection."""
        return self.cell.outputs if self.projection is None else len(self.projection[1])

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states, each (batch, units): h, and c with mixed memory."""
        return ("h",) if self.lstm is None else ("h", "c")

    @property
    def state_widths(self) -> tuple[int, ...]:
        """Width of each state, in the order of the names: the units of the cell."""
        return (self.cell.units,) * len(self.state_names)

    def step(self, x: Array, state: dict[str, Array], timespan: Array | float) -> tuple[Array, dict[str, Array]]:
        """Advance by one sample.

        Args:
            x: Input, (batch, inputs).
            state: By state name, (batch, units) each.
            timespan: Time since the previous sample in the unit of training; a number or (batch, 1).

        Returns:
            Output (batch, outputs) and next state.
        """
        h, memory = state["h"], {}
        if self.lstm is not None:
            h, memory["c"] = self.lstm.step(x, h, state["c"])
        y, h = self.cell.step(x, h, timespan)
        if self.projection is not None:
            weight, bias = self.projection
            y = y @ weight.T + bias
        return y, {"h": h} | memory
