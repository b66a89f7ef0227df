"""One step as a torch.export program, and how it becomes a step program."""

from __future__ import annotations

import io
import logging
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path

import torch
from torch import nn
from torch.distributions import Distribution
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from ..cores.calling import NOTHING_TO_PACK, packs
from ..cores.maths import LiquidCore, RecurrentCore
from .frames import users_frames
from .ops import RULES
from .record_core import record_core
from .recorder import Recorder, Value
from .translator import translate

try:  # only torch's own parts use it: a later torch may have it no more, and traces as well without
    from torch.fx._lazy_graph_module import _use_lazy_graph_module as _code_is_lazy
except ImportError:
    _code_is_lazy = nullcontext  # type: ignore[assignment]

__all__ = [
    "UNIMPORTED",
    "decides",
    "raised_by_us",
    "record_trace",
    "span_argument",
    "takes_out",
    "trace_step",
    "users_line",
]


UNIMPORTED = (
    "It is an import that failed, not the model's maths. Install what is missing where this runs, or put its folder "
    "on PYTHONPATH; if a file of yours has the name of a module of Python's or of a library, rename it"
)
_TORCH_ALONE = (
    "Compute with torch alone, on tensors: no .numpy(), no format of a value, no autograd.grad, no library that looks "
    "into it"
)


def trace_step(step: nn.Module, arguments: Sequence[torch.Tensor]) -> torch.export.ExportedProgram:
    """Trace a module whose cores have been made opaque; see `core_op`.

    Raises:
        TypeError: If the user's code does what no trace can follow; the message says where.
    """
    frames = users_frames(type(step).forward.__code__)
    with warnings.catch_warnings(), torch.no_grad(), _unchecked_distributions(), _quiet(), _code_is_lazy(True), frames:
        # lazy code: nobody runs a graph here, and to write it as Python code takes a tenth of a trace
        warnings.simplefilter("ignore")  # about the tracing of forwards that set attributes, as ours do
        try:
            return _without_writes(torch.export.export(step, tuple(arguments), strict=False))
        except GuardOnDataDependentSymNode as error:
            raise TypeError(decides(users_line(error))) from error
        except Exception as error:  # whatever a user's code does that torch cannot follow
            if raised_by_us(error):
                raise
            reason = next(iter(str(error).strip().splitlines()), "").rstrip(".")
            advice = UNIMPORTED if isinstance(error, ImportError) else _TORCH_ALONE
            raise TypeError(
                f"the model cannot be traced{users_line(error)}: {type(error).__name__}: {reason}. {advice}"
            ) from error


def decides(where: str) -> str:
    """What is wrong with a branch on the value of a sample; torch's own, where it packs sequences by their lengths."""
    if packs(where):
        return f"the model packs sequences{where}; {NOTHING_TO_PACK}"
    return (
        f"the model decides on the value of a sample what to compute{where}, and a graph computes the same for every "
        "sample. Compute both with tensors, without float(), .item() or math of Python, and choose: "
        "torch.where(condition, one, other)"
    )


def takes_out(where: str) -> str:
    """What is wrong with a number that is taken out of the samples."""
    return (
        f"the model takes a number out of its samples{where} and computes with it outside torch, where a graph sees "
        "nothing. Compute with tensors, of each sample alone: torch.tanh(x.mean(-1, keepdim=True)), and torch.gather "
        "or torch.where for a place that is computed"
    )


def record_trace(
    recorder: Recorder,
    program: torch.export.ExportedProgram,
    inputs: Sequence[Value | torch.Tensor],
    cores: Sequence[tuple[str, LiquidCore | RecurrentCore]],
) -> list[Value]:
    """Record a traced step of one row.

    Args:
        recorder: Where to.
        program: From `trace_step`.
        inputs: Values for what it was traced with, in order; a tensor is a constant.
        cores: Name and maths of every core, by the index under which the trace has it.

    Returns:
        Values of what the step returns, in order.
    """

    def record(index: int, x: Value, states: list[Value], timespan: Value | torch.Tensor | None) -> list[Value]:
        return record_core(recorder, *cores[index], x, states, timespan)

    return translate(recorder, program, inputs, RULES, record)


def span_argument(recorder: Recorder) -> Value | torch.Tensor:
    """The timespan of a step for code that takes one, (1, 1): a constant, or the value of the step."""
    return recorder.elapsed if recorder.timespan is None else torch.full((1, 1), recorder.timespan)


def _without_writes(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same without writes into tensors.

    What is written through a view would be lost; torch makes a value of it while it decomposes, if only nothing.
    """
    _without_detaching(program)
    if any(operation._schema.is_mutable for _, operation in _operations(program)):
        changed: torch.export.ExportedProgram = program.run_decompositions({})
        return changed
    return program


def _without_detaching(program: torch.export.ExportedProgram) -> None:
    """torch.tensor(...) in a forward detaches in place, which writes nothing: to decompose it takes half a second."""
    for node, operation in _operations(program):
        if operation is torch.ops.aten.detach_.default:
            node.target = torch.ops.aten.detach.default


def _operations(program: torch.export.ExportedProgram) -> Iterator[tuple[torch.fx.Node, torch._ops.OpOverload]]:
    parts = [part for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule)]
    for node in [node for part in parts for node in part.graph.nodes]:
        if isinstance(node.target, torch._ops.OpOverload):
            yield node, node.target


def users_line(error: Exception) -> str:
    """Where in the user's own code an error came up, " (file.py, line 3: `code`)"; "" if it did not."""
    ours = (str(Path(__file__).parents[2]), str(Path(torch.__file__).parent), "<")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno}: `{frames[-1].line}`)" if frames else ""


def raised_by_us(error: BaseException) -> bool:
    """Whether an error inside the user's code is one of ours, which says what is wrong by itself."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return last.filename.startswith(str(Path(__file__).parents[2]))


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
