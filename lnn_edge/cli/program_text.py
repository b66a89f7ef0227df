"""The text of a step program: a line for each node, with its place in the user's model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..wording import plural

if TYPE_CHECKING:
    from ..bundle.operations import Node, Operation
    from ..bundle.program import Program, StepProgram

__all__ = ["program_text"]


def program_text(step: StepProgram) -> str:
    """The whole program: what it takes, a line for each node, and what it gives."""
    return "\n".join(_lines(step))


def _lines(step: StepProgram) -> Iterator[str]:
    from ..bundle.program_file.checks import value_shapes

    program, shapes = step.program, value_shapes(step)
    size = sum(tensor.size for tensor in step.tensors.values())
    yield (
        f"step program: {plural(len(program.nodes), 'node')}, {size:,} numbers in {plural(len(step.tensors), 'tensor')}"
    )
    for own in program.inputs:
        yield f"  input   {own.name} {_shape(own.shape)}"
    yield f"  elapsed {program.elapsed.name} = {_elapsed(program)}"
    for state in program.states:
        start = "0" if state.initial is None else state.initial
        yield f"  state   {state.name} {_shape(state.shape)} <- {state.next}, at the start {start}"
    yield from _nodes(step, shapes)
    for output in program.outputs:
        yield f"  output  {output.name} {_shape(output.shape)} = {output.value}"


def _elapsed(program: Program) -> str:
    elapsed = program.elapsed
    return f"{elapsed.value:g}" if elapsed.value is not None else f"{elapsed.dt} * {elapsed.timespan_per_s:g}"


def _nodes(step: StepProgram, shapes: dict[str, tuple[int, ...]]) -> Iterator[str]:
    rows = []
    for node in step.program.nodes:
        made = ", ".join(f"{name} {_shape(shapes[name])}" for name in node.made())
        rows.append((made, f"{node.kind}({', '.join([*node.taken(), *_details(node, step)])})", node.where))
    width = max((len(made) for made, _, _ in rows), default=0)
    for made, call, where in rows:
        yield f"  {made:<{width}} = {call}" + (f"  # {where}" if where else "")


def _details(node: Node, step: StepProgram) -> Iterator[str]:
    """What a node has beside its operands: attributes, sizes, and shapes of its weights."""
    from ..bundle.operations import Operation
    from ..bundle.step_cores import Cfc, Ltc

    if isinstance(node, Operation):
        yield from _attributes(node)
        yield from (f"{key} {_shape(step.tensors[name].shape)}" for key, name in node.weights.items())
    elif isinstance(node, Ltc):
        synapses, sensory = (len(step.tensors[part.w]) for part in (node.synapses, node.sensory))
        yield f"{node.units} neurons, {node.motor} motor, {synapses} + {sensory} sensory synapses"
        yield f"{node.unfolds} unfolds"
    elif isinstance(node, Cfc):
        yield f"mode {node.mode}"
        yield plural(len(node.layers), "layer")


def _attributes(node: Operation) -> Iterator[str]:
    from ..bundle.operations import OPERATIONS

    for name in OPERATIONS[node.op].takes:
        value = getattr(node, name)
        yield f"{name} {list(value) if isinstance(value, tuple) else value}"


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
