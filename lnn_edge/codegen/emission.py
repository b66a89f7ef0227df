"""The body of a step while it is written: its constant tables, where its values lie, and its lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..arrays import Array
from ..bundle.operations import Shape
from ..bundle.program import StepProgram
from .c_text import byte_numbers, float_table, int_table, number, short_table
from .plan import Plan

__all__ = ["Emission", "Weights"]

_SUMS = 12  # AVX2 and SSE have 16 registers, two of which hold an input and a weight


@dataclass(frozen=True)
class Weights:
    """A table of weights, float32 or the bits of float16.

    Args:
        name: Its name in C.
        scale: What a float16 number is multiplied with, as text; `None` for float32.
    """

    name: str
    scale: str | None = None

    def vector(self, place: str) -> str:
        """The vector that begins at a place."""
        at = f"{self.name} + {place}"
        return f"get({at})" if self.scale is None else f"get_half({at}, {self.scale})"

    def one(self, place: str) -> str:
        """The number at a place."""
        return f"{self.name}[{place}]" if self.scale is None else f"half1({self.name} + {place}, {self.scale})"


class Emission:
    """What the functions that write nodes write to.

    Attributes:
        tensors: Of the program, by name.
        lanes: Numbers in a vector.
        tiles: Registers that stand for each number or vector.
        sums: Numbers or vectors that a product of matrices keeps in registers.
        half: Whether weights are stored as float16.
        fixed: The timespan of every step; `None` where it is measured.
        functions: Texts of functions that nodes call.
    """

    def __init__(
        self, step: StepProgram, plan: Plan, *, lanes: int, tiles: int, half: bool, batch: int, unroll: int
    ) -> None:
        self.tensors: Mapping[str, Array] = step.tensors
        self.lanes, self.tiles, self.half = lanes, tiles, half
        self.sums = _SUMS // tiles
        self.fixed = step.program.elapsed.value
        self.elapsed = step.program.elapsed.name
        self._plan, self._batch, self._unroll = plan, batch, unroll
        self._inputs = {own.name: (k, own.dtype) for k, own in enumerate(step.program.inputs)}
        self._states = {own.name: k for k, own in enumerate(step.program.states)}
        self._tables: dict[tuple[str, bytes], str] = {}
        self._texts: list[str] = []
        self._lines: list[str] = []
        self.functions: list[str] = []
        self._depth, self._names = 1, 0
        self.constant_inputs: frozenset[str] = frozenset()  # given once per call, and not with each sample
        self.numbers = 0  # in all tables
        self.checked = set[str]()  # results whose node says by itself that they are finite

    # ---------------------------------------------------------------- lines

    def line(self, text: str) -> None:
        """Add a line."""
        self._lines.append("    " * self._depth + text)

    @contextmanager
    def braces(self, head: str = "") -> Iterator[None]:
        """Lines between braces."""
        self.line(f"{head} {{".lstrip())
        self._depth += 1
        yield
        self._depth -= 1
        self.line("}")

    @contextmanager
    def function(self, head: str) -> Iterator[None]:
        """Lines that are a function of their own, in which nothing else takes registers."""
        lines, depth = self._lines, self._depth
        self._lines, self._depth = [], 1
        yield
        self.functions.append(f"CALLED void {head} {{\n{self.taken_lines()}}}\n")
        self._lines, self._depth = lines, depth

    def loop(self, index: str, count: int, step: int = 1) -> str:
        """The head of a loop."""
        add = f"++{index}" if step == 1 else f"{index} += {step}"
        return f"for (int {index} = 0; {index} < {count}; {add})"

    def fresh(self, name: str) -> str:
        """A name that nothing has."""
        self._names += 1
        return f"{name}{self._names}"

    def taken_lines(self) -> str:
        """The lines so far, which are then gone."""
        text = "\n".join(self._lines) + "\n" if self._lines else ""
        self._lines = []
        return text

    # ---------------------------------------------------------------- tables

    def table(self, values: Array) -> str:
        """The name of a constant table of float32; equal ones are one."""
        rounded = np.ascontiguousarray(values, np.float64).astype(np.float32)
        return self._table("T", rounded, rounded.size, lambda name: float_table(name, rounded))

    def integers(self, values: Array) -> str:
        """The name of a constant table of int32."""
        whole = np.ascontiguousarray(values, np.int32)
        return self._table("I", whole, whole.size, lambda name: int_table(name, whole))

    def small_integers(self, values: Array) -> str:
        """The name of a constant table of numbers from 0 on, in as few bytes as they take."""
        whole = np.ascontiguousarray(values, np.int32)
        for kind, most, write in (("C", 1 << 8, byte_numbers), ("H", 1 << 16, short_table)):
            if whole.max(initial=0) < most:
                return self._table(kind, whole, whole.size, partial(write, values=whole))
        return self.integers(whole)

    def weights(self, values: Array) -> Weights:
        """A table of weights: float16 where the model is, brought near 1 by a power of two, which rounds nothing."""
        largest = float(np.abs(values).max(initial=0.0))
        exponent = min(max(math.frexp(largest)[1], -100), 15) if math.isfinite(largest) else 0
        if not self.half or not 0 < largest < 65504 * 2.0**exponent:
            return Weights(self.table(values))
        halves = np.ldexp(np.asarray(values, np.float64), -exponent).astype(np.float16).view(np.uint16)
        name = self._table("H", halves, halves.size, lambda own: short_table(own, halves))
        return Weights(name, number(2.0 ** (112 + exponent)))  # the bits of a float16 in place are 2^-112 of its value

    def _table(self, kind: str, values: Array, count: int, text: Callable[[str], str]) -> str:
        key = (kind, values.tobytes())
        if key not in self._tables:
            name = f"{kind}{len(self._tables)}"  # a capital and digits: nothing else has such a name
            self._tables[key] = name
            self._texts.append(text(name))
            self.numbers += count
        return self._tables[key]

    def tables_text(self) -> str:
        """All tables."""
        return "".join(self._texts)

    # ---------------------------------------------------------------- values

    def shape(self, name: str) -> Shape:
        """The shape of a value or tensor for one row."""
        return self._plan.shapes[name] if name in self._plan.shapes else self.tensors[name].shape

    def size(self, name: str) -> int:
        """How many numbers it has."""
        return math.prod(self.shape(name))

    def at(self, name: str) -> str:
        """Where a value or tensor lies: an expression of type float *."""
        root, plan = self._plan.roots[name], self._plan
        if root in plan.scratch:
            return f"(w->v + {plan.scratch[root]})"
        if root in plan.states:
            return self._of_row("n->s", plan.states[root], self.size(root), once=True)
        if root in plan.outputs:
            return self._of_row("y->out", plan.outputs[root], self.size(root))
        if root in self._inputs:
            return self.input_at(root)
        if root in self._states:
            return self._of_row("s->s", self._states[root], self.size(root), once=True)
        if root == self.elapsed:
            return self.table(np.array([self.fixed]))
        return self.table(self.tensors[root])

    def input_at(self, name: str) -> str:
        """Where an input lies, of whatever type."""
        return self._of_row("x->in", self._inputs[name][0], self.size(name), once=name in self.constant_inputs)

    def is_padded(self, name: str) -> bool:
        """Whether a vector that ends behind a value may be stored whole."""
        return self._plan.roots[name] in self._plan.scratch

    def state_after(self, place: int, size: int) -> str:
        """Where a next state belongs."""
        return self._of_row("n->s", place, size, once=True)

    def output(self, place: int, size: int) -> str:
        """Where an output belongs."""
        return self._of_row("y->out", place, size)

    def measured(self) -> str:
        """The seconds since the last sample."""
        return self._of_row("x->dt", "", 1)

    def _of_row(self, member: str, place: object, size: int, *, once: bool = False) -> str:
        unroll = 1 if once else self._unroll
        index = f"row * {unroll} + k" if unroll > 1 else "row"
        if self._batch * unroll == 1:
            return f"{member}{place}"
        return f"({member}{place} + ({index if self._batch > 1 else 'k'}) * {size})"

    # ---------------------------------------------------------------- vectors

    def padded(self, count: int) -> int:
        """A number of numbers rounded up to whole vectors."""
        return -(-count // self.lanes) * self.lanes

    def store(self, target: str, vectors: list[str], count: int, *, padded: bool = False) -> None:
        """Store the first numbers of some vectors one after the other."""
        for k, value in enumerate(vectors):
            left = count - k * self.lanes
            place = f"{target} + {k * self.lanes}"
            whole = left >= self.lanes or padded
            self.line(f"put({place}, {value});" if whole else f"put_part({place}, {value}, {left});")
