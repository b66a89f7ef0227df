"""Proofs of networks whose encoder is costly: few pictures, thousands of steps, and every fault still found."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import onnx
import pytest
import torch
from exports import quick_export, short_verifications
from faults import put_into_recordings, with_core, with_nodes
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from onnx import numpy_helper
from second_backend import Drifting, Second, put_into_the_table, row
from torch import nn

import lnn_edge
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.bundle.encoder import encoder_multiplications
from lnn_edge.bundle.golden import golden_from_bundle
from lnn_edge.bundle.program import StepProgram
from lnn_edge.bundle.spec import Tensor, Time
from lnn_edge.cli.program import main
from lnn_edge.cli.proof_text import proof_text
from lnn_edge.errors import VerificationError
from lnn_edge.export import exporting
from lnn_edge.export.graph.parts import cut_graph
from lnn_edge.export.proof.few_samples import stepped_over_few
from lnn_edge.export.proof.remembered import RememberedProducts
from lnn_edge.export.proof.truth import truth_from_model
from lnn_edge.export.trained.open import open_module
from lnn_edge.export.verify_against import verify_against
from lnn_edge.reference.closed_loop import interpreted
from lnn_edge.reference.interpreter import Interpreter
from lnn_edge.runtime.verify_golden import verify_golden
from lnn_edge.verify.few_samples import FEW, excite_few
from lnn_edge.verify.samples import SampleRequest

PERIOD = {"period_s": 0.1}
pytestmark = pytest.mark.usefixtures("small_pictures_are_costly")


class Pictures(nn.Module):
    """Small pictures through convolutions that count as costly here, a core, a head beside the features."""

    relu = staticmethod(torch.relu)

    def __init__(self, core=None):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 5, padding=2), nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.rnn = core or CfC(16, 12)
        self.head = nn.Linear(self.rnn.output_size + 16, 4)

    def forward(self, x, hx=None, timespans=None):
        y = self.relu(self.norm(self.first(x.flatten(0, 1))))
        z = torch.relu(self.second(y)).mean((-1, -2)).unflatten(0, x.shape[:2])
        y, hx = self.rnn(z, hx, timespans)
        return self.head(torch.cat([y, z], -1)), hx


def pictures(core=None):
    torch.manual_seed(3)
    net = Pictures(core)
    with torch.no_grad():
        net.first.bias.copy_(torch.linspace(-0.3, 0.3, 8))
        net.norm.running_mean.copy_(torch.linspace(-0.2, 0.2, 8))
    return net.eval()


def wired_ltc():
    torch.manual_seed(5)
    return LTC(16, AutoNCP(14, 3))


def frames(steps=40, rows=1):
    return np.random.default_rng(0).random((rows, steps, 3, 8, 8), dtype=np.float32)


def silent(_phase, _done, _total):
    pass


@pytest.fixture(scope="module")
def proven(tmp_path_factory):
    """The report of an export with its whole proof, and what torch gave over thousands of steps."""
    path, truths = tmp_path_factory.mktemp("pictures") / "eyes.lnn", []

    def kept(*arguments):
        truths.append(truth_from_model(*arguments))
        return truths[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "truth_from_model", kept)
        report = lnn_edge.export_model(pictures(), path, example=frames(), labels=list("abcd"), **PERIOD)
    return report, *truths


@pytest.fixture(scope="module")
def exported(proven):
    return proven[0]


def program_of(net, example=None):
    opened = open_module(net, example=frames())
    recorded = {"input": [np.swapaxes(frames() if example is None else example, 0, 1)]}
    trained = opened.trained(1, recorded)
    return trained, trained.program(Time("fixed", 0.1))


class TestWhatIsProven:
    def test_in_place_operations_beside_a_batch_norm(self, tmp_path):
        class Writes(Pictures):
            relu = staticmethod(torch.relu_)

        torch.manual_seed(0)
        assert quick_export(Writes().eval(), tmp_path / "m.lnn", example=frames(), **PERIOD).passed

    def test_what_steps_the_whole_alone_is_proven_as_well(self, compiler, tmp_path):
        """At every step, where that takes seconds."""
        report = quick_export(pictures(), tmp_path / "m.lnn", example=frames(), **PERIOD)
        assert not report.not_run
        steps = {c.segment: c.steps for c in report.comparisons if c.subject == "native"}
        assert sum(steps.values()) == report.steps

    def test_few_samples_and_thousands_of_steps(self, exported):
        report = exported
        assert report.passed
        assert report.steps == 2 * 1024 + 3 * 256
        # the constant picture, one level, and extremes with every second one zero
        assert report.distinct.samples == 2 * FEW + 1 + 1 + 3
        assert report.distinct.whole_steps < 100
        whole, parts = (
            sum({c.segment: c.steps for c in report.comparisons if c.against == f"{name} vs torch float32"}.values())
            for name in ("onnxruntime", "onnxruntime in two parts")
        )
        assert whole == report.distinct.whole_steps
        assert parts == report.steps
        assert {c.segment for c in report.comparisons if c.subject == "onnxruntime"} == {
            "recorded",
            "random",
            "constant",
            "step",
            "extreme",
        }

    def test_it_is_told(self, exported, capsys):
        words = f"the encoder costs far more than the rest: it is proven on {2 * FEW + 5} different samples"
        assert words in proof_text(exported, False)
        assert f"steps of {2 * FEW + 5} different samples" in str(exported)
        stored = json.loads((exported.path / "report.json").read_text())
        assert stored["distinct"] == {"samples": 2 * FEW + 5, "whole_steps": exported.distinct.whole_steps}
        proof = read_bundle(exported.path).manifest.verification
        assert (proof.distinct_samples, proof.whole_steps) == (2 * FEW + 5, exported.distinct.whole_steps)
        assert main(["inspect", str(exported.path)]) == 0
        assert f"of {2 * FEW + 5} different samples, the whole graph over" in capsys.readouterr().out

    def test_golden_sequences_are_small(self, exported):
        golden = golden_from_bundle(read_bundle(exported.path))
        assert golden.steps >= 20
        assert (exported.path / "golden.safetensors").stat().st_size < 5 << 20
        assert np.count_nonzero(golden.reset) == 9 + 4  # the recorded ones go through the example nine times

    def test_golden_sequences_of_large_pictures_are_short(self, tmp_path, monkeypatch):
        monkeypatch.setattr("lnn_edge.export.proof.prove._GOLDEN_BYTES", 1)
        quick_export(pictures(), tmp_path / "m.lnn", example=frames(), **PERIOD)
        golden = golden_from_bundle(read_bundle(tmp_path / "m.lnn"))
        assert golden.steps <= 4 * 5  # a few of each segment
        assert np.count_nonzero(golden.reset) == 5

    def test_streams_are_what_the_forward_gives(self, exported):
        x = frames(12)
        expected = pictures()(torch.from_numpy(x))[0][0].detach().numpy()
        got = lnn_edge.load(exported.path).stream().run(x[0])
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)

    def test_an_encoder_that_costs_little_is_proven_at_each_step(self, tmp_path):
        net = nn.Sequential()
        net.rnn = CfC(3, 8)
        report = quick_export(net.rnn, tmp_path / "m.lnn")
        assert report.distinct is None
        assert report.verification().distinct_samples is None

    @pytest.mark.parametrize(
        "options",
        [
            {"batch": 2},
            {"unroll": 2},
            {"time": "measured", "unroll": 4, "batch": 2},
            {"precision": "float16"},
            {"window": 6},
            {"time": "measured"},
        ],
        ids=str,
    )
    def test_batches_blocks_halves_windows_and_times(self, tmp_path, options):
        report = quick_export(pictures(), tmp_path / "m.lnn", example=frames(24), **PERIOD, **options)
        assert report.passed
        assert report.distinct is not None
        assert any(c.subject == "onnxruntime in two parts" for c in report.comparisons)

    def test_many_short_recordings(self, tmp_path):
        report = quick_export(pictures(), tmp_path / "m.lnn", example=frames(6, rows=9), **PERIOD)
        assert report.window is not None
        assert report.distinct.samples > FEW

    def test_verification_against_the_model(self, exported, monkeypatch):
        short_verifications(monkeypatch)
        report = verify_against(pictures(), exported.path, example=frames(), steps=1000, progress=silent)
        assert report.passed
        assert report.distinct.samples < report.steps
        other = pictures()
        with torch.no_grad():
            other.second.weight.mul_(1.01)
        assert not verify_against(other, exported.path, example=frames(), steps=1000, progress=silent).passed

    def test_verification_alone_goes_on_over_few_samples(self, exported):
        report = verify_golden(exported.path, steps=1500, progress=silent)
        assert report.passed
        assert report.steps == 1500
        assert report.distinct.samples <= 2 * FEW + 40


def scaled(name, factor):
    return lambda step: StepProgram(step.program, {**step.tensors, name: step.tensors[name] * factor})


def with_one_number(name, place, factor):
    def fault(step):
        tensor = step.tensors[name].copy()
        tensor.flat[place] *= factor
        return StepProgram(step.program, {**step.tensors, name: tensor})

    return fault


def weights_of(step, op, place, field):
    return [node for node in step.program.nodes if node.kind == op][place].weights[field]


def conv(place, field, change):
    """A change of a convolution's weight or bias."""
    return lambda step: change(weights_of(step, "Conv", place, field))(step)


