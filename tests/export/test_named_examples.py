"""Examples and scalings with names: in the order of the inputs' names, whatever their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from bundles import small_cfc
from exports import quick_export, short_verifications
from networks import TwoInputs
from sklearn.preprocessing import StandardScaler
from torch import nn

import lnn_edge
from lnn_edge import Feature
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.errors import NonFiniteError
from lnn_edge.export.verify_against import verify_against
from lnn_edge.progress import silent

NAMES, MIXED = ["hip", "knee", "ankle"], ["ankle", "hip", "knee"]
XS = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32) * [1.0, 2.0, 3.0] + [5.0, 0.0, -4.0]
FRAME = pd.DataFrame(XS, columns=NAMES)
RANGES = {name: (values.min(), values.max()) for name, values in zip(NAMES, XS.T, strict=True)}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = small_cfc()

    def forward(self, x):
        return self.rnn(x)[0]


def ranges(path):
    (tensor,) = read_bundle(path).manifest.inputs
    return {feature.name: pytest.approx(feature.range, abs=1e-5) for feature in tensor.features}


def rows_of(frame):
    return frame.to_records(index=False)


@pytest.mark.parametrize(
    "example",
    [FRAME[MIXED], rows_of(FRAME[MIXED]), [FRAME[MIXED][:60], FRAME[60:]], np.ma.array(rows_of(FRAME[MIXED]))],
    ids=["frame", "records", "frames", "masked records"],
)
@pytest.mark.parametrize("inputs", [NAMES, [Feature(name) for name in NAMES]], ids=["names", "features"])
def test_an_example_is_matched_with_the_inputs_by_name(tmp_path, example, inputs):
    quick_export(small_cfc(), tmp_path / "m.lnn", example=example, inputs=inputs)
    assert ranges(tmp_path / "m.lnn") == RANGES


def test_an_example_names_the_inputs(tmp_path):
    quick_export(Net(), tmp_path / "m.lnn", example=[FRAME[:60], FRAME[MIXED][60:]])
    assert ranges(tmp_path / "m.lnn") == RANGES
    model = lnn_edge.load(tmp_path / "m.lnn")
    np.testing.assert_array_equal(model.stream().run(FRAME[MIXED]), model.stream().run(FRAME.to_numpy()))


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (FRAME[MIXED].assign(t=range(120)), r"'t' is none of them. Type: x\[\['hip', 'knee', 'ankle'\]\]$"),
        (FRAME[["hip", "knee"]], "'ankle' is missing"),
        ([FRAME, FRAME.rename(columns={"hip": "Hip"})], r"example\[1\]` has its columns by name.*'hip' is missing"),
    ],
    ids=["time", "missing", "second"],
)
def test_other_columns_are_refused_in_words(tmp_path, example, message):
    with pytest.raises(ValueError, match=message):
        quick_export(small_cfc(), tmp_path / "m.lnn", example=example, inputs=NAMES)
    assert not (tmp_path / "m.lnn").exists()


@pytest.mark.parametrize(
    "example",
    [np.ma.masked_greater(XS, 6.0), [np.ma.masked_greater(XS, 6.0)] * 2, np.ma.masked_greater(XS, 6.0)[None]],
    ids=["array", "list", "batch"],
)
def test_masked_values_of_an_example_are_refused(tmp_path, example):
    with pytest.raises(NonFiniteError, match=r"`example.* holds masked values"):
        quick_export(small_cfc(), tmp_path / "m.lnn", example=example)


def test_several_inputs(tmp_path):
    torch.manual_seed(0)
    model, lidar = TwoInputs().eval(), np.random.default_rng(1).normal(size=(60, 12)).astype(np.float32)
    example = {"lidar": lidar, "speed": FRAME[["hip", "knee"]][:60]}
    quick_export(model, tmp_path / "m.lnn", example=example, inputs={"speed": ["knee", "hip"]})
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    expected = stream.run({"lidar": lidar, "speed": XS[:60, [1, 0]]})
    stream.reset()
    np.testing.assert_array_equal(stream.run({"lidar": lidar, "speed": FRAME[["hip", "knee"]][:60]}), expected)
    stream.reset()
    row = {"lidar": lidar[0], "speed": FRAME[["hip", "knee"]].iloc[0]}
    np.testing.assert_array_equal(stream.step(row), expected[0])
    for call in (stream.step, stream.run):
        with pytest.raises(TypeError, match=r"the inputs lidar, speed; pass a dict.*with the columns hip, knee, ankle"):
            call(FRAME)
    with pytest.raises(ValueError, match="'ankle' is none of them"):
        stream.run({"lidar": lidar, "speed": FRAME[:60]})


@pytest.mark.parametrize(
    "scaling",
    [StandardScaler().fit(FRAME[MIXED]), (FRAME[MIXED].mean(), FRAME[MIXED].std()), (FRAME.mean(), [1.0, 2.0, 3.0])],
    ids=["scaler", "series", "one series"],
)
def test_a_scaling_is_matched_by_name(tmp_path, monkeypatch, scaling):
    mean, std = FRAME.mean().to_numpy(), FRAME.std().to_numpy()
    if isinstance(scaling, StandardScaler):
        std = FRAME.std(ddof=0).to_numpy()
    elif isinstance(scaling[1], list):
        std = np.array(scaling[1])
    by_place = {"example": FRAME.to_numpy(), "inputs": NAMES}
    quick_export(Net(), tmp_path / "place.lnn", **by_place, scale_inputs=(mean, std))
    quick_export(Net(), tmp_path / "name.lnn", example=FRAME[MIXED], inputs=NAMES, scale_inputs=scaling)
    xs = FRAME.to_numpy(np.float32)
    expected = lnn_edge.load(tmp_path / "place.lnn").stream().run(xs)
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "name.lnn").stream().run(xs), expected, rtol=1e-6, atol=1e-6)
    short_verifications(monkeypatch)
    options = {"example": FRAME[MIXED], "scale_inputs": scaling, "progress": silent}
    assert verify_against(Net(), tmp_path / "name.lnn", **options).passed


def test_a_scaling_of_other_columns(tmp_path):
    scaler = StandardScaler().fit(FRAME.rename(columns={"hip": "Hip"}))
    with pytest.raises(ValueError, match=r"`scale_inputs` has its columns by name.*'hip' is missing"):
        quick_export(Net(), tmp_path / "m.lnn", example=FRAME, inputs=NAMES, scale_inputs=scaler)


class Heads(nn.Module):
    """Two heads behind one core."""

    def __init__(self):
        super().__init__()
        self.rnn, self.velocity, self.heading = small_cfc(), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        y, _ = self.rnn(x)
        return {"velocity": self.velocity(y), "heading": self.heading(y)}


def names_of(tensors):
    return {tensor.name: [(f.name, f.unit, f.limits) for f in tensor.features] for tensor in tensors}


def test_one_grammar_for_columns_in_python(tmp_path):
    inputs = ["hip:rad", "knee:rad:-9:9", Feature("ankle:rad::")]
    quick_export(small_cfc(), tmp_path / "m.lnn", example=FRAME[MIXED], inputs=inputs, outputs=["l:m/s", r"r\:raw"])
    manifest = read_bundle(tmp_path / "m.lnn").manifest
    known = [("hip", "rad", None), ("knee", "rad", (-9.0, 9.0)), ("ankle", "rad", None)]
    assert names_of(manifest.inputs) == {"input": known}
    assert names_of(manifest.outputs) == {"output": [("l", "m/s", None), ("r:raw", None, None)]}
    assert lnn_edge.load(tmp_path / "m.lnn").stream().step(dict.fromkeys(NAMES, 0.5)).shape == (2,)


def test_columns_with_a_colon_in_their_names(tmp_path, monkeypatch):
    short_verifications(monkeypatch)
    own = FRAME.set_axis(["hip:rad", "knee", "ankle"], axis=1)
    told = r"`example` has no column 'hip', but 'hip:rad'\. .* has a backslash before it: r'hip\\:rad'"
    with pytest.raises(ValueError, match=told):
        quick_export(small_cfc(), tmp_path / "m.lnn", example=own, inputs=list(own.columns))
    quick_export(small_cfc(), tmp_path / "m.lnn", example=own, inputs=[r"hip\:rad", "knee", "ankle"])
    quick_export(small_cfc(), tmp_path / "n.lnn", example=own)  # the names of data are names
    for name in ("m.lnn", "n.lnn"):
        assert list(ranges(tmp_path / name)) == ["hip:rad", "knee", "ankle"]
        assert verified(tmp_path / name, own)


def verified(path, example):
    return verify_against(small_cfc(), path, example=example, progress=silent).passed


@pytest.mark.parametrize(
    "outputs",
    [["vx:m/s", "vy:m/s", "sin", "cos"], {"heading": ["sin", "cos"], "velocity": ["vx:m/s", "vy:m/s"]}],
    ids=["in a row", "by name"],
)
def test_two_heads_are_named(tmp_path, outputs):
    quick_export(Heads(), tmp_path / "m.lnn", example=XS[None].astype(np.float32), outputs=outputs)
    velocity, heading = [("vx", "m/s", None), ("vy", "m/s", None)], [("sin", None, None), ("cos", None, None)]
    got = names_of(read_bundle(tmp_path / "m.lnn").manifest.outputs)
    assert got == {"velocity": velocity, "heading": heading}


@pytest.mark.parametrize(
    ("outputs", "kind", "told"),
    [
        (["a", "b", "c"], ValueError, r"has 3 names for velocity \(2 columns\), heading \(2 columns\): name all of"),
        (
            ["a", "b"],
            ValueError,
            r"or name the columns of each: outputs=\{'velocity': \['velocity_0', 'velocity_1'\], ",
        ),
        ("abcd", TypeError, "pass `outputs` as a dict of lists of names"),
        ({"velocty": ["a", "b"]}, ValueError, "`outputs` names 'velocty'.*Did you mean 'velocity'"),
        (["a", "a", "b", "b"], ValueError, r"names \['a', 'a'\], expected 2 different names"),
    ],
)
def test_names_that_do_not_fit_two_heads_are_told_with_the_form(tmp_path, outputs, kind, told):
    with pytest.raises(kind, match=told):
        quick_export(Heads(), tmp_path / "m.lnn", example=XS[None].astype(np.float32), outputs=outputs)


def test_inputs_in_a_row_go_to_the_example_that_has_them(tmp_path):
    lidar = np.random.default_rng(0).normal(size=(40, 3, 4)).astype(np.float32)
    with pytest.raises(ValueError, match=r"lidar \(no columns\), speed \(2 columns\).*inputs=\{'speed': \['speed_0', "):
        quick_export(
            TwoInputs(),
            tmp_path / "m.lnn",
            example={"lidar": lidar[None], "speed": np.ones((1, 40, 2))},
            inputs=["vx", "vy", "vz"],
        )

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = small_cfc()

        def forward(self, a, b):
            return self.rnn(torch.cat([a, b], -1))[0]

    example = {"a": FRAME[["knee", "hip"]], "b": FRAME[["ankle"]]}
    quick_export(Two(), tmp_path / "m.lnn", example=example, inputs=["ankle", "hip", "knee"])
    tensors = read_bundle(tmp_path / "m.lnn").manifest.inputs
    assert {t.name: [f.name for f in t.features] for t in tensors} == {"a": ["hip", "knee"], "b": ["ankle"]}
    assert tensors[0].features[0].range == pytest.approx(RANGES["hip"], abs=1e-5)
    plain = {name: frame.to_numpy() for name, frame in example.items()}
    quick_export(Two(), tmp_path / "n.lnn", example=plain, inputs=["knee", "hip", "ankle"])
    tensors = read_bundle(tmp_path / "n.lnn").manifest.inputs
    assert {t.name: [f.name for f in t.features] for t in tensors} == {"a": ["knee", "hip"], "b": ["ankle"]}
