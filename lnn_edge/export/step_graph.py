"""A step as a whole ONNX graph: inputs, one or several samples chained through the states, outputs.

With `unroll` above 1 the graph takes several samples per call, (batch, unroll, ...), as a sensor with a FIFO delivers
them: each sample's states go straight into the next, and only the last ones leave the graph.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import onnx

from ..bundle.program import Input, StepProgram
from ..bundle.spec import DT_INPUT, Precision, output_of_state
from ..wording import chosen
from .graph.builder import GraphBuilder, Shape, Value
from .lowering.program import ProgramLowering
from .lowering.step_time import step_times

__all__ = ["step_graph"]


def step_graph(
    step: StepProgram,
    *,
    batch: int = 1,
    unroll: int = 1,
    precision: Precision = "float32",
    name: str = "step",
    constants: Collection[str] = (),
) -> onnx.ModelProto:
    """Make the graph of a step program, checked against the limits of the bundle format.

    Args:
        step: The program.
        batch: Rows per step.
        unroll: Samples per call.
        precision: "float16" for weights and inner arithmetic in half.
        name: Name of the graph.
        constants: Names of the inputs that are the same for all samples of a call.

    Raises:
        ValueError: If time is measured and nothing depends on it, or a constant is too large for float16.
    """
    graph = GraphBuilder(precision)
    _add_steps(graph, step, batch, unroll, constants)
    if step.program.elapsed.dt is not None and not graph.uses(DT_INPUT):
        raise ValueError(
            "nothing in the model depends on the time between samples: it has no core that takes any, or computes the "
            f"timespans of its cores itself. Type: {chosen('time', 'fixed')}"
        )
    return graph.model(name)


def _add_steps(graph: GraphBuilder, step: StepProgram, batch: int, unroll: int, constants: Collection[str]) -> None:
    program = step.program
    samples = [
        _one_value(graph, own, batch, unroll) if own.name in constants else _split_samples(graph, own, batch, unroll)
        for own in program.inputs
    ]
    times = step_times(graph, program.elapsed, batch, unroll)
    shapes = [(batch, *state.shape) for state in program.states]
    states = [
        Value(graph.input(state.name, shape), shape, shape) for state, shape in zip(program.states, shapes, strict=True)
    ]
    lowering = ProgramLowering(graph, step, batch)
    given: list[list[Value]] = []
    for k, when in enumerate(times):
        with graph.scope(f"sample_{k}" if unroll > 1 else "", owns=False):
            outputs, states = lowering.add([sample[k] for sample in samples], states, when)
        given.append(outputs)
    # Samples before states, in and out: what knows nothing of states takes the first.
    for output, steps in zip(program.outputs, zip(*given, strict=True), strict=True):
        _add_output(graph, output.name, (batch, *output.shape), steps)
    for own, state, shape in zip(program.states, states, shapes, strict=True):
        graph.output(_shaped(graph, state, shape), output_of_state(own.name), shape)


def _one_value(graph: GraphBuilder, own: Input, batch: int, unroll: int) -> list[Value]:
    """Declare an input that is the same for all samples of one call."""
    shape = (batch, *own.shape)
    return [Value(graph.input(own.name, shape, own.dtype), shape, shape)] * unroll


def _split_samples(graph: GraphBuilder, own: Input, batch: int, unroll: int) -> list[Value]:
    """Declare an input and take it apart into the samples of one call."""
    if unroll == 1:
        return _one_value(graph, own, batch, unroll)
    shape, size = (batch, *own.shape), math.prod(own.shape)
    whole = graph.input(own.name, (batch, unroll, *own.shape), own.dtype)
    flat = graph.node("Reshape", whole, graph.integers((batch, unroll * size)))
    return [Value(piece, (batch, size), shape) for piece in graph.split(flat, [size] * unroll)]


def _add_output(graph: GraphBuilder, name: str, shape: Shape, steps: Sequence[Value]) -> None:
    """Declare an output; the samples of one call lie side by side, row by row."""
    if len(steps) == 1:
        graph.output(_shaped(graph, steps[0], shape), name, shape)
        return
    batch, *rest = shape
    whole = (batch, len(steps), *rest)
    rows = graph.concat([_shaped(graph, step, (batch, math.prod(rest))) for step in steps])
    graph.output(graph.node("Reshape", rows, graph.integers(whole)), name, whole)


def _shaped(graph: GraphBuilder, value: Value, shape: Shape) -> str:
    if value.physical == shape:
        return value.name()
    return graph.node("Reshape", value.name(), graph.integers(shape))
