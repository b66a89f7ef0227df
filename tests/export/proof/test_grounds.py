"""Models that have no result beyond what they are made for: proven where their samples are, and told so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exports import quick_export, short_verifications
from ncps.torch import CfC, LTCCell
from ncps.wirings import FullyConnected
from torch import nn

import lnn_edge
from lnn_edge import Feature
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.bundle.golden import golden_from_bundle
from lnn_edge.errors import ExportWarning, NonFiniteError
from lnn_edge.export.verify_against import verify_against
from lnn_edge.progress import silent
from lnn_edge.runtime.verify_golden import verify_golden

POSITIVE = np.random.default_rng(0).uniform(1.0, 5.0, (2, 80, 3)).astype(np.float32)
LIMITS = [Feature(name, limits=(0.5, 6.0)) for name in "abc"]


def spread(x):
    return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)


BEFORE = {
    "root": torch.sqrt,
    "logarithm": torch.log,
    "direction": lambda x: x / x.norm(dim=-1, keepdim=True),
    "spread": spread,
    "inverse": lambda x: 1.0 / x,
    "arc": lambda x: torch.acos(x / 5.0),
    "difference": lambda x: torch.sqrt(x[..., :1] + x[..., 1:] - 1.5),
}


class Net(nn.Module):
    def __init__(self, before, width=3):
        super().__init__()
        torch.manual_seed(0)
        self.before, self.rnn = before, CfC(width, 8)

    def forward(self, x):
        return self.rnn(self.before(x))[0]


class Last(Net):
    def forward(self, x):
        return super().forward(x).mean(1)


class Lagged(Net):
    def forward(self, x):
        past = torch.cat([x[:, :1], x[:, :-1]], dim=1)
        return self.rnn(self.before((x + past) / 2))[0]


def made(name, kind=Net):
    return kind(BEFORE[name], 2 if name == "difference" else 3)


def in_torch(model, recording):
    with torch.no_grad():
        return model(torch.from_numpy(recording)[None])[0].numpy()


@pytest.mark.parametrize("name", BEFORE)
def test_a_model_is_proven_where_its_samples_are(name, tmp_path, monkeypatch):
    model, path = made(name), tmp_path / "m.lnn"
    with pytest.warns(ExportWarning, match=r"samples that export made up beyond the example.*give limits, inputs="):
        assert quick_export(model, path, example=POSITIVE).passed
    stream = lnn_edge.load(path).stream()
    np.testing.assert_allclose(stream.run(POSITIVE[0]), in_torch(model, POSITIVE[0]), atol=1e-5)
    with pytest.raises(NonFiniteError, match="the state is unchanged"):
        stream.step(np.full(3, np.nan, np.float32))
    once = golden_from_bundle(read_bundle(path)).steps
    assert verify_golden(path, steps=2 * once, progress=silent).passed
    short_verifications(monkeypatch)
    with pytest.warns(ExportWarning, match="made up beyond the example"):
        assert verify_against(model, path, example=POSITIVE, progress=silent).passed


@pytest.mark.parametrize("name", ["root", "direction", "inverse", "difference"])
def test_limits_leave_nothing_to_tell(name, tmp_path):
    limits = [Feature(n, limits=(1.0, 5.0)) for n in "abc"]
    assert quick_export(made(name), tmp_path / "m.lnn", example=POSITIVE, inputs=limits).passed


def test_made_samples_stay_inside_limits(tmp_path):
    with pytest.warns(ExportWarning, match="on recorded samples alone"):  # all at their limits have no spread
        quick_export(made("spread"), tmp_path / "m.lnn", example=POSITIVE, inputs=LIMITS)
    golden = golden_from_bundle(read_bundle(tmp_path / "m.lnn"))
    assert golden.inputs["input"].min() >= 0.5
    assert golden.inputs["input"].max() <= 6.0


def test_the_example_alone_where_nothing_else_has_a_result(tmp_path):
    """On a sphere's shell: numbers inside the range of each column lie off it."""
    directions = np.random.default_rng(1).normal(size=(90, 3))
    shell = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
    model = Net(lambda x: torch.sqrt(1e-3 - (x.pow(2).sum(-1, keepdim=True) - 1.0).abs()) + x)
    with pytest.warns(ExportWarning, match="on recorded samples alone"):
        assert quick_export(model, tmp_path / "m.lnn", example=shell).passed


@pytest.mark.parametrize("options", [{"batch": 2}, {"unroll": 4}, {"window": 20}, {"time": "measured"}], ids=str)
def test_other_bundles_are_proven_there_too(options, tmp_path):
    with pytest.warns(ExportWarning, match="made up beyond the example"):
        assert quick_export(made("root"), tmp_path / "m.lnn", example=POSITIVE, period_s=0.1, **options).passed


@pytest.mark.parametrize("kind", [Last, Lagged])
@pytest.mark.parametrize("name", ["root", "logarithm", "arc"])
def test_what_a_forward_does_over_time_is_found_there_too(kind, name, tmp_path):
    with pytest.warns(ExportWarning, match="made up beyond the example"):
        assert quick_export(made(name, kind), tmp_path / "m.lnn", example=POSITIVE).passed


def test_a_step_of_the_users(tmp_path):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.cell, self.head = LTCCell(FullyConnected(4), 3), nn.Linear(4, 2)

        def step(self, x, state):
            y, state = self.cell(torch.log(x), torch.zeros(len(x), 4) if state is None else state)
            return self.head(y), state

        def forward(self, x):
            outputs, state = [], None
            for t in range(x.shape[1]):
                output, state = self.step(x[:, t], state)
                outputs.append(output)
            return torch.stack(outputs, 1)

    model = Loop()
    with pytest.warns(ExportWarning, match="made up beyond the example"):
        assert quick_export(model, tmp_path / "m.lnn", example=POSITIVE, step=model.step, batch=2).passed


def test_rows_that_mix_are_still_refused(tmp_path):
    with pytest.raises(ValueError, match="mixes the rows of a batch"):
        quick_export(
            Net(lambda x: torch.sqrt(x) - torch.sqrt(x).mean(0, keepdim=True)),
            tmp_path / "m.lnn",
            example=POSITIVE,
            batch=2,
        )


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_whose_samples_they_were(tmp_path):
    with pytest.raises(ValueError, match=r"is nan at step 0 of the example: the training diverged"):
        quick_export(Net(lambda x: torch.sqrt(-x)), tmp_path / "m.lnn", example=POSITIVE)
    layer = CfC(3, 8)
    for parameter in layer.parameters():
        parameter.data.fill_(3e38)
    with pytest.raises(ValueError, match=r"is nan at step \d+ of the random samples that export made up"):
        quick_export(layer, tmp_path / "m.lnn")


def test_a_spread_over_time_is_told_as_one(tmp_path):
    class Running(Net):
        def forward(self, x):
            parts = [x[:, : k + 1] / x[:, : k + 1].std(1, keepdim=True) for k in range(x.shape[1])]
            return torch.stack([self.rnn(part)[0][:, -1] for part in parts], 1)

    with (
        pytest.warns(UserWarning, match="degrees of freedom"),
        pytest.raises(ValueError, match=r"finite on the example.*a spread over time"),
    ):
        quick_export(Running(torch.relu), tmp_path / "m.lnn", example=POSITIVE[:, :20])
