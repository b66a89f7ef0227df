"""Encoders that look back over the last samples: kept as a state, from the first sample of a sequence on, or told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exports import quick_export
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from torch import nn
from torch.nn import functional

import lnn_edge
from lnn_edge.bundle.spec import Readout

LIMIT = 1e-5  # the promise of the proof, absolute; outputs of these models are of order 1
X = np.random.default_rng(3).standard_normal((3, 30, 4)).astype(np.float32)


class Around(nn.Module):
    """A core between two functions of the module and a sequence."""

    def __init__(self, before, behind=None, core=None, **parts):
        super().__init__()
        self.rnn = CfC(4, 6, proj_size=2) if core is None else core
        self.before, self.behind = before, behind or (lambda _m, y: y)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x, timespans=None):
        y, _ = self.rnn(self.before(self, x), timespans=timespans)
        return self.behind(self, y)


def channels(layer, x):
    return layer(x.transpose(1, 2)).transpose(1, 2)


def padded(m, x):
    return channels(m.conv, functional.pad(x, (0, 0, 2, 0)))


def stack(m, x):
    """What is padded behind the first layer is zero, and not what the first layer makes of zeros."""
    for width, conv in enumerate(m.convs, start=1):
        x = x + torch.relu(channels(conv, functional.pad(x, (0, 0, 2 * width, 0))))
    return x


def pairs(m, x):
    """The same of layers that see two samples each."""
    for own in m.convs:
        x = x + torch.relu(channels(own, functional.pad(x, (0, 0, 1, 0))))
    return x


def earlier(x, count=1):
    return functional.pad(x, (0, 0, count, 0))[:, : x.shape[1]]


def conv(**options):
    return nn.Conv1d(4, 4, 3, **options)


def two():
    return nn.Conv1d(4, 4, 2)


def average(x, **padding):
    return functional.avg_pool1d(functional.pad(x.transpose(1, 2), (3, 0), **padding), 4, 1).transpose(1, 2)


LOOKS_BACK = {  # and how many samples, and whether it matters how many there were
    "padded-convolution": (lambda: Around(padded, conv=conv()), 3, False),
    "convolution-cut": (lambda: Around(lambda m, x: channels(m.conv, x)[:, :-2], conv=conv(padding=2)), 3, False),
    "stack": (lambda: Around(stack, convs=nn.ModuleList([conv(), conv(dilation=2)])), 7, True),
    "pairs-and-a-skip": (
        lambda: Around(lambda m, x: pairs(m, x)[..., :4], convs=nn.ModuleList([two(), two()])), 3, True,
    ),
    "difference": (lambda: Around(lambda _, x: x - earlier(x)), 2, False),
    "difference-first-zero": (lambda: Around(lambda _, x: torch.diff(x, dim=1, prepend=x[:, :1])), 2, True),
    "difference-first-one": (
        lambda: Around(lambda _, x: torch.cat([torch.ones_like(x[:, :1]), x[:, 1:] - x[:, :-1]], 1)), 2, True,
    ),
    "average": (lambda: Around(lambda _, x: average(x)), 4, False),
    "average-of-the-first": (lambda: Around(lambda _, x: average(x, mode="replicate")), 4, True),
    "long-lag": (lambda: Around(lambda _, x: x + earlier(x, 20)), 21, False),
    "ltc": (lambda: Around(padded, core=LTC(4, AutoNCP(8, 2)), conv=conv()), 3, False),
    "beside-the-core": (lambda: Beside(), 2, False),
}  # fmt: skip


class Beside(nn.Module):
    """Two cores, and what was before goes past one of them into the head."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = CfC(4, 5), LTC(9, 3), nn.Linear(7, 2)

    def forward(self, x, timespans=None):
        change = x - earlier(x)
        y, _ = self.first(change, timespans=timespans)
        z, _ = self.second(torch.cat([y, x], -1), timespans=timespans)
        return self.head(torch.cat([z, change], -1))


def built(make):
    torch.manual_seed(4)
    return make().eval()


def called(module, x, *arguments):
    with torch.no_grad():
        return module(torch.from_numpy(x)[None], *arguments)[0].numpy()


@pytest.mark.parametrize("name", LOOKS_BACK)
def test_the_last_samples_are_kept(name, tmp_path):
    make, samples, counted = LOOKS_BACK[name]
    module = built(make)
    quick_export(module, tmp_path / "m.lnn", example=X[:2])
    model = lnn_edge.load(tmp_path / "m.lnn")
    widths = {pair.input: pair.shape[1] for pair in model.states if "samples" in pair.input}
    assert widths == {"last_samples_in": 4 * (samples - 1)} | ({"seen_samples_in": 1} if counted else {})
    np.testing.assert_allclose(model.stream().run(X[2]), called(module, X[2]), rtol=0, atol=LIMIT)


