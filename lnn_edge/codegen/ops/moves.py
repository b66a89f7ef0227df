"""Operations that only move numbers: each is a copy from places at regular distances, or from a list of places."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...bundle.operations import Operation, Shape
from ..emission import Emission
from ..loops import broadcast_strides, contiguous, nested

__all__ = ["concat", "expand", "gather", "reshape", "slice_", "transpose"]


def reshape(_emission: Emission, _node: Operation) -> None:
    """Nothing: the result is the operand."""


def expand(emission: Emission, node: Operation) -> None:
    """Repeat along axes."""
    _copied(emission, node, broadcast_strides(emission.shape(node.inputs[0]), node.shape))


def transpose(emission: Emission, node: Operation) -> None:
    """Exchange axes."""
    own = contiguous(emission.shape(node.inputs[0]))
    _copied(emission, node, [own[axis] for axis in node.perm])


def slice_(emission: Emission, node: Operation) -> None:
    """A part of an axis."""
    own = list(contiguous(emission.shape(node.inputs[0])))
    start = node.start * own[node.axis]
    own[node.axis] *= node.step
    _copied(emission, node, own, start)


def gather(emission: Emission, node: Operation) -> None:
    """Elements of an axis by number."""
    shape, axis = emission.shape(node.inputs[0]), node.axis
    before, behind = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    picks = emission.tensors[node.weights["indices"]]
    if not len(picks):
        return
    table, result, given = emission.integers(picks), emission.at(node.output), emission.at(node.inputs[0])
    made: Shape = (before, len(picks), behind)
    with nested(emission, made[:1], (len(picks) * behind,), (shape[axis] * behind,)) as (to, from_):  # noqa: SIM117
        with emission.braces(emission.loop("j", len(picks))):
            source = f"{given} + ({from_}) + {table}[j] * {behind}"
            emission.line(f"copy({result} + ({to}) + j * {behind}, {source}, {behind});")


def concat(emission: Emission, node: Operation) -> None:
    """One behind the other along an axis."""
    shape, result = emission.shape(node.output), emission.at(node.output)
    before, whole = math.prod(shape[: node.axis]), math.prod(shape[node.axis :])
    start = 0
    for name in node.inputs:
        own = math.prod(emission.shape(name)[node.axis :])
        with nested(emission, (before,), (whole,), (own,)) as (to, from_):
            emission.line(f"copy({result} + ({to}) + {start}, {emission.at(name)} + ({from_}), {own});")
        start += own


def _copied(emission: Emission, node: Operation, strides: Sequence[int], start: int = 0) -> None:
    shape, result, given = emission.shape(node.output), emission.at(node.output), emission.at(node.inputs[0])
    with nested(emission, shape, contiguous(shape), strides) as (to, from_):
        emission.line(f"{result}[{to}] = {given}[{start} + {from_}];")
