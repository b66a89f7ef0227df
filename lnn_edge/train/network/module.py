"""Torch module behind the estimator: scaling, liquid layers, head. Raw sensor units in, raw target units out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ...arrays import Array
from ..unrolled.layer import unrolled

__all__ = ["Branch", "LiquidModule", "Output", "States"]

Moments = tuple[Array, Array]  # mean and scale, (columns,) each
States = tuple[torch.Tensor, ...]  # of every core in order, (rows, units) each; two for a core with mixed memory
_Run = Callable[..., tuple[torch.Tensor, Any]]


class Output(nn.Module):
    """A gain and an offset per output, as the output mapping of an LTC: a CfC's motor neurons stay within -1 to 1.

    The head of a branch whose neurons are one per output; `nn.Linear` is that of any other.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(outputs))
        self.offset = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale and shift (..., outputs)."""
        return x * self.gain + self.offset


class Branch(nn.Module):
    """Liquid layers in a row and the head after them."""

    def __init__(self, cores: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.cores = nn.ModuleList(cores)
        self.head = head

    def through(
        self, x: torch.Tensor, states: Sequence[Any], spans: torch.Tensor | None, run: _Run
    ) -> tuple[torch.Tensor, list[Any]]:
        """Run over (rows, time, features); `run` is what calls a layer."""
        after = []
        for core, state in zip(self.cores, states, strict=True):
            x, new = run(core, x, state, spans)
            after.append(new)
        return self.head(x), after


class LiquidModule(nn.Module):
    """One or more branches side by side on the same scaled samples; each gives its share of the outputs.

    Args:
        branches: The branches.
        features: Number of features.
        outputs: Number of outputs of all branches together.
        labels: Whether the outputs are classes: then the module gives their probabilities.
    """

    x_mean: torch.Tensor
    x_scale: torch.Tensor
    y_mean: torch.Tensor
    y_scale: torch.Tensor

    def __init__(self, branches: Sequence[Branch], features: int, outputs: int, labels: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.labels = labels
        self.outputs = outputs
        for name, size, value in (("x", features, 0.0), ("y", outputs, 0.0)):
            self.register_buffer(f"{name}_mean", torch.full((size,), value))
            self.register_buffer(f"{name}_scale", torch.ones(size))

    def set_scaling(self, x_moments: Moments, y_moments: Moments) -> None:
        """Set what raw inputs are scaled by, and raw outputs from: mean and scale per feature and per output."""
        for name, (mean, scale) in (("x", x_moments), ("y", y_moments)):
            getattr(self, f"{name}_mean").copy_(torch.from_numpy(mean))
            getattr(self, f"{name}_scale").copy_(torch.from_numpy(scale))

    def forward(self, x: torch.Tensor, hx: Any = None, timespans: Any = None) -> tuple[torch.Tensor, Any]:
        """As ncps layers are called; this is what is exported.

        Args:
            x: Samples in their raw units, (rows, time, features).
            hx: States as returned; `None` for zeros.
            timespans: In the unit of training, as ncps takes them.

        Returns:
            Values in their raw units or probabilities, (rows, time, outputs), and the states.
        """
        parts, after = self._through(x, hx, timespans, lambda core, *values: core(*values))
        return self.finished(torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]), after

    def run(
        self, x: torch.Tensor, states: States | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, States]:
        """The same over a batch, each row with its own timespans, before `finished`.

        Args:
            x: Samples in their raw units, (rows, time, features).
            states: States as returned; `None` for zeros.
            timespans: In the unit of training, (rows, time); `None` for 1.

        Returns:
            Scaled values or logits, (rows, time, outputs), and the states after the last step.
        """
        parts, after = self._through(x, None if states is None else self._nested(states), timespans, unrolled)
        return torch.cat(parts, dim=-1), tuple(_leaves(after))

    def finished(self, raw: torch.Tensor) -> torch.Tensor:
        """Logits to probabilities, scaled values to raw units."""
        return torch.softmax(raw, dim=-1) if self.labels else raw * self.y_scale + self.y_mean

    def _through(
        self, x: torch.Tensor, states: Any, spans: torch.Tensor | None, run: _Run
    ) -> tuple[list[torch.Tensor], Any]:
        scaled = (x - self.x_mean) / self.x_scale
        given = states or [[None] * len(branch.cores) for branch in self.each_branch()]
        pairs = zip(self.each_branch(), given, strict=True)
        results = [branch.through(scaled, own, spans, run) for branch, own in pairs]
        return [outputs for outputs, _ in results], [after for _, after in results]

    def each_branch(self) -> list[Branch]:
        """The branches, side by side."""
        return [branch for branch in self.branches if isinstance(branch, Branch)]

    def _nested(self, states: States) -> list[list[Any]]:
        """States by branch and core, as the layers take them."""
        rest = iter(states)
        return [
            [(next(rest), next(rest)) if core.use_mixed else next(rest) for core in branch.cores]
            for branch in self.each_branch()
        ]

    @property
    def state_widths(self) -> list[int]:
        """Units of each state tensor, those of a core with mixed memory twice."""
        cores: list[Any] = [core for branch in self.each_branch() for core in branch.cores]
        return [int(core.state_size) for core in cores for _ in range(2 if core.use_mixed else 1)]


def _leaves(nested: Any) -> list[torch.Tensor]:
    if isinstance(nested, torch.Tensor):
        return [nested]
    return [leaf for part in nested for leaf in _leaves(part)]
