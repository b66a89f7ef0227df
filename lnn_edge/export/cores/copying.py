"""Deep copies of modules, whatever a training loop or a node has left on them."""

from __future__ import annotations

import copy
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

__all__ = ["copied_module", "tensors_in"]

_CONTAINERS = (list, tuple, dict, set, deque)
_PLAIN = (str, bytes, int, float, type(None))


def copied_module(module: nn.Module) -> nn.Module:
    """A deep copy, also of one that keeps tensors of its last training step, which torch refuses to copy.

    What cannot be copied at all (a lock, an open file, a generator) is the same object in both.
    """
    memo = _replaced(module)
    try:
        return copy.deepcopy(module, dict(memo))
    except Exception:  # whatever the class of an object on it raises; which one, it does not say
        _share(module, memo)
        return copy.deepcopy(module, memo)


def _replaced(module: nn.Module) -> dict[int, Any]:
    """Copies of tensors of a training step, which `deepcopy` refuses, and of empty hooks, on which it is slow."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():
            if type(value) is OrderedDict and not value:  # eleven in each part, half of the time of a copy
                memo[id(value)] = OrderedDict()
            elif not isinstance(value, _PLAIN):
                for tensor in tensors_in(value):
                    if not tensor.is_leaf:
                        memo[id(tensor)] = tensor.detach().clone()
    return memo


def _share(module: nn.Module, memo: dict[int, Any]) -> None:
    for part in module.modules():
        for value in vars(part).values():
            if not isinstance(value, (nn.Module, *_CONTAINERS)) or value:
                _share_what_cannot_be_copied(value, memo)


def _share_what_cannot_be_copied(value: Any, memo: dict[int, Any]) -> None:
    if id(value) in memo or isinstance(value, (*_PLAIN, torch.Tensor, nn.Module)):
        return
    held = list(_held(value))
    if any(isinstance(own, (torch.Tensor, nn.Module)) for own in held):  # copied with the module, so looked at inside
        for own in held:
            _share_what_cannot_be_copied(own, memo)
        return
    if not _copies(value, memo):
        for own in held:
            _share_what_cannot_be_copied(own, memo)
        if not _copies(value, memo):
            memo[id(value)] = value


def _copies(value: Any, memo: dict[int, Any]) -> bool:
    try:
        copy.deepcopy(value, dict(memo))
    except Exception:  # whatever the class of the user's object raises
        return False
    return True


def _held(value: Any) -> Iterator[Any]:
    """What a container or an object holds."""
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, _CONTAINERS):
        yield from value
    elif not isinstance(value, (type, torch.Tensor, nn.Module)) and hasattr(value, "__dict__"):
        yield from vars(value).values()


def tensors_in(value: Any, seen: set[int] | None = None) -> Iterator[torch.Tensor]:
    """The tensors in an attribute: itself, and those in containers and plain objects, at any depth."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, nn.Module):
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield value
        return
    for own in list(_held(value)):
        yield from tensors_in(own, seen)
