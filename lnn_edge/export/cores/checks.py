"""Checks of the torch modules that the maths is read from: nothing that overrides it, no weight that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune

from ...arrays import Array

__all__ = ["check_finite", "check_methods", "checked_array", "type_name"]


def checked_array(tensor: torch.Tensor, name: str) -> Array:
    """A weight as a float64 array of its own.

    Raises:
        ValueError: If it holds NaN or infinity.
    """
    array: Array = tensor.detach().to("cpu", torch.float64).numpy().copy()
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        index = [int(i) for i in bad[0]]
        raise ValueError(
            f"weight '{name}' holds {array[tuple(bad[0])]} at {index}; the training diverged, or the file is damaged"
        )
    return array


def check_finite(module: nn.Module) -> None:
    """Refuse a module with a parameter that is not finite, wherever it is.

    Raises:
        ValueError: Naming the parameter.
    """
    for name, parameter in module.named_parameters():
        checked_array(parameter, name)


def check_methods(
    module: nn.Module, base: type[nn.Module], methods: Sequence[str], same: Callable[..., bool] | None = None
) -> None:
    """Refuse what overrides the maths: methods of a subclass or an instance, hooks, parametrisations.

    Args:
        module: The module.
        base: The class whose maths is known.
        methods: The methods that it is in.
        same: Whether a module that overrides some of them computes the same all the same, from these arguments.

    Raises:
        TypeError: Naming it.
    """
    name = type_name(module)
    if not isinstance(module, base):
        raise TypeError(f"expected {base.__name__}, got {name}")
    changed = [m for m in methods if getattr(type(module), m) is not getattr(base, m) or m in vars(module)]
    if changed and not (same is not None and same(module, base, methods)):
        raise TypeError(
            f"{name} overrides `{changed[0]}` of {base.__module__.partition('.')[0]}, and gives another result than "
            f"the plain {base.__name__} does for one row, so its step is not one that this exporter can prove. Train "
            f"with the plain {base.__name__}, and compute what it adds in a module that holds it"
        )
    for part in module.modules():
        if part._forward_hooks or part._forward_pre_hooks:
            old = [h for h in part._forward_pre_hooks.values() if type(h).__name__ in ("WeightNorm", "SpectralNorm")]
            pruned = [h for h in part._forward_pre_hooks.values() if isinstance(h, prune.BasePruningMethod)]
            advice = "Remove them, and compute what they do in a module around the core"
            if pruned:
                advice = (
                    f"They are those of pruning. Type: torch.nn.utils.prune.remove(layer, {pruned[0]._tensor_name!r})"
                )
            if old:
                name = "weight_norm" if type(old[0]).__name__ == "WeightNorm" else "spectral_norm"
                advice = f"They are those of {name}. Type: torch.nn.utils.remove_{name}(layer)"
            raise TypeError(f"{type_name(part)} has forward hooks, which an exported step cannot run. {advice}")
        if torch.nn.utils.parametrize.is_parametrized(part):
            first = next(iter(part.parametrizations))  # type: ignore[arg-type]
            raise TypeError(
                f"{type_name(part)} is parametrised. Type: "
                f"torch.nn.utils.parametrize.remove_parametrizations(layer, {first!r})"
            )


def type_name(value: object) -> str:
    """The full name of a value's type."""
    return f"{type(value).__module__}.{type(value).__qualname__}"
