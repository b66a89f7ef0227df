"""State pairs: a state by name, with the value that a sequence starts from."""

from __future__ import annotations

import torch

from ...bundle.spec import StatePair

__all__ = ["state_pair"]


def state_pair(name: str, batch: int, width: int, start: torch.Tensor | None = None) -> StatePair:
    """The input and output of one state, (batch, width), that starts from one row's value; `None` for zeros."""
    shape = (batch, width)
    if start is None:
        return StatePair(f"{name}_in", f"{name}_out", shape)
    return StatePair(f"{name}_in", f"{name}_out", shape, _initial_value(start))


def _initial_value(start: torch.Tensor) -> float | tuple[float, ...]:
    """As the manifest writes it: one number if all units have the same, else one each."""
    values = [float(value) for value in start.flatten().tolist()]
    return values[0] if len(set(values)) == 1 else tuple(values)
