"""Probabilities of classes: the softmax of a network's logits as part of the step, proven like the rest of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exports import quick_export, short_verifications
from faults import put_into_recordings, with_nodes
from ncps.torch import LTC, CfC
from torch import nn

import lnn_edge
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.bundle.operations import Operation
from lnn_edge.bundle.spec import Readout
from lnn_edge.cli.program import main
from lnn_edge.errors import VerificationError
from lnn_edge.export.trained.probabilities import WithProbabilities
from lnn_edge.export.verify_against import verify_against

X = np.random.default_rng(4).standard_normal((2, 30, 3)).astype(np.float32)
LABELS = ["walk", "run", "stand"]


class Classifier(nn.Module):
    """Logits of classes, large enough that probabilities differ."""

    def __init__(self, classes=3, pools=None, after=None):
        super().__init__()
        self.rnn, self.head = CfC(3, 8, backbone_units=16), nn.Linear(8, classes)
        self.pools, self.after = pools, after

    def forward(self, x, hx=None):
        y, hx = self.rnn(x, hx)
        z = 4.0 * self.head(y)
        z = z if self.after is None else self.after(z)
        return z if self.pools is None else self.pools(z)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.policy, self.value = LTC(3, 6), nn.Linear(6, 4), nn.Linear(6, 1)

    def forward(self, x):
        y, _ = self.rnn(x)
        return {"policy": self.policy(y), "value": self.value(y)}


def built(make=Classifier, *arguments, **options):
    torch.manual_seed(1)
    return make(*arguments, **options).eval()


def logits(model):
    return model(torch.from_numpy(X[:1]))[0].detach()


def test_the_step_gives_the_softmax_of_what_the_forward_gives(tmp_path):
    model = built()
    report = quick_export(model, tmp_path / "m.lnn", example=X, probabilities=True, labels=LABELS)
    assert report.passed
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    expected = torch.softmax(logits(model), -1).numpy()
    for sample, row in zip(X[0], expected, strict=True):
        np.testing.assert_allclose(stream.step(sample), row, rtol=0, atol=1e-5)
        assert stream.label == LABELS[row.argmax()]
    manifest = read_bundle(tmp_path / "m.lnn").manifest
    assert (manifest.probabilities, manifest.labels) == ("output", tuple(LABELS))
    assert manifest.outputs[0].features[0].range[0] >= 0


def test_one_logit_becomes_no_and_yes(tmp_path):
    model = built(Classifier, 1)
    quick_export(model, tmp_path / "m.lnn", example=X, probabilities=True, labels=["still", "moving"])
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    got = stream.run(X[0])
    yes = torch.sigmoid(logits(model)).numpy()[:, 0]
    np.testing.assert_allclose(got, np.stack([1 - yes, yes], -1), rtol=0, atol=1e-5)
    assert stream.label == ("moving" if yes[-1] > 0.5 else "still")


@pytest.mark.parametrize("options", [{"batch": 2}, {"unroll": 2}, {"precision": "float16"}], ids=str)
@pytest.mark.parametrize("classes", [1, 3])
def test_batches_blocks_and_halves(tmp_path, options, classes):
    report = quick_export(built(Classifier, classes), tmp_path / "m.lnn", example=X, probabilities=True, **options)
    assert report.passed


def test_one_of_several_outputs(tmp_path):
    model = built(Two)
    quick_export(model, tmp_path / "m.lnn", example=X, probabilities="policy")
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(X[0])
    theirs = model(torch.from_numpy(X[:1]))
    np.testing.assert_allclose(got["policy"], theirs["policy"][0].softmax(-1).detach(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(got["value"], theirs["value"][0].detach(), rtol=0, atol=1e-5)


def test_a_readout_is_one_of_probabilities(tmp_path):
    model = built()
    options = {"probabilities": True, "readout": "mean", "labels": LABELS, "window": 10}
    quick_export(model, tmp_path / "m.lnn", example=X, **options)
    assert read_bundle(tmp_path / "m.lnn").manifest.readout == Readout("mean")
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    stream.run(X[0])
    mean = torch.softmax(logits(model), -1).mean(0)
    np.testing.assert_allclose(stream.run(X[0, :0]).shape, (0, 3))
    stream.reset()
    np.testing.assert_allclose(stream.run(X[0])[-1], mean, rtol=0, atol=1e-5)
    assert stream.label == LABELS[int(mean.argmax())]


def test_a_forward_that_returns_the_last_logits(tmp_path):
    model = built(Classifier, 3, lambda z: z[:, -1])
    report = quick_export(model, tmp_path / "m.lnn", example=X, probabilities=True)
    assert any(c.against == "torch stepped vs torch on the whole sequence" for c in report.comparisons)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(X[0])[-1]
    np.testing.assert_allclose(got, logits(model).softmax(-1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "asked", "error", "message"),
    [
        (lambda: built(after=lambda z: z.softmax(-1)), True, ValueError, "holds probabilities already, none below 0"),
        (lambda: built(Classifier, 1, after=torch.sigmoid), True, ValueError, "holds probabilities already"),
        (lambda: built(Two), True, ValueError, r"has the outputs \['policy', 'value'\]: say which of them"),
        (lambda: built(Two), "polcy", ValueError, "'polcy'.*policy"),
        (lambda: built(after=lambda z: z.argmax(-1)), True, ValueError, "holds whole numbers, the classes themselves"),
        (built, 3, TypeError, "`probabilities` is 3, expected True, or the name of an output"),
        (lambda: built(after=lambda z: z.unflatten(-1, (1, 3))), True, ValueError, r"has shape \[1, 3\] per sample"),
        (lambda: built(pools=lambda z: z.mean(1)), True, ValueError, "probabilities of a mean are no mean of"),
    ],
)
def test_refusals(tmp_path, make, asked, error, message):
    with pytest.raises(error, match=message):
        quick_export(make(), tmp_path / "m.lnn", example=X, probabilities=asked)
    assert list(tmp_path.iterdir()) == []


def test_scaled_logits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`scale_outputs` scales output 'output', which holds logits"):
        quick_export(built(), tmp_path / "m.lnn", example=X, probabilities=True, scale_outputs=(1.0, 2.0))
    options = {"probabilities": "policy", "scale_outputs": {"value": (1.0, 2.0)}}
    assert quick_export(built(Two), tmp_path / "m.lnn", example=X, **options).passed


def test_logits_between_0_and_1_are_no_probabilities(tmp_path):
    report = quick_export(
        built(after=lambda z: 0.9 * torch.sigmoid(z)), tmp_path / "m.lnn", example=X, probabilities=True
    )
    assert report.passed


def test_a_softmax_along_the_wrong_way_is_not_proven(tmp_path, monkeypatch):
    program = WithProbabilities.program

    def changed(self, time):
        step = program(self, time)
        (last,) = [node for node in step.program.nodes if isinstance(node, Operation) and node.op == "Softmax"]
        wrong = Operation(op="Sigmoid", inputs=last.inputs, output=last.output)
        return with_nodes(step, [wrong if node is last else node for node in step.program.nodes])

    monkeypatch.setattr(WithProbabilities, "program", changed)
    with pytest.raises(VerificationError, match="does not equal"):
        quick_export(built(), tmp_path / "m.lnn", example=X, probabilities=True)


def test_a_fault_before_it_is_found(tmp_path, monkeypatch):
    put_into_recordings(monkeypatch, lambda step: with_nodes(step, step.program.nodes, **halved_biases(step)))
    with pytest.raises(VerificationError, match="does not equal"):
        quick_export(built(), tmp_path / "m.lnn", example=X, probabilities=True)


def halved_biases(step):
    return {name: 0.5 * value for name, value in step.tensors.items() if value.ndim == 1}


def test_verification_against_the_model_knows_it(tmp_path, monkeypatch):
    short_verifications(monkeypatch)
    quick_export(built(), tmp_path / "m.lnn", example=X, probabilities=True)
    assert verify_against(built(), tmp_path / "m.lnn", example=X, progress=lambda *_: None).passed


def test_inspect_and_the_command_line(tmp_path, monkeypatch, capsys):
    quick_export(built(), tmp_path / "m.lnn", example=X, probabilities=True)
    assert main(["inspect", str(tmp_path / "m.lnn")]) == 0
    assert "probabilities: 'output' is the softmax of what the model gives\n" in capsys.readouterr().out
    seen = []
    monkeypatch.setattr("lnn_edge.export.export_model", lambda *_, **options: seen.append(options) or 1 / 0)
    (tmp_path / "made.py").write_text("import torch\nnet = torch.nn.Linear(1, 1)\n")
    for more in ([], ["--probabilities"], ["--probabilities", "policy"]):
        main(["export", f"{tmp_path / 'made.py'}:net", str(tmp_path / "n.lnn"), *more])
    assert [options["probabilities"] for options in seen] == [False, True, "policy"]
