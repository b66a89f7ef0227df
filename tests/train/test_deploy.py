"""From `fit` to the device: what is predicted, stepped, saved, loaded and exported is the same, on raw data."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import lnn_edge
from lnn_edge import LiquidNeuralClassifier, LiquidNeuralNetwork, LiquidNeuralRegressor
from lnn_edge.train.data.dataset import Dataset

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(12, 20, 3)).cumsum(axis=1) * [1.0, 50.0, 0.02] + [0.0, 300.0, 5.0]).astype(np.float32)
VALUES = (100 + 8 * X[..., :2] / [1.0, 50.0]).astype(np.float32)
UP = np.where(X[:, -1, 0] > 0, "up", "down")
SPANS = RNG.uniform(0.01, 0.2, (12, 20)).astype(np.float32)

# the exporter's own limit is 1e-5 of the network's outputs, which are of order 1; the targets' scale multiplies it
LIMIT = 1e-5


def quick(kind, *cell, **options):
    return kind(*cell or (10, "CfC"), epochs=2, n_jobs=1, verbose=0, random_state=0, **options)


CASES = {
    "per step": (lambda: quick(LiquidNeuralRegressor), VALUES, None),
    "per step, ltc": (lambda: quick(LiquidNeuralRegressor, 10, "LTC"), VALUES, None),
    "per step, measured": (lambda: quick(LiquidNeuralRegressor), VALUES, SPANS),
    "per step, ltc measured": (lambda: quick(LiquidNeuralRegressor, 10, "LTC"), VALUES, SPANS),
    "per sequence": (lambda: quick(LiquidNeuralRegressor), VALUES[:, -1], None),
    "labels": (lambda: quick(LiquidNeuralClassifier), UP, None),
    "labels per step, ltc": (lambda: quick(LiquidNeuralClassifier, 10, "LTC"), X[..., 1] > 300, None),
    "full wiring": (lambda: quick(LiquidNeuralRegressor, wiring="full"), VALUES, None),
    "stacked": (lambda: quick(LiquidNeuralRegressor, stacked=True), VALUES, None),
    "one model per target": (lambda: quick(LiquidNeuralRegressor, per_target=True), VALUES, SPANS),
    "mixed memory": (lambda: quick(LiquidNeuralRegressor, mixed_memory=True), VALUES, None),
    "unscaled": (lambda: quick(LiquidNeuralRegressor, scale_inputs=False, scale_targets=False), VALUES, None),
}


@pytest.fixture(scope="module")
def fitted():
    """Each case, fitted once."""
    known = {}

    def fit(name):
        if name not in known:
            make, y, spans = CASES[name]
            known[name] = make().fit(X, y, timespans=spans)
        return known[name], CASES[name][2]

    return fit


def answers(model, outputs):
    """What `predict` or `predict_proba` makes of the outputs of all steps of one sequence."""
    return outputs if model.readout_steps_ is None else outputs[-model.readout_steps_ :].mean(axis=0)


def predicted(model, spans):
    """Of the first sequence: values, or the probabilities."""
    times = None if spans is None else spans[:1]
    classes = isinstance(model, LiquidNeuralClassifier)
    return (model.predict_proba if classes else model.predict)(X[:1], times)[0]


@pytest.mark.parametrize("name", CASES)
def test_stepping_gives_what_predict_gives(name, fitted):
    model, spans = fitted(name)
    state, outputs = None, []
    for k, sample in enumerate(X[0]):
        y, state = model.predict_step(sample, state, None if spans is None else float(spans[0, k]))
        outputs.append(y)
    size = max(1.0, np.abs(outputs).max())
    np.testing.assert_allclose(answers(model, np.stack(outputs)), predicted(model, spans), rtol=0, atol=LIMIT * size)


@pytest.mark.parametrize("name", CASES)
def test_the_bundle_gives_what_predict_gives(name, fitted, tmp_path):
    model, spans = fitted(name)
    assert model.export(tmp_path / "m.lnn", period_s=None if spans is not None else 0.05).passed
    loaded = lnn_edge.load(tmp_path / "m.lnn")
    assert loaded.manifest.time.mode == ("fixed" if spans is None else "measured")
    results = loaded.stream().run(X[0], dt_s=None if spans is None else spans[0])
    expected, size = predicted(model, spans), max(1.0, np.abs(results).max())
    whole = results if model.readout_steps_ is None else results[-1]
    np.testing.assert_allclose(whole, expected, rtol=0, atol=LIMIT * size)
    assert bool(loaded.manifest.labels) == isinstance(model, LiquidNeuralClassifier)


def test_the_stream_of_a_classifier_says_what_predict_says(fitted, tmp_path):
    """Of the samples since the last reset, whatever their number; not the last output, which is another class here."""
    model, _ = fitted("labels")
    model.export(tmp_path / "m.lnn", period_s=0.05)
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    for recording in X[::3]:
        stream.reset()
        assert stream.label is None
        for k, sample in enumerate(recording, start=1):
            stream.step(sample)
            assert stream.label == model.predict(recording[None, :k])[0]


@pytest.mark.parametrize("name", CASES)
def test_what_is_saved_is_what_is_loaded(name, fitted, tmp_path):
    model, spans = fitted(name)
    model.save(tmp_path / "m.safetensors")
    again = type(model).load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(X, spans), model.predict(X, spans))
    assert again.get_params() == model.get_params()


def test_batches_of_irregular_time_are_exact_per_row(fitted):
    """ncps itself mixes the time spans of the rows up; here each row is as if it were alone."""
    model, spans = fitted("per step, ltc measured")
    alone = np.concatenate([model.predict(X[k : k + 1], spans[k : k + 1]) for k in range(len(X))])
    np.testing.assert_allclose(model.predict(X, spans), alone, rtol=0, atol=LIMIT * np.abs(alone).max())


def test_names_ranges_and_bounds_go_into_the_manifest(tmp_path):
    names = ["hip", "knee", "ankle"]
    frames = [pd.DataFrame(part, columns=names) for part in X]
    targets = [pd.DataFrame(part, columns=["left", "right"]) for part in VALUES]
    model = quick(LiquidNeuralRegressor).fit(frames, targets)
    model.export(tmp_path / "m.lnn", period_s=0.05)
    manifest = lnn_edge.load(tmp_path / "m.lnn").manifest
    assert [f.name for f in manifest.inputs[0].features] == names
    assert [f.name for f in manifest.outputs[0].features] == ["left", "right"]
    for k, feature in enumerate(manifest.inputs[0].features):
        low, high = feature.limits
        seen = X[..., k]
        assert feature.range == pytest.approx((float(seen.min()), float(seen.max())), rel=1e-6)
        assert low <= seen.min()
        assert seen.max() <= high
        width = seen.max() - seen.min()
        assert high - low == pytest.approx(3 * width, rel=1e-4)  # margin=1: as much again on each side
    assert all(len(pair.bounds[0]) == 10 for pair in manifest.states)
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    with pytest.raises(ValueError, match="'knee'"):
        stream.step(np.array([0.0, 1e6, 5.0], np.float32))


@pytest.mark.parametrize("content", ["cut", "flipped", "text"])
def test_a_damaged_file_is_refused(content, fitted, tmp_path):
    model, _ = fitted("per step")
    path = tmp_path / "m.safetensors"
    model.save(path)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes({
        "cut": whole[:-10],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "text": b"no model",
    }[content])  # fmt: skip
    with pytest.raises(ValueError, match=r"m\.safetensors"):
        LiquidNeuralRegressor.load(path)


def test_the_call_of_the_readme(tmp_path):
    """As the first users of the project know it."""
    model = LiquidNeuralNetwork(n_neurons=20, model_type="LTC")
    model.fit(X, VALUES[:, :, 0], epochs=2, clip_value=1, learning_rate=0.01, n_jobs=8)
    assert model.predict(X).shape == (12, 20)
    assert model.task_ == "regression"
    kinds = {
        "tensors": (torch.from_numpy(X), torch.from_numpy(VALUES)),
        "lists": ([part[: 9 + k] for k, part in enumerate(X)], [part[: 9 + k] for k, part in enumerate(VALUES)]),
        "one sequence": (X[0], VALUES[0]),
        "frame": (pd.DataFrame(X[0], columns=list("abc")), VALUES[0]),
    }
    for name, (x, y) in kinds.items():
        found = quick(LiquidNeuralNetwork).fit(x, y).predict(x)
        assert np.shape(found[0]) == np.shape(y[0]), name


def test_a_weight_is_worth_repetitions():
    """All in one batch: a sequence of weight 3 counts as the sequence three times."""
    weights, x, y = np.array([1, 3] * 6), X / 300, VALUES / 100

    def trained(repeats=None, weight=None):
        model = quick(LiquidNeuralRegressor, batch_size=100, scale_inputs=False, scale_targets=False)
        rows = (x, y) if repeats is None else (np.repeat(x, repeats, axis=0), np.repeat(y, repeats, axis=0))
        return model.fit(*rows, sample_weight=weight, epochs=20).predict(x)

    weighted = trained(weight=weights)
    np.testing.assert_allclose(weighted, trained(repeats=weights), rtol=0, atol=1e-4)  # 7e-7 measured
    assert np.abs(trained() - weighted).max() > 1e-3


def test_going_on_from_a_checkpoint_equals_not_stopping(tmp_path):
    options = {"noise": 0.1, "validation_split": 0.25, "schedule": "constant"}
    whole = quick(LiquidNeuralRegressor, **options).fit(X, VALUES, epochs=6)
    place = {"checkpoint": tmp_path / "c.safetensors", "checkpoint_every": 1}
    quick(LiquidNeuralRegressor, **options, **place).fit(X, VALUES, epochs=3)
    again = quick(LiquidNeuralRegressor, **options, **place).fit(X, VALUES, epochs=6)
    assert len(again.history_) == 6
    np.testing.assert_array_equal(again.predict(X), whole.predict(X))
    with pytest.raises(ValueError, match=r"is of another run: other data or other parameters.*rm "):
        quick(LiquidNeuralRegressor, **options, **place).fit(X[:8], VALUES[:8], epochs=6)


def test_noise_is_a_share_of_the_spread_whether_scaled_or_not(monkeypatch):
    seen = []
    batches = Dataset.batches
    monkeypatch.setattr(Dataset, "batches", lambda self, *a: seen.append(a[-1].noise.numpy()) or batches(self, *a))
    for scaled in (True, False):
        quick(LiquidNeuralRegressor, noise=0.1, scale_inputs=scaled).fit(X, VALUES)
    spread = X.reshape(-1, 3).std(axis=0)
    for noise in seen:
        np.testing.assert_allclose(noise, 0.1 * spread, rtol=1e-5)


def test_large_targets_are_centred_before_they_are_rounded():
    """At 1e7 float32 knows whole numbers only: what is learnt there is what is learnt around 0."""
    near, far = (quick(LiquidNeuralRegressor).fit(X, VALUES.astype(np.float64) + shift) for shift in (0.0, 1e7))
    losses = [[record.loss for record in model.history_] for model in (near, far)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_what_has_no_weight_is_not_in_the_ranges(tmp_path):
    y, weights = VALUES[..., 0].copy(), np.ones((12, 20))
    y[:, 3], weights[:, 3] = 1e6, 0.0
    model = quick(LiquidNeuralRegressor).fit(X, y, sample_weight=weights)
    model.export(tmp_path / "m.lnn", period_s=0.05)
    (feature,) = lnn_edge.load(tmp_path / "m.lnn").manifest.outputs[0].features
    assert feature.range[1] == pytest.approx(float(y[weights > 0].max()), rel=1e-6)


def test_one_sequence_with_one_answer():
    """Long recordings one by one: told so, a single answer belongs to the whole."""
    model = quick(LiquidNeuralRegressor).fit(X, VALUES[:, -1, 0])
    told = quick(LiquidNeuralRegressor, targets="sequence").fit(X, VALUES[:, -1, 0])
    np.testing.assert_array_equal(told.predict(X), model.predict(X))
    assert told.predict(X[0]).shape == (1,)
    assert told.score(X[:2], VALUES[:2, -1, 0]) == model.score(X[:2], VALUES[:2, -1, 0])


def test_one_column_of_answers_is_not_one_step_too_few():
    """Sequences of two steps, one answer each, as a column: what any frame of one target looks like."""
    model = quick(LiquidNeuralRegressor).fit(X[:, :2], VALUES[:, 1, :1])
    assert model.predict(X[:, :2]).shape == (12, 1)


def test_explicit_constraints_hold_after_every_step():
    """Without implicit ones ncps leaves it to the trainer to keep conductances at 0 or above."""
    cell = {"implicit_param_constraints": False}
    model = LiquidNeuralRegressor(10, "LTC", cell_options=cell, epochs=8, n_jobs=1, verbose=0, random_state=0)
    model.fit(X, VALUES, learning_rate=0.3)
    cell = model.network_.branches[0].cores[0].rnn_cell
    for name in ("w", "sensory_w", "cm", "gleak"):
        assert float(cell._params[name].detach().min()) >= 0, name


def test_searches_with_timespans():
    """scikit-learn routes them once it is told to."""
    with sklearn.config_context(enable_metadata_routing=True):
        model = quick(LiquidNeuralRegressor).set_fit_request(timespans=True).set_score_request(timespans=True)
        search = GridSearchCV(model, {"n_neurons": [8, 10]}, cv=2).fit(X, VALUES, timespans=SPANS)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    model = quick(LiquidNeuralRegressor).fit(X, VALUES, timespans=SPANS)
    with pytest.raises(ValueError, match=r"set_fit_request\(timespans=True\).set_score_request\(timespans=True\)"):
        model.score(X, VALUES)


def test_the_same_seed_gives_the_same_weights():
    one, other = (quick(LiquidNeuralRegressor).fit(X, VALUES).predict(X) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    third = quick(LiquidNeuralRegressor).set_params(random_state=1).fit(X, VALUES).predict(X)
    assert np.abs(one - third).max() > 0.1


@pytest.mark.parametrize("window", [5, 7])
def test_windows_carry_the_state(window):
    """With a learning rate of almost nothing, the loss over windows is that of the whole sequence."""
    options = {"learning_rate": 1e-12, "schedule": "constant"}
    whole = quick(LiquidNeuralRegressor, **options).fit(X, VALUES)
    parts = quick(LiquidNeuralRegressor, **options, window=window).fit(X, VALUES)
    assert parts.history_[0].loss == pytest.approx(whole.history_[0].loss, rel=1e-4)


def test_forecast_feeds_predictions_back():
    """By hand: the last answer to the history, then each prediction as the next sample."""
    model = quick(LiquidNeuralRegressor).fit(X[0])  # without y: the next sample
    found = model.forecast(4, X[1])
    state, y = None, None
    for sample in X[1]:
        y, state = model.predict_step(sample, state)
    for row in found:
        np.testing.assert_allclose(row, y, rtol=1e-4)
        y, state = model.predict_step(y, state)
    assert found.shape == (4, 3)
    np.testing.assert_allclose(
        model.predict(X[1:2], state=model.warm_up(X[:1]))[0][0], after(model, X[0], X[1][0]), rtol=1e-4
    )


def after(model, history, sample):
    state = None
    for x in history:
        _, state = model.predict_step(x, state)
    return model.predict_step(sample, state)[0]


def test_pictures(fitted, tmp_path):
    model, _ = fitted("per step")
    model.plot_loss(tmp_path / "loss.png")
    model.plot_wiring(tmp_path / "wiring.svg")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "wiring.svg").stat().st_size > 1000


BAD = {
    "shape": (lambda m: m.fit(X[None], VALUES), r"\(sequences, time, features\)"),
    "nan": (lambda m: m.fit(np.where(X > 400, np.nan, X), VALUES), "NaN"),
    "lengths": (lambda m: m.fit(X, VALUES[:, :7]), r"y has shape \(7, 2\) for sequence 0 of 20 steps"),
    "count": (lambda m: m.fit(X, VALUES[:5]), r"inconsistent numbers of samples: \[12, 5\]"),
    "cell": (lambda m: m.set_params(model_type="GRU").fit(X, VALUES), "LTC.*CfC|CfC.*LTC"),
    "neurons": (lambda m: m.set_params(n_neurons=3).fit(X, VALUES), "n_neurons"),
    "empty": (lambda m: m.fit(X[:0], VALUES[:0]), "holds no sample"),
    "spans below 0": (lambda m: m.fit(X, VALUES, timespans=-SPANS), "above 0"),
    "parameter": (lambda m: m.fit(X, VALUES, epoch=3), "epochs"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, match = BAD[name]
    model = quick(LiquidNeuralRegressor)
    with pytest.raises((ValueError, TypeError), match=match) as caught:
        call(model)
    assert len(str(caught.value)) > 20
    assert not hasattr(model, "network_")


def test_one_class_and_unfitted_use():
    with pytest.raises(ValueError, match="class"):
        quick(LiquidNeuralClassifier).fit(X, ["up"] * 12)
    with pytest.raises(ValueError, match="not fitted"):
        quick(LiquidNeuralClassifier).predict(X)


def test_report_is_json(fitted, tmp_path):
    model, _ = fitted("per step")
    report = model.export(tmp_path / "m.lnn", period_s=0.05)
    assert json.loads(json.dumps(report.to_dict()))["passed"]


def test_pipelines_and_grid_search():
    """scikit-learn takes sequences apart and puts them together along the first axis, as it does with rows."""
    search = GridSearchCV(quick(LiquidNeuralClassifier), {"n_neurons": [8, 10], "model_type": ["CfC"]}, cv=2)
    search.fit(X, UP)
    assert search.best_params_["n_neurons"] in (8, 10)
    assert search.predict(X).shape == (12,)
    piped = make_pipeline(FunctionTransformer(np.asarray), quick(LiquidNeuralRegressor)).fit(X, VALUES)
    np.testing.assert_array_equal(piped.predict(X), quick(LiquidNeuralRegressor).fit(X, VALUES).predict(X))
    copy = clone(piped[-1])
    assert copy.get_params() == piped[-1].get_params()
    assert not hasattr(copy, "network_")


@pytest.mark.parametrize(("given", "meant"), [("CFC", "CfC"), ("cfc", "CfC"), ("Ltc", "LTC"), ("ltc", "LTC")])
def test_the_case_of_a_cell_is_not_minded(given, meant, tmp_path):
    model = quick(LiquidNeuralRegressor).set_params(model_type=given).fit(X, VALUES)
    assert model.model_type == given  # as scikit-learn's clones want it
    twin = quick(LiquidNeuralRegressor).set_params(model_type=meant).fit(X, VALUES)
    np.testing.assert_array_equal(model.predict(X), twin.predict(X))
    model.save(tmp_path / "m.safetensors")
    again = LiquidNeuralRegressor.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
