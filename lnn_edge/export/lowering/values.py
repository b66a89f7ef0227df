"""The values of a step program while it is lowered: what each is in the graph, and in which shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...arrays import Array
from ...bundle.operations import Shape
from ..graph.builder import GraphBuilder, Value

__all__ = ["Values"]


class Values:
    """What the lowering of an operation asks for.

    Attributes:
        graph: Where nodes go.
        rows: Rows per step.
        tensors: Those of the program, by name.
    """

    def __init__(
        self, graph: GraphBuilder, rows: int, tensors: Mapping[str, Array], shapes: Mapping[str, Shape]
    ) -> None:
        self.graph, self.rows, self.tensors = graph, rows, tensors
        self._shapes = shapes
        self._reshaped: dict[tuple[str, Shape], str] = {}

    def shape(self, name: str) -> Shape:
        """The shape of a value of the program, with its rows."""
        return (self.rows, *self._shapes[name])

    def whole(self, operand: Value | Array) -> Value:
        """A tensor becomes a value only where an operator needs one as such: with a copy for each row."""
        if isinstance(operand, Value):
            return operand
        array = np.broadcast_to(operand, (self.rows, *operand.shape))
        return Value(self.graph.constant(array), array.shape, array.shape)

    def plain(self, operand: Value | Array) -> str:
        """The name of an operand in the shape that the program has."""
        whole = self.whole(operand)
        return self.shaped(whole, whole.logical)

    def shaped(self, value: Value, shape: Sequence[int]) -> str:
        """The name of the value in exactly this shape; a Reshape is added only if it has another one."""
        wanted = tuple(int(n) for n in shape)
        if value.physical == wanted:
            return value.name()
        key = (value.name(), wanted)
        if key not in self._reshaped:
            self._reshaped[key] = self.graph.node("Reshape", value.name(), self.graph.integers(wanted))
        return self._reshaped[key]

    def aligned(self, operand: Value | Array, rank: int) -> str:
        """The name of an operand with so many axes: those that it lacks come behind the rows, with length 1."""
        whole = self.whole(operand)
        rows, *rest = whole.logical
        return self.shaped(whole, (rows, *(1 for _ in range(rank - 1 - len(rest))), *rest))

    def operand(self, operand: Value | Array, logical: Shape, kept: Sequence[int]) -> str:
        """An operand of an elementwise operation, reduced to some of the axes of the result."""
        rows, rest = (operand.logical[0], operand.logical[1:]) if isinstance(operand, Value) else (1, operand.shape)
        padded = (rows, *(1 for _ in range(len(logical) - 1 - len(rest))), *rest)
        shape = tuple(padded[k] for k in kept)
        return (
            self.shaped(operand, shape) if isinstance(operand, Value) else self.graph.constant(operand.reshape(shape))
        )
