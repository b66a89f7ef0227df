"""A user's module opened for export: what its inputs are, and the trained model once there is an example of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ...arrays import Array
from ...wording import typed
from ..cores.checks import check_finite
from ..cores.describe import describe_core
from ..cores.find import ReadCore, find_cores, find_parts, is_batch_first, is_liquid_cell, read_core
from ..cores.liquid import LoopedCell, core_from_module, is_core
from ..cores.wrappers import plain_names, unwrapped
from ..forward.example import Example
from ..forward.forward import STATE_NAMES, TIME_NAMES, needed_arguments
from .layer import TrainedLayer
from .network import TrainedNetwork
from .protocol import Trained
from .user_step import TrainedStep

__all__ = ["OpenedModule", "open_module"]

Recordings = Mapping[str, Sequence[Array]]


@dataclass(frozen=True)
class OpenedModule:
    """A module that was looked at once, and not run.

    Attributes:
        module: The module without what only stands around it.
        names: Input names; one input is called "input".
        features: Number of features per sample if the module is a single layer, else `None`.
        batch_first: Whether recordings come as (batch, time, ...) rather than (time, batch, ...).
    """

    module: nn.Module
    names: tuple[str, ...]
    features: int | None
    batch_first: bool
    _freeze: Callable[[int, Example | None], Trained] = field(repr=False)

    def trained(self, batch: int, example: Example | Recordings | None) -> Trained:
        """Freeze the module for export.

        Args:
            batch: Rows per step.
            example: The example in one way of reading it, or just recordings by input name, (T, batch, ...) each;
                needed for a network, whose shapes it tells.

        Raises:
            ValueError, TypeError: If the module cannot be exported, by name.
        """
        return self._freeze(batch, Example(example) if isinstance(example, Mapping) else example)


def open_module(
    module: object,
    *,
    step: Callable[..., Any] | None = None,
    initial_state: Any = None,
    example: Any = None,
    scaled: bool = False,
) -> OpenedModule:
    """Look at a module: take its wrappers off, find its cores and read what they compute.

    Args:
        module: A single ncps layer or cell, or a network around some.
        step: What one turn of the loop over time is, if the user writes that loop.
        initial_state: What the step starts from, if not from zeros.
        example: The caller's example, whose keys are the names of a step's inputs.
        scaled: Whether inputs or outputs are scaled, which makes a network of a single layer.

    Raises:
        TypeError: If it is no torch module, or holds no ncps core.
        ValueError, TypeError: If one of its cores cannot be exported, by name.
    """
    plain = unwrapped(_checked(module))
    if step is not None:
        return _open_step(plain, step, initial_state, example)
    if initial_state is not None:
        raise ValueError("`initial_state` has a meaning only with `step`, your own step function")
    layer = LoopedCell(plain) if is_liquid_cell(plain) else plain
    if not is_core(layer):
        return _open_network(plain, example)
    return _open_network(_Around(layer), example) if scaled else _open_layer(plain, layer)


class _Around(nn.Module):
    """A network that is nothing but a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.rnn = layer

    def forward(self, x: Any, hx: Any = None, timespans: Any = None) -> Any:
        """As the layer is called; every output, as for the layer alone."""
        return self.rnn(x, hx, timespans)


def _checked(module: object) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(module).__name__}")
    lazy = [name for name, p in module.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)]
    if lazy:
        raise ValueError(f"the model has parameters without a shape yet ({lazy[0]}); call it once on a sample first")
    return module


def _open_step(module: nn.Module, step: Callable[..., Any], initial_state: object, example: object) -> OpenedModule:
    names = [str(name) for name in example] if isinstance(example, Mapping) else ["input"]
    cores = _read(module, find_parts(module))

    def freeze(batch: int, recorded: Example | None) -> Trained:
        shapes = _needed(recorded, "as its step takes them, one after the other")
        return TrainedStep(module, cores, step, batch, shapes, initial_state)

    return OpenedModule(module, tuple(names), None, True, freeze)


def _open_layer(module: nn.Module, layer: nn.Module) -> OpenedModule:
    maths = core_from_module(layer)
    core = ReadCore(maths, describe_core("rnn", layer, maths))
    return OpenedModule(
        module,
        ("input",),
        maths.cell.inputs,
        bool(layer.batch_first),
        lambda batch, _: TrainedLayer(layer, core, batch),
    )


def _open_network(module: nn.Module, example: object) -> OpenedModule:
    found = find_cores(module)
    names = _network_inputs(module, example)
    cores = _read(module, found)

    def freeze(batch: int, recorded: Example | None) -> Trained:
        return TrainedNetwork(module, cores, batch, _needed(recorded, "as its forward takes them"))

    return OpenedModule(module, tuple(names), None, is_batch_first(found), freeze)


def _network_inputs(module: nn.Module, example: object) -> list[str]:
    """Arguments of the forward that it needs, or that the example holds.

    What is called like a state is an input if it is the only one, or in the example.
    """
    needed = needed_arguments(module)
    recorded = [str(name) for name in example] if isinstance(example, Mapping) else []
    states = [name for name in needed if name in STATE_NAMES and name not in recorded]
    if states and len(needed) > 1:
        raise TypeError(
            f"the forward needs `{states[0]}` in every call, and export cannot know what to pass at the start of a "
            f"sequence. Give it a default: {states[0]}=None. If the forward is one step, type: "
            f"{typed('step=lambda model, x, state: model(x, state)', '--step forward')}. If it is an observation, "
            "record it in the example as well"
        )
    names = inspect.signature(module.forward).parameters
    optional = [name for name in recorded if name in names and name not in needed and name not in TIME_NAMES]
    if optional and set(needed) <= set(recorded):  # what has a default, and is recorded, is given
        return [name for name in names if name in recorded]
    return ["input"] if len(needed) == 1 or _hands_on(module) else needed


def _hands_on(module: nn.Module) -> bool:
    """Whether the forward is `forward(self, *args, ...)`, which gives what it gets to a module inside: one input."""
    kinds = [p.kind for p in inspect.signature(module.forward).parameters.values()]
    return kinds[:1] == [inspect.Parameter.VAR_POSITIONAL]


def _read(module: nn.Module, parts: Mapping[str, nn.Module]) -> list[ReadCore]:
    """Read the user's own module and not a copy: copying a stale nn.GRU makes it forget that it is stale."""
    check_finite(module)
    plain = plain_names(module, parts)
    return [read_core(plain[name] or "rnn", part) for name, part in parts.items()]


def _needed(recorded: Example | None, takes: str) -> Example:
    if recorded is None:
        raise ValueError(
            f"a network needs {typed('`example`', '--example FILE.npy')}, recorded samples {takes}: (batch, time, ...)"
        )
    return recorded
