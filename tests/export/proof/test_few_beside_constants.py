"""Proofs of networks with a costly encoder and a constant: few pairs of both, and every fault still found."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from exports import quick_export
from faults import put_into_recordings
from ncps.torch import CfC
from onnx import numpy_helper
from torch import nn

import lnn_edge
from lnn_edge.bundle.program import StepProgram
from lnn_edge.bundle.spec import Tensor, Time
from lnn_edge.errors import VerificationError
from lnn_edge.export.proof.few_samples import stepped_over_few
from lnn_edge.export.recordings import examples
from lnn_edge.export.trained.open import open_module
from lnn_edge.reference.closed_loop import interpreted
from lnn_edge.reference.interpreter import Interpreter
from lnn_edge.runtime.stream import Stream
from lnn_edge.runtime.verify_golden import verify_golden
from lnn_edge.verify.excitation import excite
from lnn_edge.verify.few_samples import FEW, excite_few, excite_few_again
from lnn_edge.verify.samples import SampleRequest

PERIOD = {"period_s": 0.1}
RNG = np.random.default_rng(0)
FRAMES = RNG.random((3, 24, 3, 8, 8), dtype=np.float32)
GOALS = RNG.standard_normal((3, 2)).astype(np.float32)
EXAMPLE = {"x": FRAMES, "goal": GOALS}
pytestmark = pytest.mark.usefixtures("small_pictures_are_costly")


class Guided(nn.Module):
    """Small pictures through a costly convolution, what it sees moved by a goal; the goal beside the core as well."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 5, padding=2), nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.moves, self.rnn, self.head = nn.Linear(2, 16), CfC(16, 12), nn.Linear(12 + 2, 4)

    def forward(self, x, goal):
        z = torch.relu(self.second(torch.relu(self.first(x.flatten(0, 1))))).mean((-1, -2)).unflatten(0, x.shape[:2])
        y, _ = self.rnn(torch.tanh(z + self.moves(goal).unsqueeze(1)))
        return self.head(torch.cat([y, goal.unsqueeze(1).expand(-1, y.shape[1], -1)], -1))


def guided():
    torch.manual_seed(3)
    return Guided().eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("guided") / "eyes.lnn"
    return lnn_edge.export_model(guided(), path, example=EXAMPLE, **PERIOD)


def test_few_pairs_and_thousands_of_steps(exported):
    assert exported.passed
    assert exported.steps == 2 * 1024 + 3 * 256
    assert exported.distinct.samples < exported.steps / 8
    assert exported.distinct.whole_steps < exported.steps / 3
    steps = {c.segment: c.steps for c in exported.comparisons if c.subject == "onnxruntime in two parts"}
    assert sum(steps.values()) == exported.steps
    whole = {c.segment: c.steps for c in exported.comparisons if c.subject == "onnxruntime"}
    assert sum(whole.values()) == exported.distinct.whole_steps


def test_streams_are_what_the_forward_gives(exported):
    with torch.no_grad():
        expected = guided()(torch.from_numpy(FRAMES[1:2]), torch.from_numpy(GOALS[1:2]))[0].numpy()
    got = lnn_edge.load(exported.path).stream(constants={"goal": GOALS[1]}).run(FRAMES[1])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)  # the promise of the proof


def test_verification_alone_goes_on_over_few_pairs(exported):
    report = verify_golden(exported.path, steps=1500, progress=lambda *_: None)
    assert report.passed
    assert report.steps == 1500
    assert report.distinct.samples < 300


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 2},
        {"unroll": 2},
        {"time": "measured", "unroll": 4, "batch": 2},
        {"precision": "float16"},
        {"window": 6},
    ],
    ids=str,
)
def test_batches_blocks_halves_windows_and_times(options, tmp_path):
    report = quick_export(guided(), tmp_path / "m.lnn", example=EXAMPLE, steps=48, **PERIOD, **options)
    assert report.passed
    assert report.distinct is not None
    assert any(c.subject == "onnxruntime in two parts" for c in report.comparisons)


# ---- faults ---------------------------------------------------------------------------------------------------------


def shaped(shape, change):
    """A change of the one tensor of that shape."""

    def fault(step):
        (key,) = [key for key, value in step.tensors.items() if value.shape == shape]
        value = step.tensors[key].copy()
        change(value)
        return StepProgram(step.program, {**step.tensors, key: value})

    return fault


def scale(value):
    value *= 1.005


def mix_up(value):
    value[[0, 1]] = value[[1, 0]]


def scale_last(value):
    value[-1] *= 1.005


FAULTS = {
    "encoder-of-the-constant": shaped((2, 16), scale),
    "order-of-the-constant": shaped((2, 16), mix_up),
    "head-of-the-constant": shaped((14, 4), scale_last),
    "encoder-of-the-pictures": shaped((16, 8, 3, 3), scale),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_in_the_program_are_found(tmp_path, monkeypatch, fault):
    put_into_recordings(monkeypatch, FAULTS[fault])
    with pytest.raises(VerificationError, match="does not equal"):
        quick_export(guided(), tmp_path / "m.lnn", example=EXAMPLE, **PERIOD)
    assert list(tmp_path.iterdir()) == []


def test_a_fault_in_the_graph_alone_is_found_whole_and_in_parts(tmp_path, monkeypatch):
    module = importlib.import_module("lnn_edge.export.exporting")
    make = module.step_graph

    def changed(*arguments, **options):
        graph = make(*arguments, **options)
        (own,) = [t for t in graph.graph.initializer if tuple(t.dims) == (2, 16)]
        own.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(own) * np.float32(1.01), own.name))
        return graph

    monkeypatch.setattr(module, "step_graph", changed)
    with pytest.raises(VerificationError, match="onnxruntime") as caught:
        quick_export(guided(), tmp_path / "m.lnn", example=EXAMPLE, **PERIOD)
    failed = {c.subject for c in caught.value.report.comparisons if not c.passed}
    assert failed == {"onnxruntime", "onnxruntime in two parts"}


