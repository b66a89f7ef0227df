"""The module that is traced for a step program: one sample of one row, states in and states out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from ...bundle.program import StepProgram
from ...bundle.spec import StatePair, Tensor, Time
from ..cores.maths import LiquidCore, RecurrentCore
from ..trace.recorder import Recorder
from ..trace.trace import record_trace, span_argument, trace_step

__all__ = ["TracedStep"]

Tensors = Sequence[torch.Tensor]
OneSample = Callable[[nn.Module, Tensors, Tensors, torch.Tensor | None], tuple[Tensors, Tensors]]


class TracedStep(nn.Module):
    """One sample through a module whose cores are opaque while it runs; traced when a program is asked for.

    Args:
        module: The module.
        one_sample: From the module, inputs (1, ...), states (1, width) and the timespan (1, 1) or `None` to outputs and
            new states.
        inputs: The inputs.
        states: The states.
        cores: The maths of the cores by name, in the order of the numbers under which they are opaque.
    """

    def __init__(
        self,
        module: nn.Module,
        one_sample: OneSample,
        inputs: Sequence[Tensor],
        states: Sequence[StatePair],
        cores: Mapping[str, LiquidCore | RecurrentCore],
    ) -> None:
        super().__init__()
        self.inner = module
        self._one_sample = one_sample
        self._inputs, self._states = tuple(inputs), tuple(states)
        self._cores = list(cores.items())

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """From (*inputs, *states, timespan?) to (*outputs, *states)."""
        count = len(self._inputs)
        inputs, states, span = values[:count], values[count:][: len(self._states)], values[count + len(self._states) :]
        outputs, after = self._one_sample(self.inner, inputs, states, span[0] if span else None)
        return (*outputs, *after)

    def program(self, outputs: Sequence[Tensor], time: Time, *, timed: bool) -> StepProgram:
        """See `Steppable.program`; `timed` says whether `one_sample` is given a timespan."""
        recorder = Recorder(self._inputs, self._states, time)
        given = [*recorder.inputs, *recorder.states, *([span_argument(recorder)] if timed else [])]
        values = record_trace(recorder, self._trace(timed), given, self._cores)
        return recorder.finish(list(zip(outputs, values, strict=False)), values[len(outputs) :])

    def _trace(self, timed: bool) -> torch.export.ExportedProgram:
        shapes = [tensor.shape[1:] for tensor in self._inputs] + [state.shape[1:] for state in self._states]
        arguments = [torch.zeros(1, *shape) for shape in shapes]
        return trace_step(self, arguments + ([torch.ones(1, 1)] if timed else []))
