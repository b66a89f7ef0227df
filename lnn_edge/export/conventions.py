"""How a layer wants its samples and states, and gives its results: as ncps has it, and as torch's own layers have it.

The exporter keeps every state as (rows, width). ncps takes and returns such a tensor, or a pair with mixed memory;
torch stacks the layers of each state on a first axis. A call without a batch axis has no axis of rows anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from .recurrent import is_recurrent

__all__ = ["Convention", "convention_of"]

States = tuple[torch.Tensor, ...]


class Convention(Protocol):
    """What steering asks about one layer."""

    def call(self, x: torch.Tensor, hx: Any, spans: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
        """The class's own forward."""

    def packed(self, states: Sequence[torch.Tensor], batched: bool) -> Any:
        """States, (rows, width) each, as the layer takes and returns them."""

    def unpacked(self, hx: Any, batched: bool) -> States:
        """The other way around."""

    def output(self, y: torch.Tensor, batched: bool) -> torch.Tensor:
        """The output for one sample, (rows, outputs), as the layer returns it."""


def convention_of(name: str, layer: nn.Module) -> Convention:
    """The convention of a layer; the name is for messages."""
    return _Torch(name, layer) if is_recurrent(layer) else _Ncps(layer)


class _Ncps:
    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def call(self, x: torch.Tensor, hx: Any, spans: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
        """Timespans for a batchless call have no batch axis."""
        spans = spans.reshape(-1) if isinstance(spans, torch.Tensor) and x.dim() == 2 else spans
        result: tuple[torch.Tensor, Any] = type(self._layer).forward(self._layer, x, hx, spans)
        return result

    def packed(self, states: Sequence[torch.Tensor], batched: bool) -> Any:
        own = tuple(states) if batched else tuple(state[0] for state in states)
        return own if len(own) > 1 else own[0]

    def unpacked(self, hx: Any, batched: bool) -> States:
        states = hx if isinstance(hx, tuple) else (hx,)
        return states if batched else tuple(state.unsqueeze(0) for state in states)

    def output(self, y: torch.Tensor, batched: bool) -> torch.Tensor:
        if not self._layer.return_sequences:
            return y if batched else y[0]
        return y.unsqueeze(1 if self._layer.batch_first else 0) if batched else y


class _Torch:
    def __init__(self, name: str, layer: Any) -> None:
        self._name, self._layer = name, layer

    def call(self, x: torch.Tensor, hx: Any, _spans: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
        """These layers know nothing of time."""
        if isinstance(x, PackedSequence):
            raise TypeError(
                f"the forward gives '{self._name}' a PackedSequence; export steps one sample at a time, and a step has "
                f"nothing to pack. Pass the padded tensor itself"
            )
        result: tuple[torch.Tensor, Any] = type(self._layer).forward(self._layer, x, hx)
        return result

    def packed(self, states: Sequence[torch.Tensor], batched: bool) -> Any:
        layers = self._layer.num_layers
        own = [state if batched else state[0] for state in states]
        stacked = [self._stacked(own[k : k + layers]) for k in range(0, len(own), layers)]
        return tuple(stacked) if len(stacked) > 1 else stacked[0]

    @staticmethod
    def _stacked(layers: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(layers) if len(layers) > 1 else layers[0].unsqueeze(0)

    def unpacked(self, hx: Any, batched: bool) -> States:
        stacked = hx if isinstance(hx, tuple) else (hx,)
        return tuple(layer if batched else layer.unsqueeze(0) for kind in stacked for layer in kind)

    def output(self, y: torch.Tensor, batched: bool) -> torch.Tensor:
        return y.unsqueeze(1 if self._layer.batch_first else 0) if batched else y
