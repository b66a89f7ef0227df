"""Convolutions and large products that torch remembers: of a frame that comes again, it gives what it gave before.

A trained network is stepped over thousands of samples of which some dozens differ. Its forward runs as it is, each
step; only a product with weights, of numbers that it was given before, is not computed again. Such a product has no
state, so nothing that torch gives changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["RememberedProducts"]

_MOST_BYTES = 1 << 29  # of what is remembered; what comes later is computed each time
_SAMPLED = 64  # numbers of an operand that say which of the remembered ones it may be
_LARGE = 1 << 16  # numbers of a matrix; a product with a smaller one is computed as soon as it is found
_CONVOLUTIONS = frozenset(getattr(torch, f"conv{kind}{axes}d") for kind in ("", "_transpose") for axes in (1, 2, 3))


class RememberedProducts(TorchFunctionMode):
    """A context in which torch computes no convolution, and no large linear layer, of the same numbers twice.

    Weights are known by who they are, as parameters that nobody has written to since; what is computed in a forward is
    compared number by number.

    Attributes:
        computed: How many products were computed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.computed = 0
        self._known: dict[tuple[Any, ...], list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self._bytes = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """See `TorchFunctionMode`."""
        if func in _CONVOLUTIONS or func is nn.functional.linear:
            return self._product(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _product(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        x, *others = [*args, *kwargs.values()]
        weights = [value for value in others if isinstance(value, torch.Tensor)]
        large = func in _CONVOLUTIONS or max((w.numel() for w in weights), default=0) >= _LARGE
        if not large or not all(isinstance(weight, nn.Parameter) for weight in weights):
            return func(*args, **kwargs)
        candidates = self._known.setdefault((func, tuple(kwargs), *_marks(x), *map(_identity, others)), [])
        for known, result in candidates:
            if torch.equal(known, x):
                return result.clone()  # whoever writes into it
        result = func(*args, **kwargs)
        self.computed += 1
        size = x.nbytes + result.nbytes
        if self._bytes + size <= _MOST_BYTES:
            self._bytes += size
            candidates.append((x.clone(), result.clone()))
        return result


def _marks(x: torch.Tensor) -> tuple[Any, ...]:
    """Shape, dtype and some of the numbers."""
    flat = x.reshape(-1)
    return tuple(x.shape), x.dtype, tuple(flat[:: max(1, len(flat) // _SAMPLED)].tolist())


def _identity(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return id(value), value._version
    return tuple(value) if isinstance(value, list) else value
