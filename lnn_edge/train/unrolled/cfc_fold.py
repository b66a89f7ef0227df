"""Stages of the loop from an ncps CfC and its inputs: everything that is the same in every step, done once.

Masks and constant factors go into the weights, the heads of a cell become one product, and the products of the inputs
are made for the whole sequence. An autograd block carries y where the value is scale * y + shift (see `cfc_blocks`);
whoever multiplies it takes weight * scale, and adds weight @ shift to its bias.

A wired CfC is a stack of layers, each of which needs the one below at the same step and itself one step before. So
layer l can do step t - l while the first does step t: all layers are then one product per step. `Skew` is that order.
With mixed memory the LSTM needs all of them first, and they go one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from ncps.torch.cfc_cell import LeCun
from torch import Tensor, nn
from torch.nn import functional

from .cfc_blocks import BackboneBlock, MixBlock
from .cfc_modes import Gated, Pure
from .lstm_block import LstmBlock
from .time_loop import Stage

__all__ = ["Encoding", "Skew", "encoding_of", "lstm_stage", "skewed_stage", "stacked_stages", "unwired_stages"]


@dataclass(frozen=True)
class Encoding:
    """How a value is carried: as y, where it is scale * y + shift."""

    scale: float = 1.0
    shift: float = 0.0

    def encoded(self, value: Tensor) -> Tensor:
        """What stands for a value."""
        return value if self == Encoding() else (value - self.shift) / self.scale

    def decoded(self, y: Tensor) -> Tensor:
        """The value."""
        return y if self == Encoding() else y * self.scale + self.shift

    def folded(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """A product of the value as a product of what stands for it."""
        if self.shift:
            bias = bias + self.shift * weight.sum(1)
        return (weight if self.scale == 1 else weight * self.scale), bias


_TANH = Encoding(2.0, -1.0)  # a tanh of x, carried as a sigmoid of 2 x


def encoding_of(mode: str) -> Encoding:
    """Of the state: a CfC's is between two tanhs, which are carried as sigmoids, in the default mode."""
    return _TANH if mode == "default" else Encoding()


