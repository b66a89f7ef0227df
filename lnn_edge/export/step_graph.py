"""A trained step as a whole graph: inputs, one or several steps chained through the states, outputs.

With `unroll` above 1 the graph takes a block of samples per call, (batch, unroll, ...), as a sensor with a FIFO
delivers them: each step's states go straight into the next, and only the last ones leave the graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..bundle.spec import DT_INPUT, Tensor, Time
from .graph.builder import GraphBuilder, Value
from .lowering.step_time import StepTime
from .trained.protocol import Trained

__all__ = ["add_steps"]


def add_steps(graph: GraphBuilder, trained: Trained, time: Time, unroll: int) -> None:
    """Add inputs, `unroll` steps and outputs of a trained model to an empty graph.

    Raises:
        ValueError: If time is measured and nothing depends on it.
    """
    samples = [_split_samples(graph, tensor, unroll) for tensor in trained.inputs]
    states = [Value(graph.input(s.input, s.shape), s.shape, s.shape) for s in trained.states]
    when = StepTime(graph, time, trained.batch, unroll)
    given: list[list[Value]] = []
    for k in range(unroll):
        values = trained.lower(graph, [sample[k] for sample in samples], states, when.at(k))
        given.append(values[: len(trained.outputs)])
        states = values[len(trained.outputs) :]
    for pair, state in zip(trained.states, states, strict=True):
        graph.output(_shaped(graph, state, pair.shape), pair.output, pair.shape)
    for tensor, steps in zip(trained.outputs, zip(*given, strict=True), strict=True):
        _add_output(graph, tensor, steps)
    if time.mode == "measured" and not graph.uses(DT_INPUT):
        raise ValueError(
            "nothing in the model depends on the time between samples: it has no core that takes any, or computes the "
            "timespans of its cores itself. Type: time='fixed' (--time fixed)"
        )


def _split_samples(graph: GraphBuilder, tensor: Tensor, unroll: int) -> list[Value]:
    """Declare an input and take it apart into the samples of a block."""
    if unroll == 1:
        return [Value(graph.input(tensor.name, tensor.shape), tensor.shape, tensor.shape)]
    batch, *rest = tensor.shape
    size = math.prod(rest)
    block = graph.input(tensor.name, (batch, unroll, *rest))
    flat = graph.node("Reshape", block, graph.integers((batch, unroll * size)))
    return [Value(piece, (batch, size), tensor.shape) for piece in graph.split(flat, [size] * unroll)]


def _add_output(graph: GraphBuilder, tensor: Tensor, steps: Sequence[Value]) -> None:
    """Declare an output; the samples of a block lie side by side, row by row."""
    if len(steps) == 1:
        graph.output(_shaped(graph, steps[0], tensor.shape), tensor.name, tensor.shape)
        return
    batch, *rest = tensor.shape
    shape = (batch, len(steps), *rest)
    rows = graph.concat([_shaped(graph, step, (batch, math.prod(rest))) for step in steps])
    graph.output(graph.node("Reshape", rows, graph.integers(shape)), tensor.name, shape)


def _shaped(graph: GraphBuilder, value: Value, shape: tuple[int, ...]) -> str:
    if value.physical == shape:
        return value.name
    return graph.node("Reshape", value.name, graph.integers(shape))
