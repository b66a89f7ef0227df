"""Liquid cores read from ncps modules: the maths is taken from the tensors that a module really computes with.

Whatever this page does not know for certain is refused by name: a subclass with its own forward or solver, hooks,
parametrised or replaced weights, an unknown activation. `wiring` objects are never read for maths: ncps lets them
disagree with the masks, and the masks are what is computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ncps.torch import LTC, CfC, CfCCell, LTCCell, WiredCfCCell
from ncps.torch.cfc_cell import LeCun
from ncps.torch.lstm import LSTMCell
from torch import nn

from ...arrays import Array
from ...reference import AffineMap, CfcCell, CfcLayer, LstmLayer, LtcCell, Synapses
from ...reference.cfc import Activation, Linear
from ...reference.functions import softplus
from .checks import check_methods, checked_array, type_name
from .maths import LiquidCore
from .repairs import computes_as

__all__ = ["LoopedCell", "core_from_module", "is_core", "is_implicit"]


_ACTIVATIONS: dict[type[nn.Module], Activation] = {
    LeCun: "lecun_tanh",
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.SiLU: "silu",
    nn.GELU: "gelu",
}
# The methods whose maths `lnn_edge.reference` restates. A class that overrides one of them computes something else.
_METHODS: dict[type[nn.Module], tuple[str, ...]] = {
    LTC: ("forward",),
    CfC: ("forward",),
    LTCCell: ("forward", "_ode_solver", "_sigmoid", "_map_inputs", "_map_outputs"),
    CfCCell: ("forward",),
    WiredCfCCell: ("forward",),
    LSTMCell: ("forward",),
    LeCun: ("forward",),
}


class LoopedCell(nn.Module):
    """An ncps cell on its own, looped over a sequence as the ncps layers do it; takes the place of a layer."""

    use_mixed = False
    batch_first = True

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.rnn_cell: Any = cell
        self.return_sequences = True
        self.state_size = int(cell.hidden_size) if isinstance(cell, CfCCell) else int(cell.state_size)  # type: ignore[arg-type]

    def forward(
        self, x: torch.Tensor, hx: torch.Tensor | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (1, time, outputs) and final state (1, units) for one row; timespans (1, time)."""
        state = torch.zeros(len(x), self.state_size, dtype=x.dtype) if hx is None else hx
        outputs = []
        for t in range(x.shape[1]):
            span = 1.0 if timespans is None else timespans[:, t].squeeze()
            y, state = self.rnn_cell(x[:, t], state, span)
            outputs.append(y)
        return torch.stack(outputs, dim=1), state


def is_core(module: nn.Module) -> bool:
    """Whether a module is an ncps layer, or a cell looped like one."""
    return isinstance(module, (LTC, CfC, LoopedCell))


def core_from_module(module: nn.Module) -> LiquidCore:
    """Read an ncps `LTC` or `CfC`.

    Args:
        module: The layer; nothing in it is changed.

    Returns:
        Its maths, float64.

    Raises:
        TypeError: If it is no ncps layer or holds a part this exporter does not know.
        ValueError: If its tensors are not finite or are not those it computes with.
    """
    if not is_core(module):
        raise TypeError(f"expected an ncps.torch LTC or CfC, got {type_name(module)}")
    if not isinstance(module, LoopedCell):
        _check(module, LTC if isinstance(module, LTC) else CfC)
    inner: Any = module.rnn_cell
    cell = _ltc_cell(inner) if isinstance(inner, LTCCell) else _cfc_cell(inner)
    memory: Any = module.lstm if module.use_mixed else None
    before = None if memory is None else _memory_cell(memory)
    head = getattr(module, "fc", None)
    return LiquidCore(cell, before, _linear(head, "fc") if isinstance(head, nn.Linear) else None)


def _ltc_cell(cell: LTCCell) -> LtcCell:
    _check(cell, LTCCell)
    _check_aliases(cell)

    def tensor(name: str) -> Array:
        return checked_array(cell._params[name], name)

    def optional(name: str) -> Array | None:
        return tensor(name) if name in cell._params else None

    positive = cell.make_positive_fn
    if type(positive) not in (nn.Softplus, nn.Identity):
        raise TypeError(f"LTCCell.make_positive_fn is {type_name(positive)}, expected Softplus or Identity")
    if isinstance(positive, nn.Softplus) and (positive.beta, positive.threshold) != (1.0, 20.0):
        raise TypeError(f"LTCCell.make_positive_fn is {positive}, expected Softplus with its default values")

    def used(name: str) -> Array:
        """A conductance or capacitance as the solver uses it."""
        return softplus(tensor(name)) if is_implicit(cell) else tensor(name)

    def synapses(prefix: str) -> Synapses:
        """Those whose weight, mask included, is not zero."""
        w = used(f"{prefix}w") * tensor(f"{prefix}sparsity_mask")
        source, target = pick = np.nonzero(w)
        mu, sigma, erev = (tensor(f"{prefix}{name}")[pick] for name in ("mu", "sigma", "erev"))
        return Synapses(source.astype(np.int32), target.astype(np.int32), w[pick], mu, sigma, erev)

    return LtcCell(
        cm=used("cm"), gleak=used("gleak"), vleak=tensor("vleak"),
        sensory=synapses("sensory_"), synapses=synapses(""),
        input_map=AffineMap(optional("input_w"), optional("input_b")),
        output_map=AffineMap(optional("output_w"), optional("output_b")),
        inputs=len(tensor("sensory_w")), motor=min(int(cell.motor_size or cell.state_size), int(cell.state_size)),
        unfolds=int(cell._ode_unfolds), epsilon=float(cell._epsilon),
    )  # fmt: skip


