"""Places of the values of a step: in a constant table, in what the caller gives or gets, or in the scratch memory.

Nothing is allocated while a step runs. The scratch memory is one array of float32; a value takes the place of those
that nothing reads any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..bundle.operations import Node, Operation, Shape
from ..bundle.program import StepProgram
from ..bundle.program_file.checks import value_shapes

__all__ = ["SPARE", "Plan", "make_plan"]

SPARE = 16  # numbers behind each value in the scratch memory: a vector that ends in it is stored whole


@dataclass(frozen=True)
class Plan:
    """What lies where.

    Args:
        shapes: Of every value, for one row.
        roots: The value that another one is a view of, by name; of all values.
        scratch: Place in the scratch memory by root.
        states: The state that a root replaces, by root: it is made where the next state belongs.
        outputs: The output that a root is, by root.
        size: Numbers of scratch memory.
    """

    shapes: dict[str, Shape]
    roots: dict[str, str]
    scratch: dict[str, int]
    states: dict[str, int]
    outputs: dict[str, int]
    size: int


def make_plan(step: StepProgram) -> Plan:
    """Lay out a step."""
    program, shapes = step.program, dict(value_shapes(step))
    roots = dict(_roots(step, shapes))
    made = [name for node in program.nodes for name in node.made() if roots[name] == name]
    states = {s.next: k for k, s in reversed(list(enumerate(program.states))) if s.next in made}
    outputs = {o.value: k for k, o in reversed(list(enumerate(program.outputs))) if o.value in made}
    outputs = {name: k for name, k in outputs.items() if name not in states}
    whole = [own.name for own in program.inputs if own.dtype != "float32"]  # made into float32 first
    kept = [*whole, *([program.elapsed.name] if program.elapsed.dt else []), *made]
    own = [name for name in kept if name not in states and name not in outputs]
    scratch, size = _packed(own, _lives(step, roots), shapes)
    return Plan(shapes, roots, scratch, states, outputs, size)


def _roots(step: StepProgram, shapes: dict[str, Shape]) -> Iterator[tuple[str, str]]:
    found = {name: name for name in (*shapes, *step.tensors)}
    for node in step.program.nodes:
        if _is_view(node):
            found[node.made()[0]] = found[node.taken()[0]]
    return iter(found.items())


def _is_view(node: Node) -> bool:
    return isinstance(node, Operation) and node.op == "Reshape"


def _lives(step: StepProgram, roots: dict[str, str]) -> dict[str, tuple[int, int]]:
    """First and last node at which a value must be there; results must be there at the end."""
    lives: dict[str, tuple[int, int]] = dict.fromkeys(roots, (-1, -1))
    nodes = step.program.nodes
    for place, node in enumerate(nodes):
        for name in node.made():
            if roots[name] == name:
                lives[name] = (place, place)
        for name in node.taken():
            first, _ = lives[roots[name]]
            lives[roots[name]] = (first, place)
    for name in [s.next for s in step.program.states] + [o.value for o in step.program.outputs]:
        lives[roots[name]] = (lives[roots[name]][0], len(nodes))
    return lives


def _packed(
    names: list[str], lives: dict[str, tuple[int, int]], shapes: dict[str, Shape]
) -> tuple[dict[str, int], int]:
    """Places at which no two values that live at the same time meet; the largest are placed first."""
    sizes = {name: -(-(math.prod(shapes[name]) + SPARE) // 16) * 16 for name in names}
    places: dict[str, int] = {}
    for name in sorted(names, key=lambda own: (-sizes[own], names.index(own))):
        first, last = lives[name]
        meeting = [other for other in places if lives[other][0] <= last and first <= lives[other][1]]
        start = 0
        for other in sorted(meeting, key=lambda own: places[own]):
            if places[other] - start >= sizes[name]:
                break
            start = max(start, places[other] + sizes[other])
        places[name] = start
    return places, max((places[name] + sizes[name] for name in names), default=1)