def _bias(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias


def lstm_stage(lstm: Any, x: Tensor, state: Encoding) -> Stage:
    """The stage of an ncps LSTMCell; x (steps, B, inputs)."""
    units = lstm.hidden_size
    weight, bias = state.folded(lstm.recurrent_map.weight, _bias(lstm.input_map))
    # ncps adds 1 to the forget gate in every step
    bias = bias + torch.cat((bias.new_zeros(2 * units), bias.new_ones(units), bias.new_zeros(units)))
    drive = functional.linear(x, lstm.input_map.weight, bias)
    return Stage(partial(LstmBlock, state.scale, state.shift), (drive, weight))


def unwired_stages(cell: Any, x: Tensor, spans: Tensor | None) -> list[Stage]:
    """The stages of a CfCCell: its backbone, then its heads.

    Args:
        cell: The cell.
        x: (steps, B, inputs).
        spans: (steps, B), or `None` for 1.
    """
    carried = encoding_of(cell.mode)
    drive_of: Callable[[Tensor, Tensor, Encoding], tuple[Tensor, Tensor]] = partial(_product, x)
    stages = []
    for linear, activation, noise in _backbone(cell, x):
        name, factor, encoding = _carried(activation, noise)
        drive, weight = drive_of(linear.weight * factor, _bias(linear) * factor, carried)
        stages.append(Stage(partial(BackboneBlock, name, noise), (drive, weight)))
        carried, drive_of = encoding, _no_product
    weights, biases = _heads(cell, spans is None)
    drive, weight = drive_of(weights.flatten(0, 1), biases.flatten(), carried)
    return [*stages, _mix_stage([cell], drive, weight, None if spans is None else spans.unsqueeze(2))]


def _product(x: Tensor, weight: Tensor, bias: Tensor, carried: Encoding) -> tuple[Tensor, Tensor]:
    """Of a layer that takes inputs and state: the products of all inputs, and the weight of the state."""
    weight_x, (weight_h, bias) = weight[:, : x.shape[2]], carried.folded(weight[:, x.shape[2] :], bias)
    return functional.linear(x, weight_x, bias), weight_h


def _no_product(weight: Tensor, bias: Tensor, carried: Encoding) -> tuple[Tensor, Tensor]:
    weight, bias = carried.folded(weight, bias)
    return bias, weight


def _backbone(cell: Any, x: Tensor) -> Iterator[tuple[nn.Linear, nn.Module, Tensor | None]]:
    """Each layer of a backbone with its activation and, when it trains with dropout, the noise of all steps."""
    layers: list[list[Any]] = []
    for part in cell.backbone if cell.backbone_layers > 0 else ():
        layers.append([part]) if isinstance(part, nn.Linear) else layers[-1].append(part)
    dropping = [len(layer) == 3 and layer[2].training and layer[2].p > 0 for layer in layers]
    noise: list[list[Tensor]] = [[] for _ in layers]
    for _ in range(len(x) if any(dropping) else 0):  # in the order in which ncps would draw it
        for layer, drops, own in zip(layers, dropping, noise, strict=True):
            if drops:
                own.append(functional.dropout(x.new_ones(x.shape[1], layer[0].out_features), layer[2].p))
    for layer, own in zip(layers, noise, strict=True):
        yield layer[0], layer[1], torch.stack(own) if own else None


def _carried(activation: nn.Module, noise: Tensor | None) -> tuple[str, float, Encoding]:
    """What to compute for an activation: a function's name, what to multiply its argument with, what its result is."""
    if isinstance(activation, (LeCun, nn.Tanh)):
        outer, inner = (1.7159, 0.666) if isinstance(activation, LeCun) else (1.0, 1.0)
        if noise is None:
            return "sigmoid", 2 * inner, Encoding(2 * outer, -outer)
        return "tanh", inner, Encoding(outer)  # a unit that is dropped is 0, which no sigmoid stands for
    return {nn.ReLU: "relu", nn.SiLU: "silu", nn.GELU: "gelu"}[type(activation)], 1.0, Encoding()


def _heads(cell: Any, one_span: bool) -> tuple[Tensor, Tensor]:
    """Weights (heads, units, columns) and biases (heads, units) of a cell, as the mixtures want them."""
    mask = cell.sparsity_mask
    candidates = [cell.ff1] if cell.mode == "pure" else [cell.ff1, cell.ff2]
    weights = [layer.weight if mask is None else layer.weight * mask for layer in candidates]
    biases = [_bias(layer) for layer in candidates]
    if cell.mode != "pure":
        # the candidates are tanhs, computed as sigmoids of twice their argument; the gate is the sigmoid of
        # a * span + b, which for a span of 1 is one head
        weights, biases = [2 * w for w in weights], [2 * b for b in biases]
        a, b = cell.time_a, cell.time_b
        if one_span:
            weights, biases = [*weights, a.weight + b.weight], [*biases, _bias(a) + _bias(b)]
        else:
            # b before a: `Gated` adds a * span to b in place, and takes the first three heads through one sigmoid
            weights, biases = [*weights, b.weight, a.weight], [*biases, _bias(b), _bias(a)]
    return torch.stack(weights), torch.stack(biases)


def _mix_stage(
    cells: Sequence[Any],
    drive: Tensor,
    weight: Tensor,
    spans: Tensor | None,
    columns: slice | None = None,
    hold: tuple[int, ...] = (),
) -> Stage:
    """The heads of cells of one mode side by side."""
    mode, own = cells[0].mode, () if spans is None else (spans,)
    if mode == "pure":
        # ordinary autograd has the derivative of abs, so the block need not
        tau = torch.cat([cell.w_tau for cell in cells], dim=1).abs()
        own = (torch.cat([cell.A for cell in cells], dim=1), tau, *own)
    mixture = Pure if mode == "pure" else partial(Gated, mode)
    return Stage(partial(MixBlock, mixture, columns, hold), (drive, weight, *own))


@dataclass(frozen=True)
class Skew:
    """Layers of a wired CfC in step: at tick t, layer l does step t - l."""

    sizes: tuple[int, ...]
    steps: int

    @property
    def ticks(self) -> int:
        """How many."""
        return self.steps + len(self.sizes) - 1

    @property
    def slots(self) -> list[slice]:
        """Of each layer in the state."""
        ends = [sum(self.sizes[: k + 1]) for k in range(len(self.sizes))]
        return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]

    @property
    def hold(self) -> tuple[int, ...]:
        """For each tick before the last layer begins, where the layers start that have not begun."""
        return tuple(slot.stop for slot in self.slots[:-1])

    def spread(self, spans: Tensor) -> Tensor:
        """Time spans (steps, B) as each layer meets them, (ticks, B, units)."""
        late = self.ticks - self.steps
        # 1, a span that harms nothing: results of these ticks are held back or never gathered
        shifted = [functional.pad(spans, (0, 0, k, late - k), value=1.0) for k in range(len(self.sizes))]
        return torch.cat([s.unsqueeze(2).expand(-1, -1, n) for s, n in zip(shifted, self.sizes, strict=True)], dim=2)

    def gathered(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """From the states of all ticks to the last layer's of all steps, and to those of all layers after the last."""
        last = [states[self.steps - 1 + k, :, slot] for k, slot in enumerate(self.slots)]
        return states[self.ticks - self.steps :, :, self.slots[-1]], torch.cat(last, dim=1)


def skewed_stage(cells: Sequence[Any], x: Tensor, spans: Tensor | None, skew: Skew) -> Stage:
    """All layers of a wired CfC as one autograd block of `skew.ticks` steps; arguments as for `unwired_stages`."""
    weights_x, weights, biases = zip(*_layers(cells, x.shape[2], spans is None, skew), strict=True)
    units = skew.slots[-1].stop
    weight_x = functional.pad(weights_x[0], (0, 0, 0, units - skew.sizes[0]))  # the other layers see no inputs
    x = functional.pad(x, (0, 0, 0, 0, 0, skew.ticks - skew.steps))  # the first layer is done, the others go on
    drive = functional.linear(x, weight_x.flatten(0, 1), torch.cat(biases, dim=1).flatten())
    weight = torch.cat(weights, dim=1).flatten(0, 1)
    return _mix_stage(cells, drive, weight, None if spans is None else skew.spread(spans), hold=skew.hold)


def stacked_stages(cells: Sequence[Any], x: Tensor, spans: Tensor | None, skew: Skew) -> list[Stage]:
    """The layers of a wired CfC as one autograd block each; arguments as for `unwired_stages`."""
    spans = None if spans is None else spans.unsqueeze(2)
    stages = []
    layers = _layers(cells, x.shape[2], spans is None, skew)
    for cell, slot, (weight_x, weight_h, bias) in zip(cells, skew.slots, layers, strict=True):
        drive = bias.flatten() if weight_x is None else functional.linear(x, weight_x.flatten(0, 1), bias.flatten())
        stages.append(_mix_stage([cell], drive, weight_h.flatten(0, 1), spans, columns=slot))
    return stages


def _layers(
    cells: Sequence[Any], inputs: int, one_span: bool, skew: Skew
) -> Iterator[tuple[Tensor | None, Tensor, Tensor]]:
    """Per layer the weights of the inputs (only the first has them), those of the whole state, and the biases.

    Shapes: (heads, own units, inputs), (heads, own units, units), (heads, own units).
    """
    carried, slots = encoding_of(cells[0].mode), skew.slots
    # a layer sees the one below it and itself, which lie side by side in the state; zeros stand for the others, so that
    # every layer takes the whole state and all can be one product
    for k, cell in enumerate(cells):
        weight, bias = _heads(cell, one_span)
        weight_x = weight[:, :, :inputs] if k == 0 else None
        start = 0 if k == 0 else slots[k - 1].start
        weight_h = functional.pad(weight[:, :, inputs if k == 0 else 0 :], (start, slots[-1].stop - slots[k].stop))
        flat, flat_bias = carried.folded(weight_h.flatten(0, 1), bias.flatten())
        yield weight_x, flat.view_as(weight_h), flat_bias.view_as(bias)
