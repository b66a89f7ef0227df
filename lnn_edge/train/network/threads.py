"""Threads that torch computes a network on, chosen by the size of its work."""

from __future__ import annotations

from contextlib import AbstractContextManager

from torch import nn

from ...export.torch_settings import torch_threads

__all__ = ["fitting_threads"]

# Weights times rows of a batch from which a second thread can be worth its waiting. A step is a few dozen operations,
# and at the end of each one torch's threads wait for one another, spinning: where another program holds a core they
# burn milliseconds for microseconds of work. Fully connected LTCs with two threads on two cores, the fastest of 25
# calls, against one thread: 7.4 times as long at 0.16 million, 3.7 times at 2.3 million, 1.07 times at 18 million.
_WORTH_THREADS = 1 << 25


def fitting_threads(network: nn.Module, rows: int, given: int | None = None) -> AbstractContextManager[None]:
    """Let torch compute on as many threads as the work is worth within, then as before.

    It depends on the network and the batch alone, never on how busy the machine is, so that a fit can be repeated.

    Args:
        network: What computes.
        rows: Sequences that it computes at once.
        given: What the user asked for, which is then taken; `None` chooses one thread for a small network, and leaves
            torch's setting for a large one.
    """
    weights = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    small = weights * rows < _WORTH_THREADS
    return torch_threads(1 if given is None and small else given)
