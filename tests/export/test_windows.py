"""Models that are trained on windows, and forwards that return one output for a whole recording."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import BY_NAME, INPUTS
from exports import quick_export
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from torch import nn

import lnn_edge
from lnn_edge.bundle.spec import Readout, Time, Window
from lnn_edge.errors import VerificationError
from lnn_edge.export import windows

LIMIT = 1e-5  # the promise of the proof, absolute; outputs of these models are of order 1
X = np.random.default_rng(5).standard_normal((12, 20, 3)).astype(np.float32)

POOLED = {
    "last": (lambda y: y[:, -1], None),
    "last-kept-axis": (lambda y: y[:, -1:], None),
    "mean": (lambda y: y.mean(1), Readout("mean")),
    "mean-by-name": (lambda y: torch.mean(y, dim=1, keepdim=True), Readout("mean")),
    "mean-by-sum": (lambda y: y.sum(1) / y.shape[1], Readout("mean")),
    "mean-of-five": (lambda y: y[:, -5:].mean(dim=1), Readout("mean", 5)),
    "mean-of-two": (lambda y: (y[:, -2:]).mean(dim=1), Readout("mean", 2)),
    "mean-of-nine": (lambda y: y[:, -9:].mean(dim=1), Readout("mean", 9)),  # the mean of all of a few samples
}


class Pooled(nn.Module):
    """A classifier or regressor as tutorials write it: one result for each recording."""

    def __init__(self, pool, core=CfC, head_first=False):
        super().__init__()
        self.rnn = core(3, AutoNCP(8, 3))
        self.head = nn.Linear(3, 2)
        self.pool, self.head_first = pool, head_first

    def forward(self, x):
        y, _ = self.rnn(x)
        return self.pool(self.head(y)) if self.head_first else self.head(self.pool(y))


def built(*arguments, **options):
    torch.manual_seed(2)
    return Pooled(*arguments, **options).eval()


def by_author(module, x):
    with torch.no_grad():
        return module(torch.from_numpy(x)[None]).numpy().reshape(-1)


WITH_HEADS = [(name, False) for name in POOLED] + [(name, True) for name in ("last", "mean", "mean-of-five")]


@pytest.mark.parametrize(("name", "head_first"), WITH_HEADS)
def test_a_forward_that_pools_exports_with_its_readout(name, head_first, tmp_path):
    pool, readout = POOLED[name]
    module = built(pool, head_first=head_first)
    quick_export(module, tmp_path / "m.lnn", example=X)
    model = lnn_edge.load(tmp_path / "m.lnn")
    assert model.manifest.readout == readout
    results = model.stream().run(X[0])
    for k in (1, 2, 3, 7, 20):  # whatever the length, as if the recording ended there
        np.testing.assert_allclose(results[k - 1].ravel(), by_author(module, X[0, :k]), rtol=0, atol=LIMIT)
    stream, long = model.stream(window=7, every=3), X[:3].reshape(-1, 3)
    for k, sample in enumerate(long, start=1):
        result = stream.step(sample)
        if stream.fresh:
            np.testing.assert_allclose(result.ravel(), by_author(module, long[k - 7 : k]), rtol=0, atol=LIMIT)


@pytest.mark.parametrize(
    "pool",
    [
        lambda y: y.max(dim=1).values,
        lambda y: y.mean(1) ** 2,
        lambda y: y[:, 0],
        lambda y: y.sum(1),
        lambda y: y.flip(1)[:, -1] + y[:, -1],
    ],
    ids=["max", "squared-mean", "first", "sum", "ends"],
)
def test_pooling_that_no_readout_is_is_refused(pool, tmp_path):
    with pytest.raises(ValueError, match="torch stepped and torch on the whole sequence differ"):
        quick_export(built(pool), tmp_path / "m.lnn", example=X)
    assert list(tmp_path.iterdir()) == []


def test_a_readout_can_be_said(tmp_path):
    quick_export(BY_NAME["cfc-units"].build(), tmp_path / "m.lnn", readout="vote:5", labels=range(8))
    manifest = lnn_edge.load(tmp_path / "m.lnn").manifest
    assert (manifest.readout, manifest.labels) == (Readout("vote", 5), tuple("01234567"))


@pytest.mark.parametrize(
    ("pool", "readout", "own"),
    [("mean", "mean:3", "mean of all outputs"), ("last", "mean:5", "last output"), ("mean", "last", "mean of all")],
)
def test_another_readout_than_the_forward_has_is_refused(pool, readout, own, tmp_path):
    with pytest.raises(ValueError, match=f"`readout` is '{readout}', but the forward itself returns the {own}"):
        quick_export(built(POOLED[pool][0]), tmp_path / "m.lnn", example=X, readout=readout)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": 0}, ValueError, "`window` is 0, expected 1 to 65536 samples"),
        ({"window": 10, "every": 11}, ValueError, "`every` is 11, expected 1 to 10 samples, the length of a window"),
        ({"every": 3}, ValueError, "`every` is 3, but it has a meaning only with `window`"),
        (
            {"window": 21},
            ValueError,
            "longest recording has 20 samples, fewer than the 21 of one window. Pass a longer",
        ),
        ({"window": 10, "unroll": 4}, ValueError, "`window` is 10 and `every` 10, expected multiples of `unroll`, 4"),
        ({"window": 5.0}, TypeError, "`window` is 5.0, expected a whole number of samples"),
        ({"readout": "max"}, ValueError, "`readout` is 'max', expected 'last', 'mean' or 'vote' of all outputs"),
        ({"readout": "mean:0"}, ValueError, "`readout` is 'mean:0'"),
        ({"readout": "last:3"}, ValueError, "`readout` is 'last:3'"),
        (
            {"window": 4, "readout": "mean:5"},
            ValueError,
            "is the mean of the last 5 outputs, but a window has 4 samples",
        ),
        ({"labels": ["a", "", *"bcdefg"]}, ValueError, "expected different names"),
        (
            {"labels": ["a"]},
            ValueError,
            r"`labels` names 1 classes, expected one for each column of the outputs \{'output': \[8\]\}",
        ),
        ({"labels": ["a"] * 8}, ValueError, "expected different names"),
        ({"labels": "abcdefgh"}, TypeError, "`labels` is 'abcdefgh', expected a list of names"),
    ],
)
def test_what_is_refused(options, error, message, tmp_path):
    example = np.zeros((2, 20, INPUTS), np.float32)
    with pytest.raises(error, match=message):
        quick_export(BY_NAME["cfc-units"].build(), tmp_path / "m.lnn", example=example, **options)
    assert list(tmp_path.iterdir()) == []


# ---- what a kept state changes --------------------------------------------------------------------------------------


class Integrator(nn.Module):
    """A core that forgets and one that never does: its state is the sum of all first features since the reset."""

    def __init__(self, gain):
        super().__init__()
        self.rnn, self.sum = CfC(3, 4), nn.RNN(1, 1, nonlinearity="relu", batch_first=True)
        self.gain = gain
        with torch.no_grad():
            for parameter in self.sum.parameters():
                parameter.zero_()
            self.sum.weight_ih_l0.fill_(0.1)
            self.sum.weight_hh_l0.fill_(1.0)

    def forward(self, x):
        return self.rnn(x)[0] + self.gain * self.sum(x[..., :1].abs())[0]


def in_torch(module, recordings, window):
    """The root mean square of kept minus windowed at the ends of windows, over the standard deviation."""
    with torch.no_grad():
        kept = module(torch.from_numpy(np.concatenate(recordings)[None].astype(np.float32)))[0][window - 1 :: window]
        own = torch.stack(
            [module(torch.from_numpy(part)[None])[0, -1] for part in np.concatenate(recordings).reshape(-1, window, 3)]
        )
    kept, own = kept[1:].numpy(), own[1:].numpy()
    return (np.sqrt(((kept - own) ** 2).mean(axis=0)) / own.std(axis=0)).max()


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "unasked"])
@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_what_a_kept_state_changes_is_what_torch_changes(gain, asked, tmp_path):
    module = Integrator(gain).eval()
    report = quick_export(module, tmp_path / "m.lnn", example=X, **({"window": 20, "every": 5} if asked else {}))
    (change,) = report.window.kept_state_changes.values()
    assert change == pytest.approx(in_torch(module, X, 20), rel=1e-3, abs=1e-4)
    assert (change > 1) == (gain > 0)
    manifest = lnn_edge.load(tmp_path / "m.lnn").manifest
    assert manifest.window == (Window(20, 5, {"output": change}) if asked else None)
    text = str(report.window)
    assert ("kept or begun anew, it is the same" in text) == (gain == 0)
    assert ("Export" in text or "export it with window=20" in text) == (gain > 0 and not asked)
    assert report.to_dict()["window"]["length"] == 20


def test_long_recordings_keep_their_state_within_themselves(tmp_path):
    module = Integrator(1.0).eval()
    report = quick_export(module, tmp_path / "m.lnn", example=[X[0], X[1]], window=5)
    changes = [in_torch(module, [recording], 5) for recording in X[:2]]
    assert min(changes) / 2 < report.window.kept_state_changes["output"] < 2 * max(changes)


def test_recordings_that_are_no_windows_are_not_taken_for_some(tmp_path):
    report = quick_export(Integrator(1.0), tmp_path / "m.lnn", example=[X[0], X[1, :15], *X[2:]])
    assert report.window is None
    assert windows.equal_lengths({"input": [np.zeros((30, 1, 3))] * 7}) is None
    assert windows.equal_lengths({"input": [np.zeros((30, 1, 3))] * 8}) == 30
    assert windows.equal_lengths({"input": [np.zeros((1, 1, 3))] * 8}) is None
    assert windows.equal_lengths(None) is None


def test_without_an_example_random_samples_stand_in(tmp_path):
    torch.manual_seed(0)
    report = quick_export(LTC(3, 6), tmp_path / "m.lnn", window=8)
    assert report.window.kept_state_changes["output"] > 0


@pytest.mark.parametrize(
    ("length", "costly", "most"),
    [(1, False, 64), (100, False, 1000), (5000, False, 15000), (1, True, 64), (10, True, 90), (100, True, 300)],
)
def test_random_samples_are_no_more_than_are_looked_at(length, costly, most, monkeypatch):
    """At least three windows, however long; else about a thousand steps, fewer pictures, and 64 windows at most."""
    asked = []

    def excited(request):
        asked.append(request.steps)
        raise InterruptedError

    monkeypatch.setattr(windows, "excite", excited)
    monkeypatch.setattr(windows, "is_costly", lambda _step: costly)
    with pytest.raises(InterruptedError):
        windows.find_window(None, [], Time("fixed"), None, (length, length), None)
    assert asked == [most]


# ---- the proof ------------------------------------------------------------------------------------------------------


def test_the_proof_runs_windows(tmp_path):
    report = quick_export(built(POOLED["mean"][0]), tmp_path / "m.lnn", example=X, window=10)
    (segment,) = [segment for segment in report.segments if segment.name == "windows"]
    assert segment.sequences == segment.steps / 10 >= 2
    assert {c.against for c in report.comparisons if c.segment == "windows"} >= {
        "torch stepped vs torch on the whole sequence",
        "torch float32 vs step program",
    }


def test_a_bundle_that_pools_otherwise_is_not_proven(tmp_path, monkeypatch):
    """The truth is the author's call on the whole window, whatever the readout is said to be."""
    from lnn_edge.export.trained import network

    monkeypatch.setattr(network, "pooling", lambda *_: Readout("mean", 5))
    monkeypatch.setattr("lnn_edge.export.reading.check_causal", lambda *_: None)
    with pytest.raises(VerificationError, match="torch stepped vs torch on the whole sequence"):
        quick_export(built(POOLED["mean"][0]), tmp_path / "m.lnn", example=X, window=10)
