"""Synapses of an LTC: only those that exist, each with its sigmoid, summed per neuron.

The maths is that of ncps' code, restated in `lnn_edge.reference.ltc`: of its source's potential v a synapse makes
s = sigmoid(sigma (v - mu)), and a neuron sums w e s (which drives it) and w s (which it leaks by) over its synapses.
Both sums, and the products before the sigmoid, are sparse matrix products, for which `torch.embedding_bag` is the
fastest kernel that torch has: a bag is a row of the matrix, the table the dense matrix. On 550 synapses of 64 neurons
and 32 rows it takes 5 us, a dense product 50 us. Everything is (neurons or synapses, columns), a column per row of the
batch, so that what is gathered is contiguous.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Synapses", "Wires"]

_ATEN = torch.ops.aten


@dataclass(frozen=True)
class Wires:
    """Where the synapses go, sorted by target: source and target neuron of each, int64 (synapses,)."""

    source: Tensor
    target: Tensor
    sources: int
    targets: int


class _Sparse:
    """A sparse matrix times dense ones: row k sums `weights[p] * dense[indices[p]]` from its offset to the next."""

    def __init__(self, indices: Tensor, offsets: Tensor, weights: Tensor) -> None:
        self._parts = indices, offsets, weights.contiguous()

    def times(self, dense: Tensor) -> Tensor:
        indices, offsets, weights = self._parts
        result: Tensor = torch.embedding_bag(dense, indices, offsets, False, 0, False, weights)[0]
        return result


def _offsets(counts: Tensor) -> Tensor:
    return torch.cumsum(counts, 0) - counts


def _pairs(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack((first, second), dim=1).flatten()


class Synapses:
    """Forward and backward of all synapses at once.

    Args:
        wires: Where they go.
        sigma, shift: (synapses,); shift is -sigma * mu.
        drive, leak: (synapses,); w * e and w.
    """

    def __init__(self, wires: Wires, sigma: Tensor, shift: Tensor, drive: Tensor, leak: Tensor) -> None:
        source, target, count = wires.source, wires.target, len(wires.source)
        self._wires, self._sigma = wires, sigma
        self._complete = count == wires.sources * wires.targets
        each, ones = torch.arange(count, device=source.device), torch.full_like(source, wires.sources)
        self._before = _Sparse(_pairs(source, ones), 2 * each, _pairs(sigma, shift))
        fan_in = torch.bincount(target, minlength=wires.targets)
        self._sums = _Sparse(each.repeat(2), _offsets(fan_in.repeat(2)), torch.cat((drive, leak)))
        self._back = _Sparse(_pairs(target, target + wires.targets), 2 * each, _pairs(drive, leak))
        order = torch.argsort(source, stable=True)
        fan_out = torch.bincount(source, minlength=wires.sources)
        self._down = _Sparse(order, _offsets(fan_out), sigma[order])
        self._totals: list[Tensor] | None = None

    def activate(self, v: Tensor, out: Tensor) -> Tensor:
        """The sigmoids (synapses, n) of potentials (sources + 1, n), whose last row is one."""
        return torch.sigmoid(self._before.times(v), out=out)

    def sums(self, s: Tensor) -> Tensor:
        """What drives the targets, then what they leak by, (2 * targets, n)."""
        return self._sums.times(s)

    def back(self, d_sums: Tensor, s: Tensor, out: Tensor) -> Tensor:
        """Gradient (synapses, n) of what went into the sigmoids, from that of the sums."""
        result: Tensor = _ATEN.sigmoid_backward(self._back.times(d_sums), s, grad_input=out)
        return result

    def down(self, d_before: Tensor) -> Tensor:
        """Gradient (sources, n) of the potentials."""
        return self._down.times(d_before)

    def add(self, v: Tensor, s: Tensor, d_sums: Tensor, d_before: Tensor) -> None:
        """Add to the gradients of the parameters: of several passes at once, each argument (passes, ..., n)."""
        if self._totals is None:
            self._totals = [torch.zeros_like(s) for _ in range(4)]
        drives, leaks = d_sums.chunk(2, dim=1)
        # sums over rows wait until `gradients`, where they happen once; the last columns of `_SensorySums` may be fewer
        sigma, shift, drive, leak = (self._by_synapse(total[..., : s.shape[2]]) for total in self._totals)
        s, d_before, wires = self._by_synapse(s), self._by_synapse(d_before), self._wires
        sigma.addcmul_(d_before, self._expanded(v, wires.source, 1))
        shift.add_(d_before)
        drive.addcmul_(s, self._expanded(drives, wires.target, 2))
        leak.addcmul_(s, self._expanded(leaks, wires.target, 2))

    def _by_synapse(self, values: Tensor) -> Tensor:
        """(passes, synapses, n), where every neuron has one from every source as (passes, targets, sources, n)."""
        return torch.unflatten(values, 1, (self._wires.targets, self._wires.sources)) if self._complete else values

    def _expanded(self, values: Tensor, index: Tensor, axis: int) -> Tensor:
        """Values of neurons for each of their synapses; a view where every neuron has one from every source."""
        return values.unsqueeze(axis) if self._complete else values.index_select(1, index)

    def gradients(self) -> tuple[Tensor, ...]:
        """Of sigma, shift, drive and leak."""
        if self._totals is None:
            return tuple(torch.zeros_like(self._sigma) for _ in range(4))
        return tuple(total.sum((0, 2)) for total in self._totals)
