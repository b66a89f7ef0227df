"""The encoder of a step program: the nodes that depend on samples alone, neither on states nor on time; its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .operations import Node, Operation, Shape
from .program import Program, StepProgram
from .program_checks import value_shapes

__all__ = ["COSTLY", "encoder_multiplications", "encoder_nodes", "is_costly"]

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
    shapes = dict(value_shapes(step)) | {name: tensor.shape for name, tensor in step.tensors.items()}
    return sum(_multiplications(node, shapes) for node in encoder_nodes(step.program) if isinstance(node, Operation))


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
    return made * terms