def without_relu(step):
    relu = [node for node in step.program.nodes if node.kind == "Relu"][1]
    nodes = [
        msgspec.structs.replace(node, inputs=tuple(relu.inputs[0] if n == relu.output else n for n in node.inputs))
        if node.kind != "cfc"
        else node
        for node in step.program.nodes
        if node is not relu
    ]
    return with_nodes(step, nodes)


def crossed_head(step):
    name = weights_of(step, "Gemm", -1, "B")
    return StepProgram(step.program, {**step.tensors, name: step.tensors[name][:, ::-1].copy()})


def without_gate(step):
    return with_core(step, lambda core: msgspec.structs.replace(core, mode="no_gate"), "cfc")


FAULTS = {
    "encoder-weights-scaled": conv(0, "W", lambda name: scaled(name, 1.005)),
    "encoder-one-weight": conv(1, "W", lambda name: with_one_number(name, 100, -1.0)),
    "encoder-bias-sign": conv(1, "B", lambda name: scaled(name, -1.0)),
    "encoder-relu-missing": without_relu,
    "core-gate-missing": without_gate,
    "core-weight": with_one_number("rnn.l0.ff1.weight", 5, 1.05),
    "head-weight": lambda step: scaled(weights_of(step, "Gemm", -1, "B"), 1.001)(step),
    "head-order": crossed_head,
}


