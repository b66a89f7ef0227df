"""Repairs of ncps: classes and instances that override a layer or cell and compute for one row what the plain one does.

ncps applies the timespans of all rows to each of them, so people override its methods; what a stream steps is one row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from ncps.torch import LTC, CfC
from torch import nn
from torch.utils import _pytree as pytree

from .copying import copied_module

__all__ = ["computes_as", "ignores_time", "takes_timespans"]

_STEPS = 5
_CLOSE = 1e-5  # what another order of sums in float32 makes of outputs of order 1


def computes_as(module: nn.Module, base: type[nn.Module], methods: Sequence[str]) -> bool:
    """Whether a layer or cell that overrides methods of its class computes what the plain class does, row by row.

    Args:
        module: The layer or cell; it is not changed.
        base: The plain class.
        methods: Those whose maths the exporter knows.
    """
    own, plain = (copied_module(module).to("cpu", torch.float32).eval() for _ in range(2))
    for method in methods:
        vars(plain).pop(method, None)
    plain.__class__ = base
    calls = _layer_calls(own) if isinstance(module, (LTC, CfC)) else _cell_calls(own)
    try:
        with torch.no_grad():
            if isinstance(module, (LTC, CfC)) and _timeless(own):
                return all(_equal(_called(own, *call), plain(*call[:2])) for call in calls)
            return all(_equal(own(*call), plain(*call)) for call in calls)
    except Exception:  # the user's own code, called as ncps calls it
        return False


def ignores_time(layer: nn.Module) -> bool:
    """Whether a layer of ncps is of a subclass that computes the same whatever timespans it is given."""
    if not isinstance(layer, (LTC, CfC)) or type(layer) in (LTC, CfC):
        return False
    own = copied_module(layer).to("cpu", torch.float32).eval()
    with torch.no_grad():
        return _timeless(own)


def takes_timespans(kind: type[nn.Module]) -> bool:
    """Whether the forward of a layer has an argument for them, or hands on whatever it gets."""
    return _takes_timespans(kind.forward)


@lru_cache(maxsize=64)  # asked at every step that a layer is called
def _takes_timespans(forward: Callable[..., Any]) -> bool:
    parameters = inspect.signature(forward).parameters.values()
    return len(parameters) > 3 or any(own.kind in (own.VAR_POSITIONAL, own.VAR_KEYWORD) for own in parameters)


def _timeless(layer: Any) -> bool:
    return all(_equal(_called(layer, x, hx, own), _called(layer, x, hx, None)) for x, hx, own in _layer_calls(layer))


def _called(layer: Any, x: torch.Tensor, hx: Any, spans: torch.Tensor | None) -> Any:
    return layer(x, hx, spans) if takes_timespans(type(layer)) else layer(x, hx)


def _equal(a: Any, b: Any) -> bool:
    ours, others = pytree.tree_leaves(a), pytree.tree_leaves(b)
    return len(ours) == len(others) and all(
        x.shape == y.shape and torch.allclose(x, y, rtol=_CLOSE, atol=_CLOSE) for x, y in zip(ours, others, strict=True)
    )


def _layer_calls(layer: Any) -> Iterator[tuple[Any, ...]]:
    """Samples, state and timespans of one row, as a forward around a layer passes them."""
    draws = torch.Generator().manual_seed(0)
    first = (1, _STEPS) if layer.batch_first else (_STEPS, 1)
    x = torch.randn(*first, _inputs(layer), generator=draws)
    spans = 0.2 + torch.rand(first, generator=draws)
    state = torch.randn(1, layer.state_size, generator=draws)
    hx = (state, 0.5 * state) if layer.use_mixed else state
    yield x, None, None
    yield x, hx, spans
    yield x, None, spans.unsqueeze(-1)


def _inputs(layer: Any) -> int:
    memory = getattr(layer, "lstm", None)
    return int(layer.input_size if memory is None else memory.input_map.in_features)


def _cell_calls(cell: Any) -> Iterator[tuple[Any, ...]]:
    """One sample, state and timespan of one row, as ncps' layers pass them."""
    draws = torch.Generator().manual_seed(0)
    inputs = cell.sensory_size if hasattr(cell, "sensory_size") else cell.input_size
    units = cell.hidden_size if hasattr(cell, "hidden_size") else cell.state_size
    x, state = torch.randn(1, int(inputs), generator=draws), torch.randn(1, int(units), generator=draws)
    for span in (1.0, torch.tensor(0.3), torch.tensor(2.5)):
        yield x, state, span
