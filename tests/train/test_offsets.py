"""Data far from zero: an estimator learns, predicts and exports as if the offset were not there."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from exports import short_proofs

import lnn_edge
from lnn_edge import LiquidNeuralNetwork
from lnn_edge.errors import ExportWarning, ModelWarning

RNG = np.random.default_rng(0)
X = 0.3 * RNG.normal(size=(6, 24, 2)).cumsum(axis=1)
Y = np.sin(X[..., 0]) + 0.5 * X[..., 1]
OFFSET = np.array([5.4e6, 0.0])
FAR = X + OFFSET


def fitted(x, y=None, **options):
    return LiquidNeuralNetwork(n_neurons=10, epochs=4, random_state=0, **options).fit(x, y)


def test_an_offset_changes_nothing():
    near, far = fitted(X, Y), fitted(FAR, Y)
    np.testing.assert_allclose(far.predict(FAR), near.predict(X), atol=1e-5)
    both = fitted(FAR, Y + 1e7)
    np.testing.assert_allclose(both.predict(FAR) - 1e7, near.predict(X), atol=1e-5)
    assert both.score(FAR, Y + 1e7) == pytest.approx(near.score(X, Y), abs=1e-5)


def test_every_way_through_it_is_centred(tmp_path):
    model = fitted(FAR, Y + 1e7)
    expected, state = model.predict(FAR[:1])[0], None
    for k, row in enumerate(FAR[0]):
        y, state = model.predict_step(row, state)
        assert y[0] == pytest.approx(expected[k], abs=1e-5)
    np.testing.assert_allclose(
        model.predict(FAR[:1, 10:], state=model.warm_up(FAR[:1, :10]))[0], expected[10:], atol=1e-5
    )
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(LiquidNeuralNetwork.load(tmp_path / "m.safetensors").predict(FAR), model.predict(FAR))


def test_a_forecast_goes_on_from_far_away():
    near, far = fitted(X[0]), fitted(FAR[0])
    for history in ((), (1,)):
        given = [(X[0],), (FAR[0],)] if history else [(), ()]
        np.testing.assert_allclose(far.forecast(5, *given[1]) - OFFSET, near.forecast(5, *given[0]), atol=1e-5)


def test_validation_and_classes_are_centred():
    labels = np.where(Y > 0, "up", "down")
    near, far = fitted(X, labels, task="classification"), fitted(FAR, labels, task="classification")
    np.testing.assert_array_equal(far.predict(FAR), near.predict(X))
    near = LiquidNeuralNetwork(n_neurons=10, epochs=3, random_state=0).fit(X, Y, validation=(X[:2], Y[:2]))
    far = LiquidNeuralNetwork(n_neurons=10, epochs=3, random_state=0).fit(
        FAR, Y + 1e7, validation=(FAR[:2], Y[:2] + 1e7)
    )
    np.testing.assert_allclose(far.predict(FAR) - 1e7, near.predict(X), atol=1e-5)


def test_the_bundle_takes_raw_units(tmp_path, monkeypatch):
    short_proofs(monkeypatch, "lnn_edge.train.deploy.export_model")
    model = fitted(FAR, Y)
    model.export(tmp_path / "m.lnn")
    bundle = lnn_edge.load(tmp_path / "m.lnn")
    (own,) = bundle.inputs
    assert own.center[0] == pytest.approx(5.4e6, abs=10)
    assert own.center[1] == 0.0
    assert own.features[0].limits[0] > 5.39e6
    np.testing.assert_allclose(bundle.stream().run(FAR[0])[:, 0], model.predict(FAR[:1])[0], atol=2e-6)


@pytest.mark.parametrize(
    ("size", "offset", "told"),
    [
        (1.0, 1e7, r"'output', column 0, lies around 1e\+07 .* numbers are 1 apart.* Fit it to y - 1e\+07 there"),
        (1e-4, 10.0, r"'output', column 0, lies around 10 .* are 9.5e-07 apart.* Fit it to y - (10|9.9999\d*) there"),
    ],
)
def test_outputs_that_float32_is_too_coarse_for_are_told(tmp_path, monkeypatch, size, offset, told):
    """Beside one that it is fine enough for, and with advice that the estimator's user can take."""
    short_proofs(monkeypatch, "lnn_edge.train.deploy.export_model")
    y = np.stack([size * Y + offset, Y], axis=-1)
    with pytest.warns(ExportWarning, match=told) as warned:
        fitted(X, y).export(tmp_path / "far.lnn")
    assert "scale_outputs" not in str(warned[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExportWarning)
        fitted(X, y - [offset, 0]).export(tmp_path / "near.lnn")


def test_float32_that_is_too_coarse_is_told():
    with pytest.warns(
        ModelWarning, match=r"'column 0' has values up to 5.4e\+06 .* X comes in float32.* pass it as float64"
    ):
        fitted(FAR.astype(np.float32), Y)
    with pytest.warns(ModelWarning, match="`scale_inputs` is False: let the estimator scale"):
        fitted(FAR, Y, scale_inputs=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModelWarning)
        fitted(FAR, Y)
        fitted(X.astype(np.float32), Y)


def test_what_is_too_large_for_float32_is_refused():
    with pytest.raises(ValueError, match=r"infinity or a value too large for dtype\('float32'\)"):
        fitted(X * 1e300, Y)
