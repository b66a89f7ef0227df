"""A trained ncps layer as the exporter sees it: run whole, run stepped, restated in float64, lowered to a graph."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from ...bundle.spec import Core, Time
from ...verify.samples import Excitation
from ..cores.find import ReadCore
from ..cores.timespans import timespans_from_dt
from ..graph.builder import GraphBuilder, Value
from ..lowering.step_time import StepTime
from .core_step import CoreStep
from .protocol import NOT_CAUSAL, Known, Results

__all__ = ["TrainedLayer"]


class TrainedLayer:
    """An ncps `LTC` or `CfC`. Works on a float32 copy on the CPU in eval mode; the user's module is left alone."""

    why_unequal = NOT_CAUSAL

    def __init__(self, module: nn.Module, core: ReadCore, batch: int) -> None:
        self.core = core.maths
        module_copy: Any = copy.deepcopy(module)
        self._module = module_copy.to("cpu", torch.float32).eval()
        self._module.return_sequences = True  # the same maths, but every step's output can be compared
        self._step = CoreStep(self.core, batch)
        self.batch = batch
        self.cores: tuple[Core, ...] = (core.described,)
        self.batch_first = bool(self._module.batch_first)
        self.inputs, self.outputs, self.states = self._step.inputs, self._step.outputs, self._step.states

    def lower(self, graph: GraphBuilder, inputs: list[Value], states: list[Value], when: StepTime) -> list[Value]:
        """See `Lowerable.lower`."""
        return self._step.lower(graph, inputs, states, when)

    def whole(self, samples: Excitation, time: Time) -> Known:
        """Outputs of the torch module called once per sequence, (steps, batch, outputs)."""
        result = np.empty((samples.steps, *self.outputs[0].shape), np.float32)
        for part in samples.sequences():
            for row in range(self.batch):
                x, spans = self._arguments(samples, time, part, row)
                with torch.no_grad():
                    y, _ = self._module(x, timespans=spans)
                result[part, row] = y.reshape(-1, self.core.outputs).numpy()
        return {"output": (np.arange(samples.steps), result)}

    def stepped(self, samples: Excitation, time: Time) -> Results:
        """Outputs and states of the torch module called once per sample with its own state fed back."""
        results = self._empty(samples.steps, np.float32)
        for part in samples.sequences():
            for row in range(self.batch):
                hx = None
                for k in range(part.start, part.stop):
                    x, spans = self._arguments(samples, time, slice(k, k + 1), row)
                    with torch.no_grad():
                        y, hx = self._module(x, hx, timespans=spans)
                    results["output"][k, row] = y.reshape(-1).numpy()
                    for pair, state in zip(self.states, hx if isinstance(hx, tuple) else (hx,), strict=True):
                        results[pair.output][k, row] = state[0].numpy()
        return results

    def reference(self, samples: Excitation, time: Time) -> Results:
        """Outputs and states of the float64 reference."""
        results = self._empty(samples.steps, np.float64)
        inputs = samples.inputs["input"].astype(np.float64)
        spans: Any = time.timespan
        names = dict(zip(self.core.state_names, self.states, strict=True))
        state: Results = {}
        for k in range(samples.steps):
            if samples.reset[k]:
                state = {name: np.zeros(pair.shape) for name, pair in names.items()}
            if samples.dt is not None:
                spans = timespans_from_dt(samples.dt[k], time)
            results["output"][k], state = self.core.step(inputs[k], state, spans)
            for name, pair in names.items():
                results[pair.output][k] = state[name]
        return results

    def _empty(self, steps: int, dtype: type) -> Results:
        shapes = {t.name: t.shape for t in self.outputs} | {s.output: s.shape for s in self.states}
        return {name: np.empty((steps, *shape), dtype) for name, shape in shapes.items()}

    def _arguments(self, samples: Excitation, time: Time, part: slice, row: int) -> tuple[torch.Tensor, Any]:
        """Input and timespans of one row. ncps is right about time for one row only, so rows run one by one."""
        x = torch.from_numpy(samples.inputs["input"][part, row])
        spans = None
        if samples.dt is not None:
            spans = torch.from_numpy(timespans_from_dt(samples.dt[part, row, 0], time).astype(np.float32))
        elif time.timespan != 1.0:
            spans = torch.full((len(x),), time.timespan)
        axis = 0 if self.batch_first else 1
        return x.unsqueeze(axis), None if spans is None else spans.unsqueeze(axis)