@pytest.mark.parametrize("name", ["padded-convolution", "pairs-and-a-skip"])
def test_with_measured_time(name, tmp_path):
    module, dt_s = built(LOOKS_BACK[name][0]), np.random.default_rng(1).uniform(0.03, 0.4, 30).astype(np.float32)
    quick_export(module, tmp_path / "m.lnn", example=X[:2], time="measured", period_s=0.1)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(X[2], dt_s=dt_s)
    expected = called(module, X[2], torch.from_numpy(dt_s / np.float32(0.1))[None])
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


@pytest.mark.parametrize("name", ["padded-convolution", "difference-first-zero", "pairs-and-a-skip"])
def test_several_rows_and_blocks(name, tmp_path):
    module = built(LOOKS_BACK[name][0])
    quick_export(module, tmp_path / "m.lnn", example=X, batch=3, unroll=2)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(np.swapaxes(X, 0, 1))
    for row in range(3):
        np.testing.assert_allclose(np.asarray(got)[:, row], called(module, X[row]), rtol=0, atol=LIMIT)


def test_each_window_begins_anew(tmp_path):
    module = built(LOOKS_BACK["pairs-and-a-skip"][0])
    quick_export(module, tmp_path / "m.lnn", example=X, window=10, every=5)
    stream = lnn_edge.load(tmp_path / "m.lnn").stream(window=10, every=5)
    for k, sample in enumerate(X[0], start=1):
        result = stream.step(sample)
        if stream.fresh:
            np.testing.assert_allclose(result, called(module, X[0, k - 10 : k])[-1], rtol=0, atol=LIMIT)


@pytest.mark.parametrize(("pool", "readout"), [(lambda y: y[:, -1:], None), (lambda y: y.mean(1), Readout("mean"))])
def test_below_a_readout(pool, readout, tmp_path):
    module = built(lambda: Around(padded, lambda _, y: pool(y), conv=conv()))
    quick_export(module, tmp_path / "m.lnn", example=X)
    model = lnn_edge.load(tmp_path / "m.lnn")
    assert model.manifest.readout == readout
    results = model.stream().run(X[0])
    for k in (1, 2, 3, 9, 30):
        np.testing.assert_allclose(results[k - 1].ravel(), called(module, X[0, :k]).ravel(), rtol=0, atol=LIMIT)


class TwoInputs(nn.Module):
    """Time first; frames and their change, and a number."""

    def __init__(self):
        super().__init__()
        self.eye, self.rnn = nn.Conv2d(2, 3, 2), CfC(4, AutoNCP(8, 2), batch_first=False)

    def forward(self, frame, speed):
        before = torch.cat([torch.zeros_like(frame[:1]), frame[:-1]])
        z = self.eye(torch.stack([frame, before], 2).flatten(0, 1)).mean((2, 3)).unflatten(0, frame.shape[:2])
        return self.rnn(torch.cat([z, speed], -1))[0]


def test_several_inputs_and_time_first(tmp_path):
    rng = np.random.default_rng(0)
    example = {"frame": rng.standard_normal((20, 1, 5, 5)), "speed": rng.standard_normal((20, 1, 1))}
    example = {name: value.astype(np.float32) for name, value in example.items()}
    module = built(TwoInputs)
    quick_export(module, tmp_path / "m.lnn", example=example)
    with torch.no_grad():
        expected = module(**{name: torch.from_numpy(value) for name, value in example.items()})[:, 0].numpy()
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run({name: value[:, 0] for name, value in example.items()})
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


def running(x):
    level, levels = torch.zeros_like(x[:, 0]), []
    for sample in x.unbind(1):
        level = 0.95 * level + 0.05 * sample
        levels.append(level)
    return torch.stack(levels, 1)


