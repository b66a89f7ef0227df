"""Half precision: float32 at the borders, half within, and a drift that is measured in true half arithmetic."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from bundles import manifest_of
from cases import BY_NAME
from exports import quick_export
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from networks import NETWORKS, AroundOne, built, vectors
from offline import PERIOD_S, TIMESPAN, offline, whole_sequence
from onnx import TensorProto
from torch import nn

import lnn_edge
from lnn_edge.errors import VerificationError
from lnn_edge.verify.tolerance import HALF_TOLERANCE, TORCH

STEPS = 600
TIMED = {"time": "measured", "period_s": PERIOD_S, "timespan": TIMESPAN}


def graph_of(bundle):
    return onnx.load_from_string((bundle / "model.onnx").read_bytes())


# Each with one kind of time, which is folded or computed alike for all; one of each kind of core with both.
HALVES = [
    *((name, {}) for name in ("ltc-autoncp", "cfc-units", "cfc-autoncp", "cfc-mixed")),
    *((name, TIMED) for name in ("ltc-autoncp", "cfc-units", "ltc-mixed", "cfc-pure")),
]


@pytest.mark.parametrize(
    ("name", "options"), HALVES, ids=lambda of: of if isinstance(of, str) else of.get("time", "fixed")
)
def test_stays_near_the_whole_sequence(name, options, tmp_path, tmp_path_factory):
    report = quick_export(BY_NAME[name].build(), tmp_path / "m.lnn", precision="float16", **options)
    x, dt_s, expected = whole_sequence(tmp_path_factory, name, measured=bool(options), steps=STEPS)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x, dt_s=dt_s)
    drift = np.abs(got - expected).max()
    assert drift <= HALF_TOLERANCE
    assert drift > 1e-6  # it is half precision: were it float32, it would be nearer
    assert report.precision == manifest_of(tmp_path / "m.lnn").precision == "float16"
    assert "in half precision, off torch by at most" in str(report)


@pytest.mark.parametrize("name", ["conv-encoder", "stacked"])
def test_networks(name, tmp_path):
    make, example = NETWORKS[name]
    module, x = built(make), example()
    quick_export(module, tmp_path / "half.lnn", example=x, precision="float16")
    quick_export(module, tmp_path / "full.lnn", example=x)
    half, full = (lnn_edge.load(tmp_path / f"{n}.lnn").stream().run(x[0]) for n in ("half", "full"))
    for a, b in zip(*(y.values() if isinstance(y, dict) else [y] for y in (half, full)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=HALF_TOLERANCE)


def test_blocks_in_half(tmp_path, tmp_path_factory):
    quick_export(BY_NAME["cfc-autoncp"].build(), tmp_path / "m.lnn", precision="float16", unroll=4)
    x, _, expected = whole_sequence(tmp_path_factory, "cfc-autoncp", steps=400)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x)
    np.testing.assert_allclose(got, expected, rtol=0, atol=HALF_TOLERANCE)


def test_the_report_shows_the_drift_of_true_half(tmp_path):
    """onnx.reference computes in half; it drifts more than a CPU that computes in float32 between half weights."""
    torch.manual_seed(5)
    module = LTC(5, AutoNCP(12, 2), ode_unfolds=1)  # onnx.reference takes as long as there are nodes
    report = lnn_edge.export_model(module, tmp_path / "m.lnn", precision="float16")
    drift = report.errors(TORCH)
    assert drift["onnx.reference vs torch float32"] > drift["onnxruntime vs torch float32"] > 1e-5
    evaluated = {
        c.segment: c.steps for c in report.comparisons if c.subject == "onnx.reference" and c.tensor == "output"
    }
    assert sum(evaluated.values()) >= 1000
    verification = manifest_of(tmp_path / "m.lnn").verification
    assert verification.tolerance == HALF_TOLERANCE
    assert verification.max_abs_error["onnx.reference vs torch float32"] == drift["onnx.reference vs torch float32"]


@pytest.mark.parametrize("name", ["ltc-autoncp", "cfc-units", "cfc-pure", "cfc-mixed"])
def test_borders_are_float32_and_weights_are_half(name, tmp_path):
    quick_export(BY_NAME[name].build(), tmp_path / "m.lnn", precision="float16", **TIMED)
    graph = graph_of(tmp_path / "m.lnn").graph
    assert {i.type.tensor_type.elem_type for i in (*graph.input, *graph.output)} == {TensorProto.FLOAT}
    kinds = {i.name: i.data_type for i in graph.initializer}
    assert "Gemm" not in {node.op_type for node in graph.node}  # which several runtimes lack in half precision
    products = [node for node in graph.node if node.op_type == "MatMul"]
    assert products
    assert all(kinds[node.input[1]] == TensorProto.FLOAT16 for node in products)
    sizes = {TensorProto.FLOAT: 0, TensorProto.FLOAT16: 0, TensorProto.INT64: 0}
    for constant in graph.initializer:
        sizes[constant.data_type] += int(np.prod(constant.dims))
    assert sizes[TensorProto.FLOAT16] > 3 * sizes[TensorProto.FLOAT]


def test_range_breaking_operators_stay_in_float32(tmp_path):
    """Exp overflows in half above 11.1, and divisions lose what is small."""
    quick_export(BY_NAME["cfc-pure"].build(), tmp_path / "m.lnn", precision="float16", **TIMED)
    model = onnx.shape_inference.infer_shapes(graph_of(tmp_path / "m.lnn"))
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
    exps = [node for node in model.graph.node if node.op_type == "Exp"]
    assert exps
    assert all(kinds[node.output[0]] == TensorProto.FLOAT for node in exps)


def test_a_slow_neuron_goes_on_moving(tmp_path):
    """With a large capacitance a neuron moves per unfold by less than half can tell from its state."""
    torch.manual_seed(5)
    module = LTC(5, AutoNCP(12, 2), ode_unfolds=2)
    with torch.no_grad():
        module.rnn_cell.cm.fill_(900.0)
    quick_export(module, tmp_path / "m.lnn", precision="float16")
    x = np.ones((1500, 5), np.float32)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x)
    expected = offline(module, x)
    assert np.abs(expected[-1] - expected[0]).max() > 2 * HALF_TOLERANCE  # it does move
    np.testing.assert_allclose(got, expected, rtol=0, atol=HALF_TOLERANCE / 4)


class Loud(nn.Module):
    """The head amplifies what half rounds."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = CfC(5, 8, backbone_units=8), nn.Linear(8, 1)
        with torch.no_grad():
            self.head.weight.fill_(50.0)

    def forward(self, x):
        y, _ = self.rnn(x)
        return torch.sin(self.head(y))


