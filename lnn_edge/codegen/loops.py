"""Nested loops over one result and its operands, whose elements lie at regular distances.

Axes that lie behind one another everywhere are joined, so most operations are one loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..bundle.operations import Shape
from .emission import Emission

__all__ = ["broadcast_strides", "contiguous", "nested"]


def contiguous(shape: Shape) -> tuple[int, ...]:
    """Distances between neighbours along each axis of a value."""
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def broadcast_strides(shape: Shape, result: Shape) -> tuple[int, ...]:
    """Distances in an operand along the axes of the result: 0 where it is repeated."""
    behind = len(result) - len(shape)
    own = contiguous(shape)
    return tuple(0 if k < behind or shape[k - behind] == 1 else own[k - behind] for k in range(len(result)))


@contextmanager
def nested(emission: Emission, shape: Shape, *strides: Sequence[int]) -> Iterator[list[str]]:
    """Loops over all elements of a shape; gives the place in each operand as text, one for each list of distances."""
    sizes, joined = _joined(shape, strides)
    names = [emission.fresh("i") for _ in sizes]
    with _loops(emission, names, sizes):
        yield [_place(names, own) for own in joined]


@contextmanager
def _loops(emission: Emission, names: list[str], sizes: list[int]) -> Iterator[None]:
    if not names:
        yield
        return
    with emission.braces(emission.loop(names[0], sizes[0])), _loops(emission, names[1:], sizes[1:]):
        yield


def _joined(shape: Shape, strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    sizes: list[int] = []
    joined: list[list[int]] = [[] for _ in strides]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        if sizes and all(own[-1] == size * given[axis] for own, given in zip(joined, strides, strict=True)):
            sizes[-1] *= size
            for own, given in zip(joined, strides, strict=True):
                own[-1] = given[axis]
        else:
            sizes.append(size)
            for own, given in zip(joined, strides, strict=True):
                own.append(given[axis])
    return sizes, joined


def _place(names: list[str], strides: list[int]) -> str:
    terms = [
        name if stride == 1 else f"{name} * {stride}" for name, stride in zip(names, strides, strict=True) if stride
    ]
    return " + ".join(terms) or "0"
