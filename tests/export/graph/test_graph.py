"""The graph: portable operators, nothing dead, masks folded, described by its metadata; and a proof that catches."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from cases import BY_NAME, CASES, Case
from exports import quick_export
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from recorded import MODELS, program_of

import lnn_edge
from lnn_edge.bundle.golden import decode_golden
from lnn_edge.bundle.manifest import decode_manifest
from lnn_edge.bundle.opset import OPERATORS, VERSIONS, lowest_versions
from lnn_edge.bundle.spec import Time
from lnn_edge.errors import VerificationError
from lnn_edge.export.cores.recurrent import recurrent_from_module
from lnn_edge.export.graph.builder import GraphBuilder, check_limits, graph_facts
from lnn_edge.export.step_graph import step_graph
from lnn_edge.export.trained.core_step import CoreStep
from lnn_edge.export.trained.open import open_module
from lnn_edge.runtime.state import initial_state


def exported(case, tmp_path, **options):
    quick_export(case.build(), tmp_path / "m.lnn", **options)
    return onnx.load(tmp_path / "m.lnn" / "model.onnx")


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("time", [Time("fixed"), Time("measured", 0.1, 2.0, (0.01, 1.0))], ids=lambda t: t.mode)
def test_within_the_limits_of_the_format(case: Case, time):
    # checks the limits, as check_limits below shows that it can
    model = step_graph(open_module(case.build()).trained(2, None).program(time), batch=2)
    assert (model.opset_import[0].version, model.ir_version) == VERSIONS[0]
    assert not any(i.data_location == TensorProto.EXTERNAL for i in model.graph.initializer)
    assert {n.op_type for n in model.graph.node} <= OPERATORS


@pytest.mark.parametrize("name", ["ltc-autoncp", "ltc-units-large", "cfc-mixed-autoncp", "cfc-gelu", "cfc-pure"])
def test_an_independent_evaluator_agrees(name, tmp_path):
    """onnx.reference, closed loop, on the golden sequence of random samples."""
    model = exported(BY_NAME[name], tmp_path, steps=100)
    manifest = decode_manifest((tmp_path / "m.lnn" / "manifest.json").read_bytes())
    golden = decode_golden((tmp_path / "m.lnn" / "golden.safetensors").read_bytes(), manifest)
    evaluator = ReferenceEvaluator(model)
    state = {}
    for k in range(100):
        if golden.reset[k]:
            state = dict(initial_state(manifest).tensors)
        results = evaluator.run(None, {"input": golden.inputs["input"][k]} | state)
        results = dict(zip([o.name for o in model.graph.output], results, strict=True))
        state = {s.input: results[s.output] for s in manifest.states}
        for output, value in results.items():
            np.testing.assert_allclose(value, golden.float32[output][k], rtol=0, atol=1e-5)


def test_metadata_describes_the_graph(tmp_path):
    model = exported(BY_NAME["ltc-mixed"], tmp_path, time="measured", period_s=0.1)
    manifest = json.loads((tmp_path / "m.lnn" / "manifest.json").read_bytes())
    props = {p.key: json.loads(p.value) for p in model.metadata_props}
    assert set(props) == {f"lnn_edge.{k}" for k in ("schema", "inputs", "outputs", "states", "time", "unroll", "cores")}
    *props["lnn_edge.inputs"], dt = props["lnn_edge.inputs"]
    for key, value in props.items():
        assert value == manifest[key.removeprefix("lnn_edge.")]
    (column,) = dt["features"]
    assert (dt["name"], dt["shape"]) == ("dt", [1, 1])
    assert (column["name"], column["unit"], column["limits"]) == ("dt", "s", [0.005, 2.0])


def test_metadata_has_the_shapes_of_the_graph(tmp_path):
    model = exported(BY_NAME["cfc-units"], tmp_path, time="measured", period_s=0.1, unroll=4, batch=2)
    described = {p.key: json.loads(p.value) for p in model.metadata_props}
    for ends, key in ((model.graph.input, "inputs"), (model.graph.output, "outputs"), (model.graph.input, "states")):
        shapes = {e.name: [d.dim_value for d in e.type.tensor_type.shape.dim] for e in ends}
        for entry in described[f"lnn_edge.{key}"]:
            assert entry["shape"] == shapes[entry.get("name") or entry["input"]]


def test_the_file_says_in_words_what_it_is(tmp_path):
    columns = ["ax:m/s2", "ay", "az", "gx", "gy"]
    model = exported(BY_NAME["ltc-mixed"], tmp_path, time="measured", period_s=0.1, unroll=4, inputs=columns)
    assert (model.producer_name, model.producer_version) == ("lnn-edge", lnn_edge.__version__)
    assert "once per block of 4 samples. Feed states back for the next call: h_out to h_in, c_out to c_in." in (
        model.doc_string
    )
    said = {value.name: value.doc_string for value in (*model.graph.input, *model.graph.output)}
    assert said == {
        "input": "(rows, samples, 5); columns: ax [m/s2], ay, az, gx, gy",
        "dt": "time since the sample before, seconds, 0.005 to 2; (rows, samples)",
        "h_in": "state: 0 before the first call, then what h_out was",
        "c_in": "state: 0 before the first call, then what c_out was",
        "output": "(rows, samples, 2); columns: output_0, output_1",
        "h_out": "next state: goes into h_in of the next call",
        "c_out": "next state: goes into c_in of the next call",
    }


class TestForEveryRuntime:
    """What made other programs than onnxruntime stumble, or take one tensor for another."""

    def graph(self, name, time="measured", **options):
        return step_graph(program_of(name, time), **options).graph

    @pytest.mark.parametrize("name", ["ltc-mixed", "stacked", "conv-encoder"])
    def test_samples_come_before_states(self, name):
        graph = self.graph(name)
        states = [value.name.replace("h_in", "h_out").replace("c_in", "c_out") for value in graph.input]
        states = [state for state in states if state.endswith("_out")]
        inputs, outputs = [value.name for value in graph.input], [value.name for value in graph.output]
        assert inputs[-len(states) :] == [state.replace("_out", "_in") for state in states]
        assert inputs[-len(states) - 1] == "dt"
        assert outputs[-len(states) :] == states

    @pytest.mark.parametrize("name", ["ltc-mixed", "cfc-mixed", "gru"])
    @pytest.mark.parametrize("precision", ["float32", "float16"])
    def test_a_gemm_has_constants_alone(self, name, precision):
        graph = self.recurrent(precision) if name == "gru" else self.graph(name, precision=precision)
        constants = {constant.name for constant in graph.initializer}
        gemms = [node for node in graph.node if node.op_type == "Gemm"]
        assert all(constants.issuperset(node.input[1:]) for node in gemms)
        assert bool(gemms) == (precision == "float32")
        assert "MatMul" in {node.op_type for node in graph.node} or precision == "float32"

    def recurrent(self, precision="float32"):
        torch.manual_seed(0)
        layer = torch.nn.GRU(5, 8, batch_first=True)
        return step_graph(
            CoreStep(recurrent_from_module("rnn", layer), 1).program(Time("fixed")), precision=precision
        ).graph

    def test_a_gru_joins_values_alone(self):
        graph = self.recurrent()
        constants = {constant.name for constant in graph.initializer}
        joined = [node for node in graph.node if node.op_type == "Concat"]
        assert joined
        assert not any(constants.intersection(node.input) for node in joined)

    @pytest.mark.parametrize("name", ["ltc-mixed", "cfc-mixed"])
    def test_memory_is_a_sum_of_products(self, name):
        graph = self.graph(name)
        makers = {output: node for node in graph.node for output in node.output}
        memory = makers["c_out"]
        assert memory.op_type == "Add"
        assert [makers[value].op_type for value in memory.input] == ["Mul", "Mul"]

    def test_a_state_that_is_an_output_is_multiplied_by_one(self):
        graph = self.graph("cfc-units")
        (copy,) = [node for node in graph.node if node.name == "h_out"]
        (one,) = [constant for constant in graph.initializer if constant.name == copy.input[1]]
        assert (copy.op_type, copy.input[0]) == ("Mul", "output")
        assert numpy_helper.to_array(one).tolist() == [[1.0]]
        assert "Identity" not in {node.op_type for node in graph.node}

    def test_beside_convolutions_each_gemm_has_a_bias(self):
        gemms = [node for node in self.graph("conv-encoder").node if node.op_type == "Gemm"]
        assert gemms
        assert all(len(node.input) == 3 for node in gemms)

    @pytest.mark.parametrize("name", MODELS)
    @pytest.mark.parametrize("precision", ["float32", "float16"])
    def test_what_makes_an_output_bears_its_name(self, name, precision):
        graph = self.graph(name, precision=precision)
        names = {output: node.name for node in graph.node for output in node.output}
        assert {value.name: names[value.name] for value in graph.output} == {v.name: v.name for v in graph.output}
        assert len(set(names.values())) == len(graph.node)  # nodes have names of their own

    def test_names_explain_the_picture(self):
        graph = self.graph("mlp-ltc", unroll=2)
        names = [node.name for node in graph.node]
        for scope in ("sample_0/encoder/", "sample_0/rnn/unfold_0/", "sample_1/rnn/unfold_5/", "sample_1/head/"):
            assert any(name.startswith(scope) for name in names), scope
        constants = {constant.name for constant in graph.initializer}
        assert {"rnn/synapses.slope.weight", "rnn/synapses.conductance.weight", "rnn/capacitance"} <= constants
        assert not any(name.startswith("const_") for name in constants)

    @pytest.mark.parametrize("name", MODELS)
    def test_asks_for_the_lowest_opset(self, name):
        model = step_graph(program_of(name, "fixed"))
        normalises = "LayerNormalization" in {node.op_type for node in model.graph.node}
        assert (model.opset_import[0].version, model.ir_version) == VERSIONS[normalises]
        assert graph_facts(model).opset == model.opset_import[0].version


def test_the_lowest_versions():
    assert lowest_versions({"Gemm", "Tanh"}) == (13, 7)
    assert lowest_versions({"Gemm", "LayerNormalization"}) == (17, 8)


def test_ltc_evaluates_only_existing_synapses(tmp_path):
    """The widest value in the graph has one column per synapse, not units x units."""
    module = BY_NAME["ltc-autoncp"].build()
    model = exported(BY_NAME["ltc-autoncp"], tmp_path)
    inferred = onnx.shape_inference.infer_shapes(model)
    widest = max(int(np.prod([d.dim_value for d in v.type.tensor_type.shape.dim])) for v in inferred.graph.value_info)
    synapses = int(module.rnn_cell.sparsity_mask.sum())
    sensory = int(module.rnn_cell.sensory_sparsity_mask.sum())
    assert widest <= max(synapses, sensory, 2 * 16) < 16 * 16


class TestLimits:
    def one(self, operator="Tanh", shape=(1, 2), dtype=TensorProto.FLOAT, **model):
        node = helper.make_node(operator, ["x"], ["y"])
        x, y = (helper.make_tensor_value_info(n, dtype, list(shape)) for n in "xy")
        graph = helper.make_graph([node], "g", [x], [y])
        opset, ir_version = VERSIONS[0]
        options = {"opset_imports": [helper.make_opsetid("", opset)], "ir_version": ir_version} | model
        return helper.make_model(graph, **options)

    def test_operator(self):
        with pytest.raises(ValueError, match="operators outside the portable set: Mish"):
            check_limits(self.one("Mish"))

    def test_opset(self):
        with pytest.raises(ValueError, match="allowed: opset <= 18"):
            check_limits(self.one(opset_imports=[helper.make_opsetid("", 21)]))

    def test_dynamic_shape(self):
        with pytest.raises(ValueError, match="'x' must be one of float32, int32, uint8 with a static shape"):
            check_limits(self.one(shape=("batch", 2)))

    def test_dtype(self):
        with pytest.raises(ValueError, match="must be one of float32"):
            check_limits(self.one(dtype=TensorProto.DOUBLE))

    def test_too_many_nodes(self, monkeypatch):
        monkeypatch.setattr("lnn_edge.export.graph.builder.MAX_GRAPH_NODES", 0)
        with pytest.raises(ValueError, match="the step has 1 nodes, more than the 0 that a device loads"):
            check_limits(self.one())

    def test_dead_value(self):
        model = self.one("Relu")
        model.graph.node.append(helper.make_node("Tanh", ["x"], ["unused"]))
        with pytest.raises(ValueError, match="computes values that nothing uses: unused"):
            check_limits(model)

    def test_what_nothing_uses_is_left_out(self):
        """Whole chains of it, with their constants."""
        graph = GraphBuilder()
        x = graph.input("x", (1, 2))
        graph.node("Tanh", graph.linear(x, np.ones((2, 3))))
        graph.output(graph.node("Sigmoid", x), "y", (1, 2))
        model = graph.model("m")
        assert [node.op_type for node in model.graph.node] == ["Sigmoid"]
        assert not model.graph.initializer


class TestABrokenExportIsCaught:
    """Mutations of the exporter: each must end in VerificationError, with nothing left on disk."""

    def caught(self, name, tmp_path, **options):
        with pytest.raises(VerificationError, match="does not equal the trained model, so nothing was written"):
            quick_export(BY_NAME[name].build(), tmp_path / "m.lnn", **options)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["ltc-autoncp", "cfc-autoncp", "cfc-units", "cfc-mixed"])
    def test_dropped_bias(self, name, tmp_path, monkeypatch):
        whole = GraphBuilder.linear
        dropped = []

        def linear(self, x, weight, addend=None, role=""):
            if isinstance(addend, np.ndarray) and not dropped:
                dropped.append(addend)
                addend = np.zeros_like(addend)
            return whole(self, x, weight, addend, role)

        monkeypatch.setattr(GraphBuilder, "linear", linear)
        self.caught(name, tmp_path)
        assert dropped

    @pytest.mark.parametrize("name", ["ltc-autoncp", "cfc-autoncp", "cfc-units", "cfc-pure"])
    def test_flipped_sign_of_one_weight(self, name, tmp_path, monkeypatch):
        whole = GraphBuilder.linear
        flipped = []

        def linear(self, x, weight, addend=None, role=""):
            if not flipped:
                weight = weight.copy()
                largest = np.unravel_index(np.abs(weight).argmax(), weight.shape)
                weight[largest] *= -1.0
                flipped.append(largest)
            return whole(self, x, weight, addend, role)

        monkeypatch.setattr(GraphBuilder, "linear", linear)
        self.caught(name, tmp_path)

    def test_swapped_states(self, tmp_path, monkeypatch):
        whole = GraphBuilder.output

        def output(self, value, name, shape):
            whole(self, value, {"h_out": "c_out", "c_out": "h_out"}.get(name, name), shape)

        monkeypatch.setattr(GraphBuilder, "output", output)
        self.caught("cfc-mixed", tmp_path)

    def test_stale_mask(self, tmp_path, monkeypatch):
        """As if the exporter had read one synapse too few from the masks."""
        from lnn_edge.export.cores import liquid

        whole = liquid.checked_array

        def array(tensor, name):
            value = whole(tensor, name)
            if name == "sparsity_mask":
                value[tuple(np.argwhere(value)[0])] = 0.0
            return value

        monkeypatch.setattr(liquid, "checked_array", array)
        self.caught("ltc-autoncp", tmp_path)
        self.caught("cfc-autoncp", tmp_path)

    def test_wrong_time_unit(self, tmp_path, monkeypatch):
        from lnn_edge.export.lowering.step_time import StepTime

        whole = StepTime.__init__

        def begin(self, *arguments):
            whole(self, *arguments)
            self.scale *= 1.01

        monkeypatch.setattr(StepTime, "__init__", begin)
        self.caught("ltc-autoncp", tmp_path, time="measured", period_s=0.1)
        self.caught("cfc-units", tmp_path, time="measured", period_s=0.1)

    def test_model_that_float32_cannot_compute(self, tmp_path):
        """A chaotic recurrence: rounding errors grow until two computations of one model have nothing in common."""
        module = BY_NAME["cfc-no-gate"].build()
        with torch.no_grad():
            module.rnn_cell.ff1.weight.mul_(6.0)
            module.rnn_cell.ff2.weight.mul_(6.0)
        with pytest.raises(VerificationError, match="float32 itself cannot hold this"):
            lnn_edge.export_model(module, tmp_path / "m.lnn", steps=1000)
        assert list(tmp_path.iterdir()) == []
