"""Rebuilding of ncps cores: what a core was built with, and a core built with that."""

from __future__ import annotations

from typing import Any

import numpy as np
from ncps.torch import LTC, CfC, CfCCell, LTCCell, WiredCfCCell
from ncps.wirings import Wiring
from torch import nn

from ...arrays import Array
from ...reference import CfcCell
from .config import (
    CellConfig,
    CfcActivation,
    CfcCellConfig,
    CfcMode,
    CoreConfig,
    LayerConfig,
    LtcCellConfig,
    MapKind,
    Synapse,
    WiredCfcCellConfig,
    WiringConfig,
)
from .liquid import LoopedCell, core_from_module, is_implicit

__all__ = ["SavedWiring", "config_from_core", "configs_from_module", "core_from_config"]

_CELLS = (LTCCell, WiredCfCCell, CfCCell)


class SavedWiring(Wiring):  # type: ignore[misc] # ncps has no types
    """A wiring read from a file; building it draws nothing."""

    def __init__(self, config: WiringConfig) -> None:
        super().__init__(config.units)
        self.saved_name = config.name
        self._layers = [list(layer) for layer in config.layers]
        self._types = config.types
        self.set_output_dim(config.outputs)
        self.set_input_dim(config.inputs)
        self.adjacency_matrix: Array = _matrix((config.units, config.units), config.synapses)
        self.sensory_adjacency_matrix: Array = _matrix((config.inputs, config.units), config.sensory_synapses)

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return len(self._layers)

    def get_neurons_of_layer(self, layer_id: int) -> list[int]:
        """Neurons of one layer."""
        return self._layers[layer_id]

    def get_type_of_neuron(self, neuron_id: int) -> str:
        """Type of one neuron."""
        return self._types[neuron_id]


def _matrix(shape: tuple[int, int], synapses: tuple[Synapse, ...]) -> Array:
    """Polarities by (source, target); whole ones stay whole numbers, as ncps has them."""
    matrix = np.zeros(shape, np.int32 if all(p.is_integer() for *_, p in synapses) else np.float64)
    for source, target, polarity in synapses:
        matrix[source, target] = polarity
    return matrix


def configs_from_module(module: nn.Module) -> dict[str, CoreConfig]:
    """Describe every ncps layer, and every ncps cell outside a layer, by name."""
    found: dict[str, CoreConfig] = {}
    inside: set[nn.Module] = set()
    for name, part in module.named_modules():
        if isinstance(part, (LTC, CfC, *_CELLS)) and part not in inside:
            found[name] = config_from_core(name, part)
            inside.update(part.modules())
    return found


def config_from_core(name: str, module: nn.Module) -> CoreConfig:
    """Describe one ncps layer or cell.

    Raises:
        TypeError, ValueError: As `core_from_module`, if it computes anything else than ncps does.
    """
    if isinstance(module, _CELLS):
        return CoreConfig(name, None, _cell_config(module))
    layer: Any = module
    return CoreConfig(
        name,
        LayerConfig(
            kind="LTC" if isinstance(layer, LTC) else "CfC",
            batch_first=bool(layer.batch_first),
            return_sequences=bool(layer.return_sequences),
            mixed_memory=bool(layer.use_mixed),
            proj_size=getattr(getattr(layer, "fc", None), "out_features", None),
        ),
        _cell_config(layer.rnn_cell, layer),
    )


def _cell_config(cell: Any, layer: nn.Module | None = None) -> CellConfig:
    maths = core_from_module(layer or LoopedCell(cell)).cell
    if isinstance(maths, CfcCell):
        mode = maths.layers[0].mode
        if isinstance(cell, WiredCfCCell):
            return WiredCfcCellConfig(_wiring_config(cell._wiring), mode)
        return _unwired(cell, mode, maths.layers[0].activation)
    return LtcCellConfig(
        wiring=_wiring_config(cell._wiring),
        ode_unfolds=maths.unfolds,
        epsilon=maths.epsilon,
        implicit_param_constraints=is_implicit(cell),
        input_mapping=_mapping(cell._input_mapping),
        output_mapping=_mapping(cell._output_mapping),
    )


