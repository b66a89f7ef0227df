"""Construction of an untrained network from parameters: which cells, which wiring, which head."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP, Wiring
from torch import nn

from ...export.cores.rebuild import SavedWiring
from ...wording import choices, listed, plural
from ..settings import Settings
from .module import Branch, LiquidModule, Output

__all__ = ["build_network"]

_LAYERS = {"LTC": LTC, "CfC": CfC}
_RESERVED = ("input_size", "units", "return_sequences", "batch_first", "mixed_memory")
_SHARPNESS = 4.0  # of logits at the start: motor neurons stay near -1 to 1, which cross-entropy takes for doubt
_REACH = 2.0  # standard deviations of the targets that a CfC's motor neurons reach at the start


def build_network(settings: Settings, features: int, outputs: int, labels: bool) -> LiquidModule:
    """Build the network, with weights from torch's random numbers.

    Raises:
        ValueError, TypeError: If the neurons, the wiring or the cell's options do not fit.
    """
    branches = outputs if settings.per_target else 1
    share = outputs // branches
    return LiquidModule(
        [_branch(settings, features, share, labels) for _ in range(branches)], features, outputs, labels
    )


def _branch(settings: Settings, features: int, outputs: int, labels: bool) -> Branch:
    size, first = features, []
    if settings.stacked:
        first = [_layer(settings, features, settings.n_neurons)]
        size = settings.n_neurons
    core = _layer(settings, size, _units(settings, outputs, labels))
    return Branch([*first, core], _head(settings, _width(core), outputs, labels, core))


def _units(settings: Settings, outputs: int, labels: bool) -> Any:
    """What ncps calls units: a wiring, or a number of fully connected neurons."""
    wiring = settings.wiring
    if isinstance(wiring, Wiring):
        if wiring.is_built() and not isinstance(wiring, SavedWiring):  # building one twice adds synapses
            raise ValueError(
                f"`wiring` was built already, for {wiring.input_dim} inputs, and ncps would add synapses to it. Pass a "
                f"new one: {type(wiring).__name__}(...)"
            )
        return copy.deepcopy(wiring)
    if wiring == "full":
        return settings.n_neurons
    motors = max(outputs, round(0.3 * settings.n_neurons)) if settings.stacked else outputs
    if motors >= settings.n_neurons - 2:
        raise ValueError(
            f"`n_neurons` is {settings.n_neurons}, too few for {plural(outputs, 'motor neuron')}: an AutoNCP needs at "
            f"least {motors + 3}. Type: n_neurons={motors + 3}, or wiring='full'"
            + (", or task='regression' if y holds numbers and not labels" if labels else "")
        )
    return AutoNCP(settings.n_neurons, motors, sparsity_level=settings.sparsity, seed=settings.wiring_seed)


def _layer(settings: Settings, features: int, units: Any) -> nn.Module:
    options = dict(settings.cell_options or {})
    make = _LAYERS[settings.model_type]
    known = [name for name in inspect.signature(make).parameters if name not in _RESERVED]
    for name in options:
        if name not in known:
            raise TypeError(
                f"`cell_options` has '{name}', no option of {settings.model_type}. {choices(str(name), known)}"
            )
    try:
        layer: nn.Module = make(features, units, mixed_memory=settings.mixed_memory, **options)
    except ValueError as error:
        backbone = [f"'{name}'" for name in options if name.startswith("backbone_")]
        if backbone and not isinstance(units, int):
            raise ValueError(
                f"`cell_options` has {listed(backbone)}, and a CfC with a wiring has no backbone: the wiring says what "
                "is connected. Type: wiring='full', or leave it out"
            ) from error
        raise ValueError(f"ncps cannot build the {settings.model_type} layer: {error}") from error
    return layer


def _width(core: Any) -> int:
    """Number of outputs, as the layer really gives them: a CfC gives its last layer, whatever the wiring says."""
    if isinstance(core, LTC):
        return int(core.motor_size)
    if core.proj_size is not None:
        return int(core.proj_size)
    if isinstance(core.wiring_or_units, Wiring):
        return int(core.rnn_cell.layer_sizes[-1])
    return int(core.state_size)


def _head(settings: Settings, width: int, outputs: int, labels: bool, core: Any) -> nn.Module:
    """A Linear layer where the neurons are not one per output; else what lets motor neurons reach the targets."""
    if settings.stacked or width != outputs:
        return nn.Linear(width, outputs)
    reach = _SHARPNESS if labels else _REACH
    mapping = core.rnn_cell._params.get("output_w") if isinstance(core, LTC) else None
    if isinstance(core, LTC) and mapping is not None:
        with torch.no_grad():
            mapping.fill_(_SHARPNESS if labels else 1.0)  # an LTC's states are not bounded by 1
        return nn.Identity()
    head = Output(outputs)
    with torch.no_grad():
        head.gain.fill_(reach)
    return head
