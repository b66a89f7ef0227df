"""Rules of TensorRT's ONNX parsers, version by version, as far as a step graph can come near them.

Sources: docs/operators.md and the importers of onnx-tensorrt at the tags of 8.5, 8.6, 10.0, 10.1 and 11.1, and
TensorRT's release notes. Versions between are held to what both neighbours take. NVIDIA's own parser and builder, those
of TensorRT for RTX 1.7, take whatever passes here (tests/runtime/trt/test_real_builder.py). They take more: float64,
which becomes float32, If, Loop, arithmetic with int64, empty tensors, and an input that goes straight to an output,
each fused into one node. What documents say, rule by rule: tests/support/parser_rules.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

# Imported by every version from 8.5 to 11, with float32 and float16.
EVERYWHERE = frozenset(
    {"Abs", "Add", "Atan", "AveragePool", "Cast", "Clip", "Concat", "Conv", "Cos", "Div", "Elu", "Erf", "Exp", "Expand"}
    | {"Flatten", "Gather", "GatherElements", "Gemm", "HardSigmoid", "Identity", "LeakyRelu", "Log", "LogSoftmax"}
    | {"MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "Pow", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"}
    | {"Relu", "Reshape", "Sigmoid", "Sin", "Slice", "Softmax", "Softplus", "Softsign", "Split", "Sqrt", "Squeeze"}
    | {"Sub", "Tanh", "Transpose", "Unsqueeze", "Where"}
    | {"And", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or"}
)
SINCE = {"LayerNormalization": (8, 6), "HardSwish": (8, 6), "Gelu": (10, 0), "Mish": (10, 0), "Swish": (11, 0)}
# Inputs that must be constants: shapes, axes, indices and sizes are resolved while the graph is parsed.
CONSTANT_INPUTS = {
    "Reshape": (1,), "Expand": (1,), "Split": (1,), "Squeeze": (1,), "Unsqueeze": (1,), "ReduceSum": (1,),
    "Slice": (1, 2, 3, 4), "Clip": (1, 2), "GatherElements": (1,), "Gather": (1,),
}  # fmt: skip
NEWEST_OPSET = (((8, 5), 17), ((10, 0), 20), ((10, 15), 24))
NEWEST_IR = 9  # a newer one is a warning, and then operators are tried one by one
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
BINDINGS = (TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT8)
TYPES = {*FLOATS, *BINDINGS, TensorProto.INT64, TensorProto.BOOL}
LARGEST_RANK = 8


def problems(
    model: onnx.ModelProto, version: tuple[int, int], facts: Facts | None = None
) -> list[tuple[int, str, str, str]]:
    """(node index or -1, node name, operator, what is wrong) of everything that this version does not take as it is.

    `facts` are `facts_of` the model, where it is asked for several versions.
    """
    found = [(-1, "", "", text) for text in _model_problems(model, version)]
    facts = facts or facts_of(model)
    for index, node in enumerate(model.graph.node):
        found += [(index, node.name, node.op_type, text) for text in _node_problems(node, facts, version)]
    return found


def facts_of(model: onnx.ModelProto) -> Facts:
    """What is known of a model's values before it runs."""
    return Facts(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True))


class Facts:
    """Types, shapes and constants of every value."""

    def __init__(self, model: onnx.ModelProto):
        graph = model.graph
        self.constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.inputs = {i.name for i in graph.input} - set(self.constants)
        self.outputs = {o.name for o in graph.output}
        self.types, self.shapes = {}, {}
        for value in (*graph.input, *graph.output, *graph.value_info):
            kind = value.type.tensor_type
            self.types[value.name] = kind.elem_type
            self.shapes[value.name] = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
        for i in graph.initializer:
            self.types[i.name], self.shapes[i.name] = i.data_type, list(i.dims)


def _model_problems(model: onnx.ModelProto, version: tuple[int, int]) -> Iterator[str]:
    opsets = {o.domain: o.version for o in model.opset_import}
    newest = max(opset for since, opset in NEWEST_OPSET if version >= since)
    if set(opsets) - {"", "ai.onnx"}:
        yield f"operator domains {sorted(opsets)}"
    if not 7 <= opsets.get("", 0) <= newest:
        yield f"opset {opsets.get('')}, this parser knows 7 to {newest}"
    if model.ir_version > NEWEST_IR:
        yield f"IR version {model.ir_version}"
    if len(model.functions):
        yield "local functions"
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.tensor_type
        if kind.elem_type not in BINDINGS:
            yield f"'{value.name}' is not float32, int32 or uint8"  # int64 bindings differ between 8.x and 10.x
        if not kind.shape.dim or any(d.dim_value < 1 for d in kind.shape.dim):
            yield f"'{value.name}' has no static shape of rank 1 or more"  # a scalar may become a shape tensor


def _node_problems(node: onnx.NodeProto, facts: Facts, version: tuple[int, int]) -> Iterator[str]:
    op = node.op_type
    if op in ("If", "Loop", "Scan"):
        yield "control flow cannot be captured in a CUDA graph"
    if op in ("ScatterElements", "ScatterND"):
        reduction = next((a.s.decode() for a in node.attribute if a.name == "reduction"), "none")
        yield f"scatter (reduction {reduction}): 8.6 ignores the reduction, 10 needs a plugin or refuses"
    elif op not in EVERYWHERE and version < SINCE.get(op, (99, 0)):
        yield f"No importer registered for op: {op}"
    for position in CONSTANT_INPUTS.get(op, ()):
        if len(node.input) > position and node.input[position] and node.input[position] not in facts.constants:
            yield f"input {position} must be an initializer"
    if op == "Slice" and version < (10, 3) and len(node.input) > 3 and node.input[3] not in facts.constants:
        yield "axes of Slice as a tensor need 10.3"
    if op in ("Gemm", "MatMul"):
        yield from _product_problems(node, facts)
    if op == "LayerNormalization" and len([o for o in node.output if o]) > 1:
        yield "only the first output of LayerNormalization exists"
    if op == "Identity" and node.input[0] in facts.inputs and node.output[0] in facts.outputs:
        yield "a graph input goes straight to an output"
    for name in (*node.input, *node.output):
        if facts.types.get(name) == TensorProto.UINT8 and not (op == "Cast" and name in facts.inputs):
            yield f"'{name}' is uint8, which only a Cast of an input takes"
        yield from _value_problems(name, facts)


def _product_problems(node: onnx.NodeProto, facts: Facts) -> Iterator[str]:
    for name in node.input:
        if facts.types.get(name) not in FLOATS:
            yield f"'{name}' is no float"
    if node.op_type == "Gemm":
        if any(len(facts.shapes.get(name, ())) != 2 for name in node.input[:2]):
            yield "both factors of Gemm must have two axes"
        if any(a.name in ("alpha", "beta") and a.f != 1.0 for a in node.attribute):
            yield "alpha and beta other than 1 become layers of their own"


def _value_problems(name: str, facts: Facts) -> Iterator[str]:
    if not name:
        return
    if facts.types.get(name) not in TYPES:
        yield f"'{name}' has type {facts.types.get(name)}"
    shape = facts.shapes.get(name)
    if shape is None or -1 in shape or len(shape) > LARGEST_RANK:
        yield f"'{name}' has shape {shape}"
    value = facts.constants.get(name)
    if value is not None and value.dtype == np.int64 and value.size and np.abs(value).max() >= 2**31:
        yield f"'{name}' does not fit into the int32 that 8.x makes of int64"
