"""From whatever module the user trained to what the exporter works with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ...arrays import Array
from ..cores.checks import check_finite
from ..cores.find import find_cores, find_parts, is_batch_first, is_liquid_cell
from ..cores.liquid import LoopedCell, core_from_module, is_core
from ..cores.wrappers import unwrapped
from .forward import needed_arguments
from .layer import TrainedLayer
from .network import STATE_NAMES, TrainedNetwork
from .protocol import Trained
from .user_step import TrainedStep

__all__ = ["InputShape", "describe_inputs", "trained_from_module"]


class InputShape:
    """What can be known about a module's inputs before it is run.

    Attributes:
        names: Input names; one input is called "input".
        features: Number of features per sample if the module is a single layer, else `None`.
        batch_first: Whether recordings come as (batch, time, ...) rather than (time, batch, ...).
    """

    def __init__(self, names: Sequence[str], features: int | None, batch_first: bool) -> None:
        self.names = tuple(names)
        self.features = features
        self.batch_first = batch_first


def describe_inputs(module: Any, *, stepped: bool = False, example: Any = None) -> InputShape:
    """Look at a module without running it.

    Args:
        module: The module.
        stepped: Whether the caller has a step function for it, which then alone says what its inputs are.
        example: The caller's example, whose keys are the names of a step's inputs.

    Raises:
        TypeError: If it is no torch module, or holds no ncps core.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(module).__name__}")
    lazy = [name for name, p in module.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)]
    if lazy:
        raise ValueError(f"the model has parameters without a shape yet ({lazy[0]}); call it once on a sample first")
    if stepped:
        find_parts(unwrapped(module))
        return InputShape([str(name) for name in example] if isinstance(example, Mapping) else ["input"], None, True)
    module = _layer(unwrapped(module))
    if is_core(module):
        return InputShape(["input"], core_from_module(module).cell.inputs, bool(module.batch_first))
    cores = find_cores(module)
    needed = needed_arguments(module)
    states = [name for name in needed if name in STATE_NAMES]
    if states:
        raise TypeError(
            f"the forward needs `{states[0]}` in every call, and export cannot know what to pass at the start of a "
            f"sequence. Give it a default: {states[0]}=None"
        )
    names = ["input"] if len(needed) == 1 or _hands_on(module) else needed
    return InputShape(names, None, is_batch_first(cores))


def _hands_on(module: nn.Module) -> bool:
    """Whether the forward is `forward(self, *args, ...)`, which gives what it gets to a module inside: one input."""
    kinds = [p.kind for p in inspect.signature(module.forward).parameters.values()]
    return kinds[:1] == [inspect.Parameter.VAR_POSITIONAL]


def trained_from_module(
    module: nn.Module,
    batch: int,
    example: Mapping[str, Sequence[Array]] | None,
    step: Callable[..., Any] | None = None,
    initial_state: Any = None,
) -> Trained:
    """Freeze a module for export.

    Args:
        module: A single ncps layer or cell, or a network around ncps layers.
        batch: Rows per step.
        example: Recordings by input name, (T, batch, ...) each; needed for a network, whose shapes it tells.
        step: What one turn of the loop over time is, if the user writes that loop.
        initial_state: What the step starts from, if not from zeros.

    Raises:
        ValueError, TypeError: If the module cannot be exported, by name.
    """
    module = unwrapped(module)
    if step is None and initial_state is not None:
        raise ValueError("`initial_state` has a meaning only with `step`, your own step function (--step NAME)")
    layer = _layer(module)
    if step is None and is_core(layer):
        return TrainedLayer(layer, batch)
    if example is None:
        takes = "as its forward takes them" if step is None else "as its step takes them, one after the other"
        raise ValueError(
            f"a network needs `example` (--example FILE.npy), recorded samples {takes}: (batch, time, ...)"
        )
    check_finite(module)
    if step is not None:
        return TrainedStep(module, step, batch, example, initial_state)
    return TrainedNetwork(module, batch, example)


def _layer(module: nn.Module) -> nn.Module:
    """A cell on its own becomes a layer that loops it; everything else stays what it is."""
    return LoopedCell(module) if is_liquid_cell(module) else module