TOLD = {
    "behind-the-core": (
        lambda: Around(lambda _, x: x, lambda _, y: y + earlier(y, 2)),
        r"looks back over 3 samples, .*behind a core.*step=function, .*window = torch.cat\(\[past, x.unsqueeze\(1\)\]",
    ),
    "centred": (
        lambda: Around(lambda m, x: channels(m.conv, x), conv=conv(padding=1)),
        r"depends on up to 1 sample after it, .*functional.pad\(x, \(n, 0\)\) along time",
    ),
    "running-mean": (lambda: Around(lambda _, x: running(x)), "depends on all samples before, or on the first: a run"),
    "since-the-first": (lambda: Around(lambda _, x: x - x[:, :1]), "depends on all samples before, or on the first"),
    "place": (
        lambda: Around(lambda m, x: x + m.places[: x.shape[1]], places=nn.Parameter(torch.randn(30, 4))),
        "computes with the place of a sample in its sequence .*positional embedding",
    ),
    "nothing-of-one": (
        lambda: Around(lambda _, x: x / (x - x.mean(1, keepdim=True)).norm(dim=1, keepdim=True)),
        "depends on all samples of the sequence, .*normalise with fixed numbers",
    ),
    "turned-round": (lambda: Around(lambda _, x: x + x.roll(1, 1)), "a core reads the sequence backwards|all samples"),
    "many-layers": (
        lambda: Around(stack, convs=nn.ModuleList([conv(dilation=d) for d in (1, 2, 3)])),
        "looks back over 13 samples, and export cannot keep the last 12 .*computes the beginning of a sequence otherw",
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_cannot_be_kept_is_told(name, tmp_path):
    make, told = TOLD[name]
    with pytest.raises(ValueError, match=told):
        quick_export(built(make), tmp_path / "m.lnn", example=X)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("pooled", "told"),
    [
        (lambda y: (y[:, -1], y.mean(1)), "returns 'output_0' as the last output, 'output_1' as the mean of all"),
        (lambda y: {"each": y, "whole": y.mean(1)}, "returns 'each' for each sample, 'whole' as the mean of all"),
        (lambda y: torch.cat([y[:, -1], y.mean(1)], -1), "makes one output of all samples .*readout='mean'"),
    ],
)
def test_two_readouts_are_told(pooled, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        quick_export(built(lambda: Around(lambda _, x: x, lambda _, y: pooled(y))), tmp_path / "m.lnn", example=X[:1])


class Toward(nn.Module):
    """A goal beside each sample and the phase of a walk, below a convolution over time."""

    def __init__(self):
        super().__init__()
        self.table, self.conv, self.rnn = nn.Embedding(5, 2), nn.Conv1d(4 + 1 + 2, 4, 3), CfC(4, 6)

    def forward(self, x, goal, phase):
        beside = goal.unsqueeze(1).expand(-1, x.shape[1], -1)
        return self.rnn(padded(self, torch.cat([x, beside, self.table(phase)], -1)))[0]


@pytest.mark.parametrize("options", [{}, {"batch": 3, "unroll": 2}, {"window": 10}], ids=str)
def test_with_constants_and_whole_numbers(options, tmp_path):
    rng, module = np.random.default_rng(6), built(Toward)
    example = {"x": X, "goal": rng.standard_normal((3, 1)).astype(np.float32), "phase": rng.integers(0, 5, (3, 30))}
    quick_export(module, tmp_path / "m.lnn", example=example, constants=["goal"], **options)
    with torch.no_grad():
        expected = module(**{name: torch.from_numpy(value) for name, value in example.items()}).numpy()
    model = lnn_edge.load(tmp_path / "m.lnn")
    assert sum("last_samples" in pair.input for pair in model.states) == 2
    if "batch" in options:
        stream = model.stream(constants={"goal": example["goal"]})
        got = stream.run({"x": np.swapaxes(X, 0, 1), "phase": example["phase"].T[..., None]})
        np.testing.assert_allclose(np.swapaxes(got, 0, 1), expected, rtol=0, atol=LIMIT)
        return
    got = model.stream(constants={"goal": example["goal"][1]}).run({"x": X[1], "phase": example["phase"][1]})
    np.testing.assert_allclose(got, expected[1], rtol=0, atol=LIMIT)


def test_frames_of_a_camera_stay_frames(tmp_path):
    module = built(lambda: Around(lambda _, x: (x.float() - earlier(x.float())).flatten(2) / 255.0))
    frames = np.random.default_rng(2).integers(0, 256, (1, 20, 4)).astype(np.uint8)
    quick_export(module, tmp_path / "m.lnn", example=frames)
    model = lnn_edge.load(tmp_path / "m.lnn")
    assert model.inputs[0].dtype == "uint8"
    np.testing.assert_allclose(model.stream().run(frames[0]), called(module, frames[0]), rtol=0, atol=LIMIT)


def test_of_columns_that_are_centred(tmp_path):
    module, far = built(LOOKS_BACK["difference"][0]), X + 5.4e6 + np.random.default_rng(0).standard_normal(X.shape)
    quick_export(module, tmp_path / "m.lnn", example=far, scale_inputs=(5.4e6, 1.5))
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(far[2])
    expected = called(module, ((far[2] - 5.4e6) / 1.5).astype(np.float32))
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


def test_what_cannot_be_kept_is_told_of_whole_numbers_too(tmp_path):
    class Ahead(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.conv, self.rnn = nn.Embedding(6, 4), conv(padding=1), CfC(4, 6)

        def forward(self, x):
            return self.rnn(channels(self.conv, self.table(x)))[0]

    with pytest.raises(ValueError, match="depends on up to 1 sample after it"):
        quick_export(built(Ahead), tmp_path / "m.lnn", example=np.random.default_rng(1).integers(0, 6, (3, 30)))
