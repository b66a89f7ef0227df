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
from .weights import HiddenWeights

__all__ = ["TracedStep"]

Tensors = Sequence[torch.Tensor]
_TYPES = {"float32": torch.float32, "int32": torch.int64, "uint8": torch.uint8}
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
        example: Samples of the user's, (T, *shape) by input as the step takes them.
    """

    def __init__(
        self,
        module: nn.Module,
        one_sample: OneSample,
        inputs: Sequence[Tensor],
        states: Sequence[StatePair],
        cores: Mapping[str, LiquidCore | RecurrentCore],
        example: Sequence[torch.Tensor] = (),
    ) -> None:
        super().__init__()
        self.inner = module
        self._one_sample = one_sample
        self._inputs, self._states = tuple(inputs), tuple(states)
        self._cores = list(cores.items())
        self._example = tuple(example)
        self._weights = HiddenWeights([module.get_submodule(name) for name in cores])

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """From (*inputs, *states, timespan?) to (*outputs, *states)."""
        count = len(self._inputs)
        inputs, states, span = values[:count], values[count:][: len(self._states)], values[count + len(self._states) :]
        with self._weights.watched():
            outputs, after = self._one_sample(self.inner, inputs, states, span[0] if span else None)
        return (*outputs, *after)

    def program(self, outputs: Sequence[Tensor], time: Time, *, timed: bool) -> StepProgram:
        """See `Steppable.program`; `timed` says whether `one_sample` is given a timespan.

        Raises:
            ValueError: If there are several rows, and the code around the cores mixes them.
        """
        rows = self._inputs[0].shape[0]
        if rows > 1 and self._mixes_rows(rows, timed):
            raise ValueError(
                "the model mixes the rows of a batch: called with several rows it gives another result than row by row "
                "(a mean or softmax over the axis of rows?). A bundle's rows are independent robots. Write it for each "
                "row alone, or export with batch=1"
            )
        recorder = Recorder(self._inputs, self._states, time)
        given = [*recorder.inputs, *recorder.states, *([span_argument(recorder)] if timed else [])]
        values = record_trace(recorder, self._trace(timed), given, self._cores)
        return recorder.finish(list(zip(outputs, values, strict=False)), values[len(outputs) :])

    def _mixes_rows(self, rows: int, timed: bool) -> bool:
        """Whether several rows at once give another result than each alone; code that takes one row only does not."""
        draws = torch.Generator().manual_seed(0)
        beside = [torch.randn(state.shape, generator=draws) for state in self._states]
        beside += [torch.ones(rows, 1)] if timed else []
        pairs = self._rows_apart([_sample(tensor, rows, draws) for tensor in self._inputs], beside)
        if self._example and not all(bool(alone.isfinite().all()) for _, alone in pairs):
            # the model has no result for numbers such as these
            pairs = self._rows_apart([own[torch.arange(rows) * 7 % len(own)] for own in self._example], beside)
        return any(
            a.shape == b.shape and not torch.allclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True) for a, b in pairs
        )

    def _rows_apart(self, samples: Tensors, beside: Tensors) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Each result of several rows at once, and of each alone; none where the code takes one row only."""
        given = [*samples, *beside]
        with torch.no_grad():
            try:
                together = self(*given)
            except Exception:
                return []
            alone = [self(*(value[row : row + 1] for value in given)) for row in range(len(given[0]))]
        return [(whole, torch.cat(parts)) for whole, parts in zip(together, zip(*alone, strict=True), strict=True)]

    def _trace(self, timed: bool) -> torch.export.ExportedProgram:
        arguments = [torch.zeros(1, *t.shape[1:], dtype=_TYPES[t.dtype]) for t in self._inputs]
        arguments += [torch.zeros(1, *state.shape[1:]) for state in self._states]
        arguments += [torch.ones(1, 1)] if timed else []
        with self._weights.hidden():
            try:
                program = trace_step(self, arguments)
            except TypeError:
                if not self._weights.asked_for:
                    raise
        return trace_step(self, arguments) if self._weights.asked_for else program


def _sample(tensor: Tensor, rows: int, draws: torch.Generator) -> torch.Tensor:
    """Different rows; of whole numbers 0 and 1, which are legal nearly everywhere."""
    if tensor.dtype == "float32":
        return torch.randn(tensor.shape, generator=draws)
    numbers = (torch.arange(rows) % 2).reshape(rows, *[1] * (len(tensor.shape) - 1))
    return numbers.expand(tensor.shape).to(_TYPES[tensor.dtype])
