"""One core alone as a step: its inputs, outputs and states, and its lowering."""

from __future__ import annotations

from ...bundle.spec import Tensor
from ...reference import LiquidCore, RecurrentCore
from ..graph.builder import GraphBuilder, Value
from ..lowering.core import lower_core
from ..lowering.step_time import StepTime
from .states import state_pair

__all__ = ["CoreStep"]


class CoreStep:
    """A core between one input and one output; see `Lowerable`."""

    def __init__(self, core: LiquidCore | RecurrentCore, batch: int) -> None:
        self._core = core
        self.batch = batch
        features = core.cell.inputs if isinstance(core, LiquidCore) else core.inputs
        self.inputs: tuple[Tensor, ...] = (Tensor("input", (batch, features)),)
        self.outputs: tuple[Tensor, ...] = (Tensor("output", (batch, core.outputs)),)
        self.states = tuple(
            state_pair(name, batch, width) for name, width in zip(core.state_names, core.state_widths, strict=True)
        )

    def lower(self, graph: GraphBuilder, inputs: list[Value], states: list[Value], when: StepTime) -> list[Value]:
        """See `Lowerable.lower`."""
        names = self._core.state_names
        before = {name: state.name() for name, state in zip(names, states, strict=True)}
        y, after = lower_core(graph, self._core, inputs[0].name(), before, when)
        values = [(y, self.outputs[0].shape), *((after[n], s.shape) for n, s in zip(names, self.states, strict=True))]
        return [Value(name, shape, shape) for name, shape in values]
