"""Autograd blocks of a CfC: layers of the backbone, and what mixes the candidates into the next state.

torch's tanh takes six times as long as its sigmoid on a CPU, so tanh(x) is computed as 2 sigmoid(2 x) - 1: the inner 2
is folded into the weights, and what is outside into whoever takes the result. A block's result y therefore stands for
scale * y + shift, which `cfc_fold` takes into account.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .cfc_modes import Mixture
from .recurrent_product import RecurrentProduct
from .time_loop import buffer

__all__ = ["Activation", "BackboneBlock", "MixBlock"]

_ATEN = torch.ops.aten


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "sigmoid": torch.sigmoid_,
    "tanh": torch.tanh_,
    "relu": torch.relu_,
    "silu": _ATEN.silu,
    "gelu": _ATEN.gelu,
}


class Activation:
    """An elementwise function of a backbone: in place where that keeps enough to differentiate it.

    Args:
        name: "sigmoid", "tanh", "relu", "silu" or "gelu".
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.in_place = name in ("sigmoid", "tanh", "relu")
        self._function = _FUNCTIONS[name]

    def forward(self, z: Tensor, out: Tensor) -> Tensor:
        """The result; `out` is z itself where the function works in place."""
        return self._function(z) if self.in_place else self._function(z, out=out)

    def derivative(self, z: Tensor) -> Tensor:
        """By what `forward` left in z."""
        if self._name == "sigmoid":
            return z * (1 - z)
        if self._name == "tanh":
            return 1 - z * z
        if self._name == "relu":
            return (z > 0).to(z.dtype)
        backward = _ATEN.silu_backward if self._name == "silu" else _ATEN.gelu_backward
        result: Tensor = backward(torch.ones_like(z), z)
        return result


class BackboneBlock:
    """y = activation(drive + W h), times a dropout's noise where there is one.

    Args:
        activation: What `Activation` takes.
        noise: (steps, B, units): 0, or 1 / (1 - rate) where a unit stays; `None` without dropout.
        drive, weight: As for `RecurrentProduct`.
    """

    def __init__(self, activation: str, noise: Tensor | None, drive: Tensor, weight: Tensor) -> None:
        self._activation, self._noise = Activation(activation), noise
        self._product, self._units = RecurrentProduct(drive, weight), len(weight)

    def start(self, h: Tensor, steps: int, keep: bool, last: bool) -> None:  # noqa: ARG002 # the gates always follow
        """See `AutogradBlock`."""
        self._product.start(h, steps, keep)
        self._whole, self._rows = self._product.whole, self._product.rows
        if not self._activation.in_place or self._noise is not None:
            self._whole, self._rows = buffer(h, steps, (len(h), self._units), keep)

    def forward(self, t: int, h: Tensor) -> Tensor:
        """See `AutogradBlock`."""
        y, row = self._product.forward(t, h), self._rows[t]
        y = self._activation.forward(y, row)
        return y if self._noise is None else torch.mul(y, self._noise[t], out=row)

    def saved(self) -> tuple[Tensor, ...]:
        """See `AutogradBlock`."""
        return self._whole, self._product.whole

    def prepare(self, saved: Sequence[Tensor], incoming: Tensor, last_memory: Tensor) -> None:  # noqa: ARG002
        """See `AutogradBlock`."""
        local = self._activation.derivative(saved[1])
        self._local = (local if self._noise is None else local * self._noise).unbind(0)
        self._product.prepare(incoming, local)
        self._grad_rows = self._product.grads.unbind(0)

    def backward(self, t: int, grad: Tensor, into: Tensor) -> Tensor:
        """See `AutogradBlock`."""
        torch.mul(grad, self._local[t], out=self._grad_rows[t])
        return self._product.backward(t, into)

    def gradients(self) -> tuple[Tensor | None, ...]:
        """See `AutogradBlock`."""
        return self._product.gradients()


class MixBlock:
    """The heads of a CfC, z = drive + W h, and the mixture that makes the next state of them.

    Args:
        mixture: Makes a `Mixture` of its own tensors.
        columns: Of the state, those that this block computes, the others pass through; `None` if it computes all.
        hold: For each of the first steps the column from which on the state stays as it came in; see `cfc_fold.Skew`.
        drive, weight: As for `RecurrentProduct`.
        own: Tensors of the mixture.
    """

    def __init__(
        self,
        mixture: Callable[..., Mixture],
        columns: slice | None,
        hold: tuple[int, ...],
        drive: Tensor,
        weight: Tensor,
        *own: Tensor,
    ) -> None:
        self._product, self._mixture = RecurrentProduct(drive, weight), mixture(*own)
        self._columns, self._hold = columns, hold

    def start(self, h: Tensor, steps: int, keep: bool, last: bool) -> None:
        """See `AutogradBlock`."""
        self._product.start(h, steps, keep)
        self._results, self._rows = buffer(h, steps, h.shape, keep or last)
        whole = self._results if self._columns is None else self._results[:, :, self._columns]
        targets = list(whole.unbind(0))
        self._mixture.start(self._product.whole, targets if keep or last else targets * steps)

    def forward(self, t: int, h: Tensor) -> Tensor:
        """See `AutogradBlock`."""
        row = self._rows[t]
        if self._columns is not None:
            row.copy_(h)
        self._product.forward(t, h)
        self._mixture.forward(t)
        if t < len(self._hold):
            row[:, self._hold[t] :] = h[:, self._hold[t] :]
        return row

    def saved(self) -> tuple[Tensor, ...]:
        """See `AutogradBlock`."""
        return self._results, self._product.whole

    def prepare(self, saved: Sequence[Tensor], incoming: Tensor, last_memory: Tensor) -> None:  # noqa: ARG002
        """See `AutogradBlock`."""
        local = self._mixture.local(saved[1])
        for t, first in enumerate(self._hold):
            local[t, :, :, first:] = 0
        self._local = local.unbind(0)
        self._product.prepare(incoming, local)
        self._grad_rows = self._product.grads.unbind(0)
        if self._columns is not None:
            self._others = torch.ones_like(incoming[0, 0])
            self._others[self._columns] = 0
        self._results = local.new_zeros(local[:, :, 0].shape if self._mixture.wants_results else 0)
        self._results_rows = self._results.unbind(0) if self._mixture.wants_results else None

    def backward(self, t: int, grad: Tensor, into: Tensor) -> Tensor:
        """See `AutogradBlock`."""
        own = grad
        if self._columns is not None:
            own, into = grad[:, self._columns], torch.addcmul(into, grad, self._others)
        if self._results_rows is not None:
            self._results_rows[t].copy_(own)
        torch.mul(self._local[t], own.unsqueeze(1), out=self._grad_rows[t])
        down = self._product.backward(t, into)
        if t < len(self._hold):
            down[:, self._hold[t] :] += grad[:, self._hold[t] :]
        return down

    def gradients(self) -> tuple[Tensor | None, ...]:
        """See `AutogradBlock`."""
        if self._results_rows is not None:
            for row, first in zip(self._results_rows, self._hold, strict=False):
                row[:, first:] = 0
        return *self._product.gradients(), *self._mixture.gradients(self._product.grads, self._results)
