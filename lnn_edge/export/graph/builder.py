"""The builder of ONNX graphs: standard operators, static shapes, weights folded in float64 and stored once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ... import __version__
from ...arrays import Array
from ...bundle.onnx_wire import MAX_GRAPH_NODES
from ...bundle.opset import OPERATORS, lowest_versions
from ...bundle.spec import Dtype, Graph, Precision
from ...wording import listed
from .float16 import halved
from .names import named

__all__ = ["GraphBuilder", "Shape", "Value", "check_limits", "dtype_of", "graph_facts"]

Shape = tuple[int, ...]
_TYPES: dict[Dtype, int] = {
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8,
}


class Value:
    """A value of the graph.

    Attributes:
        physical: The shape it has there.
        logical: The shape torch sees.
    """

    def __init__(self, name: str, physical: Shape, logical: Shape) -> None:
        self._name = name
        self.physical, self.logical = physical, logical

    def name(self) -> str:
        """Its name in the graph."""
        return self._name

    def viewed(self, shape: Sequence[int]) -> Value:
        """The same value as torch sees it after a view."""
        return Value(self._name, self.physical, tuple(int(n) for n in shape))


class GraphBuilder:
    """Collects nodes and constants. Values are names; a constant that repeats is stored once.

    `half` says whether the step is for half precision, where range matters as much as the number of nodes.
    """

    def __init__(self, precision: Precision = "float32") -> None:
        self.precision: Precision = precision
        self.half = precision == "float16"
        self._exact: set[str] = set()  # names of nodes that stay float32
        self._marking = False
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._renamed: dict[str, str] = {}
        self._roles: dict[str, str] = {}  # what constants are called, by the names that they are stored under
        self._scope = self._owner = ""

    @contextmanager
    def scope(self, name: str, *, owns: bool = True) -> Iterator[None]:
        """Prefix the names of the nodes made within, so that a graph viewer shows where they come from.

        Constants made there are called so too, unless what goes on there is one of several turns that share them.
        """
        scope, owner = self._scope, self._owner
        own = f"{name}/" if name else ""
        self._scope, self._owner = scope + own, owner + own if owns else owner
        try:
            yield
        finally:
            self._scope, self._owner = scope, owner

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Keep the nodes made within in float32, whatever the precision of the step."""
        before, self._marking = self._marking, True
        yield
        self._marking = before

    def input(self, name: str, shape: Sequence[int], dtype: Dtype = "float32") -> str:
        """Declare a graph input; whole numbers become float32 at once."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(shape)))
        if dtype == "float32":
            return name
        with self.exact():
            return self.node("Cast", name, to=TensorProto.FLOAT)

    def output(self, value: str, name: str, shape: Sequence[int]) -> None:
        """Make a value a float32 graph output under a name of its own.

        A value that is an output already is multiplied by 1: two outputs need two buffers, and tools are known to merge
        what an Identity keeps apart. So is a graph input, or a constant: parsers stumble over one that goes straight to
        an output.
        """
        value = self._renamed.get(value, value)
        taken = {i.name for i in self._inputs} | {o.name for o in self._outputs} | set(self._constants.values())
        if value in taken:
            self._nodes.append(helper.make_node("Mul", [value, self.constant(1.0, "one")], [name], name=name))
            self._exact.add(name)
        else:
            self._rename(value, name)
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def constant(self, value: Array | float, role: str = "") -> str:
        """Store a float32 constant; float64 results of folding are rounded here, once. A number gets shape (1, 1).

        The role is what it is called, where that says more than the node that takes it.
        """
        array = np.asarray(value, np.float64).astype(np.float32)
        return self._store(np.ascontiguousarray(array.reshape(1, 1) if array.ndim == 0 else array), role)

    def integers(self, value: Sequence[int] | Array) -> str:
        """Store an int64 constant: axes, sizes or indices."""
        return self._store(np.ascontiguousarray(np.asarray(value, np.int64)))

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.nodes(operator, 1, *inputs, **attributes)[0]

    def nodes(self, operator: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        name = f"{self._scope}{operator.lower()}_{len(self._nodes)}"
        results = [name] if outputs == 1 else [f"{name}.{k}" for k in range(outputs)]
        taken = [self._renamed.get(value, value) for value in inputs]
        self._nodes.append(helper.make_node(operator, taken, results, name=name, **attributes))
        if self._marking:
            self._exact.add(name)
        return results

    def linear(self, x: str, weight: Array, addend: Array | str | None = None, role: str = "") -> str:
        """x @ weight + addend, weight as (in, out); the addend is a constant (out,) or a value (batch, out).

        A Gemm where the addend is a constant. Several runtimes know no other addend of a Gemm, or no Gemm in half
        precision; onnxruntime makes one of MatMul and Add again.
        """
        operands = [x, self.constant(weight, role and f"{role}.weight")]
        if addend is not None:
            operands.append(addend if isinstance(addend, str) else self.constant(addend, role and f"{role}.bias"))
        if not self.half and not isinstance(addend, str):
            return self.node("Gemm", *operands)
        product = self.node("MatMul", *operands[:2])
        return product if addend is None else self.node("Add", product, operands[2])

    def row(self, value: Array | str, role: str = "") -> str:
        """A value as it is, a constant (features,) as one row that fits any number of rows."""
        return value if isinstance(value, str) else self.constant(value[None], role)

    def split(self, x: str, sizes: Sequence[int], axis: int = 1) -> list[str]:
        """Cut one of two axes, the last by default, into pieces; one piece is the value itself."""
        if len(sizes) == 1:
            return [x]
        return self.nodes("Split", len(sizes), x, self.integers(sizes), axis=axis)

    def concat(self, values: Sequence[str], axis: int = 1) -> str:
        """Join along one of two axes, the last by default; one value is itself."""
        return values[0] if len(values) == 1 else self.node("Concat", *values, axis=axis)

    def uses(self, value: str) -> bool:
        """Whether the outputs so far depend on a value."""
        nodes, _ = _used(self._nodes, [], [o.name for o in self._outputs])
        return any(value in node.input for node in nodes)

    def model(self, name: str) -> onnx.ModelProto:
        """Finish: name what is in the graph, check it strictly and return it as a model."""
        inputs, outputs = [i.name for i in self._inputs], [o.name for o in self._outputs]
        self._add_biases(outputs)
        nodes, constants = _used(self._nodes, self._initializers, outputs)
        if self.half:
            nodes, constants = halved(nodes, constants, inputs, outputs, self._exact)
        named(nodes, constants, outputs, self._roles)
        graph = helper.make_graph(nodes, name, self._inputs, self._outputs, constants)
        opset, ir_version = lowest_versions(node.op_type for node in nodes)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=ir_version,
            producer_name="lnn-edge",
            producer_version=__version__,
        )
        onnx.checker.check_model(model, full_check=True)
        check_limits(model)
        return model

    def _add_biases(self, outputs: Sequence[str]) -> None:
        """Beside convolutions give each Gemm a bias, of zeros if need be: converters for images count on one."""
        nodes, _ = _used(self._nodes, [], outputs)
        if not any(node.op_type == "Conv" for node in nodes):
            return
        sizes = {constant.name: constant.dims[1] for constant in self._initializers if len(constant.dims) == 2}
        for node in nodes:
            if node.op_type == "Gemm" and len(node.input) == 2:
                node.input.append(self.constant(np.zeros(sizes[node.input[1]]), "no_bias"))

    def _store(self, array: Array, role: str = "") -> str:
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            name = f"const_{len(self._constants)}"
            self._constants[key] = name
            if role:
                self._roles[name] = f"{self._owner}{role}"
            self._initializers.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def _rename(self, old: str, new: str) -> None:
        self._renamed[old] = new
        for node in self._nodes:
            for names in (node.input, node.output):
                for k, name in enumerate(names):
                    if name == old:
                        names[k] = new


def _used(
    nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto], outputs: Sequence[str]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """What the outputs depend on: a network may read a core's state and leave its output alone."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1], [constant for constant in constants if constant.name in needed]


