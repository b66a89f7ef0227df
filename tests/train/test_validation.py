"""`fit(X, y, validation=(Xv, yv))`: the weights are judged by sequences of the user's own."""

from __future__ import annotations

import numpy as np
import pytest

from lnn_edge import LiquidNeuralClassifier, LiquidNeuralRegressor

RNG = np.random.default_rng(1)
X = RNG.standard_normal((12, 10, 3)).astype(np.float32)
Y = X[..., :2].cumsum(axis=1)
LABELS = np.where(X[:, -1, 0] > 0, "up", "down")
SPANS = RNG.uniform(0.05, 0.2, (12, 10))


def quick(kind=LiquidNeuralRegressor, **options):
    return kind(6, "CfC", epochs=4, n_jobs=1, verbose=0, random_state=0, **options)


@pytest.mark.parametrize("spans", [None, SPANS], ids=["even", "measured"])
def test_losses_are_those_on_the_users_sequences(spans):
    """The loss after an epoch is the squared error on the scaled targets, as of the data that is trained on."""
    times = (None, None) if spans is None else (spans[:8], spans[8:])
    held_out = (X[8:], Y[8:]) if spans is None else (X[8:], Y[8:], times[1])
    model = quick().fit(X[:8], Y[:8], timespans=times[0], validation=held_out)
    best = model.history_[model.best_epoch_ - 1]
    assert best.validation_loss == min(record.validation_loss for record in model.history_)
    predicted = model.predict(X[8:], times[1])
    scale = model.network_.y_scale.numpy()
    assert best.validation_loss == pytest.approx(np.mean(((predicted - Y[8:]) / scale) ** 2), rel=1e-4)


def test_it_trains_on_all_that_is_given_to_train_on():
    """Whatever it is judged by, the epochs are the same; only which of them is kept is another matter."""
    plain, judged = quick().fit(X, Y), quick().fit(X, Y, validation=(X[:3], Y[:3]))
    assert [record.loss for record in judged.history_] == [record.loss for record in plain.history_]


def test_labels_are_those_of_the_fit():
    model = quick(LiquidNeuralClassifier).fit(X[:8], LABELS[:8], validation=(X[8:], ["up"] * 4))
    assert model.history_[0].validation_loss is not None
    with pytest.raises(
        ValueError, match=r"`validation`: y holds the label 'left', but the classes of the fit are \['down'"
    ):
        quick(LiquidNeuralClassifier).fit(X[:8], LABELS[:8], validation=(X[8:], ["up", "left", "up", "up"]))


def test_a_forecaster_is_judged_by_the_next_samples():
    assert quick().fit(X[:8], validation=(X[8:], None)).history_[0].validation_loss is not None


def test_a_checkpoint_of_another_validation_is_of_another_run(tmp_path):
    options = {"checkpoint": tmp_path / "run.safetensors", "checkpoint_every": 2}
    quick(**options).fit(X, Y, validation=(X[:3], Y[:3]))
    with pytest.raises(ValueError, match="checkpoint"):
        quick(**options).fit(X, Y, validation=(X[:4], Y[:4]))


@pytest.mark.parametrize(
    ("validation", "options", "error", "message"),
    [
        (
            (X, Y),
            {"validation_split": 0.2},
            ValueError,
            "`validation` was passed, and `validation_split` is 0.2: leave one out",
        ),
        (X, {}, TypeError, r"`validation` is a ndarray, expected \(X, y\) or \(X, y, timespans\)"),
        ((X,), {}, TypeError, "`validation` is a tuple"),
        (
            (X, Y, SPANS),
            {},
            ValueError,
            r"`validation` comes with timespans, the data of the fit without. Expected \(X, y\)",
        ),
        ((X[..., :2], Y), {}, ValueError, "`validation`: X has 2 features, but LiquidNeuralRegressor is expecting 3"),
        ((X, Y[..., :1]), {}, ValueError, "`validation` has 1 targets, the data of the fit 2"),
        ((X, Y[:5]), {}, ValueError, "`validation`: Found input variables with inconsistent numbers of samples"),
        ((X, np.full_like(Y, np.nan)), {}, ValueError, "`validation`: y contains NaN"),
    ],
)
def test_what_is_refused(validation, options, error, message):
    with pytest.raises(error, match=message):
        quick(**options).fit(X, Y, validation=validation)