def test_a_runtime_that_keeps_the_constants_of_the_last_sequence_is_found(tmp_path, monkeypatch):
    whole, first = Stream.reset, []

    def forgets(self, *arguments, constants=None, **options):
        first.append(constants)
        return whole(self, *arguments, constants=first[0] if constants is not None else None, **options)

    monkeypatch.setattr(Stream, "reset", forgets)
    with pytest.raises(VerificationError, match="onnxruntime"):
        quick_export(guided(), tmp_path / "m.lnn", example=EXAMPLE, **PERIOD)


def test_a_fault_that_large_constants_alone_show_is_found(tmp_path, monkeypatch):
    goals = np.array([[0.1, 0.2], [0.1, 0.2], [50.0, 0.2]], np.float32)

    class Clamped(Guided):
        def forward(self, x, goal):
            return super().forward(x, torch.where(goal > 40.0, goal.clamp(max=40.0), goal))

    def fault(step):
        tensors = {k: np.where(v == 40.0, v.dtype.type(41.0), v) for k, v in step.tensors.items()}
        return StepProgram(step.program, tensors)

    put_into_recordings(monkeypatch, fault)
    torch.manual_seed(3)
    with pytest.raises(VerificationError, match="does not equal"):
        quick_export(Clamped().eval(), tmp_path / "m.lnn", example={"x": FRAMES, "goal": goals}, steps=72, **PERIOD)


# ---- the samples ----------------------------------------------------------------------------------------------------

TENSORS = (Tensor("x", (2, 3)), Tensor("goal", (2, 2), constant=True))
TIME = Time("measured", 0.1, 1.0, (0.01, 1.0))


def recordings():
    goals = RNG.standard_normal((5, 1, 2, 2)).astype(np.float32)
    return {
        "x": [RNG.standard_normal((20 + 2 * k, 2, 3)).astype(np.float32) for k in range(5)],
        "goal": [np.repeat(goal, 20 + 2 * k, axis=0) for k, goal in enumerate(goals)],
    }


@pytest.mark.parametrize("unroll", [1, 2])
@pytest.mark.parametrize("window", [None, 6])
def test_sequences_constants_and_times_are_those_of_any_proof(unroll, window):
    request = SampleRequest(TENSORS, TIME, 400, recordings(), unroll=unroll, window=window)
    few, all_different = excite_few(request), excite(request)
    np.testing.assert_array_equal(few.reset, all_different.reset)
    assert few.segments == all_different.segments
    assert few.dt.shape == all_different.dt.shape
    goals, x = (few.at(np.arange(few.steps))[name] for name in ("goal", "x"))
    for part in few.sequences():
        assert (goals[part] == goals[part.start]).all()
    for name, start, stop in few.segments:
        if name in ("recorded", "windows"):
            np.testing.assert_array_equal(goals[start:stop], all_different.inputs["goal"][start:stop])
            for k in range(start, stop):
                (place,) = [p for p, goal in enumerate(request.recorded["goal"]) if (goal[0] == goals[k]).all()]
                assert (request.recorded["x"][place] == x[k]).all((1, 2)).any(), "a sample beside another's constants"
        resets = np.flatnonzero(few.reset[start:stop])
        assert len({goals[start + k].tobytes() for k in resets}) == len(
            {all_different.inputs["goal"][start + k].tobytes() for k in resets}
        )


@pytest.mark.parametrize("again", [False, True])
def test_all_samples_come_and_sequences_bring_some_each(again):
    request = SampleRequest(TENSORS, TIME, 1024)
    samples = excite_few_again(request) if again else excite_few(request)
    (start, stop), *_ = [(start, stop) for name, start, stop in samples.segments if name == "random"]
    x = samples.at(np.arange(start, stop))["x"]
    assert len({row.tobytes() for row in x}) >= FEW
    assert len(set(samples.order.tolist())) < samples.steps / 8
    assert set(samples.order[samples.beginnings()].tolist()) == set(samples.order.tolist())
    assert len(samples.beginnings()) < samples.steps / 3


def test_each_judge_gives_what_it_gives_for_each_step():
    opened = open_module(guided(), example=EXAMPLE)
    (read, *_) = examples(opened, 1, EXAMPLE, ["goal"])
    trained, time = opened.trained(1, read), Time("fixed", 0.1)
    samples = excite_few(SampleRequest(trained.inputs, time, 40))
    mine, theirs = stepped_over_few(trained, samples, time), trained.stepped(samples.unfolded(), time)
    for name, value in theirs.items():
        np.testing.assert_array_equal(mine[name], value)
    program = Interpreter(trained.program(time), "float64")
    mine, theirs = interpreted(program, samples), interpreted(program, samples.unfolded())
    for name, value in theirs.items():
        np.testing.assert_allclose(mine[name], value, rtol=0, atol=1e-12)  # another order of summation
