"""A trained ncps layer as the exporter sees it: run whole, run stepped, and as a step program."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from ...arrays import Array
from ...bundle.program import StepProgram
from ...bundle.spec import Core, Readout, Time
from ...verify.samples import Excitation
from ..cores.calling import layer_convention
from ..cores.copying import copied_module
from ..cores.find import ReadCore
from ..cores.repairs import ignores_time
from ..forward.forward import Forward, Known
from ..forward.leaves import Leaf
from .closed_loop import closed_loop
from .core_step import CoreStep
from .protocol import NOT_CAUSAL, Results
from .weights import quick_lookup

__all__ = ["TrainedLayer"]


class TrainedLayer:
    """An ncps `LTC` or `CfC`. Works on a float32 copy on the CPU in eval mode; the user's module is left alone."""

    why_unequal = NOT_CAUSAL
    fixed_number = ""
    readout: Readout | None = None

    def __init__(self, module: nn.Module, core: ReadCore, batch: int) -> None:
        self.core = core.maths
        duplicate: Any = copied_module(module)
        self._module = duplicate.to("cpu", torch.float32).eval()
        self._module.return_sequences = True  # the same maths, but every step's output can be compared
        self._step = CoreStep(self.core, batch, timeless=ignores_time(self._module))
        self._convention = layer_convention("rnn", self._module)
        self.batch = batch
        self.cores: tuple[Core, ...] = (core.described,)
        self.batch_first = bool(self._module.batch_first)
        self.inputs, self.outputs, self.states = self._step.inputs, self._step.outputs, self._step.states
        self._forward = Forward(self._module, self.inputs, batch=batch, batch_first=self.batch_first)

    def program(self, time: Time) -> StepProgram:
        """See `Steppable.program`."""
        return self._step.program(time)

    def accepts(self, samples: Mapping[str, Array]) -> bool:
        """See `Trained.accepts`."""
        return self._forward.accepts(self._module, samples)

    def whole(self, samples: Excitation, time: Time) -> Known:
        """Outputs of the torch module called once per sequence, (steps, batch, outputs)."""
        output = Leaf(0, "output", self._forward.axis, (self.core.outputs,))
        with quick_lookup([self._module]):
            return self._forward.whole(self._module, [output], samples, time, lambda _: nullcontext())

    def stepped(self, samples: Excitation, time: Time) -> Results:
        """Outputs and states of the torch module called once per sample with its own state fed back."""

        def one_sample(k: int, rows: slice, hx: Any) -> tuple[list[Array], Any]:
            (x,), spans = self._forward.arguments(samples, time, slice(k, k + 1), rows.start)
            with torch.no_grad():
                y, hx = self._convention.call(x, hx, spans)
            states = hx if isinstance(hx, tuple) else (hx,)
            return [y.reshape(1, -1).numpy(), *(state.numpy() for state in states)], hx

        def begin(states: list[torch.Tensor] | None) -> Any:
            return states if states is None else tuple(states) if len(states) > 1 else states[0]

        with quick_lookup([self._module]):
            return closed_loop(self, samples, begin, one_sample)
