"""Autograd block of an LTC, and the sums of its sensory synapses, which do not depend on the state.

One unfold of ncps' semi-implicit solver, with c = cm / (span / unfolds):
v' = (c v + gleak vleak + drive) / (c + gleak + leak + epsilon), where drive and leak sum over sensory and recurrent
synapses. What does not depend on v is `base`. Potentials are (neurons, B) here, as `synapses` has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .synapses import Synapses, Wires
from .time_loop import buffer, refuse_second_derivative

__all__ = ["LtcBlock", "sensory_sums"]

_COLUMNS = 256  # of the sensory synapses at once: few enough to stay in the cache, many enough to be worth the calls


class LtcBlock:
    """All unfolds of a step.

    Args:
        wires: The recurrent synapses, at least one.
        unfolds: How many.
        flip: Whether the state comes and goes as (B, neurons), as the LSTM has it.
        base: (steps, 2 * neurons, B); gleak * vleak + drive, then c + gleak + leak + epsilon, of the inputs.
        c: (1, neurons, 1), or (steps, neurons, B) with time spans.
        parameters: As for `Synapses`.
    """

    def __init__(self, wires: Wires, unfolds: int, flip: bool, base: Tensor, c: Tensor, *parameters: Tensor) -> None:
        self._neurons, self._unfolds, self._flip = wires.targets, unfolds, flip
        self._base, self._c, self._synapses = base, c, Synapses(wires, *parameters)
        self._c_rows = list(c.unbind(0)) * (len(base) // len(c))  # without time spans one row goes for all steps
        self._count = len(wires.source)

    def start(self, h: Tensor, steps: int, keep: bool, last: bool) -> None:
        """See `AutogradBlock`."""
        neurons, unfolds, columns = self._neurons, self._unfolds, self._base.shape[2]
        self._potentials, _ = buffer(h, steps, (unfolds + 1, neurons + 1, columns), keep)
        self._potentials[:, :, neurons] = 1  # what `Synapses` multiplies the shifts by, in the same sparse product
        self._sums, _ = buffer(h, steps, (unfolds, 2 * neurons, columns), keep)
        self._sigmoids = h.new_empty(self._count, columns)  # one room: `backward` computes them again
        self._results, self._rows = buffer(h, steps, h.shape, keep or last)
        self._kept, self._base_rows = keep, self._base.unbind(0)

    def forward(self, t: int, h: Tensor) -> Tensor:
        """See `AutogradBlock`."""
        row = t if self._kept else 0
        with_one, sums = self._potentials[row].unbind(0), self._sums[row].unbind(0)
        potentials = self._potentials[row, :, : self._neurons].unbind(0)
        base, c = self._base_rows[t], self._c_rows[t]
        potentials[0].copy_(h.t() if self._flip else h)
        for k in range(self._unfolds):
            s = self._synapses.activate(with_one[k], self._sigmoids)
            drive, leak = torch.add(self._synapses.sums(s), base, out=sums[k]).chunk(2)
            torch.div(drive.addcmul_(c, potentials[k]), leak, out=potentials[k + 1])
        return self._rows[t].copy_(potentials[-1].t() if self._flip else potentials[-1])

    def saved(self) -> tuple[Tensor, ...]:
        """See `AutogradBlock`."""
        return self._results, self._potentials, self._sums

    def prepare(self, saved: Sequence[Tensor], incoming: Tensor, last_memory: Tensor) -> None:  # noqa: ARG002
        """See `AutogradBlock`."""
        _, potentials, sums = saved
        self._with_one, self._v = potentials[:, :-1], potentials[:, :-1, : self._neurons]
        # v' = drive / leak: by drive 1 / leak, by leak -v' / leak
        by_drive = sums[:, :, self._neurons :].reciprocal()
        by_leak = -by_drive * potentials[:, 1:, : self._neurons]
        self._local = torch.stack((by_drive, by_leak), dim=2)
        self._d_sums = torch.empty_like(self._local)
        self._sigmoids = sums.new_empty(self._unfolds, self._count, sums.shape[3])
        self._d_before = torch.empty_like(self._sigmoids)
        self._sigmoid_rows, self._before_rows = self._sigmoids.unbind(0), self._d_before.unbind(0)

    def backward(self, t: int, grad: Tensor, into: Tensor) -> Tensor:
        """See `AutogradBlock`."""
        with_one, local, d_sums, c = self._with_one[t], self._local[t], self._d_sums[t], self._c_rows[t]
        grad = grad.t() if self._flip else grad
        potentials, locals_, d_rows, before = with_one.unbind(0), local.unbind(0), d_sums.unbind(0), self._before_rows
        for k in range(self._unfolds - 1, -1, -1):
            s = self._synapses.activate(potentials[k], self._sigmoid_rows[k])  # again: less time than to keep them all
            torch.mul(locals_[k], grad, out=d_rows[k])
            self._synapses.back(d_rows[k].flatten(0, 1), s, before[k])
            grad = self._synapses.down(before[k]).addcmul_(c, d_rows[k][0])  # v is in the sigmoids and in c v
        # all unfolds in one call; all steps in one would need the sigmoids of the whole sequence
        self._synapses.add(self._v[t], self._sigmoids, d_sums.flatten(1, 2), self._d_before)
        return torch.add(into, grad.t() if self._flip else grad)

    def gradients(self) -> tuple[Tensor | None, ...]:
        """See `AutogradBlock`."""
        d_base = self._d_sums.sum(1)
        d_c = (self._d_sums[:, :, 0] * self._v).sum(1).sum_to_size(self._c.shape)
        return d_base.flatten(1, 2), d_c, *self._synapses.gradients()


def sensory_sums(wires: Wires, x: Tensor, *parameters: Tensor) -> Tensor:
    """What the inputs drive each neuron with, then what it leaks by them.

    Args:
        wires: The sensory synapses, at least one.
        x: (inputs, n), mapped inputs, a column per row and step.
        parameters: As for `Synapses`.

    Returns:
        (2 * neurons, n).
    """
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *parameters))
    result: Tensor = _SensorySums.apply(wires, keep, x, *parameters)  # type: ignore[no-untyped-call]
    return result


class _SensorySums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, wires: Wires, keep: bool, x: Tensor, *parameters: Tensor) -> Tensor:
        synapses, sums, kept = Synapses(wires, *parameters), [], []
        for part in _columns(torch.cat((x, x.new_ones(1, x.shape[1])))):
            s = synapses.activate(part, x.new_empty(len(wires.source), part.shape[1]))
            sums.append(synapses.sums(s))
            if keep:
                kept.append(s)
        ctx.wires, ctx.count = wires, len(parameters)
        ctx.save_for_backward(x, *parameters, *kept)
        return torch.cat(sums, dim=1)

    @staticmethod
    def backward(ctx: Any, d_sums: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        x, *rest = ctx.saved_tensors
        synapses, down = Synapses(ctx.wires, *rest[: ctx.count]), []
        for v, d_part, s in zip(_columns(x), _columns(d_sums), rest[ctx.count :], strict=True):
            before = synapses.back(d_part, s, torch.empty_like(s))
            if ctx.needs_input_grad[2]:
                down.append(synapses.down(before))
            synapses.add(v.unsqueeze(0), s.unsqueeze(0), d_part.unsqueeze(0), before.unsqueeze(0))
        return None, None, torch.cat(down, dim=1) if down else None, *synapses.gradients()


def _columns(x: Tensor) -> list[Tensor]:
    """A few columns at a time."""
    return [x[:, k : k + _COLUMNS].contiguous() for k in range(0, x.shape[1], _COLUMNS)]
