"""Modules that only stand around another one: what torch.compile, data parallelism and weight averaging return."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["plain_names", "unwrap_parts", "unwrapped"]

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside; a module that is no wrapper is returned as it is. Nothing is compiled or run."""
    while attribute := _attribute(module):
        module = module.get_submodule(attribute)
    return module


def unwrap_parts(module: nn.Module) -> nn.Module:
    """Put in place of every wrapper inside a module what it wraps. Changes the module: give it a copy."""
    module = unwrapped(module)
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None:
                parent._modules[name] = unwrapped(child)
    return module


def plain_names(module: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """By name of a part or tensor of the module, the name that it has once all wrappers are gone."""
    wrappers = [
        (f"{name}.{attribute}" if name else attribute, name)
        for name, part in module.named_modules(remove_duplicate=False)
        if (attribute := _attribute(part))
    ]
    wrappers.reverse()  # the innermost first, so that the names of the outer ones still hold

    def plain(name: str) -> str:
        for inside, outside in wrappers:
            if f"{name}.".startswith(f"{inside}."):
                name = f"{outside}{name[len(inside) :]}".removeprefix(".")
        return name

    return {name: plain(name) for name in names}


def _attribute(module: nn.Module) -> str | None:
    """Name under which a wrapper holds the module inside, `None` if it is no wrapper."""
    if "_orig_mod" in module._modules:  # torch.compile; naming its class would import the compiler
        return "_orig_mod"
    return "module" if isinstance(module, _WRAPPERS) else None
