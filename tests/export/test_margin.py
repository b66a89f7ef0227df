"""Limits around the range of the example: `export_model(margin=)`, as an estimator's export has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bundles import small_cfc
from exports import quick_export
from networks import TwoInputs

import lnn_edge
from lnn_edge import Feature
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.train.deploy import make_features

XS = np.random.default_rng(0).normal(size=(150, 3)).astype(np.float32) * np.float32([1, 10, 0])
XS[:, 2] = 7.0  # never changes


def limits(path):
    return {f.name: f.limits for tensor in read_bundle(path).manifest.inputs for f in tensor.features}


@pytest.mark.parametrize("margin", [0, 0.5, 1.0, np.float32(2)])
def test_a_margin_gives_the_limits_of_an_estimators_export(tmp_path, margin):
    inputs = ["a:m", Feature("b", limits=(-99, 99)), "c"]
    quick_export(small_cfc(), tmp_path / "m.lnn", example=[XS[:50], XS[50:]], inputs=inputs, margin=margin)
    seen = np.stack([XS.min(axis=0), XS.max(axis=0)])
    expected = {f.name: f.limits for f in make_features("inputs", inputs, seen, margin)}
    assert limits(tmp_path / "m.lnn") == expected
    assert expected["b"] == (-99.0, 99.0)
    assert expected["c"] is None
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    stream.run(XS)
    assert stream.outside == {}
    with pytest.raises(ValueError, match="its legal range is"):
        stream.step([1e9, 0, 7])


def test_without_a_margin_any_finite_value_is_legal(tmp_path):
    quick_export(small_cfc(), tmp_path / "m.lnn", example=XS, inputs=["a", "b", "c"])
    assert set(limits(tmp_path / "m.lnn").values()) == {None}


def test_a_margin_of_several_inputs_leaves_out_what_has_no_columns(tmp_path):
    example = {"lidar": np.random.default_rng(1).normal(size=(1, 40, 3, 4)), "speed": XS[None, :40, :2]}
    quick_export(TwoInputs(), tmp_path / "m.lnn", example=example, inputs={"speed": ["vx", "vy"]}, margin=1)
    found = limits(tmp_path / "m.lnn")
    assert list(found) == ["vx", "vy"]
    assert None not in found.values()


@pytest.mark.parametrize("margin", [-1, np.nan, np.inf, "1", True, [1]])
def test_a_margin_that_is_none_is_refused(tmp_path, margin):
    with pytest.raises(ValueError, match=r"`margin` is .*expected a number of at least 0, or None for no limits"):
        quick_export(small_cfc(), tmp_path / "m.lnn", example=XS, margin=margin)


def test_a_margin_needs_an_example_with_columns(tmp_path):
    with pytest.raises(ValueError, match="`margin` makes limits of the range of recorded samples, and so needs an `ex"):
        quick_export(small_cfc(), tmp_path / "m.lnn", margin=1)

    class Pictures(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = small_cfc()

        def forward(self, x):
            return self.rnn(x.mean(dim=-1))[0]

    with pytest.raises(ValueError, match="no input of the model has columns of numbers"):
        quick_export(Pictures(), tmp_path / "m.lnn", example=np.zeros((1, 20, 3, 2), np.float32), margin=1)
