"""Calling conventions of forwards: states that have no default, keywords alone, a dict of observations, turned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exports import quick_export, short_verifications
from ncps.torch import LTC, CfC, CfCCell
from ncps.wirings import AutoNCP
from torch import nn

import lnn_edge
from lnn_edge.export.verify_against import verify_against
from lnn_edge.progress import silent

LIMIT = 1e-5  # the promise of the proof, absolute; outputs of these models are of order 1
X = np.random.default_rng(1).standard_normal((3, 20, 4)).astype(np.float32)
IMU = np.random.default_rng(2).standard_normal((3, 20, 2)).astype(np.float32)


class Around(nn.Module):
    def __init__(self, inputs=4, **options):
        super().__init__()
        self.rnn = CfC(inputs, 6, **options)


class NeedsState(Around):
    def forward(self, x, hidden):
        return self.rnn(x, hidden)


class KeywordsAlone(Around):
    def forward(self, *, obs, deterministic=True):
        return self.rnn(obs)[0]


class NeedsMixedState(Around):
    def __init__(self):
        super().__init__(mixed_memory=True)

    def forward(self, obs, rnn_hxs):
        return self.rnn(obs, rnn_hxs)


@pytest.mark.parametrize(
    ("kind", "by_author"),
    [
        (NeedsState, lambda m, x: m(x, torch.zeros(1, 6))[0]),
        (KeywordsAlone, lambda m, x: m(obs=x)),
        (NeedsMixedState, lambda m, x: m(x, (torch.zeros(1, 6), torch.zeros(1, 6)))[0]),
    ],
)
def test_one_input_is_passed_as_the_forward_asks(tmp_path, kind, by_author):
    torch.manual_seed(0)
    model = kind().eval()
    quick_export(model, tmp_path / "m.lnn", example=X)
    with torch.no_grad():
        expected = by_author(model, torch.from_numpy(X[:1]))[0].numpy()
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(X[0]), expected, rtol=0, atol=LIMIT)


class DictOfObservations(Around):
    def forward(self, obs, hx=None):
        return self.rnn(torch.cat([obs["pos"], obs["imu"]], dim=-1), hx)


class NeedsDictAndState(Around):
    def forward(self, observations, h):
        return self.rnn(torch.cat(list(observations.values()), dim=-1), h)


class AnyNames(Around):
    def forward(self, **batch):
        return self.rnn(torch.cat([batch["pos"], batch["imu"]], dim=-1))


class KeywordsOfSeveral(Around):
    def forward(self, *, pos, imu, training=False):
        return self.rnn(torch.cat([pos, imu], dim=-1))


@pytest.mark.parametrize(
    ("kind", "by_author"),
    [
        (DictOfObservations, lambda m, samples: m(samples)),
        (NeedsDictAndState, lambda m, samples: m(samples, torch.zeros(1, 6))),
        (AnyNames, lambda m, samples: m(**samples)),
        (KeywordsOfSeveral, lambda m, samples: m(**samples)),
    ],
)
def test_several_inputs_are_passed_as_the_forward_asks(tmp_path, kind, by_author):
    torch.manual_seed(0)
    model = kind(6).eval()
    quick_export(model, tmp_path / "m.lnn", example={"pos": X, "imu": IMU})
    with torch.no_grad():
        expected = by_author(model, {"pos": torch.from_numpy(X[:1]), "imu": torch.from_numpy(IMU[:1])})[0][0].numpy()
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run({"pos": X[0], "imu": IMU[0]})
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


class Turns(nn.Module):
    """Takes samples in one layout, and its core in the other."""

    def __init__(self, batch_first):
        super().__init__()
        self.rnn = LTC(4, AutoNCP(8, 2), batch_first=batch_first)

    def forward(self, x, hx=None):
        y, hx = self.rnn(x.transpose(0, 1), hx)
        return y.transpose(0, 1), hx


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_forward_may_turn_samples_before_its_cores(tmp_path, monkeypatch, batch_first):
    short_verifications(monkeypatch)
    torch.manual_seed(0)
    model = Turns(batch_first).eval()
    x = X.swapaxes(0, 1) if batch_first else X  # as its author calls it
    quick_export(model, tmp_path / "m.lnn", example=x)
    with torch.no_grad():
        expected = model(torch.from_numpy(np.ascontiguousarray(x)))[0]
    expected = expected[:, 0] if batch_first else expected[0]
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(X[0]), expected, rtol=0, atol=LIMIT)
    assert verify_against(model, tmp_path / "m.lnn", example=x, steps=1000, progress=silent).passed


class Outer(Around):
    def forward(self, x):
        return self.rnn(torch.tanh(x))[0]


@pytest.mark.parametrize(
    "make", [lambda: CfC(4, 6), lambda: CfC(4, 6, batch_first=False), Outer], ids=["", "turned", "net"]
)
@pytest.mark.parametrize("example", [(X,), [X[:1], X[1:]], [X[:, :12], X[:2]]], ids=["arguments", "loader", "lengths"])
def test_an_example_may_be_a_list_of_batches(tmp_path, make, example):
    """As a loader gives them, or as `torch.onnx.export` takes what a forward is called with."""
    torch.manual_seed(0)
    model = make().eval()
    turned = not getattr(model, "batch_first", True)
    given = type(example)(batch.swapaxes(0, 1) for batch in example) if turned else example
    quick_export(model, tmp_path / "m.lnn", example=given)
    recordings = [row for batch in example for row in batch]
    features = lnn_edge.load(tmp_path / "m.lnn").inputs[0].features
    whole = np.concatenate(recordings)
    np.testing.assert_array_equal([f.range for f in features], np.stack([whole.min(0), whole.max(0)], axis=1))


@pytest.mark.parametrize(
    ("example", "shapes"),
    [
        ((X, X[..., 0]), r"\(3, 20, 4\), \(3, 20\)"),
        ([X[0], X[1, :, :3]], r"\(20, 4\), \(20, 3\)"),
        ([X, X[..., :3]], r"\(3, 20, 4\), \(3, 20, 3\)"),
    ],
)
def test_a_list_of_arrays_that_are_no_recordings_together(tmp_path, example, shapes):
    with pytest.raises(
        ValueError, match=f"list of arrays of shapes {shapes}, expected recordings that differ in their"
    ):
        lnn_edge.export_model(Outer(), tmp_path / "m.lnn", example=example)
    assert list(tmp_path.iterdir()) == []


class Differentiates(nn.Module):
    """As an energy or a Lagrangian does, whose forward lets torch count gradients whoever calls it."""

    def __init__(self):
        super().__init__()
        self.cell = CfCCell(4, 6)

    @torch.enable_grad()
    def step(self, x, state):
        return self.cell(x, torch.zeros(len(x), 6) if state is None else state, torch.ones(len(x), 1))

    def forward(self, x):
        outputs, state = [], None
        for t in range(x.shape[1]):
            y, state = self.step(x[:, t], state)
            outputs.append(y)
        return torch.stack(outputs, dim=1)


class Outside(Around):
    @torch.enable_grad()
    def forward(self, x, hx=None):
        return self.rnn(x, hx)


@pytest.mark.parametrize("kind", [Differentiates, Outside])
def test_a_forward_may_count_gradients(tmp_path, kind):
    torch.manual_seed(0)
    model = kind().eval()
    step = {"step": model.step} if kind is Differentiates else {}
    quick_export(model, tmp_path / "m.lnn", example=X, **step)
    given = model(torch.from_numpy(X[:1]))
    expected = (given if isinstance(given, torch.Tensor) else given[0])[0].detach().numpy()
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(X[0]), expected, rtol=0, atol=LIMIT)