def test_too_much_drift_is_refused(tmp_path):
    example = np.random.default_rng(0).standard_normal((1, 40, 5)).astype(np.float32)
    match = (
        r"the step in half precision drifts too far from the trained model, so nothing was written.*precision='float32'"
    )
    with pytest.raises(VerificationError, match=match):
        quick_export(built(Loud), tmp_path / "m.lnn", example=example, precision="float16")
    assert not any(tmp_path.iterdir())
    assert quick_export(built(Loud), tmp_path / "m.lnn", example=example).passed


def test_weights_beyond_half_are_refused(tmp_path):
    module = BY_NAME["cfc-proj"].build()
    with torch.no_grad():
        module.fc.weight[0, 0] = 1e5
    with pytest.raises(ValueError, match=r"a constant of the step is 100000, more than a float16 can hold \(65504\)"):
        quick_export(module, tmp_path / "m.lnn", precision="float16")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["half", "float-16", None, 16])
def test_unknown_precision(precision, tmp_path):
    with pytest.raises(ValueError, match=r"`precision` is .*float32"):
        quick_export(BY_NAME["cfc-units"].build(), tmp_path / "m.lnn", precision=precision)


def test_the_largest_is_found_where_it_is_compared_in_another_type(tmp_path):
    """The output of a core is float32; rounded to half on one side alone, the largest would equal none of the values.

    A mask is infinite, which half can hold.
    """

    def behind(y):
        one = y.scatter(-1, y.argmax(-1, keepdim=True), 0.5)
        masked = y.masked_fill(torch.tensor([True, False, False, False]), -torch.inf).softmax(-1)
        return torch.cat([y + 1, one, masked], dim=-1)

    quick_export(built(lambda: AroundOne(behind=behind)), tmp_path / "m.lnn", example=vectors(), precision="float16")
