"""Modes of ncps' CfC, three ways to make the next state of its heads: `default`, `no_gate` and `pure`.

Each works in the buffer of the heads z of all steps, (steps, B, heads * units), and leaves there what its derivative
needs. The maths is that of ncps' code, restated in `lnn_edge.reference.cfc`.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Gated", "Mixture", "Pure"]


class Mixture(Protocol):
    """From the heads of a step to its result."""

    wants_results: bool  # whether `gradients` needs the gradients of the results

    def start(self, z: Tensor, targets: list[Tensor]) -> None:
        """Look at the buffer of the heads, (steps or 1, B, heads * units), and at the results by step."""

    def forward(self, t: int) -> None:
        """Make the result of step t of the heads in the buffer."""

    def local(self, z: Tensor) -> Tensor:
        """Derivatives of all results by the heads, (steps, B, heads, units), of what `forward` left in the buffer."""

    def gradients(self, heads: Tensor, results: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of its own tensors, from those of the heads and, if it `wants_results`, of the results."""


class Gated:
    """The modes `default` and `no_gate`, of two candidates s1 and s2 and a gate g, all three sigmoids.

    `default` is y = s1 + g (s2 - s1), where the state is 2 y - 1: tanh(x) is 2 sigmoid(2 x) - 1. `no_gate` is
    y = (2 s1 - 1) + g (2 s2 - 1). Heads: both candidates, doubled; the gate; with spans, what they multiply in it.

    Args:
        mode: "default" or "no_gate".
        spans: (steps, B, 1 or units), or nothing where the one span is folded into the weights.
    """

    wants_results = False

    def __init__(self, mode: str, *spans: Tensor) -> None:
        self._no_gate = mode == "no_gate"
        self._spans: Tensor | None = spans[0] if spans else None
        self._heads = 4 if spans else 3

    def start(self, z: Tensor, targets: list[Tensor]) -> None:
        """See `Mixture`."""
        heads = torch.unflatten(z, 2, (self._heads, -1))
        count = len(targets) // len(z)  # one row is shared by all steps, or each has its own
        self._parts = [list(part.unbind(0)) * count for part in heads.unbind(2)]
        self._sigmoids = list(heads[:, :, :3].unbind(0)) * count
        self._candidates = list(heads[:, :, :2].unbind(0)) * count
        self._targets = targets

    def forward(self, t: int) -> None:
        """See `Mixture`."""
        s1, s2, g = self._parts[0][t], self._parts[1][t], self._parts[2][t]
        if self._spans is not None:
            g.addcmul_(self._parts[3][t], self._spans[t])
        self._sigmoids[t].sigmoid_()
        if self._no_gate:
            self._candidates[t].mul_(2).sub_(1)
            torch.addcmul(s1, g, s2, out=self._targets[t])
        else:
            torch.lerp(s1, s2, g, out=self._targets[t])

    def local(self, z: Tensor) -> Tensor:
        """See `Mixture`."""
        heads = torch.unflatten(z, 2, (self._heads, -1))
        local = torch.empty_like(heads)
        (c1, c2, g), (by_1, by_2, by_g) = heads[:, :, :3].unbind(2), local[:, :, :3].unbind(2)
        if self._no_gate:
            torch.mul(c1, c1, out=by_1).neg_().add_(1).mul_(0.5)
            torch.mul(c2, c2, out=by_2).neg_().add_(1).mul_(g).mul_(0.5)
            torch.mul(g, 1 - g, out=by_g).mul_(c2)
        else:
            rest = 1 - g
            torch.mul(c1, 1 - c1, out=by_1).mul_(rest)
            torch.mul(c2, 1 - c2, out=by_2).mul_(g)
            torch.mul(g, rest, out=by_g).mul_(c2 - c1)
        if self._spans is not None:
            torch.mul(by_g, self._spans, out=local[:, :, 3])
            self._slopes = heads[:, :, 3]
        return local

    def gradients(self, heads: Tensor, results: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ARG002
        """See `Mixture`."""
        if self._spans is None:
            return ()
        return ((heads[:, :, 2] * self._slopes).sum_to_size(self._spans.shape),)


class Pure:
    """The mode `pure`: y = a - a exp(-span (tau + |f|)) f, with one head f.

    Args:
        a, tau: (1, units); ncps' `A` and the absolute value of its `w_tau`.
        spans: (steps, B, 1 or units), or nothing for spans of 1.
    """

    wants_results = True

    def __init__(self, a: Tensor, tau: Tensor, *spans: Tensor) -> None:
        self._a, self._tau = a, tau
        self._spans: Tensor | None = spans[0] if spans else None

    def start(self, z: Tensor, targets: list[Tensor]) -> None:
        """See `Mixture`."""
        self._rows, self._targets, self._minus_a = list(z.unbind(0)) * (len(targets) // len(z)), targets, -self._a
        self._decays = None if self._spans is None else (-self._spans).unbind(0)

    def forward(self, t: int) -> None:
        """See `Mixture`."""
        f = self._rows[t]
        rate = f.abs().add_(self._tau)
        decay = (rate.neg_() if self._decays is None else rate.mul_(self._decays[t])).exp_()
        torch.addcmul(self._a, decay.mul_(f), self._minus_a, out=self._targets[t])

    def local(self, z: Tensor) -> Tensor:
        """See `Mixture`."""
        spans = 1.0 if self._spans is None else self._spans
        size = z.abs()
        self._rates = size + self._tau
        decay = (self._rates * -spans).exp_()
        self._by_a = decay * z
        return (size.mul_(spans).sub_(1).mul_(decay).mul_(self._a)).unsqueeze(2)

    def gradients(self, heads: Tensor, results: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ARG002
        """See `Mixture`."""
        d_a = (results * (1 - self._by_a)).sum_to_size(self._a.shape)
        by_exponent = results * self._by_a * self._a  # the derivative by span * (tau + |f|), over both
        if self._spans is None:
            return d_a, by_exponent.sum_to_size(self._tau.shape)
        d_spans = (by_exponent * self._rates).sum_to_size(self._spans.shape)
        return d_a, (by_exponent * self._spans).sum_to_size(self._tau.shape), d_spans
