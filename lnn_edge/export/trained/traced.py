"""The module that is traced for a graph: one sample of all rows, states in and states out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import torch
from torch import nn

from ...bundle.spec import StatePair, Tensor
from ...reference import LiquidCore, RecurrentCore
from ..graph.builder import GraphBuilder, Value
from ..lowering.step_time import StepTime
from ..trace.trace import lower_program, span_argument, trace_step

__all__ = ["TracedStep"]

Tensors = Sequence[torch.Tensor]
OneSample = Callable[[nn.Module, Tensors, Tensors, torch.Tensor | None], tuple[Tensors, Tensors]]


class TracedStep(nn.Module):
    """One sample through a module whose cores are opaque while it runs; traced when a graph first needs it.

    Args:
        module: The module.
        one_sample: From the module, inputs (batch, ...), states (batch, width) and the timespan (batch, 1) or `None`
            to outputs and new states.
        inputs: The inputs.
        states: The states.
        cores: The maths of the cores by name, in the order of the numbers under which they are opaque.
        timed: Whether `one_sample` takes a timespan.
    """

    def __init__(
        self,
        module: nn.Module,
        one_sample: OneSample,
        inputs: Sequence[Tensor],
        states: Sequence[StatePair],
        cores: Mapping[str, LiquidCore | RecurrentCore],
        *,
        timed: bool,
    ) -> None:
        super().__init__()
        self.inner = module
        self._one_sample, self._timed = one_sample, timed
        self._shapes = [tensor.shape for tensor in inputs] + [state.shape for state in states]
        self._count = len(inputs)
        self._cores = list(cores.items())

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """From (*inputs, *states, timespan?) to (*outputs, *states)."""
        inputs, rest = values[: self._count], list(values[self._count :])
        span = rest.pop() if self._timed else None
        outputs, after = self._one_sample(self.inner, inputs, rest, span)
        return (*outputs, *after)

    def lower(
        self, graph: GraphBuilder, inputs: Sequence[Value], states: Sequence[Value], when: StepTime
    ) -> list[Value]:
        """See `Lowerable.lower`."""
        spans = [span_argument(when)] if self._timed else []
        return lower_program(graph, self._program, [*inputs, *states, *spans], self._cores, when)

    @cached_property
    def _program(self) -> torch.export.ExportedProgram:
        arguments = [torch.zeros(shape) for shape in self._shapes]
        batch = self._shapes[0][0]
        return trace_step(self, arguments + ([torch.ones(batch, 1)] if self._timed else []))
