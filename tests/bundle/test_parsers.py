"""Every graph of the test table against what TensorRT's parsers take, and the rules against graphs that break them.

Graphs of single operations are checked where they are made, in tests/export/test_networks.py.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest
from cases import CASES, Case
from exports import quick_export
from fake_tensorrt import VERSIONS, rules
from networks import NETWORKS, built, leaves
from onnx import TensorProto, helper, numpy_helper

import lnn_edge
from lnn_edge.bundle.onnx_graph import check_graph
from lnn_edge.bundle.opset import OPERATORS
from lnn_edge.bundle.spec import Time
from lnn_edge.export.step_graph import step_graph
from lnn_edge.export.trained.open import open_module

NUMBERS = [tuple(int(part) for part in version.split(".")) for version in VERSIONS]
MODES = [Time("fixed"), Time("measured", 0.1, 2.0, (0.01, 1.0))]


LAYOUTS = [(1, 1, "float32"), (3, 1, "float32"), (1, 2, "float16")]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_version_takes_every_graph(case: Case):
    """The module is opened once: it is the same whatever its graph is made for."""
    module = open_module(case.build())
    for batch in (1, 3):
        trained = module.trained(batch, None)
        for time, (_, unroll, precision) in product(MODES, [own for own in LAYOUTS if own[0] == batch]):
            model = step_graph(trained.program(time), batch=batch, unroll=unroll, precision=precision)
            taken_by_all(model, (time, batch, unroll, precision))


def taken_by_all(model, made_for):
    check_graph(model.SerializeToString())
    facts = rules.facts_of(model)
    for version in [*NUMBERS, (8, 5)]:  # 8.5 is too old for the runtime, but nothing in these graphs needs more
        assert rules.problems(model, version, facts) == [], made_for


def test_operators_of_the_exporter_are_imported_by_every_version():
    assert OPERATORS - rules.EVERYWHERE - {"LayerNormalization"} == set()
    assert max(since for op, since in rules.SINCE.items() if op in OPERATORS) <= min(NUMBERS)


def one(operator, inputs=("x",), shape=(1, 4), constants=(), outputs=("y",), opset=17, dtype=TensorProto.FLOAT, **more):
    x, y = (helper.make_tensor_value_info(name, dtype, list(shape)) for name in "xy")
    node = helper.make_node(operator, list(inputs), list(outputs), name="it", **more)
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()]
    graph = helper.make_graph([node], "g", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def texts(model, version=(8, 6)):
    return [text for _, _, _, text in rules.problems(model, version)]


INDICES = np.zeros((1, 4), np.int64)


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_scatter(reduction):
    """8.6 ignores the reduction without a word; onnx-tensorrt issue 957."""
    model = one("ScatterElements", ("x", "i", "x"), constants={"i": INDICES}, opset=16, reduction=reduction)
    for version in NUMBERS:
        assert any("scatter" in text for text in texts(model, version))


def test_slice_with_axes_that_are_no_constants():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    numbers = {"s": [0], "e": [2], "a": [1]}
    nodes = [helper.make_node("Identity", ["a"], ["axes"]), helper.make_node("Slice", ["x", "s", "e", "axes"], ["y"])]
    tensors = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in numbers.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert "axes of Slice as a tensor need 10.3" in texts(model, (8, 6))
    assert "axes of Slice as a tensor need 10.3" not in texts(model, (10, 3))


def test_layer_normalization_came_with_8_6():
    model = one("LayerNormalization", ("x", "w"), constants={"w": np.ones(4, np.float32)})
    assert texts(model, (8, 5)) == ["No importer registered for op: LayerNormalization"]
    assert texts(model, (8, 6)) == []
    several = one("LayerNormalization", ("x", "w"), constants={"w": np.ones(4, np.float32)}, outputs=("y", "mean"))
    assert any("only the first output" in text for text in texts(several, (10, 3)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (one("Mish", opset=18), "opset 18"),
        (one("Mish", opset=18), "No importer registered for op: Mish"),
        (one("Bernoulli"), "No importer registered for op: Bernoulli"),
        (one("Identity"), "a graph input goes straight to an output"),
        (one("Tanh", dtype=TensorProto.DOUBLE), "'x' is not float32"),
        (one("Neg", dtype=TensorProto.INT64), "'x' is not float32"),
        (one("Tanh", shape=()), "no static shape of rank 1 or more"),
        (one("Tanh", shape=("batch", 4)), "no static shape of rank 1 or more"),
        (one("Gemm", ("x", "w"), constants={"w": np.eye(4, dtype=np.float32)}, alpha=0.5), "alpha and beta"),
        (one("ReduceSum", ("x", "x2"), constants={}), "input 1 must be an initializer"),
        (one("Add", ("x", "big"), constants={"big": np.float64(1.0)}), "has type 11"),
        (one("Gather", ("x", "i"), constants={"i": np.array([2**40])}), "does not fit into the int32"),
    ],
)
def test_rules_find_what_breaks_them(model, message):
    found = texts(model)
    assert any(message in text for text in found), found


def test_control_flow():
    body = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["z"])],
        "b",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4])],
    )
    model = one("If", ("c",), constants={"c": np.array(True)}, then_branch=body, else_branch=body)
    assert any("cannot be captured" in text for text in texts(model))


def test_local_functions():
    model = one("Tanh")
    model.functions.add().name = "mine"
    assert "local functions" in list(rules._model_problems(model, (10, 3)))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_version_takes_every_network_and_streams_it(name, gpu, tmp_path):
    """Encoders, several cores, heads and outputs: taken by all, and on the GPU what they are on the CPU."""
    make, example = NETWORKS[name]
    module, x = built(make), example()
    quick_export(module, tmp_path / "m.lnn", example=x)
    model = onnx.load(tmp_path / "m.lnn" / "model.onnx")
    facts = rules.facts_of(model)
    for version in NUMBERS:
        assert rules.problems(model, version, facts) == []
    gpu("10.3", integrated=name < "m")
    on_gpu, on_cpu = (lnn_edge.load(tmp_path / "m.lnn", backend=b) for b in ("tensorrt", "onnxruntime"))
    got, expected = (leaves(loaded.stream().run(x[0])) for loaded in (on_gpu, on_cpu))
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
