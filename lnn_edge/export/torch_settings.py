"""Settings of torch for a while: threads, and what else a program may have set for all of torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

__all__ = ["one_thread", "torch_threads", "usual_torch"]


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch compute on so many threads within, then as before; `None` leaves it alone."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread within, then as before.

    An export calls torch thousands of times on one sample, and looks at what a network does with a few; handing each to
    a pool costs more than the work. Exporting a network with a convolution encoder takes a sixth of the CPU time this
    way (3.3 s for 20 s, two cores).
    """
    with torch_threads(1):
        yield


@contextmanager
def usual_torch() -> Iterator[None]:
    """Torch as it is when it has just been imported: what the caller has set for all of it is set again afterwards.

    Training needs gradients, a proof float32 on the CPU and its own products in it. A caller whose program sets
    another default dtype or device, turns gradients off, or stands under `inference_mode` or `autocast`, means its own
    computations by that.
    """
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":  # a device in force makes every call of torch slower
            stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_default_dtype, before)
        torch.set_default_dtype(torch.float32)
        yield
