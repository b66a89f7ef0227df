"""Stages of the loop from an ncps LTC and its inputs: everything that is the same in every step, done once."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from .ltc_block import LtcBlock, sensory_sums
from .synapses import Wires
from .time_loop import Stage

__all__ = ["ltc_outputs", "ltc_stage"]


def ltc_stage(cell: Any, x: Tensor, spans: Tensor | None, flip: bool) -> Stage:
    """The stage of an LTCCell.

    Args:
        cell: The cell; its tensors are those of `_params`, which ncps computes with.
        x: (steps, B, inputs).
        spans: (steps, B), or `None` for 1.
        flip: Whether the state is (B, neurons) and not (neurons, B).
    """
    parameters, positive, unfolds = cell._params, cell.make_positive_fn, cell._ode_unfolds
    steps, batch, _ = x.shape
    wires, own = _synapses(cell, "")
    sensory, own_sensory = _synapses(cell, "sensory_")
    columns = cell._map_inputs(x).flatten(0, 1).t()
    sums = torch.unflatten(sensory_sums(sensory, columns, *own_sensory), 1, (steps, batch)).transpose(0, 1)
    gleak, cm = positive(parameters["gleak"]), positive(parameters["cm"])
    c = (cm / (1.0 / unfolds)).view(1, -1, 1)
    if spans is not None:
        c = cm.view(1, -1, 1) / (spans.unsqueeze(1) / unfolds)
    drive, leak = sums.chunk(2, dim=1)
    drive = drive + (gleak * parameters["vleak"]).view(-1, 1)
    leak = leak + (c + gleak.view(-1, 1) + cell._epsilon)
    base = torch.cat((drive, leak), dim=1)
    return Stage(partial(LtcBlock, wires, unfolds, flip), (base, c, *own))


def ltc_outputs(cell: Any, states: Tensor) -> Tensor:
    """What the cell gives for states (steps, B, neurons), as its `_map_outputs` does for one step."""
    outputs: Tensor = cell._map_outputs(states.flatten(0, 1))
    return torch.unflatten(outputs, 0, states.shape[:2])


def _synapses(cell: Any, prefix: str) -> tuple[Wires, tuple[Tensor, ...]]:
    """Where the synapses go, and what `Synapses` wants of them."""
    mu, sigma, w, erev = (cell._params[f"{prefix}{name}"] for name in ("mu", "sigma", "w", "erev"))
    mask = cell._params[f"{prefix}sparsity_mask"]
    exists = mask.detach() != 0 if not mask.requires_grad else torch.ones_like(mask, dtype=torch.bool)
    target, source = exists.t().nonzero().unbind(1)
    wires = Wires(source, target, *mask.shape)
    flat = source * mask.shape[1] + target

    def chosen(matrix: Tensor) -> Tensor:
        return matrix.flatten().index_select(0, flat)

    leak = chosen(cell.make_positive_fn(w) * mask)
    slope = chosen(sigma)
    return wires, (slope, -slope * chosen(mu), leak * chosen(erev), leak)
