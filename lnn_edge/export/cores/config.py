"""The construction of a liquid core, as data: what decides its maths and is in no state_dict.

The wiring is stored as it was drawn, never as a recipe with a seed: ncps draws differently after a second `build`, and
`NCP.get_config` cannot be read back. What is computed is decided by the masks among the tensors; the wiring tells the
sizes of the layers and the names of the neurons.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

__all__ = [
    "CellConfig",
    "CfcActivation",
    "CfcCellConfig",
    "CfcMode",
    "CoreConfig",
    "LayerConfig",
    "LtcCellConfig",
    "MapKind",
    "Synapse",
    "WiredCfcCellConfig",
    "WiringConfig",
    "differences",
    "problems",
]

_Size = Annotated[int, msgspec.Meta(ge=1)]
_Neuron = Annotated[int, msgspec.Meta(ge=0)]
Synapse = tuple[_Neuron, _Neuron, float]
MapKind = Literal["affine", "linear", None]
CfcMode = Literal["default", "pure", "no_gate"]
CfcActivation = Literal["lecun_tanh", "relu", "tanh", "silu", "gelu", None]


class _Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: immutable, and a field that is not in the format is an error."""


class WiringConfig(_Frozen, frozen=True):
    """A wiring as it was drawn.

    Args:
        name: Class of the wiring, for people.
        units: Number of neurons.
        inputs: Number of input features.
        outputs: Number of motor neurons; `None` if the wiring names none.
        layers: Neurons of each layer, in the order of the layers.
        types: Type of each neuron, such as "motor".
        synapses: (from neuron, to neuron, polarity) of every synapse.
        sensory_synapses: (input, neuron, polarity) of every synapse of an input.
    """

    name: str
    units: _Size
    inputs: _Size
    outputs: _Size | None
    layers: tuple[tuple[_Neuron, ...], ...]
    types: tuple[str, ...]
    synapses: tuple[Synapse, ...]
    sensory_synapses: tuple[Synapse, ...]


class LtcCellConfig(_Frozen, tag_field="kind", tag="LTCCell", frozen=True):
    """The arguments of an `LTCCell`."""

    wiring: WiringConfig
    ode_unfolds: _Size
    epsilon: Annotated[float, msgspec.Meta(ge=0.0)]
    implicit_param_constraints: bool
    input_mapping: MapKind
    output_mapping: MapKind


class CfcCellConfig(_Frozen, tag_field="kind", tag="CfCCell", frozen=True):
    """The arguments of a `CfCCell`; `activation` is `None` where no backbone layer uses it."""

    inputs: _Size
    units: _Size
    mode: CfcMode
    activation: CfcActivation
    backbone_units: Annotated[int, msgspec.Meta(ge=0)]
    backbone_layers: Annotated[int, msgspec.Meta(ge=0)]
    backbone_dropout: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class WiredCfcCellConfig(_Frozen, tag_field="kind", tag="WiredCfCCell", frozen=True):
    """The arguments of a `WiredCfCCell`."""

    wiring: WiringConfig
    mode: CfcMode


CellConfig = LtcCellConfig | CfcCellConfig | WiredCfcCellConfig


class LayerConfig(_Frozen, frozen=True):
    """The arguments that an `LTC` or `CfC` adds to those of its cell."""

    kind: Literal["LTC", "CfC"]
    batch_first: bool
    return_sequences: bool
    mixed_memory: bool
    proj_size: _Size | None


class CoreConfig(_Frozen, frozen=True):
    """One core: its name in the module ("" for the module itself), its layer (`None` for a bare cell) and its cell."""

    name: str
    layer: LayerConfig | None
    cell: CellConfig

    @property
    def kind(self) -> str:
        """Classes in ncps."""
        cell = str(self.cell.__struct_config__.tag)
        return f"{self.layer.kind} with {cell}" if self.layer else cell


def differences(saved: CoreConfig, own: CoreConfig) -> list[tuple[str, object, object]]:
    """Where two cores would not compute the same from the same tensors: (field, saved value, own value).

    Synapses are left out because the masks among the tensors decide them; dropout, because it does nothing when a
    model runs.
    """
    if saved.kind != own.kind:
        return [("kind", saved.kind, own.kind)]
    ours, theirs = _comparable(saved), _comparable(own)
    return [(field, ours[field], theirs[field]) for field in ours if ours[field] != theirs[field]]


