"""A step as a whole ONNX graph: inputs, one or several samples chained through the states, outputs.

With `unroll` above 1 the graph takes several samples per call, (batch, unroll, ...), as a sensor with a FIFO delivers
them: each sample's states go straight into the next, and only the last ones leave the graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from ..bundle.spec import DT_INPUT, Precision, Tensor, Time
from .graph.builder import GraphBuilder, Value
from .lowering.step_time import step_times
from .trained.protocol import Lowerable

__all__ = ["step_graph"]


def step_graph(
    model: Lowerable, time: Time, unroll: int = 1, precision: Precision = "float32", *, name: str = "step"
) -> onnx.ModelProto:
    """Make the graph of a model's step, checked against the limits of the bundle format.

    Args:
        model: A trained model, or a core alone.
        time: Whether the timespan folds into the weights or `dt` is an input.
        unroll: Samples per call.
        precision: "float16" for weights and inner arithmetic in half.
        name: Name of the graph.

    Raises:
        ValueError: If time is measured and nothing depends on it, or a constant is too large for float16.
        TypeError: If the model computes what no graph can; the message names it.
    """
    graph = GraphBuilder(precision)
    _add_steps(graph, model, time, unroll)
    if time.mode == "measured" and not graph.uses(DT_INPUT):
        raise ValueError(
            "nothing in the model depends on the time between samples: it has no core that takes any, or computes the "
            "timespans of its cores itself. Type: time='fixed' (--time fixed)"
        )
    return graph.model(name)


def _add_steps(graph: GraphBuilder, model: Lowerable, time: Time, unroll: int) -> None:
    samples = [_split_samples(graph, tensor, unroll) for tensor in model.inputs]
    states = [Value(graph.input(s.input, s.shape), s.shape, s.shape) for s in model.states]
    given: list[list[Value]] = []
    for k, when in enumerate(step_times(graph, time, model.batch, unroll)):
        values = model.lower(graph, [sample[k] for sample in samples], states, when)
        given.append(values[: len(model.outputs)])
        states = values[len(model.outputs) :]
    for pair, state in zip(model.states, states, strict=True):
        graph.output(_shaped(graph, state, pair.shape), pair.output, pair.shape)
    for tensor, steps in zip(model.outputs, zip(*given, strict=True), strict=True):
        _add_output(graph, tensor, steps)


def _split_samples(graph: GraphBuilder, tensor: Tensor, unroll: int) -> list[Value]:
    """Declare an input and take it apart into the samples of one call."""
    if unroll == 1:
        return [Value(graph.input(tensor.name, tensor.shape), tensor.shape, tensor.shape)]
    batch, *rest = tensor.shape
    size = math.prod(rest)
    whole = graph.input(tensor.name, (batch, unroll, *rest))
    flat = graph.node("Reshape", whole, graph.integers((batch, unroll * size)))
    return [Value(piece, (batch, size), tensor.shape) for piece in graph.split(flat, [size] * unroll)]


def _add_output(graph: GraphBuilder, tensor: Tensor, steps: Sequence[Value]) -> None:
    """Declare an output; the samples of one call lie side by side, row by row."""
    if len(steps) == 1:
        graph.output(_shaped(graph, steps[0], tensor.shape), tensor.name, tensor.shape)
        return
    batch, *rest = tensor.shape
    shape = (batch, len(steps), *rest)
    rows = graph.concat([_shaped(graph, step, (batch, math.prod(rest))) for step in steps])
    graph.output(graph.node("Reshape", rows, graph.integers(shape)), tensor.name, shape)


def _shaped(graph: GraphBuilder, value: Value, shape: tuple[int, ...]) -> str:
    if value.physical == shape:
        return value.name()
    return graph.node("Reshape", value.name(), graph.integers(shape))