def is_implicit(cell: LTCCell) -> bool:
    """Whether a cell keeps its parameters positive by softplus, rather than by clipping after each training step."""
    return isinstance(cell.make_positive_fn, nn.Softplus)


def _check_aliases(cell: LTCCell) -> None:
    """LTCCell computes with the dict `_params`; several torch features replace the registered tensors behind it."""
    registered = dict(cell.named_parameters(recurse=False)) | dict(cell.named_buffers(recurse=False))
    for name, used in cell._params.items():
        seen = registered.get(name, getattr(cell, name, None))
        if seen is not used and (seen is None or seen.data_ptr() != used.data_ptr()):
            raise ValueError(
                f"LTCCell computes with a stale copy of '{name}': the registered tensor was replaced (by "
                "load_state_dict(assign=True), pruning, a parametrisation or a new Parameter), but ncps still uses the "
                "old one. Build the model again and type: model.load_state_dict(state_dict) without assign"
            )


def _cfc_cell(cell: nn.Module) -> CfcCell:
    if isinstance(cell, WiredCfCCell):
        _check(cell, WiredCfCCell)
        return CfcCell(tuple(_cfc_layer(layer) for layer in cell._layers))
    return CfcCell((_cfc_layer(cell),))


def _cfc_layer(cell: nn.Module) -> CfcLayer:
    if not isinstance(cell, CfCCell):
        raise TypeError(f"expected an ncps CfCCell inside CfC, got {type_name(cell)}")
    _check(cell, CfCCell)
    if cell.mode not in ("default", "pure", "no_gate"):
        raise ValueError(f"CfCCell.mode is '{cell.mode}', expected 'default', 'pure' or 'no_gate'")
    activation, backbone = _backbone(cell.backbone) if cell.backbone_layers > 0 else ("tanh", ())
    mask = None if cell.sparsity_mask is None else checked_array(cell.sparsity_mask, "sparsity_mask")
    if cell.mode == "pure":
        return CfcLayer(
            "pure", activation, backbone, _linear(cell.ff1, "ff1", mask),
            w_tau=checked_array(cell.w_tau, "w_tau")[0], a=checked_array(cell.A, "A")[0],
        )  # fmt: skip
    return CfcLayer(
        cell.mode, activation, backbone, _linear(cell.ff1, "ff1", mask), _linear(cell.ff2, "ff2", mask),
        _linear(cell.time_a, "time_a"), _linear(cell.time_b, "time_b"),
    )  # fmt: skip


def _backbone(backbone: nn.Sequential) -> tuple[Activation, tuple[Linear, ...]]:
    """Linear layers and the one activation between them; dropout does nothing when a model runs."""
    parts = [part for part in backbone if not isinstance(part, nn.Dropout)]
    linears, activations = parts[0::2], parts[1::2]
    kinds = {type(activation) for activation in activations}
    if len(linears) != len(activations) or len(kinds) != 1 or not all(isinstance(p, nn.Linear) for p in linears):
        raise TypeError(f"CfCCell.backbone is not what ncps builds: {backbone}")
    kind = kinds.pop()
    if kind not in _ACTIVATIONS or getattr(activations[0], "approximate", "none") != "none":
        raise TypeError(f"CfCCell.backbone has the activation {activations[0]}, which this exporter does not know")
    if kind is LeCun:
        _check(activations[0], LeCun)
    return _ACTIVATIONS[kind], tuple(_linear(part, f"backbone.{2 * k}") for k, part in enumerate(linears))


def _memory_cell(cell: nn.Module) -> LstmLayer:
    """In torch's form: ncps has the gates in the order g, i, f, o, and adds 1 to the argument of the forget gate."""
    _check(cell, LSTMCell)
    (w_input, b_input), (w_recurrent, none) = (
        _linear(cell.input_map, "input_map"),
        _linear(cell.recurrent_map, "recurrent_map"),
    )
    if np.any(none):
        raise TypeError("LSTMCell.recurrent_map has a bias, which ncps does not build")
    candidate, input_gate, forget_gate, output_gate = np.arange(len(b_input)).reshape(4, -1)
    order = np.concatenate([input_gate, forget_gate, candidate, output_gate])
    b_input = b_input.copy()
    b_input[forget_gate] += 1.0
    return LstmLayer(w_input[order], w_recurrent[order], b_input[order], np.zeros(len(b_input)))


def _linear(layer: Any, name: str, mask: Array | None = None) -> Linear:
    if type(layer) is not nn.Linear:
        raise TypeError(f"'{name}' is {type_name(layer)}, expected torch.nn.Linear")
    weight = checked_array(layer.weight, f"{name}.weight")
    bias = np.zeros(len(weight)) if layer.bias is None else checked_array(layer.bias, f"{name}.bias")
    return weight if mask is None else weight * mask, bias


def _check(module: nn.Module, base: type[nn.Module]) -> None:
    check_methods(
        module, base, _METHODS[base], computes_as if base in (LTC, CfC, LTCCell, CfCCell, WiredCfCCell) else None
    )
