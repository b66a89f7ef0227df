"""A network's own normalisation in the bundle: raw units in and out, centred in float64 where float32 is coarse."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from exports import quick_export, short_verifications
from ncps.torch import CfC
from ncps.wirings import AutoNCP
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from torch import nn

import lnn_edge
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.errors import BundleError, ExportWarning, ModelWarning
from lnn_edge.export.verify_against import verify_against
from lnn_edge.progress import silent

RNG = np.random.default_rng(5)
Z = RNG.normal(size=(4, 40, 3))
FAR = Z * [1.0, 2.0, 0.5] + [5.4e6, 3.0, 0.1]  # float32 numbers lie 0.5 apart at 5.4e6
NEAR = Z * [1.0, 2.0, 0.5] + [5.0, 3.0, 0.1]
TARGETS = RNG.normal(size=(50, 2)) * [20.0, 0.5] + [100.0, -3.0]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = CfC(3, AutoNCP(8, 2)), nn.Linear(2, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def made(kind=Net):
    torch.manual_seed(0)
    return kind()


def moments(x):
    flat = x.reshape(-1, x.shape[-1])
    return flat.mean(axis=0), flat.std(axis=0)


def by_author(module, x, mean, std):
    """Normalised in float64, as authors do before they make tensors of it."""
    with torch.no_grad():
        return module(torch.tensor((x - mean) / std, dtype=torch.float32)[None])[0].numpy()


def exported(module, path, example, **options):
    quick_export(module, path / "m.lnn", example=example, overwrite=True, **options)
    return lnn_edge.load(path / "m.lnn")


@pytest.mark.parametrize("x", [NEAR, FAR], ids=["near", "far"])
@pytest.mark.parametrize(
    "options", [{}, {"unroll": 4, "batch": 2, "time": "measured", "period_s": 0.1}, {"window": 20}]
)
def test_the_device_takes_and_gives_raw_units(x, options, tmp_path):
    module, (mean, std), (y_mean, y_std) = made(), moments(x), moments(TARGETS)
    model = exported(module, tmp_path, x, scale_inputs=(mean, std), scale_outputs=(y_mean, y_std), **options)
    assert bool(model.inputs[0].center) == (x is FAR)
    expected = [by_author(module, own, mean, std) * y_std + y_mean for own in x[:2]]
    timed = {"dt_s": 0.1} if "time" in options else {}
    if "batch" in options:
        got = model.stream().run(x[:2].swapaxes(0, 1), **timed)
        np.testing.assert_allclose(got.swapaxes(0, 1), expected, rtol=1e-6, atol=2e-5)
        return
    np.testing.assert_allclose(model.stream().run(x[0]), expected[0], rtol=1e-6, atol=2e-5)
    if "window" in options:
        newest = model.stream(window=20, every=10).run(x[0])[-1]
        expected = by_author(module, x[0, 20:], mean, std) * y_std + y_mean
        np.testing.assert_allclose(newest, expected[-1], rtol=1e-6, atol=2e-5)


@pytest.mark.parametrize("kind", [StandardScaler, RobustScaler, MaxAbsScaler, MinMaxScaler])
def test_fitted_scalers(kind, tmp_path):
    module, x_scaler, y_scaler = made(), kind().fit(NEAR.reshape(-1, 3)), kind().fit(TARGETS)
    model = exported(module, tmp_path, NEAR, scale_inputs=x_scaler, scale_outputs=y_scaler)
    with torch.no_grad():
        scaled = torch.tensor(x_scaler.transform(NEAR[1]), dtype=torch.float32)
        expected = y_scaler.inverse_transform(module(scaled[None])[0].numpy())
    np.testing.assert_allclose(model.stream().run(NEAR[1]), expected, rtol=1e-6, atol=2e-5)


@pytest.mark.parametrize("options", [{"with_mean": False}, {"with_std": False}])
def test_scalers_that_do_half(options, tmp_path):
    module, scaler = made(), StandardScaler(**options).fit(NEAR.reshape(-1, 3))
    model = exported(module, tmp_path, NEAR, scale_inputs=scaler)
    with torch.no_grad():
        expected = module(torch.tensor(scaler.transform(NEAR[1]), dtype=torch.float32)[None])[0].numpy()
    np.testing.assert_allclose(model.stream().run(NEAR[1]), expected, atol=2e-6)


def test_a_single_layer_and_a_step_function(tmp_path):
    torch.manual_seed(0)
    layer, (mean, std) = CfC(3, 5), moments(FAR)
    model = exported(layer, tmp_path, FAR, scale_inputs=(mean, std))
    with torch.no_grad():
        expected = layer(torch.tensor((FAR[0] - mean) / std, dtype=torch.float32)[None])[0][0].numpy()
    np.testing.assert_allclose(model.stream().run(FAR[0]), expected, atol=2e-6)

    def step(module, x, state):
        y, state = module.rnn(x.unsqueeze(1), state)
        return module.head(y[:, 0]), state

    net = made()
    model = exported(net, tmp_path, FAR, step=step, scale_inputs=(mean, std), scale_outputs=(7.0, 2.0))
    expected = by_author(net, FAR[0], mean, std) * 2.0 + 7.0
    np.testing.assert_allclose(model.stream().run(FAR[0]), expected, rtol=1e-6, atol=5e-6)


def test_frames_are_scaled_as_they_are(tmp_path):
    class Camera(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.rnn = nn.Conv2d(1, 3, 3), CfC(3, 5)

        def forward(self, frames):
            flat = self.conv(frames.flatten(0, 1)).mean((-1, -2))
            return self.rnn(flat.view(*frames.shape[:2], -1))[0]

    frames = RNG.integers(0, 256, (2, 8, 1, 5, 5)).astype(np.uint8)
    module = made(Camera)
    model = exported(module, tmp_path, frames, scale_inputs=(0, 255))
    assert model.inputs[0].dtype == "uint8"
    with torch.no_grad():
        expected = module(torch.tensor(frames[:1] / 255, dtype=torch.float32))[0].numpy()
    np.testing.assert_allclose(model.stream().run(frames[0]), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("scale", "error", "message"),
    [
        ((0.0, [1.0, 0.0, 1.0]), ValueError, "`scale_inputs` has a std of 0, expected numbers above 0"),
        ((0.0, -1.0), ValueError, "has a std of -1"),
        (([0.0, np.nan, 0.0], 1.0), ValueError, r"has a mean that is not finite: \[0.0, nan, 0.0\]"),
        (([0.0] * 4, 1.0), ValueError, r"a mean of shape \(4,\), but 'input' has samples of shape \(3,\)"),
        (("a", 1.0), TypeError, "a mean that is no number: 'a'"),
        ((0.0, 1.0, 2.0), TypeError, r"is a tuple of 3, expected \(mean, std\), or a fitted StandardScaler, "),
        (StandardScaler(), ValueError, r"is a StandardScaler that is not fitted: type scaler.fit\(x\) first"),
        (MinMaxScaler(), ValueError, "is a MinMaxScaler that is not fitted"),
        (MinMaxScaler(clip=True).fit(NEAR[0]), ValueError, "MinMaxScaler that clips"),
        (object(), TypeError, "is a object, expected"),
        ({"x": (0.0, 1.0)}, ValueError, "`scale_inputs` names 'x'. Valid: input"),
    ],
)
def test_wrong_scaling_is_named(scale, error, message, tmp_path):
    with pytest.raises(error, match=message):
        quick_export(made(), tmp_path / "m.lnn", example=NEAR, scale_inputs=scale)
    with pytest.raises(error):
        quick_export(made(), tmp_path / "m.lnn", example=NEAR, scale_outputs=scale)
    assert not list(tmp_path.iterdir())


def test_scaling_needs_an_example(tmp_path):
    with pytest.raises(ValueError, match="scaling needs `example`, recorded samples in raw units"):
        quick_export(CfC(3, 4), tmp_path / "m.lnn", scale_inputs=(0.0, 2.0))


def test_what_float32_is_too_coarse_for_is_told(tmp_path):
    scaling = moments(FAR)
    with pytest.warns(
        ExportWarning, match=r"'t' has values up to 5.4e\+06 in a spread .* float32 numbers lie 0.5 apart"
    ):
        exported(made(), tmp_path, FAR, inputs=["t", "u", "v"])
    with pytest.warns(
        ExportWarning, match="which has lost what lies between: pass the example, and samples, as float64"
    ):
        exported(made(), tmp_path, FAR.astype(np.float32), scale_inputs=scaling)
    with pytest.warns(
        ExportWarning, match=r"output 'output' lies around 1e\+08 in raw units, where float32 numbers are 8 "
    ):
        exported(made(), tmp_path, NEAR, scale_outputs=(1e8, 1.0))
    with pytest.warns(ExportWarning, match=r"output 'output', column 1, lies around 1e\+08 .* numbers are 8 apart"):
        exported(made(), tmp_path, NEAR, scale_outputs=([0.0, 1e8], 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = exported(made(), tmp_path, FAR, scale_inputs=scaling)
        stream = model.stream()
        stream.step(FAR[0, 0])
        exported(made(), tmp_path, NEAR)
    with pytest.warns(ModelWarning, match=r"`input` comes as float32, which is too coarse for it.* float64") as told:
        stream.run(FAR[0].astype(np.float32))
    assert len(told) == 1


def test_a_centred_input_keeps_its_limits_and_its_errors(tmp_path):
    limits = [lnn_edge.Feature("t", limits=(5.39e6, 5.41e6)), "u", "v"]
    model = exported(made(), tmp_path, FAR, scale_inputs=moments(FAR), inputs=limits)
    stream = model.stream()
    stream.step(FAR[0, 0])
    before = stream.snapshot()
    for bad, error, message in (
        ([5.5e6, 3.0, 0.0], ValueError, r"holds 5500000.0 at 't' .* legal range is \[5390000.0, 5410000.0\]"),
        ([5.4e6, np.nan, 0.0], ValueError, "holds nan at 'u'"),
        ([5.4e6, 1e300, 0.0], ValueError, r"holds 1e\+300 at 'u' .* more than float32 can hold"),
        ([5.4e6, 3.0], ValueError, r"has shape \(2,\)"),
        (["a", "b", "c"], TypeError, r"takes real numbers \(float64 best\)"),
        ([[1.0], [2.0, 3.0]], ValueError, "is no array"),
    ):
        with pytest.raises(error, match=message):
            stream.step(bad)
    assert all(np.array_equal(v, before.tensors[n]) for n, v in stream.snapshot().tensors.items())


def test_snapshots_of_windows_keep_raw_samples(tmp_path):
    model = exported(made(), tmp_path, FAR, scale_inputs=moments(FAR), window=10)
    one, other = model.stream(window=10, every=4), model.stream(window=10, every=4)
    one.run(FAR[0, :13])
    other.restore(one.snapshot())
    np.testing.assert_array_equal(one.run(FAR[0, 13:20]), other.run(FAR[0, 13:20]))


def test_verify_knows_scaling(tmp_path, monkeypatch):
    short_verifications(monkeypatch)
    module, scaling = made(), moments(FAR)
    exported(module, tmp_path, FAR, scale_inputs=scaling, scale_outputs=(3.0, 2.0))
    for example in (None, FAR):
        report = verify_against(
            module, tmp_path / "m.lnn", example=example, scale_inputs=scaling, scale_outputs=(3.0, 2.0), progress=silent
        )
        assert report.passed
        wrong = verify_against(
            module, tmp_path / "m.lnn", example=example, scale_inputs=scaling, scale_outputs=(3.0, 2.1), progress=silent
        )
        assert not wrong.passed
    with pytest.raises(ValueError, match=r"inputs of shape \[\[1, 3\]\], but .* \[\[1, 3\] centred by"):
        verify_against(module, tmp_path / "m.lnn", example=NEAR, progress=silent)


def test_a_center_that_was_changed_is_noticed(tmp_path):
    exported(made(), tmp_path, FAR, scale_inputs=moments(FAR))
    bundle = read_bundle(tmp_path / "m.lnn")
    center = bundle.manifest.inputs[0].center
    assert tuple(bundle.step.tensors[bundle.step.program.inputs[0].center]) == center
    manifest = json.loads((tmp_path / "m.lnn/manifest.json").read_text())
    manifest["inputs"][0]["center"][0] += 1.0
    (tmp_path / "m.lnn/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError):
        lnn_edge.load(tmp_path / "m.lnn")


def test_moments_that_keep_the_axes_of_recordings_and_time(tmp_path):
    module, mean, std = made(), NEAR.mean((0, 1), keepdims=True), NEAR.std((0, 1), keepdims=True)
    model = exported(module, tmp_path, NEAR, scale_inputs=(mean, std))
    np.testing.assert_allclose(model.stream().run(NEAR[0]), by_author(module, NEAR[0], mean[0], std[0]), atol=2e-6)


def test_scaling_without_a_name_is_of_what_comes_with_each_sample(tmp_path):
    class Reach(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = CfC(5, 6)

        def forward(self, x, goal):
            return self.rnn(torch.cat([x, goal.unsqueeze(1).expand(-1, x.shape[1], -1)], -1))[0]

    module, (mean, std), goals = made(Reach), moments(FAR), RNG.normal(size=(4, 2)).astype(np.float32)
    model = exported(module, tmp_path, {"x": FAR, "goal": goals}, scale_inputs=(mean, std))
    with torch.no_grad():
        scaled = torch.tensor((FAR[:1] - mean) / std, dtype=torch.float32)
        expected = module(scaled, torch.tensor(goals[:1]))[0].numpy()
    np.testing.assert_allclose(model.stream(constants={"goal": goals[0]}).run(FAR[0]), expected, atol=2e-6)