def _unwired(cell: Any, mode: CfcMode, activation: CfcActivation) -> CfcCellConfig:
    layers = int(cell.backbone_layers)
    rates = [part.p for part in cell.backbone if isinstance(part, nn.Dropout)] if layers else []
    return CfcCellConfig(
        inputs=cell.input_size,
        units=cell.hidden_size,
        mode=mode,
        activation=activation if layers else None,
        backbone_units=cell.backbone[0].out_features if layers else 0,
        backbone_layers=layers,
        backbone_dropout=float(rates[0]) if rates else 0.0,
    )


def _mapping(value: Any) -> MapKind:
    return value if value in ("affine", "linear") else None  # ncps takes anything else for no mapping


def _wiring_config(wiring: Wiring) -> WiringConfig:
    names = wiring.output_dim is not None or type(wiring).get_type_of_neuron is not Wiring.get_type_of_neuron
    return WiringConfig(
        name=wiring.saved_name if isinstance(wiring, SavedWiring) else type(wiring).__name__,
        units=int(wiring.units),
        inputs=int(wiring.input_dim),
        outputs=None if wiring.output_dim is None else int(wiring.output_dim),
        layers=tuple(tuple(map(int, wiring.get_neurons_of_layer(k))) for k in range(wiring.num_layers)),
        types=tuple(str(wiring.get_type_of_neuron(k)) if names else "inter" for k in range(wiring.units)),
        synapses=_synapses(wiring.adjacency_matrix),
        sensory_synapses=_synapses(wiring.sensory_adjacency_matrix),
    )


def _synapses(matrix: Array) -> tuple[Synapse, ...]:
    rows, columns = np.nonzero(matrix)
    return tuple((int(r), int(c), float(matrix[r, c])) for r, c in zip(rows, columns, strict=True))


def core_from_config(config: CoreConfig) -> nn.Module:
    """Build the core. Its weights are as ncps initialises them: load the saved ones."""
    cell, layer = config.cell, config.layer
    if layer is None:
        return _cell_from_config(cell)
    options: dict[str, Any] = {name: getattr(layer, name) for name in ("batch_first", "return_sequences")}
    options["mixed_memory"] = layer.mixed_memory
    core: nn.Module
    if isinstance(cell, LtcCellConfig):
        core = LTC(cell.wiring.inputs, SavedWiring(cell.wiring), **options, **_ltc_options(cell))
        return core
    options |= {"proj_size": layer.proj_size, "mode": cell.mode}
    if isinstance(cell, WiredCfcCellConfig):
        core = CfC(cell.wiring.inputs, SavedWiring(cell.wiring), **options)
        return core
    names = ("backbone_units", "backbone_layers", "backbone_dropout")
    options |= {name: getattr(cell, name) for name in names}
    core = CfC(cell.inputs, cell.units, activation=cell.activation or "lecun_tanh", **options)
    return core


def _cell_from_config(cell: CellConfig) -> nn.Module:
    built: nn.Module
    if isinstance(cell, LtcCellConfig):
        built = LTCCell(SavedWiring(cell.wiring), cell.wiring.inputs, **_ltc_options(cell))
    elif isinstance(cell, WiredCfcCellConfig):
        built = WiredCfCCell(cell.wiring.inputs, SavedWiring(cell.wiring), cell.mode)
    else:
        built = CfCCell(
            cell.inputs, cell.units, cell.mode, cell.activation or "lecun_tanh",
            cell.backbone_units, cell.backbone_layers, cell.backbone_dropout,
        )  # fmt: skip
    return built


def _ltc_options(cell: LtcCellConfig) -> dict[str, Any]:
    names = ("ode_unfolds", "epsilon", "implicit_param_constraints", "input_mapping", "output_mapping")
    return {name: getattr(cell, name) for name in names}
