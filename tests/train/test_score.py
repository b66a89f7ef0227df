"""Scores over answers of any shape: per step or per sequence, one or several outputs, weighted."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, mean_squared_error, r2_score
from sklearn.model_selection import cross_val_score

import lnn_edge

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 12, 3)).astype(np.float32)
SHAPES = {
    "per step, several": X[:, :, :2],
    "per step, one": X[:, :, :1],
    "per step, flat": X[:, :, 0],
    "per sequence, several": X[:, -1, :2],
    "per sequence, one": X[:, -1, :1],
    "per sequence, flat": X[:, -1, 0],
}


def fitted(kind, x, y, **options):
    return kind(8, "CfC", epochs=2, n_jobs=1, verbose=0, random_state=0, **options).fit(x, y)


@pytest.mark.parametrize("name", SHAPES)
def test_regression(name):
    """Each output counts once, however many steps there are."""
    y = SHAPES[name]
    model = fitted(lnn_edge.LiquidNeuralRegressor, X, y)
    width = 2 if "several" in name else 1
    predicted = model.predict(X)
    assert predicted.shape == y.shape
    assert model.score(X, y) == pytest.approx(r2_score(y.reshape(-1, width), predicted.reshape(-1, width)))


def test_scoring_by_another_metric():
    """As the docstring says: two axes for scikit-learn's own metrics, or a function; three axes are nan there."""
    y = SHAPES["per step, one"]
    model = lnn_edge.LiquidNeuralRegressor(8, "CfC", epochs=2, n_jobs=1, verbose=0, random_state=0)

    def error(model, x, y):
        return -mean_squared_error(np.ravel(y), np.ravel(model.predict(x)))

    named = cross_val_score(model, X, y[..., 0], cv=2, scoring="neg_mean_squared_error")
    assert np.isfinite(named).all()
    np.testing.assert_allclose(cross_val_score(model, X, y, cv=2, scoring=error), named, rtol=1e-6)  # float32 outputs


def test_labels_per_step():
    y = np.where(X[:, :, 0] > 0, "up", "down")
    model = fitted(lnn_edge.LiquidNeuralClassifier, X, y)
    assert model.score(X, y) == pytest.approx(accuracy_score(y.ravel(), model.predict(X).ravel()))


def test_sequences_of_different_lengths():
    parts = [part[: 5 + k] for k, part in enumerate(X[:5])]
    y = [part[:, :1] for part in parts]
    model = fitted(lnn_edge.LiquidNeuralRegressor, parts, y)
    assert model.score(parts, y) == pytest.approx(r2_score(np.concatenate(y), np.concatenate(model.predict(parts))))


def test_weights_of_sequences_and_of_steps():
    """A sequence of weight 0 does not count; a weight of a sequence is one of all its steps."""
    y = X[:, :, :1]
    model = fitted(lnn_edge.LiquidNeuralRegressor, X, y)
    weights = np.array([1.0] * 5 + [0.0] * 5)
    expected = model.score(X[:5], y[:5])
    assert model.score(X, y, sample_weight=weights) == pytest.approx(expected)
    assert model.score(X, y, sample_weight=np.repeat(weights[:, None], 12, axis=1)) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"sample_weight has 3 entries.* one per sequence: 10"):
        model.score(X, y, sample_weight=[1.0, 2.0, 3.0])


def test_answers_that_do_not_fit():
    model = fitted(lnn_edge.LiquidNeuralRegressor, X, X[:, -1, 0])
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[10, 9\]"):
        model.score(X, X[:9, -1, 0])
