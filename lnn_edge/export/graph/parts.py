"""A graph in two parts: the encoder, which depends on samples alone, and the rest, which takes what that gives.

Every node of the graph is in one of the parts, with its weights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper, shape_inference

__all__ = ["GraphParts", "cut_graph"]

_HALF = "/half"  # behind the name of a value that is float16 in the graph, and float32 between the parts


@dataclass(frozen=True)
class GraphParts:
    """The two parts.

    Attributes:
        encoder: From samples to what the rest takes of them, and to outputs that depend on nothing else.
        rest: From that, states and time to the other outputs and the next states.
    """

    encoder: onnx.ModelProto
    rest: onnx.ModelProto


def cut_graph(model: onnx.ModelProto, late: Sequence[str], batch: int) -> GraphParts | None:
    """Cut a graph where what depends on samples alone meets states and time.

    Args:
        model: The graph.
        late: Its inputs that are no samples: states and time.
        batch: Rows; a value that is handed over has so many.

    Returns:
        The parts; `None` if one of them would be empty.
    """
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    known = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.input, *graph.output)}
    behind, inputs = _depending(graph.node, set(late)), {value.name for value in graph.input}
    while True:
        handed = _handed_over(graph, behind)
        unfit = [name for name in handed if name not in inputs and not _fits(known[name], batch)]
        if not unfit:
            break
        makers = {output for node in graph.node if set(node.output) & set(unfit) for output in node.output}
        behind = _depending(graph.node, behind | makers)
    early = [node for node in graph.node if not behind & set(node.output)]
    rest = [node for node in graph.node if behind & set(node.output)]
    own = [value.name for value in graph.output if value.name not in behind]
    made = [name for name in handed if name not in inputs]
    outputs = [value.name for value in graph.output if value.name in behind]
    if not early or not made or len(own) == len(graph.output):
        return None
    halves = [name for name in made if known[name].elem_type == TensorProto.FLOAT16]
    taken = [value.name for value in graph.input if value.name in handed or value.name in late]
    return GraphParts(
        _part(model, early, _used(early, inputs), [*own, *(n for n in made if n not in own)], known, written=halves),
        _part(model, rest, [*taken, *made], outputs, known, read=halves),
    )


def _depending(nodes: Iterable[onnx.NodeProto], on: Collection[str]) -> set[str]:
    """Values that depend on some, these among them."""
    found = set(on)
    for node in nodes:
        if found & set(node.input):
            found.update(node.output)
    return found


def _handed_over(graph: onnx.GraphProto, behind: set[str]) -> list[str]:
    """What the rest takes that is neither its own nor a weight."""
    weights = {tensor.name for tensor in graph.initializer}
    taken = (name for node in graph.node if behind & set(node.output) for name in node.input)
    return [name for name in dict.fromkeys(taken) if name and name not in behind | weights]


def _fits(kind: onnx.TypeProto.Tensor, batch: int) -> bool:
    """Whether a runtime takes such a value as an input: numbers, in rows."""
    sizes = [d.dim_value for d in kind.shape.dim]
    return kind.elem_type in (TensorProto.FLOAT, TensorProto.FLOAT16) and len(sizes) >= 2 and sizes[0] == batch


def _used(nodes: Iterable[onnx.NodeProto], names: Collection[str]) -> list[str]:
    return [name for name in dict.fromkeys(n for node in nodes for n in node.input) if name in names]


def _part(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[str],
    outputs: Sequence[str],
    known: Mapping[str, onnx.TypeProto.Tensor],
    *,
    written: Sequence[str] = (),
    read: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model of some nodes; values in half precision go in and out as float32, which holds them exactly."""
    renamed = {name: name + _HALF for name in (*written, *read)}
    copies = [_renamed(node, renamed) for node in nodes]
    casts = [helper.make_node("Cast", [name], [renamed[name]], to=TensorProto.FLOAT16) for name in read]
    copies = casts + copies + [helper.make_node("Cast", [renamed[n]], [n], to=TensorProto.FLOAT) for n in written]
    used = {name for node in nodes for name in node.input}
    given, results = (
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [d.dim_value for d in known[n].shape.dim]) for n in names]
        for names in (inputs, outputs)
    )
    weights = [tensor for tensor in model.graph.initializer if tensor.name in used]
    return helper.make_model(
        helper.make_graph(copies, model.graph.name, given, results, weights),
        opset_imports=list(model.opset_import),
        ir_version=model.ir_version,
        producer_name=model.producer_name,
    )


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for values in (copy.input, copy.output):
        for place, name in enumerate(values):
            values[place] = names.get(name, name)
    return copy
