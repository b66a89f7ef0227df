"""Documented rules of NVIDIA's ONNX parser, each as a graph, and what the real one makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from forbidden_graphs import STRANGE, model, plain, strange, value
from onnx import TensorProto, helper

__all__ = ["REFUSED_BY_RULE", "TAKEN_BY_RULE"]

Made = Callable[[], onnx.ModelProto]
X, Y, SQUARE = value("x"), value("y"), ("w", np.eye(4, dtype=np.float32))
FOUR = np.ones(4, np.float32)


def one(operator, *constants, opset=17, outputs=(Y,), **attributes):
    """A node on `x` and constants."""
    inputs = ["x", *(name for name, _ in constants)]
    own = strange(operator, inputs, [output.name for output in outputs], **attributes)
    return at_opset(model([own], [X], list(outputs), *constants), opset)


def at_opset(made, opset, ir_version=8):
    made.opset_import[0].version, made.ir_version = opset, ir_version
    return made


def with_axes_that_are_computed(operator):
    axes = [
        helper.make_node("Cast", ["x"], ["k"], to=TensorProto.INT64),
        helper.make_node("Slice", ["k", "zero", "one", "one"], ["a"]),
        helper.make_node("Reshape", ["a", "one"], ["axes"]),
    ]
    inputs = {"ReduceSum": ["x", "axes"], "Slice": ["x", "zero", "one", "axes"]}[operator]
    numbers = ("zero", np.array([0])), ("one", np.array([1]))
    return model([*axes, strange(operator, inputs)], [X], [value("y", (1, 1))], *numbers)


def of_a_recurrent_operator(operator, gates):
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["sequence"]),
        strange(operator, ["sequence", "W", "R"], ["all", "last"], hidden_size=4),
        helper.make_node("Squeeze", ["last", "axis"], ["y"]),
    ]
    weights = np.ones((1, 4 * gates, 4), np.float32)
    return model(nodes, [X], [Y], ("axis", np.array([0])), ("W", weights), ("R", weights))


def with_a_function():
    product = helper.make_node("Mul", ["a", "a"], ["b"], name="product")
    made = model([helper.make_node("Square", ["x"], ["y"], name=STRANGE, domain="local")], [X], [Y])
    square = helper.make_function("local", "Square", ["a"], ["b"], [product], [helper.make_opsetid("", 17)])
    made.functions.append(square)
    made.opset_import.append(helper.make_opsetid("local", 1))
    return at_opset(made, 17)


def through(kind, operator, *inputs, constants=()):
    """A node between casts to this type and back."""
    nodes = [helper.make_node("Cast", ["x"], ["c"], name="there", to=kind), strange(operator, ["c", *inputs], ["d"])]
    return model([*nodes, helper.make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT)], [X], [Y], *constants)


def from_an_input_of(kind):
    nodes = [helper.make_node("Cast", ["x"], ["c"], to=TensorProto.FLOAT), plain("Tanh", ["c"], "y")]
    return model(nodes, [value("x", kind=kind)], [Y])


NORM = ("scale", FOUR), ("bias", FOUR)
PLACE = ("place", np.array([[[0, 0]]])), ("update", np.ones((1, 1), np.float32))
TAKEN_BY_RULE: dict[str, Made] = {
    "gemm-with-factors": lambda: one("Gemm", SQUARE, ("b", FOUR), alpha=0.5, beta=2.0),
    "layer-normalization": lambda: one("LayerNormalization", *NORM),
    "gelu-of-opset-20": lambda: one("Gelu", opset=20),
    "mish-of-opset-18": lambda: one("Mish", opset=18),
    "swish-of-opset-24": lambda: one("Swish", opset=24),
    "hard-swish": lambda: one("HardSwish"),
    "einsum-with-ellipsis": lambda: one("Einsum", SQUARE, equation="...j,jk->...k"),
    "scatter-nd": lambda: one("ScatterND", *PLACE),
    "gru": lambda: of_a_recurrent_operator("GRU", 3),
    "lstm": lambda: of_a_recurrent_operator("LSTM", 4),
    "local-function": with_a_function,
    "uint8-input": lambda: from_an_input_of(TensorProto.UINT8),
    "int64-input": lambda: from_an_input_of(TensorProto.INT64),
    "bfloat16": lambda: through(TensorProto.BFLOAT16, "Tanh"),
    "opset-6": lambda: one("Tanh", opset=6),
    "opset-7": lambda: one("Tanh", opset=7),
    "opset-beyond-24": lambda: one("Tanh", opset=26),
    "ir-version-20": lambda: at_opset(one("Tanh"), 13, 20),
}
REFUSED_BY_RULE: dict[str, tuple[Made, str]] = {
    "reduce-sum-over-computed-axes": (
        lambda: with_axes_that_are_computed("ReduceSum"),
        rf"node 3 '{STRANGE}' \(ReduceSum\): .*must resolve to a build-time constant",
    ),
    "slice-along-computed-axes": (lambda: with_axes_that_are_computed("Slice"), rf"node 3 '{STRANGE}' \(Slice\): "),
    "layer-normalization-of-two-outputs": (
        lambda: one("LayerNormalization", *NORM, outputs=(Y, value("m", (1, 1)))),
        rf"node 0 '{STRANGE}' \(LayerNormalization\): .*doesn't support",
    ),
    "scatter-nd-add": (
        lambda: one("ScatterND", *PLACE, reduction="add"),
        rf"node 0 '{STRANGE}' \(ScatterND\): .*reduction is not supported",
    ),
    "uint8-inside": (
        lambda: through(TensorProto.UINT8, "Add", "c"),
        r"node 0 'there' \(Cast\): .*does not support UINT8",
    ),
    "matmul-of-int32": (
        lambda: through(TensorProto.INT32, "MatMul", "w", constants=[("w", np.eye(4, dtype=np.int32))]),
        rf"node 1 '{STRANGE}' \(MatMul\): .*unsupported input type of INT32",
    ),
}
