"""Checks of the torch modules that the maths is read from: nothing that overrides it, no weight that is not finite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

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


def check_methods(module: nn.Module, base: type[nn.Module], methods: Sequence[str]) -> None:
    """Refuse what overrides the maths: methods of a subclass or an instance, hooks, parametrisations.

    Raises:
        TypeError: Naming it.
    """
    name = type_name(module)
    if not isinstance(module, base):
        raise TypeError(f"expected {base.__name__}, got {name}")
    for method in methods:
        if getattr(type(module), method) is not getattr(base, method) or method in vars(module):
            raise TypeError(
                f"{name} overrides `{method}` of {base.__module__.partition('.')[0]}, so its step is not the one this "
                f"exporter can prove. Train with the plain {base.__name__}"
            )
    for part in module.modules():
        if part._forward_hooks or part._forward_pre_hooks:
            raise TypeError(f"{type_name(part)} has forward hooks, which an exported step cannot run. Remove them")
        if torch.nn.utils.parametrize.is_parametrized(part):
            raise TypeError(
                f"{type_name(part)} is parametrised. Type: torch.nn.utils.parametrize.remove_parametrizations(...)"
            )


def type_name(value: object) -> str:
    """The full name of a value's type."""
    return f"{type(value).__module__}.{type(value).__qualname__}"
