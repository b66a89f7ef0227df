"""A step program as nodes of a graph, for any number of rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...bundle import step_cores as records
from ...bundle.encoder import encoder_nodes
from ...bundle.operations import Node, Operation, Shape
from ...bundle.program import StepProgram
from ...bundle.program_file.checks import value_shapes
from ...reference.cells import cfc_cell, ltc_cell, recurrent_layer
from ..graph.builder import GraphBuilder, Value
from .cfc import lower_cfc
from .ltc import lower_ltc
from .operations import LOWERED, Operand
from .rnn import lower_layer
from .step_time import StepTime
from .values import Values

__all__ = ["ProgramLowering"]


class ProgramLowering:
    """A program ready to be added to a graph, once for each sample of a call."""

    def __init__(self, graph: GraphBuilder, step: StepProgram, rows: int) -> None:
        self._graph, self._step, self._rows = graph, step, rows
        self._shapes: dict[str, Shape] = value_shapes(step)

    def add(self, inputs: Sequence[Value], states: Sequence[Value], when: StepTime) -> tuple[list[Value], list[Value]]:
        """Add one step.

        Args:
            inputs: One sample, in the order of the program.
            states: The states before it.
            when: Its timespan.

        Returns:
            Outputs and next states.
        """
        return _Sample(self._graph, self._step, self._rows, self._shapes, when).run(inputs, states)


class _Sample:
    """The walk through the nodes for one sample."""

    def __init__(
        self, graph: GraphBuilder, step: StepProgram, rows: int, shapes: dict[str, Shape], when: StepTime
    ) -> None:
        self._graph, self._program, self._when = graph, step.program, when
        self._values = Values(graph, rows, step.tensors, shapes)
        self._known: dict[str, Value] = {}
        self._early = {id(node) for node in encoder_nodes(step.program)}

    def run(self, inputs: Sequence[Value], states: Sequence[Value]) -> tuple[list[Value], list[Value]]:
        """Outputs and next states."""
        names = [own.name for own in self._program.inputs] + [state.name for state in self._program.states]
        self._known |= dict(zip(names, [*inputs, *states], strict=True))
        for node in self._program.nodes:
            self._add(node)
        outputs = [self._values.whole(self._operand(output.value)) for output in self._program.outputs]
        return outputs, [self._values.whole(self._operand(state.next)) for state in self._program.states]

    def _operand(self, name: str) -> Operand:
        if name in self._known:
            return self._known[name]
        if name == self._program.elapsed.name:
            return self._elapsed()
        return self._values.tensors[name]

    def _elapsed(self) -> Operand:
        """The timespan of the step as an operand, (rows, 1); written when it is first asked for."""
        if self._when.fixed is not None:
            return np.array([self._when.fixed])
        row = (self._when.batch, 1)
        return Value(self._when.times(1.0), row, row)

    def _add(self, node: Node) -> None:
        if isinstance(node, Operation):
            with self._graph.scope("encoder" if id(node) in self._early else "head"):
                operands = [self._operand(name) for name in node.inputs]
                self._known[node.output] = LOWERED[node.op](self._values, node, *operands)
        elif isinstance(node, records.Core):
            with self._graph.scope(node.name):
                self._add_core(node)

    def _add_core(self, node: records.Core) -> None:
        x, h, tensors = self._plain(node.input), self._plain(node.state), self._values.tensors
        if isinstance(node, records.Ltc):
            width = self._values.shape(node.input)[-1] if node.input in self._known else len(tensors[node.input])
            made = lower_ltc(self._graph, ltc_cell(node, tensors, width), x, h, self._time(node.elapsed))
            self._make(dict(zip(node.made(), made, strict=True)))
        elif isinstance(node, records.Cfc):
            made = lower_cfc(self._graph, cfc_cell(node, tensors), x, h, self._time(node.elapsed))
            self._make(dict(zip(node.made(), made, strict=True)))
        else:
            own = [self._plain(node.memory)] if isinstance(node, records.Lstm) else []
            after = lower_layer(self._graph, recurrent_layer(node, tensors), x, h, *own)
            self._make(dict(zip(node.made(), after, strict=True)))

    def _plain(self, name: str) -> str:
        """A value in the shape that the program has, for the cores, which look at the name alone."""
        return self._values.plain(self._operand(name))

    def _make(self, made: dict[str, str]) -> None:
        for name, value in made.items():
            shape = self._values.shape(name)
            self._known[name] = Value(value, shape, shape)

    def _time(self, name: str) -> StepTime:
        """The timespan of a core: that of the step, one that the network computes, or a constant."""
        if name == self._program.elapsed.name and name not in self._known:
            return self._when
        own = self._operand(name)
        if isinstance(own, Value):
            return self._when.computed(self._values.shaped(own, (self._values.rows, 1)))
        return self._when.constant(float(own[0]))
