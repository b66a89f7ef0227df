"""Descriptions of liquid cores for the manifest: kind, sizes, synapses, and how the neurons lie in the state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from ...bundle.spec import Core
from ...reference import CfcCell, LtcCell
from .liquid import LoopedCell
from .maths import LiquidCore

__all__ = ["describe_core"]


def describe_core(name: str, module: nn.Module, core: LiquidCore) -> Core:
    """Describe a core for the manifest; synapses are counted from the tensors, not from the wiring object."""
    cell = core.cell
    wiring = getattr(module.rnn_cell, "_wiring", None)
    if isinstance(cell, LtcCell):
        recurrent, sensory = len(cell.synapses.w), len(cell.sensory.w)
    else:
        recurrent, sensory = _cfc_synapses(cell)
    return Core(
        name=name,
        kind=type(module.rnn_cell if isinstance(module, LoopedCell) else module).__name__,
        mode="unfolded ODE" if isinstance(cell, LtcCell) else cell.layers[0].mode,
        inputs=cell.inputs,
        units=cell.units,
        outputs=core.outputs,
        synapses=recurrent,
        sensory_synapses=sensory,
        wiring="dense" if wiring is None else getattr(wiring, "saved_name", type(wiring).__name__),
        layout=tuple(_layout(cell, wiring)),
        mixed_memory=core.memory is not None,
    )


def _cfc_synapses(cell: CfcCell) -> tuple[int, int]:
    """Non-zero weights of the candidate head: recurrent and between layers, and from the inputs."""
    first = (cell.layers[0].backbone or (cell.layers[0].ff1,))[0][0]
    total = sum(np.count_nonzero((layer.backbone or (layer.ff1,))[0][0]) for layer in cell.layers)
    sensory = np.count_nonzero(first[:, : cell.inputs])
    return int(total - sensory), int(sensory)


def _layout(cell: LtcCell | CfcCell, wiring: Any) -> Iterator[tuple[str, int]]:
    """Runs of neuron types in the order of the state vector."""
    if wiring is None or isinstance(cell, CfcCell):
        names = ["inter", "command", "motor"] if wiring is not None and len(_cell_layers(cell)) == 3 else None
        for k, units in enumerate(_cell_layers(cell)):
            yield (names[k] if names else "motor" if k == len(_cell_layers(cell)) - 1 else f"layer {k}"), units
        return
    kinds = [str(wiring.get_type_of_neuron(k)) for k in range(cell.units)]
    start = 0
    for k in range(1, len(kinds) + 1):
        if k == len(kinds) or kinds[k] != kinds[start]:
            yield kinds[start], k - start
            start = k


def _cell_layers(cell: LtcCell | CfcCell) -> list[int]:
    """Units per layer, in state order."""
    return [layer.units for layer in cell.layers] if isinstance(cell, CfcCell) else [cell.units]