class TestFaultsAreFound:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_in_the_program(self, tmp_path, monkeypatch, fault):
        put_into_recordings(monkeypatch, FAULTS[fault])
        with pytest.raises(VerificationError, match="does not equal"):
            quick_export(pictures(), tmp_path / "m.lnn", example=frames(), **PERIOD)
        assert list(tmp_path.iterdir()) == []

    def test_a_synapse_of_the_other_sign(self, tmp_path, monkeypatch):
        put_into_recordings(monkeypatch, with_one_number("rnn.synapses.erev", 3, -1.0))
        with pytest.raises(VerificationError, match="does not equal"):
            quick_export(pictures(wired_ltc()), tmp_path / "m.lnn", example=frames(), **PERIOD)

    @pytest.mark.parametrize("operator", ["Conv", "Gemm"])
    @pytest.mark.parametrize("place", [0, -1])
    def test_in_the_graph_alone(self, tmp_path, monkeypatch, operator, place):
        """As an error of the lowering would: the first and the last convolution, the core's product and the head's."""

        def changed(graph):
            node = [node for node in graph.graph.node if node.op_type == operator][place]
            (weight,) = [tensor for tensor in graph.graph.initializer if tensor.name == node.input[1]]
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))

        change_graphs(monkeypatch, changed)
        with pytest.raises(VerificationError, match="onnxruntime") as caught:
            quick_export(pictures(), tmp_path / "m.lnn", example=frames(), **PERIOD)
        failed = {c.subject for c in caught.value.report.comparisons if not c.passed}
        assert failed == {"onnxruntime", "onnxruntime in two parts"}

    def test_a_relu_that_the_graph_leaves_out(self, tmp_path, monkeypatch):
        def changed(graph):
            relu = [node for node in graph.graph.node if node.op_type == "Relu"][-1]
            relu.op_type = "Identity"

        change_graphs(monkeypatch, changed)
        with pytest.raises(VerificationError, match="onnxruntime"):
            quick_export(pictures(), tmp_path / "m.lnn", example=frames(), **PERIOD)

    def test_what_grows_over_thousands_of_steps(self, tmp_path, monkeypatch, proven):
        monkeypatch.setattr(exporting, "truth_from_model", lambda *_: proven[1])  # of the same model and samples
        put_into_the_table(monkeypatch, row(Drifting))
        with pytest.raises(VerificationError, match="drifting in two parts"):
            lnn_edge.export_model(pictures(), tmp_path / "m.lnn", example=frames(), **PERIOD)

    def test_a_step_that_keeps_what_the_whole_sequence_does_not(self, tmp_path):
        class Looks(Pictures):
            def forward(self, x, hx=None):
                y, hx = super().forward(x, hx)
                return y + x.mean((1, 2, 3, 4)).view(-1, 1, 1), hx

        torch.manual_seed(0)
        with pytest.raises(ValueError, match="each output depends on all samples of the sequence"):
            quick_export(Looks().eval(), tmp_path / "m.lnn", example=frames(), **PERIOD)


