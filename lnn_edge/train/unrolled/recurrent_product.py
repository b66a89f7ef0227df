"""Product of the incoming state, added to a drive that is known beforehand, for autograd blocks of CfC and LSTM."""

from __future__ import annotations

import torch
from torch import Tensor

from .time_loop import buffer

__all__ = ["RecurrentProduct"]


class RecurrentProduct:
    """z = drive + h @ weight.T, step by step.

    Args:
        drive: What is added, (steps, B, rows) for the products of the inputs, or (rows,) for a bias alone.
        weight: (rows, width of h).
    """

    def __init__(self, drive: Tensor, weight: Tensor) -> None:
        self._drive, self._weight = drive, weight

    def start(self, h: Tensor, steps: int, keep: bool) -> None:
        """Make room for z of every step."""
        drives = [self._drive] * steps if self._drive.dim() == 1 else self._drive.unbind(0)
        self._drives, self._transposed = drives, self._weight.t()
        self.whole, self.rows = buffer(h, steps, (len(h), len(self._weight)), keep)

    def forward(self, t: int, h: Tensor) -> Tensor:
        """The z of step t, in its buffer."""
        return torch.addmm(self._drives[t], h, self._transposed, out=self.rows[t])

    def prepare(self, incoming: Tensor, local: Tensor) -> None:
        """Make room for the gradients of z: where `local`, their derivatives, are no longer needed once used."""
        self._incoming, self.grads = incoming, torch.empty_like(local)
        self._grad_rows = self.grads.flatten(2).unbind(0)
        self._down = [torch.empty_like(incoming[0]) for _ in range(2)]

    def backward(self, t: int, into: Tensor) -> Tensor:
        """`into` plus the gradient of h, from that of z of step t, which is in `grads`."""
        return torch.addmm(into, self._grad_rows[t], self._weight, out=self._down[t % 2])

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Of drive and weight."""
        grads = self.grads.flatten(2)
        flat = grads.flatten(0, 1)
        return (
            flat.sum(0) if self._drive.dim() == 1 else grads,
            flat.t() @ self._incoming.flatten(0, 1),
        )
