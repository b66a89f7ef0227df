"""Calling conventions of layers and cells, for samples, states and results: as ncps has them, and as torch has them.

The exporter keeps every state as (rows, width). ncps takes and returns such a tensor, or a pair with mixed memory;
torch stacks the layers of each state on a first axis. A call without a batch axis has no axis of rows anywhere.
Cells take one sample without an axis of time, (rows, features).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from .find import is_cell
from .recurrent import is_recurrent, is_recurrent_cell
from .repairs import takes_timespans

__all__ = [
    "NOTHING_TO_PACK",
    "Convention",
    "LayerConvention",
    "convention_of",
    "forward_signature",
    "layer_convention",
    "packs",
]

States = tuple[torch.Tensor, ...]
NOTHING_TO_PACK = (
    "export steps one sample at a time, and a step has nothing to pack. Pass the padded tensor itself to the layers, "
    "without pack_padded_sequence and pad_packed_sequence, and let the loss of the training leave out what is padding"
)


def forward_signature(kind: type[nn.Module]) -> inspect.Signature:
    """Of a class's forward; of the one that it overrides where it hands on whatever it gets."""
    signatures = [inspect.signature(vars(base)["forward"]) for base in kind.__mro__ if "forward" in vars(base)]
    named = [s for s in signatures if all(p.kind is not p.VAR_POSITIONAL for p in s.parameters.values())]
    return (named or signatures)[0]


class Convention(Protocol):
    """How one layer or cell takes its states and gives its results."""

    def unpacked(self, hx: Any, batched: bool) -> States:
        """States as it takes and returns them, as (rows, width) each."""

    def returned(self, y: torch.Tensor, states: Sequence[torch.Tensor], batched: bool) -> Any:
        """Output (rows, outputs) and states for one sample, as it returns them."""


class LayerConvention(Convention, Protocol):
    """The same of a layer, which can be called whatever the forward around it does."""

    def call(self, x: torch.Tensor, hx: Any, spans: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
        """The class's own forward."""

    def packed(self, states: Sequence[torch.Tensor], batched: bool) -> Any:
        """States, (rows, width) each, as the layer takes and returns them."""


def layer_convention(name: str, layer: nn.Module) -> LayerConvention:
    """The convention of a layer; the name is for messages."""
    return _Torch(name, layer) if is_recurrent(layer) else _Ncps(layer)


def convention_of(name: str, part: nn.Module) -> Convention:
    """The convention of a layer or cell; the name is for messages."""
    return _Cell(part) if is_cell(part) else layer_convention(name, part)


def packs(line: str) -> bool:
    """Whether a line of the user's code packs sequences, or unpacks them."""
    return "pack_sequence(" in line or "pack_padded_sequence(" in line or "pad_packed_sequence(" in line


class _OneOrTwo:
    """States as a tensor, or a pair of them."""

    def packed(self, states: Sequence[torch.Tensor], batched: bool) -> Any:
        own = tuple(states) if batched else tuple(state[0] for state in states)
        return own if len(own) > 1 else own[0]

    def unpacked(self, hx: Any, batched: bool) -> States:
        states = hx if isinstance(hx, (tuple, list)) else (hx,)
        return tuple(states) if batched else tuple(state.unsqueeze(0) for state in states)


class _Ncps(_OneOrTwo):
    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def call(self, x: torch.Tensor, hx: Any, spans: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
        """Timespans for a batchless call have no batch axis."""
        spans = spans.reshape(-1) if isinstance(spans, torch.Tensor) and x.dim() == 2 else spans
        timed = (spans,) if takes_timespans(type(self._layer)) else ()
        result: tuple[torch.Tensor, Any] = type(self._layer).forward(self._layer, x, hx, *timed)
        return result

    def returned(self, y: torch.Tensor, states: Sequence[torch.Tensor], batched: bool) -> Any:
        if not self._layer.return_sequences:
            y = y if batched else y[0]
        elif batched:
            y = y.unsqueeze(1 if self._layer.batch_first else 0)
        return y, self.packed(states, batched)


class _Torch:
    def __init__(self, name: str, layer: Any) -> None:
        self._name, self._layer = name, layer

    def call(self, x: torch.Tensor, hx: Any, _spans: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
        """These layers know nothing of time."""
        if isinstance(x, PackedSequence):
            raise TypeError(f"the forward gives '{self._name}' a PackedSequence; {NOTHING_TO_PACK}")
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

    def returned(self, y: torch.Tensor, states: Sequence[torch.Tensor], batched: bool) -> Any:
        y = y.unsqueeze(1 if self._layer.batch_first else 0) if batched else y
        return y, self.packed(states, batched)


class _Cell(_OneOrTwo):
    def __init__(self, cell: nn.Module) -> None:
        self._cell = cell

    def returned(self, y: torch.Tensor, states: Sequence[torch.Tensor], batched: bool) -> Any:
        own = self.packed(states, batched)
        return own if is_recurrent_cell(self._cell) else (y, own)
