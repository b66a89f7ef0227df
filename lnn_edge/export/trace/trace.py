"""One step as a torch.export program, and how the opaque cores in it become nodes of the graph."""

from __future__ import annotations

import io
import logging
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import torch
from torch import nn
from torch.distributions import Distribution
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from ...reference import LiquidCore, RecurrentCore
from ..graph.builder import GraphBuilder, Value
from ..lowering.core import lower_core
from ..lowering.step_time import StepTime
from .folding import Unwritten
from .ops import RULES
from .translator import translate

__all__ = ["lower_program", "span_argument", "trace_step"]


def trace_step(step: nn.Module, arguments: Sequence[torch.Tensor]) -> torch.export.ExportedProgram:
    """Trace a module whose cores have been made opaque; see `core_op`.

    Raises:
        TypeError: If the user's code does what no trace can follow; the message says where.
    """
    with warnings.catch_warnings(), torch.no_grad(), _unchecked_distributions(), _quiet():
        warnings.simplefilter("ignore")  # about the tracing of forwards that set attributes, as ours do
        try:
            return torch.export.export(step, tuple(arguments), strict=False)
        except GuardOnDataDependentSymNode as error:
            raise TypeError(
                f"the model decides on the value of a sample what to compute{_users_line(error)}, and a graph computes "
                "the same for every sample. Compute both and choose: torch.where(condition, one, other)"
            ) from error
        except RuntimeError as error:
            reason = next(iter(str(error).strip().splitlines()), "")
            raise TypeError(
                f"the model cannot be traced{_users_line(error)}: {type(error).__name__}: {reason}"
            ) from error


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
        before = dict(zip(core.state_names, (state.name() for state in states), strict=True))
        y, after = lower_core(graph, core, x.name(), before, when.for_core(timespans))
        graph.scope("")
        named = [(y, core.outputs), *((after[n], w) for n, w in zip(core.state_names, core.state_widths, strict=True))]
        return [Value(value, (when.batch, width), (when.batch, width)) for value, width in named]

    return translate(graph, program, inputs, RULES, lower)


def span_argument(when: StepTime) -> Value | torch.Tensor:
    """The timespan of a step for code that takes one, (batch, 1): folded, or a value written only if it is used."""
    row = (when.batch, 1)
    return Unwritten(row, row, lambda: when.times(1.0)) if when.fixed is None else torch.full(row, when.fixed)


def _users_line(error: Exception) -> str:
    """Where in the user's own code an error came up."""
    ours = (str(Path(__file__).parents[2]), str(Path(torch.__file__).parent), "<")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno}: `{frames[-1].line}`)" if frames else ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch logs and prints about a trace that fails: pages of it, and the error says what matters."""
    usual = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(usual)


@contextmanager
def _unchecked_distributions() -> Iterator[None]:
    """Without the checks that torch.distributions makes of its arguments: they branch on values, a trace has none."""
    usual = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(usual)
