"""Models that amplify every disturbance: proven over as many steps as float32 holds, and step by step beyond."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from bundles import manifest_of
from ncps.torch import CfC
from torch import nn

import lnn_edge
from lnn_edge.bundle.spec import Sensitive, Time
from lnn_edge.cli.program import main
from lnn_edge.cli.proof_text import proof_text
from lnn_edge.errors import ModelWarning, VerificationError
from lnn_edge.export.exporting import export_with_proof
from lnn_edge.export.proof import truth as truths
from lnn_edge.export.proof.length import ProofLength
from lnn_edge.export.trained.open import open_module
from lnn_edge.export.verify_against import verify_against
from lnn_edge.runtime.verify_golden import verify_golden

LENGTH = ProofLength(least=300, evaluated=48)  # long enough for a disturbance to grow, a third of the public minimum
HOLDS = r"a disturbance doubles in [\d.]+ steps, so float32 follows exact arithmetic for \d+ steps from a reset"


def amplified(gain):
    torch.manual_seed(0)
    module = CfC(3, 32)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(gain)
    return module


def export(path, module=None, **options):
    return export_with_proof(module or amplified(1.5), path, LENGTH, steps=300, **options)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("sensitive") / "m.lnn"
    return path, export(path)


def test_it_exports_and_says_how_long_it_holds(exported, capsys):
    path, report = exported
    found = manifest_of(path).sensitive
    assert found == report.sensitive
    assert 32 <= found.holds_steps < 300
    assert report.to_dict()["sensitive"]["holds_steps"] == found.holds_steps
    assert main(["inspect", str(path)]) == 0
    assert str(found) in capsys.readouterr().out
    assert str(found) in proof_text(report, verbose=False)
    assert main(["verify", str(path)]) == 0
    with pytest.warns(ModelWarning, match=HOLDS):
        lnn_edge.load(path)


def test_float32_holds_so_long_and_no_longer(exported):
    """Torch in float32 against torch in float64, stepped apart from anything of ours."""
    path, _ = exported
    holds = manifest_of(path).sensitive.holds_steps
    x = torch.from_numpy(0.5 * np.random.default_rng(3).standard_normal((1, 1024, 3)))
    with torch.no_grad():
        exact = amplified(1.5).double()(x)[0]
        error = (amplified(1.5)(x.float())[0].double() - exact).abs().amax(dim=(0, 2)).numpy()
    assert error[:holds].max() < 1e-3  # what any model must be computable to
    assert error.max() > 0.1


def test_doubling_is_that_of_a_disturbance_in_torch(exported):
    path, _ = exported
    doubling = manifest_of(path).sensitive.doubling_steps
    module = amplified(1.5).double()
    x = torch.from_numpy(0.5 * np.random.default_rng(4).standard_normal((1, 2048, 3)))
    with torch.no_grad():
        one, other = module(x)[0], module(x, torch.full((1, 32), 1e-6, dtype=torch.float64))[0]
    apart = (one - other).abs().amax(dim=(0, 2)).numpy()
    grown = int(np.argmax(apart > 1e-2))
    assert grown > 0
    assert doubling == pytest.approx(grown / np.log2(apart[grown] / 1e-6), rel=0.6)  # of one draw of samples


def test_the_proof_is_as_long_as_float32_holds_and_goes_on_step_by_step(exported):
    path, report = exported
    holds = manifest_of(path).sensitive.holds_steps
    segments = {segment.name: segment for segment in report.segments}
    assert segments["random"].sequences == -(-segments["random"].steps // holds)
    single = segments["single steps"]
    assert single.sequences == single.steps >= 128
    against = {c.against for c in report.comparisons if c.segment == "single steps"}
    assert {"torch float32 vs step program", "onnxruntime vs torch float32"} <= against


@pytest.mark.parametrize("options", [{"unroll": 4}, {"batch": 2}, {"precision": "float32", "window": 16}])
def test_blocks_batches_and_windows(options, tmp_path):
    report = export(tmp_path / "m.lnn", **options)
    assert report.passed
    assert report.sensitive.holds_steps >= 32


def test_an_example_that_drives_the_model_hides_nothing(tmp_path):
    """Samples of size one hold it down; the constant ones do not."""
    example = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)
    report = lnn_edge.export_model(amplified(1.5), tmp_path / "m.lnn", example=example)
    assert report.sensitive.holds_steps >= 32


@pytest.mark.filterwarnings("ignore::lnn_edge.errors.ModelWarning")
def test_it_is_verified_over_as_many_steps_at_a_time(exported):
    path, _ = exported
    steps = sum(s.steps for s in verify_golden(path, progress=lambda *_: None).segments)
    assert verify_golden(path, steps=steps + 400, progress=lambda *_: None).passed
    assert verify_against(amplified(1.5), path, steps=1000, progress=lambda *_: None).passed


def test_what_holds_for_less_is_refused(tmp_path):
    match = r"In this model .* float32 follows exact arithmetic for \d+ steps, fewer than the 32 that a step must"
    with pytest.raises(VerificationError, match=match):
        export(tmp_path / "m.lnn", amplified(3.0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("doubling", [0.048, 1e-300])
def test_a_jump_within_one_step_is_no_doubling_that_float32_follows_for_hundreds(doubling):
    """Saturated weights: a disturbance grows where the model jumps, and float32 comes to such a state late."""
    said = str(Sensitive(529, doubling))
    assert "doubles" not in said
    assert re.search(
        r"one step makes a disturbance 1\.\de\+\d+ times as large .*diverged training\), and until it comes to one "
        "float32 follows exact arithmetic for 529 steps from a reset",
        said,
    )


def test_an_ordinary_model_is_none(tmp_path):
    report = export(tmp_path / "m.lnn", amplified(1.0))
    assert report.sensitive is None
    assert manifest_of(tmp_path / "m.lnn").sensitive is None
    assert "single steps" not in {segment.name for segment in report.segments}


def test_a_wrong_step_is_found_however_short_the_proof(tmp_path, monkeypatch):
    """A program that differs beyond the first steps only: the single steps start where it matters."""

    interpret = truths.interpret

    def skewed(step, samples, progress):
        exact, rounded = interpret(step, samples, progress)
        if samples.start is not None:
            for results in (exact, rounded):
                results["output"][-1] += 1e-2
        return exact, rounded

    monkeypatch.setattr(truths, "interpret", skewed)  # which the truth calls once it is known how long float32 holds
    with pytest.raises(VerificationError, match="single steps"):
        export(tmp_path / "m.lnn")


def test_torch_is_stepped_from_the_states_that_are_given():
    """Layers, networks and steps of the user's own all begin where the samples say."""

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.rnn, self.head = CfC(3, 6, mixed_memory=True), nn.Linear(6, 2)

        def forward(self, x, hx=None):
            y, hx = self.rnn(x, hx)
            return self.head(y), hx

        def turn(self, x, state):
            y, state = self.rnn(x.unsqueeze(1), state)
            return self.head(y[:, -1]), state

    from lnn_edge.verify.samples import Excitation

    rng, module = np.random.default_rng(0), Around().eval()
    x = rng.standard_normal((4, 1, 3)).astype(np.float32)
    starts = [rng.standard_normal((4, 1, 6)).astype(np.float32) for _ in range(2)]
    example = {"input": [x]}
    for opened in (open_module(module), open_module(module, step=Around.turn, example=x), open_module(module.rnn)):
        trained = opened.trained(1, example)
        names = [pair.input for pair in trained.states]
        samples = Excitation({"input": x}, None, np.ones(4, np.uint8), (), dict(zip(names, starts, strict=True)))
        got = trained.stepped(samples, Time("fixed"))
        with torch.no_grad():
            for k in range(4):
                hx = tuple(torch.from_numpy(start[k]) for start in starts)
                y, state = module.rnn(torch.from_numpy(x[k])[None], hx)
                expected = y[0] if opened is None or len(got["output"][k, 0]) == 6 else module.head(y)[0]
                np.testing.assert_allclose(got["output"][k], expected.numpy(), atol=1e-6)
                np.testing.assert_allclose(got[trained.states[0].output][k], state[0].numpy(), atol=1e-6)
