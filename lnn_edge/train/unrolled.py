"""An ncps layer over whole sequences, right for batches with a timespan per row and step."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["unrolled"]


def unrolled(
    core: Any, x: torch.Tensor, state: Any = None, timespans: torch.Tensor | None = None
) -> tuple[torch.Tensor, Any]:
    """Run an ncps `LTC` or `CfC` layer over a batch of sequences.

    ncps squeezes the timespans of a step to (rows,), which it cannot multiply with (rows, units) or, if both happen to
    be equal, multiplies along the wrong axis. Here they stay (rows, 1).

    Args:
        core: The layer: any wiring, with or without mixed memory and projection.
        x: Samples, (rows, time, features).
        state: As the layer takes `hx` for a batch, or `None` for zeros.
        timespans: Time since the previous sample in the unit of training, (rows, time), > 0; `None` for 1.

    Returns:
        Outputs of every step, (rows, time, outputs), whatever `return_sequences` says, and the state after the last.
    """
    rows, steps = x.shape[:2]
    if state is None:
        zeros = x.new_zeros(rows, core.state_size)
        state = (zeros, zeros) if core.use_mixed else zeros
    h, c = state if core.use_mixed else (state, None)
    outputs = []
    for t in range(steps):
        sample, elapsed = x[:, t], 1.0 if timespans is None else timespans[:, t : t + 1]
        if core.use_mixed:
            h, c = core.lstm(sample, (h, c))
        y, h = core.rnn_cell(sample, h, elapsed)
        outputs.append(y)
    stacked = torch.stack(outputs, dim=1)
    projection = getattr(core, "fc", None)
    return stacked if projection is None else projection(stacked), (h, c) if core.use_mixed else h
