"""Autograd block of the LSTM that ncps puts before the cell with `mixed_memory`.

z = drive + W h, in four parts (i, gi, gf, go); drive holds the inputs' product, the bias and the forget gate's +1.
c' = sigmoid(gf) c + sigmoid(gi) tanh(i);  h' = sigmoid(go) tanh(c').
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .recurrent_product import RecurrentProduct
from .time_loop import buffer

__all__ = ["LstmBlock"]


class LstmBlock:
    """Its cell state is `memory`, set before the first step; the loop asks for it after the last.

    Args:
        scale, shift: Of the state: it is carried as y, where h = scale * y + shift.
        drive, weight: As for `RecurrentProduct`, rows 4 * units.
    """

    memory: Tensor
    d_memory: Tensor

    def __init__(self, scale: float, shift: float, drive: Tensor, weight: Tensor) -> None:
        self._scale, self._shift = scale, shift
        self._product, self._units = RecurrentProduct(drive, weight), len(weight) // 4

    def start(self, h: Tensor, steps: int, keep: bool, last: bool) -> None:  # noqa: ARG002 # a cell always follows
        """See `AutogradBlock`."""
        shape = (len(h), self._units)
        self._product.start(h, steps, keep)
        self._results, self._rows = buffer(h, steps, shape, keep)
        self._cells, self._cell_rows = buffer(h, steps, shape, True)
        self._tanhs, self._tanh_rows = buffer(h, steps, shape, keep)
        self._offset = h.new_full((), -self._shift / self._scale).expand(shape)
        self._before = self.memory

    def forward(self, t: int, h: Tensor) -> Tensor:
        """See `AutogradBlock`."""
        z, units, c, tanh_c = self._product.forward(t, h), self._units, self._cell_rows[t], self._tanh_rows[t]
        candidate = z[:, :units].tanh_()
        gates = z[:, units:].sigmoid_()
        torch.mul(self.memory, gates[:, units : 2 * units], out=c)
        self.memory = c.addcmul_(candidate, gates[:, :units])
        torch.tanh(c, out=tanh_c)
        return torch.addcmul(self._offset, tanh_c, gates[:, 2 * units :], value=1 / self._scale, out=self._rows[t])

    def saved(self) -> tuple[Tensor, ...]:
        """See `AutogradBlock`."""
        return self._results, self._product.whole, self._cells, self._tanhs

    def prepare(self, saved: Sequence[Tensor], incoming: Tensor, last_memory: Tensor) -> None:
        """See `AutogradBlock`."""
        _, z, cells, tanhs = saved
        candidate, gi, gf, go = torch.unflatten(z, 2, (4, self._units)).unbind(2)
        before = torch.cat((self.memory.unsqueeze(0), cells[:-1]))
        by_memory = (gi * (1 - candidate**2), candidate * gi * (1 - gi), before * gf * (1 - gf))
        self._by_memory = torch.stack(by_memory, dim=2).unbind(0)
        self._by_result = (tanhs * go * (1 - go) / self._scale).unbind(0)
        self._result_to_memory = (go * (1 - tanhs**2) / self._scale).unbind(0)
        self._forget = gf.unbind(0)
        self._product.prepare(incoming, torch.unflatten(z, 2, (4, self._units)))
        self._grad_rows = self._product.grads.unbind(0)
        self.d_memory = last_memory

    def backward(self, t: int, grad: Tensor, into: Tensor) -> Tensor:
        """See `AutogradBlock`."""
        d_c = torch.addcmul(self.d_memory, grad, self._result_to_memory[t])
        row = self._grad_rows[t]
        torch.mul(self._by_memory[t], d_c.unsqueeze(1), out=row[:, :3])
        torch.mul(self._by_result[t], grad, out=row[:, 3])
        self.d_memory = d_c.mul_(self._forget[t])
        return self._product.backward(t, into)

    def gradients(self) -> tuple[Tensor | None, ...]:
        """See `AutogradBlock`."""
        return self._product.gradients()
