"""Time loop of a recurrent core as one autograd function, forward and backward written by hand.

torch's own backward replays every small operation of every step through the graph. Here a core is a chain of autograd
blocks (`cfc_blocks`, `ltc_block`, `lstm_block`); each keeps what it computed in buffers for the whole sequence, works
out its local derivatives once for all steps, and then needs two or three operations per step to go back. Gradients of
weights are one matrix product over all steps at the end. Everything around the loop (products of the inputs, masks,
constraints, scaling folded into weights) happens once per sequence, with ordinary autograd: the blocks see folded
tensors only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["AutogradBlock", "Stage", "buffer", "refuse_second_derivative", "run_loop"]


class AutogradBlock(Protocol):
    """Autograd block, one stage of a step: a state comes in, its result is the state of the next stage.

    Made anew for the forward and for the backward pass, from the tensors of its `Stage`.
    """

    def start(self, h: Tensor, steps: int, keep: bool, last: bool) -> None:
        """Make the buffers: for every step if a backward pass is to come, else one that all steps share.

        Args:
            h: The state before the first step, for shape, dtype and device.
            steps: How many steps there will be.
            keep: Whether a backward pass is to come.
            last: Whether this block ends the chain; the results of all its steps are kept in any case.
        """

    def forward(self, t: int, h: Tensor) -> Tensor:
        """Compute step t; the result lives in a buffer."""

    def saved(self) -> tuple[Tensor, ...]:
        """What `prepare` will need; the first are the results of all steps, (steps, ...)."""

    def prepare(self, saved: Sequence[Tensor], incoming: Tensor, last_memory: Tensor) -> None:
        """Work out the local derivatives of all steps.

        Args:
            saved: What `saved` gave.
            incoming: The states that came in, (steps, ...).
            last_memory: Gradient of the LSTM's last cell state; only the LSTM wants it.
        """

    def backward(self, t: int, grad: Tensor, into: Tensor) -> Tensor:
        """Go back through step t: from the gradient of its result to `into` plus that of the state that came in."""

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Gradients of the tensors it was made from, in their order."""


@dataclass(frozen=True)
class Stage:
    """How to make an autograd block, and the differentiable tensors to make it from."""

    make: Callable[..., Any]
    tensors: tuple[Tensor, ...]


def buffer(like: Tensor, steps: int, shape: Sequence[int], keep: bool) -> tuple[Tensor, list[Tensor]]:
    """Room for every step, (steps, *shape), and its views by step; without `keep`, one room that all steps share."""
    # views of all steps at once: indexing the buffer would make one in every operation of every step
    whole = like.new_empty(steps if keep else 1, *shape)
    rows = list(whole.unbind(0))
    return whole, rows if keep else rows * steps


def run_loop(stages: Sequence[Stage], h: Tensor, steps: int, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Run a chain of autograd blocks over all steps.

    Args:
        stages: The chain; the first gets the state of the step before.
        h: The state before the first step.
        steps: How many steps, at least 1.
        memory: The LSTM's cell state before the first step, if the first stage is one.

    Returns:
        The states after every step, (steps, *h.shape), and the last cell state, empty without memory.
    """
    tensors = [tensor for stage in stages for tensor in stage.tensors]
    cell_state = h.new_empty(0) if memory is None else memory  # autograd takes tensors: an empty one is none
    # asked here, because inside of a Function gradients are always off
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (h, cell_state, *tensors))
    states, last = _Loop.apply(tuple(stages), steps, keep, h, cell_state, *tensors)  # type: ignore[no-untyped-call]
    return states, last


def refuse_second_derivative() -> None:
    """Refuse a backward pass that is to be differentiated again.

    torch's `once_differentiable` does not do: it lets pass what does not depend on the gradient that comes in, and the
    second derivative is then wrong without a word.

    Raises:
        RuntimeError: Always in such a pass.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "`unrolled` gives first derivatives, but this backward pass is to be differentiated again "
            "(create_graph=True). For second derivatives call the layer itself: core(x)"
        )


class _Loop(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, stages: tuple[Stage, ...], steps: int, keep: bool, h: Tensor, memory: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        blocks = _make_blocks([(stage.make, len(stage.tensors)) for stage in stages], tensors)
        if memory.numel():
            blocks[0].memory = memory
        for block in blocks:
            block.start(h, steps, keep, block is blocks[-1])
        _run(blocks, h, steps)
        saved = [block.saved() for block in blocks]
        # a copy: the last row of a buffer that is saved, which the caller may change
        states, last = saved[-1][0], blocks[0].memory.clone() if memory.numel() else memory.clone()
        if keep:
            # tensors by save_for_backward alone, never in a block that ctx keeps: autograd then frees them with the
            # graph, finds those that were changed in place, and a backward pass can be repeated from them
            ctx.makes = [(stage.make, len(stage.tensors)) for stage in stages]
            ctx.saved_counts = [len(part) for part in saved]
            ctx.save_for_backward(h, memory, *tensors, *(tensor for part in saved for tensor in part))
        return states, last

    @staticmethod
    def backward(ctx: Any, d_states: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        h, memory, *rest = ctx.saved_tensors
        count = sum(number for _, number in ctx.makes)
        blocks = _make_blocks(ctx.makes, rest[:count])
        saved = _split(rest[count:], ctx.saved_counts)
        if memory.numel():
            blocks[0].memory = memory
        incoming = torch.cat((h.unsqueeze(0), saved[-1][0][:-1]))
        for block, part in zip(blocks, saved, strict=True):
            block.prepare(part, incoming, d_last)
            incoming = part[0]
        d_h = _run_back(blocks, d_states.contiguous())
        d_memory = blocks[0].d_memory if memory.numel() else None
        return (None, None, None, d_h, d_memory, *(g for block in blocks for g in block.gradients()))


def _run(blocks: Sequence[AutogradBlock], h: Tensor, steps: int) -> None:
    forwards = [block.forward for block in blocks]
    for t in range(steps):
        for forward in forwards:
            h = forward(t, h)


def _run_back(blocks: Sequence[AutogradBlock], d_states: Tensor) -> Tensor:
    """From the gradients of the states after every step to that of the state before the first.

    A state has two gradients, its own and the one that comes back through the step after it. The first block of that
    step adds them up: the matrix product of a CfC or an LSTM takes something to add for nothing.
    """
    rows = d_states.unbind(0)
    zero = d_states.new_zeros(())
    inner = [block.backward for block in blocks[:0:-1]]
    first, grad = blocks[0].backward, rows[-1]
    for t in range(len(rows) - 1, -1, -1):
        for backward in inner:
            grad = backward(t, grad, zero)
        grad = first(t, grad, rows[t - 1] if t else zero)
    return grad


def _make_blocks(makes: Sequence[tuple[Callable[..., Any], int]], tensors: Sequence[Tensor]) -> list[Any]:
    parts = _split(tensors, [count for _, count in makes])
    return [make(*part) for (make, _), part in zip(makes, parts, strict=True)]


def _split(tensors: Sequence[Tensor], counts: Sequence[int]) -> list[Sequence[Tensor]]:
    ends = [sum(counts[: k + 1]) for k in range(len(counts))]
    return [tensors[end - count : end] for end, count in zip(ends, counts, strict=True)]
