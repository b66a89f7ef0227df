"""Support of ncps layers by the hand-written loop: it computes those exactly whose every part is what ncps builds.

Whatever else there is (a subclass with its own forward, hooks, parametrisations, replaced parts, another dtype,
autocast) is stepped as the module itself would, which is slower and right.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from ncps.torch import LTC, CfC, CfCCell, LTCCell, WiredCfCCell
from ncps.torch.cfc_cell import LeCun
from ncps.torch.lstm import LSTMCell
from torch import Tensor, nn

__all__ = ["has_own_forward", "is_covered"]

_ACTIVATIONS = (LeCun, nn.ReLU, nn.Tanh, nn.SiLU, nn.GELU)
_MODES = ("default", "no_gate", "pure")


def has_own_forward(core: nn.Module) -> bool:
    """Whether the layer itself does anything that stepping its cell would leave out: its own forward, or hooks."""
    base = LTC if isinstance(core, LTC) else CfC
    return type(core).forward is not base.forward or "forward" in vars(core) or _has_hooks(core)


def is_covered(core: Any, values: tuple[Tensor, ...]) -> bool:
    """Whether the hand-written loop computes what the layer's cell computes.

    Args:
        core: The layer, without its own forward.
        values: Inputs, states and time spans.
    """
    return (
        all(_is_plain(part) for part in core.modules())
        and all(structure for structure in _structure(core))
        and _is_uniform((*values, *_weights(core)))
    )


def _is_plain(part: nn.Module) -> bool:
    return "forward" not in vars(part) and not _has_hooks(part)


def _has_hooks(part: nn.Module) -> bool:
    own = part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
    return bool(own) or bool(torch.nn.modules.module._has_any_global_hook())  # type: ignore[no-untyped-call]


def _is_uniform(tensors: tuple[Tensor, ...]) -> bool:
    """Whether all tensors are of one device and one of the two dtypes that the kernels are made for."""
    kinds = {(tensor.dtype, tensor.device) for tensor in tensors}
    (dtype, device), *others = kinds
    return not others and dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(device.type)


def _weights(core: Any) -> tuple[Tensor, ...]:
    used = tuple(core.rnn_cell._params.values()) if isinstance(core, LTC) else ()
    return (*core.parameters(), *used)


def _structure(core: Any) -> Iterator[bool]:
    cell = core.rnn_cell
    yield type(core.lstm) is LSTMCell and _is_lstm(core.lstm) if core.use_mixed else True
    if isinstance(core, LTC):
        yield type(cell) is LTCCell and _is_ltc(cell)
        return
    yield type(core.fc) in (nn.Identity, nn.Linear)
    if type(cell) is WiredCfCCell:
        layers = cell._layers
        yield all(type(layer) is CfCCell and _is_cfc(layer) and layer.backbone_layers == 0 for layer in layers)
        yield len({layer.mode for layer in layers}) == 1
        yield [layer.hidden_size for layer in layers] == cell.layer_sizes
    else:
        yield type(cell) is CfCCell and _is_cfc(cell)


def _is_ltc(cell: Any) -> bool:
    positive = cell.make_positive_fn
    softplus = type(positive) is nn.Softplus and (positive.beta, positive.threshold) == (1.0, 20.0)
    masks = cell._params["sparsity_mask"], cell._params["sensory_sparsity_mask"]
    return (
        (softplus or type(positive) is nn.Identity)
        and cell._ode_unfolds >= 1
        and all(bool(mask.any()) or mask.requires_grad for mask in masks)
        and not {"forward", "_ode_solver", "_sigmoid", "_map_inputs", "_map_outputs"} & set(vars(cell))
    )


def _is_lstm(cell: Any) -> bool:
    linear = type(cell.input_map) is nn.Linear and type(cell.recurrent_map) is nn.Linear
    return linear and cell.recurrent_map.bias is None and _has_own_functions(cell)


def _is_cfc(cell: Any) -> bool:
    heads = [cell.ff1] if cell.mode == "pure" else [cell.ff1, cell.ff2, cell.time_a, cell.time_b]
    return (
        cell.mode in _MODES
        and all(type(head) is nn.Linear for head in heads)
        and _has_own_functions(cell)
        and (cell.backbone_layers <= 0 or _is_backbone(cell.backbone))
    )


def _has_own_functions(cell: Any) -> bool:
    return type(cell.tanh) is nn.Tanh and type(cell.sigmoid) is nn.Sigmoid


def _is_backbone(backbone: Any) -> bool:
    """Whether it is layers of a Linear, an activation and perhaps a Dropout."""
    kinds = [_kind(part) for part in backbone]
    shape = "".join(kinds)
    return type(backbone) is nn.Sequential and bool(shape) and not shape.replace("lad", "").replace("la", "")


def _kind(part: nn.Module) -> str:
    if type(part) is nn.GELU and part.approximate != "none":
        return "?"
    if type(part) is LeCun and type(part.tanh) is not nn.Tanh:
        return "?"
    return (
        "l"
        if type(part) is nn.Linear
        else "a"
        if type(part) in _ACTIVATIONS
        else "d"
        if type(part) is nn.Dropout
        else "?"
    )
