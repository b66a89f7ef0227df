"""One step as a torch.export program, and how the opaque cores in it become nodes of the graph."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributions import Distribution

from ..reference import LiquidCore, RecurrentCore
from .graph import GraphBuilder, Value
from .lowering import lower_core
from .operations import RULES
from .steptime import StepTime
from .translate import translate

__all__ = ["lower_program", "trace_step"]


def trace_step(step: nn.Module, arguments: Sequence[torch.Tensor]) -> torch.export.ExportedProgram:
    """Trace a module whose cores have been made opaque; see `steering` and `given`."""
    with warnings.catch_warnings(), torch.no_grad(), _unchecked_distributions():
        warnings.simplefilter("ignore")  # about the tracing of forwards that set attributes, as ours do
        return torch.export.export(step, tuple(arguments), strict=False)


def lower_program(
    graph: GraphBuilder,
    program: torch.export.ExportedProgram,
    inputs: Sequence[Value | torch.Tensor],
    cores: Sequence[tuple[str, LiquidCore | RecurrentCore]],
    when: StepTime,
) -> list[Value]:
    """Add a traced step to a graph.

    Args:
        graph: Where to.
        program: From `trace_step`.
        inputs: Values for what it was traced with, in order; a tensor is a constant.
        cores: Name and maths of every core, by the index under which the trace has it.
        when: The timespan of the step.

    Returns:
        Values of what the step returns, in order.
    """

    def lower(index: int, x: Value, states: list[Value], timespans: Value | torch.Tensor | None) -> list[Value]:
        name, core = cores[index]
        graph.scope(name)
        before = dict(zip(core.state_names, (state.name for state in states), strict=True))
        y, after = lower_core(graph, core, x.name, before, when.for_core(timespans))
        graph.scope("")
        named = [(y, core.outputs), *((after[n], w) for n, w in zip(core.state_names, core.state_widths, strict=True))]
        return [Value(value, (when.batch, width), (when.batch, width)) for value, width in named]

    return translate(graph, program, inputs, RULES, lower)


@contextmanager
def _unchecked_distributions() -> Iterator[None]:
    """Without the checks that torch.distributions makes of its arguments: they branch on values, a trace has none."""
    usual = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(usual)
