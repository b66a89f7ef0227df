"""A user's module opened for export: what its inputs are, and the trained model once there is an example of them."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import nn

from ...arrays import Array
from ...wording import typed
from ..cores.checks import check_finite
from ..cores.describe import describe_core
from ..cores.find import ReadCore, find_cores, find_parts, is_batch_first, is_liquid_cell, read_core
from ..cores.liquid import LoopedCell, core_from_module, is_core
from ..cores.wrappers import plain_names, unwrapped
from ..forward.arguments import STATE_NAMES, TIME_NAMES, needed_arguments, takes_one_dict
from ..forward.example import Example
from .layer import TrainedLayer
from .network import TrainedNetwork, TurnedError
from .protocol import Trained
from .user_step import TrainedStep

__all__ = ["OpenedModule", "in_its_layout", "open_module"]

_Found = TypeVar("_Found")
_QUANTISED = "ao.nn.quantized"  # part of the names of torch's modules with whole numbers as weights

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
    _freeze: Callable[[int, Example | None, bool | None], Trained] = field(repr=False)
    _layout: bool | None = None

    def trained(self, batch: int, example: Example | Recordings | None) -> Trained:
        """Freeze the module for export.

        Args:
            batch: Rows per step.
            example: The example in one way of reading it, or just recordings by input name, (T, batch, ...) each;
                needed for a network, whose shapes it tells.

        Raises:
            ValueError, TypeError: If the module cannot be exported, by name.
        """
        return self._freeze(batch, Example(example) if isinstance(example, Mapping) else example, self._layout)

    def laid_out(self, batch_first: bool) -> OpenedModule:
        """The same, taken to be given recordings so, whatever its cores see of them."""
        return replace(self, batch_first=batch_first, _layout=batch_first)


def in_its_layout(opened: OpenedModule, read: Callable[[OpenedModule], _Found]) -> _Found:
    """Read a module as its cores are laid out; the other way around where its forward turns samples before them.

    Raises:
        TypeError, ValueError: As `read`, of the layout of the cores if it takes neither.
    """
    try:
        return read(opened)
    except TurnedError:
        with contextlib.suppress(TypeError, ValueError):
            return read(opened.laid_out(not opened.batch_first))
        return read(opened.laid_out(opened.batch_first))


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
    scripted = [name for name, part in module.named_modules() if isinstance(part, torch.jit.ScriptModule)]
    if scripted:
        where = f"its part '{scripted[0]}'" if scripted[0] else "it"
        raise TypeError(
            f"{where} is TorchScript, which hides what it computes: build the model from its Python classes, and load "
            "the weights into that, model.load_state_dict(scripted.state_dict())"
        )
    quantised = [name for name, part in module.named_modules() if _QUANTISED in type(part).__module__]
    if quantised:
        raise TypeError(
            f"its part '{quantised[0]}' is quantised, and export takes float weights: export the model from before "
            "torch.ao.quantization. For small weights on the device type: "
            + typed("precision='float16'", "--precision float16")
        )
    empty = [name for name, p in module.named_parameters() if p.is_meta]
    if empty:
        raise ValueError(
            f"weight '{empty[0]}' is on the device 'meta', which holds no values. Build the model on the CPU, and load "
            "its weights: model.load_state_dict(state_dict)"
        )
    return module


def _open_step(module: nn.Module, step: Callable[..., Any], initial_state: object, example: object) -> OpenedModule:
    names = [str(name) for name in example] if isinstance(example, Mapping) else ["input"]
    cores = _read(module, find_parts(module))

    def freeze(batch: int, recorded: Example | None, _layout: bool | None) -> Trained:
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
        lambda batch, _example, _layout: TrainedLayer(layer, core, batch),
    )


def _open_network(module: nn.Module, example: object) -> OpenedModule:
    found = find_cores(module)
    names = _network_inputs(module, example)
    cores = _read(module, found)

    def freeze(batch: int, recorded: Example | None, layout: bool | None) -> Trained:
        return TrainedNetwork(module, cores, batch, _needed(recorded, "as its forward takes them"), layout)

    return OpenedModule(module, tuple(names), None, is_batch_first(found), freeze)


def _network_inputs(module: nn.Module, example: object) -> list[str]:
    """Arguments of the forward that it needs, or that the example holds.

    What is called like a state is an input if it is the only one, or in the example; else it begins as None.
    """
    needed = needed_arguments(module)
    recorded = [str(name) for name in example] if isinstance(example, Mapping) else []
    if len(needed) > 1:
        needed = [name for name in needed if name not in STATE_NAMES or name in recorded]
    names = inspect.signature(module.forward).parameters
    optional = [name for name in recorded if name in names and name not in needed and name not in TIME_NAMES]
    if optional and set(needed) <= set(recorded):  # what has a default, and is recorded, is given
        return [name for name in names if name in recorded]
    several = len(recorded) > 1 and len(needed) <= 1
    if several and (takes_one_dict(recorded, names) or (not needed and _takes_any_name(names))):
        return recorded
    return ["input"] if len(needed) == 1 or _hands_on(module) else needed


def _takes_any_name(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether the forward is `forward(self, **batch)`."""
    return [p.kind for p in parameters.values()] == [inspect.Parameter.VAR_KEYWORD]


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