def check_limits(model: onnx.ModelProto) -> None:
    """Refuse a graph outside the limits of the bundle format; a failure is an error of this exporter.

    Raises:
        ValueError: Naming the operator, opset, type or shape that is not allowed.
    """
    graph = model.graph
    domains = {o.domain: o.version for o in model.opset_import}
    if set(domains) != {""} or domains[""] > 18 or model.ir_version > 9 or len(model.functions):
        raise ValueError(f"graph uses opsets {domains}, IR {model.ir_version} or local functions; allowed: opset <= 18")
    if len(graph.node) > MAX_GRAPH_NODES:
        raise ValueError(
            f"the step has {len(graph.node)} nodes, more than the {MAX_GRAPH_NODES} that a device loads. Choose a "
            "smaller `unroll`"
        )
    foreign = sorted({node.op_type for node in graph.node} - OPERATORS)
    if foreign:
        raise ValueError(f"graph uses operators outside the portable set: {', '.join(foreign)}")
    for value in (*graph.input, *graph.output):
        kind = value.type.tensor_type
        if kind.elem_type not in _TYPES.values() or not all(d.dim_value > 0 for d in kind.shape.dim):
            raise ValueError(f"graph tensor '{value.name}' must be one of {listed(_TYPES)} with a static shape")
    produced = {name for node in graph.node for name in node.output}
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    dead = sorted((produced | {i.name for i in graph.initializer}) - used)
    if dead:
        raise ValueError(f"graph computes values that nothing uses: {', '.join(dead)}")


def dtype_of(kind: int) -> Dtype:
    """What the manifest calls the type of an input."""
    return next(dtype for dtype, own in _TYPES.items() if own == kind)


def graph_facts(model: onnx.ModelProto) -> Graph:
    """The facts about the graph that the manifest holds."""
    floats = [i for i in model.graph.initializer if i.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)]
    operators = Counter(node.op_type for node in model.graph.node)
    return Graph(
        opset=model.opset_import[0].version,
        ir_version=model.ir_version,
        nodes=len(model.graph.node),
        parameters=int(sum(np.prod(i.dims) for i in floats)),
        operators=dict(sorted(operators.items())),
    )