def _comparable(config: CoreConfig) -> dict[str, object]:
    cell = msgspec.structs.asdict(config.cell)
    cell.pop("backbone_dropout", None)
    wiring: WiringConfig | None = cell.pop("wiring", None)
    if wiring is not None:
        cell |= {"units": wiring.units, "inputs": wiring.inputs, "output_dim": wiring.outputs}
        cell["layer sizes"] = [len(layer) for layer in wiring.layers]
    return (msgspec.structs.asdict(config.layer) if config.layer else {}) | cell


_MOST_POLARITY = 1 << 31  # of int32
_MOST_UNFOLDS = 1000  # ncps' default is 6; each is some ten nodes of the graph, and all run in every step


def problems(config: CoreConfig, elements: int, tensors: int) -> Iterator[str]:
    """What is impossible in a description that came from a file, before anything of its sizes is built.

    Args:
        config: The description.
        elements: Number of elements of all tensors of the file: no tensor of the core can have more.
        tensors: Number of tensors of the file: the core cannot have more layers.
    """
    cell, layer = config.cell, config.layer
    if layer is not None and (layer.kind == "LTC") != isinstance(cell, LtcCellConfig):
        yield f"an {config.kind}"
    if layer is not None and layer.kind == "LTC" and layer.proj_size is not None:
        yield "an LTC with `proj_size`"
    if isinstance(cell, CfcCellConfig):
        parts = (cell.backbone_layers > 0, cell.backbone_units > 0, cell.activation is not None)
        if len(set(parts)) > 1:
            yield "a backbone whose layers, units and activation do not belong together"
    else:
        yield from _wiring_problems(cell)
    if isinstance(cell, LtcCellConfig) and not math.isfinite(cell.epsilon):
        yield f"the `epsilon` {cell.epsilon}"
    if isinstance(cell, LtcCellConfig) and cell.ode_unfolds > _MOST_UNFOLDS:
        yield f"{cell.ode_unfolds} `ode_unfolds`, more than the {_MOST_UNFOLDS} that a step can be made of"
    depth, largest = _extent(cell)
    if max(largest, (layer and layer.proj_size) or 0) > elements or depth > tensors:
        yield "sizes that need more weights than the file holds"


def _extent(cell: CellConfig) -> tuple[int, int]:
    """Number of layers, and elements of the largest tensor: at least as many as the cell of these sizes will have."""
    if isinstance(cell, CfcCellConfig):
        width = cell.backbone_units or cell.units
        between = width * width if cell.backbone_layers > 1 else 0
        return cell.backbone_layers, max((cell.inputs + cell.units) * width, between)
    wiring = cell.wiring
    if isinstance(cell, WiredCfcCellConfig):  # its tensors are those of its layers; none is (units, units)
        return len(wiring.layers), max([wiring.inputs, *(len(layer) ** 2 for layer in wiring.layers)])
    return 1, wiring.units * max(wiring.units, wiring.inputs)


def _wiring_problems(cell: LtcCellConfig | WiredCfcCellConfig) -> Iterator[str]:
    wiring = cell.wiring
    if len(wiring.types) != wiring.units:
        yield f"a wiring with {len(wiring.types)} types for {wiring.units} neurons"
    if (wiring.outputs or 0) > wiring.units:
        yield f"a wiring with {wiring.outputs} motors among {wiring.units} neurons"
    neurons = [neuron for layer in wiring.layers for neuron in layer]
    whole = isinstance(cell, LtcCellConfig) or len(neurons) == wiring.units  # an LTC does not read the layers
    if not whole or not wiring.layers or not all(wiring.layers) or max(neurons, default=0) >= wiring.units:
        yield f"a wiring whose layers do not divide its {wiring.units} neurons"
    for synapses, sources in ((wiring.synapses, wiring.units), (wiring.sensory_synapses, wiring.inputs)):
        if any(s >= sources or t >= wiring.units or not math.isfinite(p) for s, t, p in synapses):
            yield "a wiring with a synapse between neurons that it does not have"
        elif any(abs(p) >= _MOST_POLARITY for _, _, p in synapses):
            yield "a wiring with a polarity that its matrices cannot hold"
