"""One core alone as a step: its inputs, outputs and states, and its program."""

from __future__ import annotations

import torch

from ...bundle.program import StepProgram
from ...bundle.spec import Tensor, Time
from ..cores.maths import LiquidCore, RecurrentCore
from ..trace.record_core import record_core
from ..trace.recorder import Recorder
from .protocol import state_pair

__all__ = ["CoreStep"]


class CoreStep:
    """A core between one input and one output; see `Steppable`."""

    def __init__(
        self, core: LiquidCore | RecurrentCore, batch: int, name: str = "rnn", *, timeless: bool = False
    ) -> None:
        self._core, self._name = core, name
        self._span = torch.ones(1, 1) if timeless else None
        self.batch = batch
        self.inputs: tuple[Tensor, ...] = (Tensor("input", (batch, core.inputs)),)
        self.outputs: tuple[Tensor, ...] = (Tensor("output", (batch, core.outputs)),)
        self.states = tuple(
            state_pair(name, batch, width) for name, width in zip(core.state_names, core.state_widths, strict=True)
        )

    def program(self, time: Time) -> StepProgram:
        """See `Steppable.program`."""
        recorder = Recorder(self.inputs, self.states, time)
        y, *after = record_core(recorder, self._name, self._core, recorder.inputs[0], recorder.states, self._span)
        return recorder.finish([(self.outputs[0], y)], after)
