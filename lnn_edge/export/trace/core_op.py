"""The operation that stands for a core while a step is traced; the program gets the core's nodes in its place."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["opaque_core"]


@torch.library.custom_op("lnn_edge::core", mutates_args=())
def _core_operation(
    x: torch.Tensor,
    states: list[torch.Tensor],
    timespans: torch.Tensor | None,  # noqa: ARG001 - the translation reads it from the traced call
    index: int,
    outputs: int,
) -> list[torch.Tensor]:
    """Stands for a core while a step is traced, where only its shapes matter; run, it is something row by row."""
    numbers = torch.arange(index + 1, index + 1 + outputs, dtype=x.dtype) * x.sum(1, keepdim=True)
    return [torch.sin(numbers), *(0.5 * state + 0.1 for state in states)]


@_core_operation.register_fake
def _core_shapes(
    x: torch.Tensor, states: list[torch.Tensor], _timespans: torch.Tensor | None, _index: int, outputs: int
) -> list[torch.Tensor]:
    return [x.new_empty(x.shape[0], outputs), *(torch.empty_like(state) for state in states)]


def opaque_core(
    x: torch.Tensor, states: list[torch.Tensor], timespans: torch.Tensor | None, index: int, outputs: int
) -> list[torch.Tensor]:
    """One sample through core number `index`.

    Args:
        x: (rows, features).
        states: (rows, width) each.
        timespans: (rows, 1), or `None` for the step's own.
        index: Which core.
        outputs: Width of its output.

    Returns:
        The output (rows, outputs), and the new states.
    """
    result: Any = torch.ops.lnn_edge.core(x, states, timespans, index, outputs)
    return list(result)
