"""Costs of a step program's nodes, and its encoder: the nodes that depend on neither states nor time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from .operations import Node, Operation, Shape
from .program import Program, StepProgram
from .program_file.checks import value_shapes
from .step_cores import Ltc

__all__ = ["COSTLY", "encoder_multiplications", "encoder_nodes", "is_costly", "step_multiplications"]

# Multiplications for one sample. A proof makes about 3,000 steps in each of five judges, of which float64 in NumPy does
# some 10^9 a second: from here on the encoder alone would take more than ten seconds.
COSTLY = 1 << 20


def encoder_nodes(program: Program) -> list[Node]:
    """The nodes that depend on samples alone, in order."""
    late = {state.name for state in program.states} | {program.elapsed.name}
    found = []
    for node in program.nodes:
        if late.isdisjoint(node.taken()):
            found.append(node)
        else:
            late.update(node.made())
    return found


def encoder_multiplications(step: StepProgram) -> int:
    """What the encoder computes for one sample of one row: products, or numbers where it adds none up."""
    shapes = _all_shapes(step)
    return sum(_multiplications(node, shapes) for node in encoder_nodes(step.program) if isinstance(node, Operation))


def step_multiplications(step: StepProgram) -> int:
    """About what a step computes for one sample of one row, however its nodes share tensors; a core by its weights."""
    shapes = _all_shapes(step)
    return sum(
        max(_multiplications(node, shapes), *(math.prod(shapes[name]) for name in node.inputs))
        if isinstance(node, Operation)
        else _of_core(node, shapes)
        for node in step.program.nodes
    )


def _all_shapes(step: StepProgram) -> dict[str, Shape]:
    return dict(value_shapes(step)) | {name: tensor.shape for name, tensor in step.tensors.items()}


def _of_core(node: Node, shapes: Mapping[str, Shape]) -> int:
    """Every number of every tensor once; the six numbers of a synapse, which costs an exponential, once an unfold."""
    whole = _sizes(msgspec.to_builtins(node), shapes)
    if not isinstance(node, Ltc):
        return whole
    return whole + (node.unfolds - 1) * (_sizes(msgspec.to_builtins(node.synapses), shapes) + node.units)


def _sizes(plain: Any, shapes: Mapping[str, Shape]) -> int:
    """Numbers in all tensors that are named somewhere in plain lists and dicts."""
    if isinstance(plain, str):
        return math.prod(shapes.get(plain, (0,)))
    parts = plain.values() if isinstance(plain, dict) else plain if isinstance(plain, (list, tuple)) else ()
    return sum(_sizes(part, shapes) for part in parts)


def is_costly(step: StepProgram) -> bool:
    """Whether the encoder costs so much that a proof cannot compute it anew at each of its steps."""
    return encoder_multiplications(step) >= COSTLY


def _multiplications(node: Operation, shapes: Mapping[str, Shape]) -> int:
    made, terms = math.prod(shapes[node.output]), 1
    if node.op == "Conv":
        terms = math.prod(shapes[node.weights["W"]][1:])
    elif node.op == "Gemm":
        terms = shapes[node.weights["B"]][0]
    elif node.op == "MatMul":
        terms = shapes[node.inputs[0]][-1]
    elif node.kernel:
        terms = math.prod(node.kernel)
    return made * terms