def change_graphs(monkeypatch, change):
    make = exporting.step_graph

    def changed(*arguments, **options):
        graph = make(*arguments, **options)
        change(graph)
        return graph

    monkeypatch.setattr(exporting, "step_graph", changed)


class TestEachJudgeIsExact:
    """What a judge computes once for each sample is what it computes at each step."""

    def samples(self, steps=60):
        return excite_few(SampleRequest((Tensor("input", (1, 3, 8, 8)),), Time("fixed", 0.1), steps))

    def test_torch(self):
        trained, _ = program_of(pictures())
        samples = self.samples()
        mine = stepped_over_few(trained, samples, Time("fixed", 0.1))
        theirs = trained.stepped(samples.unfolded(), Time("fixed", 0.1))
        for name, value in theirs.items():
            np.testing.assert_array_equal(mine[name], value)

    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_the_program(self, dtype):
        step = program_of(pictures())[1]
        samples = self.samples()
        mine, theirs = (interpreted(Interpreter(step, dtype), own) for own in (samples, samples.unfolded()))
        for name, value in theirs.items():
            np.testing.assert_allclose(mine[name], value, rtol=0, atol=1e-12 if dtype == "float64" else 1e-5)

    def test_products_are_computed_once_and_never_written_to(self):
        layer, x = nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)
        with torch.no_grad(), RememberedProducts() as remembered:
            first = layer(x)
            expected = first.clone()
            first.zero_()
            assert torch.equal(layer(x), expected)
            assert remembered.computed == 1
            layer.weight.mul_(2.0)
            assert not torch.equal(layer(x), expected)
            layer(torch.zeros_like(x))
            assert remembered.computed == 3

    def test_weights_that_a_forward_computes_are_not_remembered(self):
        x, weight = torch.rand(1, 3, 8, 8), torch.rand(4, 3, 3, 3)
        with torch.no_grad(), RememberedProducts() as remembered:
            for factor in (1.0, 2.0):
                scaled = torch.nn.functional.conv2d(x, weight * factor)
            assert remembered.computed == 0
        assert torch.allclose(scaled, torch.nn.functional.conv2d(x, 2.0 * weight))

    def test_orders_hold_every_sample_and_begin_with_all(self):
        samples = self.samples()
        for name, start, stop in samples.segments:
            own = samples.order[start:stop]
            if stop - start >= FEW:
                assert len(set(own[:FEW])) == len(set(own)) == FEW, name
        assert np.array_equal(samples.order, self.samples().order)

    def test_the_cost_is_counted(self, small_pictures_are_costly):
        step = program_of(pictures())[1]
        convolutions = 8 * 8 * 8 * 75 + 4 * 4 * 16 * 72
        assert small_pictures_are_costly < convolutions <= encoder_multiplications(step) < 1.2 * convolutions


