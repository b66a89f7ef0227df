"""The check of a bundle's graph before any library sees it: names, types, shapes, memory, work; see `onnx_operators`.

All sizes are constants, so every shape follows, by the same rules as in a step program, and with it what a step costs.
Whole numbers are axes, sizes and indices in constants, and nothing is computed with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import BundleError
from .onnx_operators import RESULTS, Known, check_form, short
from .onnx_wire import (
    BOOL,
    FLOAT,
    FLOAT16,
    INT32,
    INT64,
    UINT8,
    WireGraph,
    WireNode,
    WireTensor,
    WireValue,
    node_text,
    read_graph,
    taker_text,
)
from .operations import MAX_ELEMENTS, Shape
from .opset import VERSIONS, lowest_versions

__all__ = ["MAX_MULTIPLICATIONS", "MAX_TOTAL_ELEMENTS", "CheckedGraph", "check_graph"]

MAX_TOTAL_ELEMENTS = 1 << 28  # of all values, a gigabyte; a runtime may keep all of them until the step is over
MAX_MULTIPLICATIONS = 1 << 36  # some seconds: whatever takes longer is no step that a robot waits for
_MAX_AXES = 16
_MAX_NUMBERS = 1024  # in a constant of sizes or axes; an unroll block has as many samples
_LONGEST_REASON = 500  # characters; what is quoted comes from the file

_BYTES = {FLOAT: 4, FLOAT16: 2, INT64: 8, BOOL: 1}  # of constants
_INPUTS = (FLOAT, INT32, UINT8)


class CheckedGraph(NamedTuple):
    """The nodes of a graph that passed, and the shape of every value."""

    nodes: list[WireNode]
    shapes: dict[str, Shape]


def check_graph(data: bytes) -> CheckedGraph:
    """Check model.onnx; what passes holds only what this project's exporter writes.

    Raises:
        BundleError: Saying what else it holds, or what is wrong with it.
    """
    try:
        graph = read_graph(data)
        _check_versions(graph)
        walk = _Walk(graph)
        for place, node in enumerate(graph.nodes):
            _add(walk, place, node)
        walk.check_outputs(graph.outputs)
        _check_operators(graph)
        return CheckedGraph(graph.nodes, walk.shapes())
    except ValueError as error:
        reason = str(error)
        short = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
        raise BundleError(
            f"model.onnx cannot be loaded: {short}. It is not a graph that lnn-edge writes; export the bundle again"
        ) from error


def _check_versions(graph: WireGraph) -> None:
    """One of the pairs that the exporter writes; older versions of it wrote the last alone."""
    if (graph.opset, graph.ir_version) not in VERSIONS:
        named = " or ".join(f"{ir} and {opset}" for opset, ir in VERSIONS)
        raise ValueError(f"it asks for IR {graph.ir_version} and opset {graph.opset}, not {named}")


def _check_operators(graph: WireGraph) -> None:
    if (graph.opset, graph.ir_version) < lowest_versions(node.operator for node in graph.nodes):
        raise ValueError(f"it holds an operator that opset {graph.opset} has not")


def _add(walk: _Walk, place: int, node: WireNode) -> None:
    try:
        walk.add(node)
    except ValueError as error:
        raise ValueError(f"{node_text(place, node)}: {error}") from error


class _Walk:
    """What is known of the values so far; `Form.result` looks tensors up here."""

    def __init__(self, graph: WireGraph) -> None:
        self._known: dict[str, Known] = {}
        self._constants: dict[str, WireTensor] = {}
        self._made: set[str] = set()
        self._elements = self._work = 0
        for value in graph.inputs:
            if value.kind not in _INPUTS:
                own = f"input {value.name[:80]!r}{taker_text(value.name, graph.nodes)}"
                raise ValueError(f"{own}: it has type {value.kind}, expected float32, int32 or uint8")
            self._declare(value.name, Known(value.kind, value.shape))
        for constant in graph.constants:
            self._declare(constant.name, Known(constant.kind, constant.shape))
            _check_constant(constant)
            self._constants[constant.name] = constant

    def add(self, node: WireNode) -> None:
        """Check a node, and declare what it makes."""
        check_form(node)
        try:
            operands = [self._known[name] for name in node.inputs]
        except KeyError as error:
            raise ValueError(f"it takes {error.args[0][:80]!r}, which is not made before it") from None
        results = RESULTS[node.operator](self, node, operands)
        if len(results) != len(node.outputs):
            raise ValueError(f"it makes {len(node.outputs)} values, expected {len(results)}")
        for name, known in zip(node.outputs, results, strict=True):
            self._declare(name, known)
            self._made.add(name)

    def check_outputs(self, outputs: Sequence[WireValue]) -> None:
        """Outputs are float32 values that nodes make, of the shapes that they are said to have."""
        for value in outputs:
            if value.name not in self._made:
                raise ValueError(f"no node makes output {value.name[:80]!r}")
            self._made.remove(value.name)
            if self._known[value.name] != (FLOAT, value.shape) or value.kind != FLOAT:
                raise ValueError(f"output {value.name[:80]!r} is not float32 of the shape that it is said to have")

    def shapes(self) -> dict[str, Shape]:
        """Of all values so far, by name."""
        return {name: known.shape for name, known in self._known.items()}

    def tensor(self, name: str, shape: Sequence[int | None] | None = None) -> Shape:
        """See `Lookup.tensor`."""
        found = self._constant(name).shape
        if shape is not None and not (
            len(found) == len(shape) and all(want in (None, size) for size, want in zip(found, shape, strict=True))
        ):
            raise ValueError(f"{name[:80]!r} has shape {list(found)}, expected {list(shape)}")
        return found

    def indices(self, name: str, below: int) -> Shape:
        """See `Lookup.indices`."""
        values = self._whole(name)
        if values.min() < 0 or values.max() >= below:
            raise ValueError(f"{name[:80]!r} holds indices outside 0 to {below - 1}")
        return self._constants[name].shape

    def numbers(self, name: str) -> tuple[int, ...]:
        """The whole numbers of a constant with one axis: sizes or axes."""
        values = self._whole(name)
        if len(self._constants[name].shape) != 1 or values.size > _MAX_NUMBERS:
            raise ValueError(f"{name[:80]!r} is no short list of whole numbers")
        return tuple(values.tolist())

    def count(self, multiplications: int) -> None:
        """Add to the work of a step."""
        self._work += multiplications
        if self._work > MAX_MULTIPLICATIONS:
            raise ValueError(f"a step of more than {MAX_MULTIPLICATIONS} multiplications")

    def _declare(self, name: str, known: Known) -> None:
        if not name or name in self._known:
            raise ValueError(f"the name {name[:80]!r} is empty, or made twice")
        size = math.prod(known.shape)
        if len(known.shape) > _MAX_AXES or min(known.shape, default=1) < 1 or size > MAX_ELEMENTS:
            raise ValueError(f"{name[:80]!r} has shape {short(known.shape)}, expected at most {MAX_ELEMENTS} elements")
        self._elements += size
        if self._elements > MAX_TOTAL_ELEMENTS:
            raise ValueError(f"values of more than {MAX_TOTAL_ELEMENTS} elements together")
        self._known[name] = known

    def _constant(self, name: str) -> WireTensor:
        if name not in self._constants:
            raise ValueError(f"{name[:80]!r} is no constant")
        return self._constants[name]

    def _whole(self, name: str) -> Array:
        constant = self._constant(name)
        if constant.kind != INT64:
            raise ValueError(f"{name[:80]!r} is not int64")
        return np.frombuffer(constant.data, "<i8")


def _check_constant(constant: WireTensor) -> None:
    if constant.kind not in _BYTES:
        raise ValueError(f"constant {constant.name[:80]!r} has type {constant.kind}: not float, float16, int64 or bool")
    needed = math.prod(constant.shape) * _BYTES[constant.kind]
    if len(constant.data) != needed:
        raise ValueError(f"constant {constant.name[:80]!r} has {len(constant.data)} bytes, expected {needed}")
    if constant.kind == BOOL and np.frombuffer(constant.data, np.uint8).max() > 1:
        raise ValueError(f"constant {constant.name[:80]!r} is neither true nor false somewhere")
