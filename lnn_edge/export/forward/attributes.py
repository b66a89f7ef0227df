"""Attributes that a user's forward leaves something in: put back before each call, so that each begins a sequence."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...wording import listed

__all__ = ["CallAttributes"]

_OF_TORCH = frozenset(vars(nn.Module())) - {"_buffers"}  # what every module has


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict, deque)):
        for own in value.values() if isinstance(value, dict) else value:
            yield from _tensors(own)


class CallAttributes:
    """What a module holds beside its parameters, and which of it a call changes.

    A robot's node keeps its state so: `y, self.h = self.rnn(x, self.h)`. The states of cores are kept by the exporter
    whatever the forward passes; with the attributes put back, each call is the first of a sequence.

    Args:
        module: The module.
        call: Calls it once.

    Attributes:
        names: Attributes that the call changes, as `policy.h`.

    Raises:
        ValueError: If one holds a tensor that an earlier call seems to have left.
    """

    def __init__(self, module: nn.Module, call: Callable[[], object]) -> None:
        before = {name: (part, _contents(part)) for name, part in module.named_modules()}
        call()
        self._changed = [
            (part, key, value)
            for part, contents in before.values()
            for key, value in contents.items()
            if not _same(value, _contents(part).get(key))
        ]
        added = [(part, key) for part, contents in before.values() for key in _contents(part) if key not in contents]
        self._added, self._module = added, module
        owners = {id(part): name for name, (part, _) in before.items()}
        named = [(part, key) for part, key, _ in self._changed] + added
        self.names = [f"{owners[id(part)]}.{key}".removeprefix(".") for part, key in named]
        held = [value for _, _, value in self._changed] + [_contents(part).get(key) for part, key in named]
        self.put_back()
        if any(isinstance(value, np.ndarray) for value in held):
            raise TypeError(
                f"the model keeps {listed(f'`{name}`' for name in self.names)} from call to call, as NumPy arrays, "
                "which no trace can follow. Keep tensors: self.h = h.detach(), and pass them on as they are"
            )
        for (_, _, value), name in zip(self._changed, self.names, strict=False):  # what was added held nothing
            if isinstance(value, torch.Tensor) and bool(value.any()) and not self._written_anew(name, call):
                raise ValueError(
                    f"the model keeps something in `{name}` from call to call, and it holds what an earlier call left "
                    "there: a stream would start every sequence from that. Set it to what a sequence starts from "
                    f"before the export, for instance model.{name} = None or zeros"
                )

    def _written_anew(self, name: str, call: Callable[[], object]) -> bool:
        """Whether a call does not read an attribute that it writes, as a weight that is computed from others."""
        part, key, value = self._changed[self.names.index(name)]
        results = []
        for given in (value, 0.5 * value + 0.1 if value.is_floating_point() else value + 1):
            _set(part, key, given)
            results.append([leaf.clone() for leaf in _tensors(list(pytree.tree_leaves(call())))])
            self.put_back()
        return all(torch.equal(a, b) for a, b in zip(*results, strict=True))

    def beside(self, states: Sequence[torch.Tensor]) -> str:
        """The attributes whose tensors, as the last call left them, are no states of cores; all if each is one."""
        parts = dict(self._module.named_modules())
        own = []
        for name in self.names:
            owner, _, key = name.rpartition(".")
            tensors = list(_tensors(_contents(parts[owner]).get(key)))
            known = tensors and all(any(_equal(tensor, state) for state in states) for tensor in tensors)
            own += [] if known else [name]
        return listed(f"`{name}`" for name in own or self.names)

    def put_back(self) -> None:
        """Undo what calls have left."""
        for part, key, value in self._changed:
            _set(part, key, _copied(value))
        for part, key in self._added:
            vars(part).pop(key, None)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.numel() == other.numel() and torch.allclose(one.reshape(-1), other.reshape(-1), atol=1e-6)


def _contents(part: nn.Module) -> dict[str, Any]:
    """Attributes and buffers of one module, copied where they can be changed in place."""
    own = {key: value for key, value in vars(part).items() if key not in _OF_TORCH and key != "_buffers"}
    return {key: _copied(value) for key, value in {**own, **part._buffers}.items()}


def _set(part: nn.Module, key: str, value: Any) -> None:
    if key in part._buffers:
        part._buffers[key] = value
    else:
        vars(part)[key] = value


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return copy.copy(value) if isinstance(value, (dict, list, set, deque)) else value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple, deque)) and isinstance(b, (list, tuple, deque)):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a is b or (isinstance(a, (int, float, str, bytes, set, frozenset)) and a == b)
