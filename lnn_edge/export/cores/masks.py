"""Sparsity masks that training has moved: the export computes with them as they are, and says so."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from ncps.torch import CfCCell, LTCCell
from torch import nn

from ...errors import ExportWarning
from ...remarks import warn_caller
from ...wording import listed

__all__ = ["warn_of_drifted_masks"]


def warn_of_drifted_masks(module: nn.Module) -> None:
    """Warn once, with an `ExportWarning`, if entries of masks are neither 0 nor 1."""
    drifted = list(_drifted(module))
    if drifted:
        warn_caller(
            f"{listed(drifted, 5)}. Training moved them, as it does after `requires_grad_(True)` on all parameters. "
            "The export keeps the values, so it equals the model, but connections that the wiring left out now carry "
            "signals. To keep a wiring, leave parameters with 'sparsity_mask' in their name frozen and train again",
            ExportWarning,
        )


def _drifted(module: nn.Module) -> Iterator[str]:
    for name, part in module.named_modules():
        masks = [mask for mask in _masks(part) if mask is not None]
        entries = sum(mask.numel() for mask in masks)
        wrong = sum(int(((mask != 0) & (mask != 1)).sum()) for mask in masks)
        if wrong:
            label = f"of '{name}'" if name else "of the cell"
            yield f"{wrong} of {entries} entries in the sparsity masks {label} are neither 0 nor 1"


def _masks(part: nn.Module) -> list[torch.Tensor | None]:
    if isinstance(part, LTCCell):
        return [part.sparsity_mask, part.sensory_sparsity_mask]
    return [part.sparsity_mask] if isinstance(part, CfCCell) else []
