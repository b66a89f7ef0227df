"""Graphs that the documents of TensorRT forbid, or that no step may hold; each has one node that is at fault."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lnn_edge.bundle.opset import VERSIONS

__all__ = ["FORBIDDEN", "STRANGE"]

STRANGE = "strange"  # the name of the node at fault
FLOAT, INT64, DOUBLE = TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE


def value(name, shape=(1, 4), kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, list(shape))


def model(nodes, inputs, outputs, *constants):
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants]
    graph = helper.make_graph(nodes, "g", inputs, outputs, arrays)
    opset, ir_version = VERSIONS[-1]
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def strange(operator, inputs, outputs=("y",), **attributes):
    return helper.make_node(operator, list(inputs), list(outputs), name=STRANGE, **attributes)


def plain(operator, inputs, output):
    return helper.make_node(operator, list(inputs), [output], name=f"{operator}/{output}")


def of_float64():
    nodes = [strange("Cast", ["x"], ["wide"], to=DOUBLE), plain("Tanh", ["wide"], "t")]
    return model([*nodes, helper.make_node("Cast", ["t"], ["y"], to=FLOAT)], [value("x")], [value("y")])


def of_a_sequence():
    nodes = [strange("SequenceConstruct", ["x", "x"], ["s"])]
    nodes.append(helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=1))
    return model(nodes, [value("x")], [value("y", (1, 8))])


def with_a_branch(operator="If"):
    def branch(name):
        return helper.make_graph([plain(name, ["x"], f"{name}.y")], name, [], [value(f"{name}.y")])

    nodes = [helper.make_node("Greater", ["m", "zero"], ["condition"]), helper.make_node("ReduceSum", ["x"], ["m"])]
    nodes[1].attribute.append(helper.make_attribute("keepdims", 0))
    own = strange(operator, ["condition"], then_branch=branch("Tanh"), else_branch=branch("Relu"))
    return model([nodes[1], nodes[0], own], [value("x")], [value("y")], ("zero", np.float32(0)))


def with_a_loop():
    body = helper.make_graph(
        [plain("Tanh", ["h"], "h.next"), helper.make_node("Identity", ["go"], ["go.next"])],
        "body",
        [value("k", (), INT64), value("go", (), TensorProto.BOOL), value("h")],
        [value("go.next", (), TensorProto.BOOL), value("h.next")],
    )
    own = strange("Loop", ["n", "go", "x"], body=body)
    return model([own], [value("x")], [value("y")], ("n", np.int64(3)), ("go", np.bool_(True)))


def of_a_shape_not_known():
    return model([strange("Tanh", ["x"])], [value("x", ("rows", 4))], [value("y", ("rows", 4))])


def of_a_shape_that_the_data_give():
    nodes = [strange("NonZero", ["x"], ["n"]), helper.make_node("Cast", ["n"], ["f"], to=FLOAT)]
    nodes.append(helper.make_node("ReduceSum", ["f"], ["y"], keepdims=0))
    return model(nodes, [value("x")], [value("y", ())])


def computing_with_int64():
    nodes = [strange("Add", ["k", "two"], ["s"]), helper.make_node("Cast", ["s"], ["f"], to=FLOAT)]
    nodes.append(plain("Mul", ["f", "x"], "y"))
    return model(nodes, [value("x"), value("k", kind=INT64)], [value("y")], ("two", np.array([2], np.int64)))


def of_an_unknown_operator():
    return model([strange("Bernoulli", ["x"])], [value("x")], [value("y")])


def of_an_operator_that_exists_nowhere():
    return model([strange("Liquid", ["x"])], [value("x")], [value("y")])


def of_rank_9():
    shape = (1,) * 8 + (4,)
    nodes = [strange("Reshape", ["x", "shape"], ["n"]), plain("Tanh", ["n"], "t"), plain("Reshape", ["t", "flat"], "y")]
    sizes = ("shape", np.array(shape, np.int64)), ("flat", np.array([1, 4], np.int64))
    return model(nodes, [value("x")], [value("y")], *sizes)


def of_nothing():
    bounds = [(name, np.array([n], np.int64)) for name, n in (("begin", 2), ("end", 2), ("axis", 1))]
    nodes = [strange("Slice", ["x", "begin", "end", "axis"], ["none"])]
    nodes.append(helper.make_node("Concat", ["x", "none"], ["y"], axis=1))
    return model(nodes, [value("x")], [value("y")], *bounds)


def of_text():
    own = strange("StringNormalizer", ["s"], ["t"])
    nodes = [own, helper.make_node("Shape", ["t"], ["n"]), helper.make_node("Cast", ["n"], ["f"], to=FLOAT)]
    return model(
        [*nodes, plain("Mul", ["f", "x"], "y")], [value("x"), value("s", (1,), TensorProto.STRING)], [value("y")]
    )


def of_another_domain():
    own = helper.make_node("FusedGemm", ["x", "w"], ["y"], name=STRANGE, domain="com.microsoft")
    made = model([own], [value("x")], [value("y")], ("w", np.eye(4, dtype=np.float32)))
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return made


def scattered():
    own = strange("ScatterElements", ["x", "where", "x"], axis=1, reduction="add")
    return model([own], [value("x")], [value("y")], ("where", np.array([[0, 0, 1, 1]], np.int64)))


def straight_through():
    return model([strange("Identity", ["x"])], [value("x")], [value("y")])


def with_a_gemm_of_three_axes():
    own = strange("Gemm", ["x", "w"])
    return model([own], [value("x", (1, 1, 4))], [value("y", (1, 1, 4))], ("w", np.eye(4, dtype=np.float32)))


FORBIDDEN: dict[str, Callable[[], onnx.ModelProto]] = {
    "float64": of_float64,
    "sequence": of_a_sequence,
    "if": with_a_branch,
    "loop": with_a_loop,
    "dynamic-shape": of_a_shape_not_known,
    "shape-from-data": of_a_shape_that_the_data_give,
    "int64-arithmetic": computing_with_int64,
    "unknown-operator": of_an_unknown_operator,
    "operator-of-nobody": of_an_operator_that_exists_nowhere,
    "rank-9": of_rank_9,
    "empty-tensor": of_nothing,
    "text": of_text,
    "another-domain": of_another_domain,
    "scatter-add": scattered,
    "straight-through": straight_through,
    "gemm-of-three-axes": with_a_gemm_of_three_axes,
}
