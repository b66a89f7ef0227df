"""Where sequences start: zeros, or what training learned; one value per unit, the same for every row and sequence."""

from __future__ import annotations

import torch

__all__ = ["changing_start", "initial_value"]


def initial_value(state: torch.Tensor) -> float | tuple[float, ...]:
    """One row's state, (1, ...), as the manifest writes it: one number if all units have the same, else one each."""
    values = [float(value) for value in state.flatten().tolist()]
    return values[0] if len(set(values)) == 1 else tuple(values)


def changing_start(name: str) -> str:
    """What is wrong with a core that starts from a state of its own in every call."""
    return (
        f"the forward starts the core '{name}' from a state that differs from call to call: it is random, or computed "
        "from the samples. A stream starts every sequence from one state; pass zeros, or a parameter"
    )
