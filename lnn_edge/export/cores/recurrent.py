"""Recurrent cores read from torch's own layers and cells: further cores beside liquid ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from ...arrays import Array
from ...bundle.spec import Core
from ...reference import GruLayer, LstmLayer, RnnLayer
from .checks import check_methods, checked_array
from .maths import RecurrentCore

__all__ = ["describe_recurrent", "is_recurrent", "is_recurrent_cell", "recurrent_from_module"]


_LAYERS = (nn.GRU, nn.LSTM, nn.RNN)
_CELLS = (nn.GRUCell, nn.LSTMCell, nn.RNNCell)


def is_recurrent(module: nn.Module) -> bool:
    """Whether a module is one of torch's recurrent layers."""
    return isinstance(module, _LAYERS)


def is_recurrent_cell(module: nn.Module) -> bool:
    """Whether a module is one of torch's recurrent cells."""
    return isinstance(module, _CELLS)


def recurrent_from_module(name: str, module: Any) -> RecurrentCore:
    """Read one of torch's recurrent layers or cells; nothing in it is changed.

    Args:
        name: The module's name in the network, for messages.
        module: The `nn.GRU`, `nn.LSTM`, `nn.RNN`, or a cell of these.

    Raises:
        TypeError: If it overrides the maths of its class.
        ValueError: If it is bidirectional, or its weights are not finite or not those it computes with.
    """
    base = _base(module)
    check_methods(module, base, ("forward",))
    if is_recurrent_cell(module):
        return RecurrentCore((_layer_from_weights(module, _cell_weights(name, module)),))
    if module.bidirectional:
        raise ValueError(
            f"'{name}' is a bidirectional {base.__name__}: its output depends on samples that have not come yet, so no "
            f"step can give it. Train it with bidirectional=False"
        )
    weights = (_weights(name, module, k) for k in range(module.num_layers))
    return RecurrentCore(tuple(_layer_from_weights(module, own) for own in weights))


def describe_recurrent(name: str, module: Any, core: RecurrentCore) -> Core:
    """Describe a core for the manifest; synapses are the candidate's weights that are not zero, as in a CfC."""
    candidate = [_candidate(layer) for layer in core.layers]
    recurrent = sum(np.count_nonzero(from_h) for _, from_h in candidate)
    sensory = np.count_nonzero(candidate[0][0])
    between = sum(np.count_nonzero(from_x) for from_x, _ in candidate[1:])
    units = [layer.units for layer in core.layers]
    return Core(
        name=name,
        kind=_base(module).__name__,
        mode=str(module.nonlinearity) if isinstance(module, (nn.RNN, nn.RNNCell)) else "torch",
        inputs=core.inputs,
        units=core.units,
        outputs=core.outputs,
        synapses=int(recurrent + between),
        sensory_synapses=int(sensory),
        wiring="dense",
        layout=tuple((f"layer {k}", n) for k, n in enumerate(units)) if len(units) > 1 else (("hidden", units[0]),),
        mixed_memory=False,
    )


def _base(module: nn.Module) -> type[nn.Module]:
    return next(base for base in (*_LAYERS, *_CELLS) if isinstance(module, base))


def _layer_from_weights(module: Any, weights: dict[str, Array]) -> GruLayer | LstmLayer | RnnLayer:
    w_input, w_recurrent = weights["weight_ih"], weights["weight_hh"]
    b_input, b_recurrent = (weights.get(f"bias_{part}", np.zeros(len(w_input))) for part in ("ih", "hh"))
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        return LstmLayer(w_input, w_recurrent, b_input, b_recurrent, weights.get("weight_hr"))
    if isinstance(module, (nn.GRU, nn.GRUCell)):
        return GruLayer(w_input, w_recurrent, b_input, b_recurrent)
    return RnnLayer(w_input, w_recurrent, b_input, b_recurrent, module.nonlinearity)


def _cell_weights(name: str, cell: nn.Module) -> dict[str, Array]:
    return {key: checked_array(tensor, f"{name}.{key}") for key, tensor in cell.named_parameters(recurse=False)}


def _weights(name: str, module: Any, k: int) -> dict[str, Array]:
    return {key: checked_array(tensor, f"{name}.{key}_l{k}") for key, tensor in _tensors(name, module, k)}


def _tensors(name: str, module: Any, k: int) -> Iterator[tuple[str, Any]]:
    """The tensors of a layer, checked to be those that torch computes with: it keeps a list of them of its own."""
    used = dict(zip(module._flat_weights_names, module._flat_weights, strict=True))
    for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"):
        if f"{key}_l{k}" in used:
            registered = getattr(module, f"{key}_l{k}")
            if registered is not used[f"{key}_l{k}"]:
                raise ValueError(
                    f"'{name}' computes with a stale copy of '{key}_l{k}': the registered tensor was replaced behind "
                    f"torch's back. Assign it as an attribute: model.{name}.{key}_l{k} = ..."
                )
            yield key, registered


def _candidate(layer: GruLayer | LstmLayer | RnnLayer) -> tuple[Array, Array]:
    """The rows of the weights that make the new content of the state: from the input and from h."""
    gate = {GruLayer: 2, LstmLayer: 2, RnnLayer: 0}[type(layer)]
    rows = slice(gate * layer.units, (gate + 1) * layer.units)
    return layer.w_input[rows], layer.w_recurrent[rows]