class TestTheCut:
    def test_every_node_is_in_one_part(self, exported):
        graph = onnx.load_from_string((exported.path / "model.onnx").read_bytes())
        parts = cut_graph(graph, ["h_in", "dt"], 1)
        names = [node.name for part in (parts.encoder, parts.rest) for node in part.graph.node]
        assert sorted(names) == sorted(node.name for node in graph.graph.node)
        assert {node.op_type for node in parts.encoder.graph.node} >= {"Conv", "Relu"}
        assert "Conv" not in {node.op_type for node in parts.rest.graph.node}
        for part in (parts.encoder, parts.rest):
            onnx.checker.check_model(part, full_check=True)

    def test_no_cut_where_nothing_is_encoded(self, tmp_path):
        quick_export(CfC(3, 8), tmp_path / "m.lnn")
        graph = onnx.load_from_string((tmp_path / "m.lnn" / "model.onnx").read_bytes())
        assert cut_graph(graph, ["h_in"], 1) is None

    def test_a_backend_that_builds_for_its_device_runs_the_whole(self, tmp_path, monkeypatch):
        class Builder(Second):
            @classmethod
            def prepare(cls, bundle, options, progress, *, rebuild):
                raise NotImplementedError

        monkeypatch.setattr("second_backend.Builder", Builder, raising=False)
        put_into_the_table(monkeypatch, row(Builder))
        report = quick_export(pictures(), tmp_path / "m.lnn", example=frames(), **PERIOD)
        subjects = {c.subject for c in report.comparisons}
        assert "builder" in subjects
        assert "builder in two parts" not in subjects
        steps = {c.segment: c.steps for c in report.comparisons if c.subject == "builder"}
        assert sum(steps.values()) == report.steps

    def test_an_output_of_the_encoder_alone(self, tmp_path):
        class Seen(Pictures):
            def forward(self, x, hx=None):
                seen = torch.relu(self.second(torch.relu(self.first(x.flatten(0, 1))))).mean((-1, -2))
                z = seen.unflatten(0, x.shape[:2])
                y, hx = self.rnn(z, hx)
                return {"policy": self.head(torch.cat([y, z], -1)), "seen": torch.tanh(z) * 2}

        torch.manual_seed(0)
        report = quick_export(Seen().eval(), tmp_path / "m.lnn", example=frames(), **PERIOD)
        tensors = {c.tensor for c in report.comparisons if c.subject == "onnxruntime in two parts"}
        assert tensors == {"policy", "seen", "h_out"}


class FarColumns(nn.Module):
    """A costly encoder of many columns in raw units that float32 is too coarse for."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.rnn = nn.Linear(900, 200), nn.Linear(200, 8), CfC(8, 6)

    def forward(self, x):
        return self.rnn(self.second(torch.relu(self.first(x))))[0]


@pytest.mark.parametrize("options", [{}, {"unroll": 2, "batch": 2}], ids=["single", "blocks-of-rows"])
def test_an_encoder_alone_centres_as_the_whole_graph_does(options, tmp_path):
    torch.manual_seed(2)
    module, far = FarColumns(), np.random.default_rng(1).standard_normal((2, 12, 900)) + 5.4e6
    report = quick_export(module, tmp_path / "m.lnn", example=far, scale_inputs=(5.4e6, 1.0), **options)
    assert report.distinct is not None  # the encoder is costly enough for a part of its own
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(far.swapaxes(0, 1) if options else far[0])
    with torch.no_grad():
        expected = module(torch.tensor(far - 5.4e6, dtype=torch.float32))[0].numpy()
    np.testing.assert_allclose(got[:, 0] if options else got, expected, rtol=0, atol=1e-5)  # the promise of the proof


@pytest.mark.usefixtures("compiler")
def test_c_has_no_part_in_what_takes_it_minutes(tmp_path, monkeypatch):
    """It would compute the encoder at each step; the golden sequences it runs like any backend."""
    short_verifications(monkeypatch)
    monkeypatch.setattr("lnn_edge.export.proof.few_samples._TOO_COSTLY", 1 << 14)
    report = quick_export(pictures(), tmp_path / "m.lnn", example=frames(), **PERIOD)
    assert report.not_run["native"].startswith("it would compute the costly encoder of this model anew")
    own = verify_against(pictures(), tmp_path / "m.lnn", example=frames(), progress=lambda *_: None)
    assert own.not_run == report.not_run
    golden = verify_golden(tmp_path / "m.lnn", backend="native", progress=lambda *_: None)
    assert golden.passed
    assert golden.backends[0].startswith("C compiled by")
