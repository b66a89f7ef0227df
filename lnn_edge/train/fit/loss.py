"""Losses that training minimises: squared error of scaled values, or cross-entropy, at steps that have a target."""

from __future__ import annotations

import torch
from torch.nn import functional

from ..data.dataset import Batch

__all__ = ["Objective", "trailing_mean"]

_SMALLEST = 1e-9  # of a probability, in the logarithm: its gradient stays finite in float32


class Objective:
    """The loss of one batch; with windows, called on one after the other.

    With one target per sequence outputs are averaged over the last `readout` steps: values as they are, classes as
    probabilities, because that is what a device gets out of the exported step and can average itself.
    """

    def __init__(self, labels: bool, readout: int | None) -> None:
        self._labels, self._readout = labels, readout
        self._past: torch.Tensor | None = None

    def __call__(self, raw: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Sum of weighted losses of scaled values or logits, (rows, time, outputs)."""
        losses = self._of_labels(raw, batch.y) if self._labels else self._of_values(raw, batch.y)
        return (losses * batch.weight).sum()

    def _of_values(self, raw: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (self._averaged(raw) - y).square().mean(dim=-1)

    def _of_labels(self, raw: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self._readout is None or self._readout == 1:
            return functional.cross_entropy(raw.transpose(1, 2), y, reduction="none")
        chosen = self._averaged(torch.softmax(raw, dim=-1)).gather(-1, y.unsqueeze(-1)).squeeze(-1)
        return -chosen.clamp_min(_SMALLEST).log()

    def _averaged(self, values: torch.Tensor) -> torch.Tensor:
        if self._readout is None or self._readout == 1:
            return values
        before = values.new_empty(len(values), 0, values.shape[2]) if self._past is None else self._past
        whole = torch.cat([before, values], dim=1)
        self._past = whole.detach()
        return trailing_mean(whole, self._readout)[:, before.shape[1] :]


def trailing_mean(values: torch.Tensor, steps: int) -> torch.Tensor:
    """Mean over the last `steps` steps at every step, or over all so far where there are fewer, same shape."""
    total = values.shape[1]
    sums = functional.pad(values.cumsum(dim=1), (0, 0, 1, 0))
    stop = torch.arange(1, total + 1, device=values.device)
    count = stop.clamp(max=steps)
    mean: torch.Tensor = (sums[:, stop] - sums[:, stop - count]) / count.unsqueeze(-1)
    return mean
