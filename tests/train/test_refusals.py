"""Refusals of the estimator, in words that name what is wrong, what was expected and what to type."""

from __future__ import annotations

import inspect
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from ncps.torch import CfC
from ncps.wirings import AutoNCP
from safetensors import safe_open
from sklearn.base import clone

import lnn_edge
from lnn_edge import LiquidNeuralClassifier, LiquidNeuralNetwork, LiquidNeuralRegressor
from lnn_edge.tensor_file import write_tensors
from lnn_edge.train.unrolled.layer import unrolled

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 10, 3)).astype(np.float32)
Y = X[..., :2]
HISTORY = pd.DataFrame(X[0], columns=["hip", "knee", "toe"])
LABELS = X[:, -1, 0] > 0
SPANS = np.full((8, 10), 0.1, np.float32)


def quick(kind=LiquidNeuralRegressor, **options):
    return kind(8, "CfC", **{"epochs": 1, "n_jobs": 1, "verbose": 0, "random_state": 0, **options})


@pytest.fixture(scope="module")
def plain():
    return quick().fit(X, Y)


@pytest.fixture
def unfitted():
    return quick()


@pytest.fixture(scope="module")
def timed():
    return quick().fit(X, Y, timespans=SPANS)


@pytest.fixture(scope="module")
def forecasting():
    """Fitted without y: it goes on from its one sequence."""
    return quick().fit(HISTORY)


@pytest.fixture(scope="module")
def partial():
    """Predicts two of its three columns."""
    return quick().fit(HISTORY, X[0, :, :2])


def built_wiring():
    wiring = AutoNCP(8, 2)
    wiring.build(3)
    return wiring


SETTINGS = {
    "seed": ({"random_state": -1}, ValueError, "`random_state` is -1, expected a whole number from 0 to 4294967295"),
    "large seed": ({"random_state": 2**70}, ValueError, "expected a whole number from 0 to 4294967295"),
    "seed of no kind": ({"random_state": "one"}, ValueError, "`random_state` is 'one', expected a whole number"),
    "number": ({"epochs": "many"}, TypeError, "`epochs` is 'many', expected a whole number"),
    "whole": ({"batch_size": 1.5}, TypeError, "`batch_size` is 1.5, expected a whole number"),
    "truth as number": ({"epochs": True}, TypeError, "`epochs` is True, expected a whole number"),
    "optional": ({"clip_value": "one"}, TypeError, "`clip_value` is 'one', expected a number or None"),
    "low": ({"epochs": 0}, ValueError, "`epochs` is 0, expected a whole number from 1 to 1,000,000,000"),
    "a number of many digits": ({"n_neurons": 10**400}, ValueError, "expected a whole number from 1 to 65,536"),
    "a real number of many digits": (
        {"noise": 10**400},
        ValueError,
        "`noise` is 1000000000000000000000000000000000000",
    ),
    "more threads than anybody has": ({"n_jobs": -(10**400)}, ValueError, "`n_jobs` is -1000000000000000000000000000"),
    "no epochs but days": ({"epochs": 10**30}, ValueError, "expected a whole number from 1 to 1,000,000,000"),
    "a span of time": ({"window": np.timedelta64(1, "s")}, TypeError, "expected a whole number or None"),
    "an array of choices": ({"rows": np.array(["steps"] * 2)}, ValueError, "`rows` is array(['steps', '"),
    "an array of readouts": (
        {"readout": np.arange(2)},
        ValueError,
        "`readout` is array([0, 1]), expected",
    ),
    "a readout of many digits": (
        {"readout": 10**30},
        ValueError,
        "expected 'auto', 'last', 'mean' or",
    ),
    "at an open end": ({"learning_rate": 0}, ValueError, "`learning_rate` is 0, expected a number above 0"),
    "between": ({"sparsity": 0.95}, ValueError, "`sparsity` is 0.95, expected a number from 0.1 to 0.9"),
    "nan": ({"noise": float("nan")}, ValueError, "`noise` is nan, expected a number of at least 0"),
    "infinite": ({"weight_decay": float("inf")}, ValueError, "`weight_decay` is inf, expected a number"),
    "choice": (
        {"schedule": "cosin"},
        ValueError,
        "`schedule` is 'cosin'. Valid: cosine, one-cycle, constant. Did you mean 'cosine'?",
    ),
    "flag": ({"stacked": 1}, TypeError, "`stacked` is 1, expected True or False"),
    "wiring": ({"wiring": "fully"}, ValueError, "`wiring` is 'fully'."),
    "no wiring": ({"wiring": 3}, TypeError, "`wiring` is 3, expected 'auto', 'full' or a wiring from ncps.wirings"),
    "readout": ({"readout": "first"}, ValueError, "`readout` is 'first', expected 'auto', 'last', 'mean' or a number"),
    "readout of none": ({"readout": 0}, ValueError, "`readout` is 0, expected 'auto'"),
    "readout of truth": ({"readout": True}, ValueError, "`readout` is True, expected 'auto'"),
    "device": (
        {"device": "gpu"},
        ValueError,
        "`device` is 'gpu'. Valid: auto, cpu, cuda, cuda:N, mps. Did you mean 'cuda'?",
    ),
    "device in capitals": ({"device": "CUDA:0"}, ValueError, "cuda:N, mps. Did you mean 'cuda:N'?"),
    "device without a number": (
        {"device": "cuda:x"},
        ValueError,
        "`device` is 'cuda:x'. Valid: auto, cpu, cuda,",
    ),
    "device of no kind": ({"device": 1.5}, ValueError, "`device` is 1.5. Valid: auto, cpu, cuda, cuda:N, mps."),
    "no device": ({"device": None}, ValueError, "`device` is None. Valid: auto, cpu, cuda, cuda:N, mps."),
    "device that is not here": (
        {"device": "xpu"},
        ValueError,
        "`device` is 'xpu', which torch cannot use here: T",
    ),
    "device of another system": (
        {"device": "mps"},
        ValueError,
        "`device` is 'mps', which torch cannot use here: it was built without it. Type: device='auto'",
    ),
    "no threads": ({"n_jobs": 0}, ValueError, "`n_jobs` is 0, expected a number of threads, -1 for all CPU cores"),
    "cell options": ({"cell_options": "mode"}, TypeError, "`cell_options` is 'mode', expected a dict of arguments"),
    "cell option": ({"cell_options": {"mod": "pure"}}, TypeError, "`cell_options` has 'mod', no option of CfC."),
    "backbone of a wiring": (
        {"cell_options": {"backbone_units": 16, "backbone_layers": 2}},
        ValueError,
        "a CfC with a wiring has no backbone: the wiring says what is connected. Type: wiring='full', or leave it out",
    ),
    "cell value": ({"cell_options": {"mode": "purest"}}, ValueError, "ncps cannot build the CfC layer: "),
    "checkpoint": ({"checkpoint": 3}, TypeError, "`checkpoint` is 3, expected the name of a file"),
    "checkpoint's name": ({"checkpoint": "run.pt"}, ValueError, "expected a name that ends in '.safetensors'"),
    "checkpoint's folder": ({"checkpoint": "nowhere/run.safetensors"}, OSError, "nowhere"),
    "unknown": (
        {"epoch": 3},
        TypeError,
        "`epoch`, which is no parameter of LiquidNeuralRegressor. Did you mean `epochs`?",
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name):
    given, error, message = SETTINGS[name]
    model = quick()
    with pytest.raises(error, match=re.escape(message)):
        model.fit(X, Y, **given)
    assert not hasattr(model, "network_")


@pytest.mark.parametrize("kind", [LiquidNeuralClassifier, LiquidNeuralRegressor, LiquidNeuralNetwork])
def test_an_unknown_parameter_is_told_of_the_class_that_was_called(kind):
    """Two of them have the constructor of their base class, whose name no user typed."""
    with pytest.raises(TypeError, match=rf"^{kind.__name__}.__init__\(\) got an unexpected .* 'class_weight'"):
        kind(8, class_weight="balanced")
    own = type("Own", (kind,), {})
    assert inspect.signature(own) == inspect.signature(kind)
    assert clone(own(8, epochs=3)).get_params() == kind(8, epochs=3).get_params()


FITS = {
    "one step short": (
        lambda: quick().fit(X, Y[:, 1:, 0]),
        "y has 9 numbers for a sequence of 10 steps, expected one per step. Type: targets='sequence' if they are",
    ),
    "too large for float32": (
        lambda: quick().fit(X, Y.astype(float) * 1e39),
        "more than float32 can: give it in another unit",
    ),
    "nothing to judge by": (
        lambda: quick(validation_split=0.2).fit(X[0], Y[0], sample_weight=[1] * 8 + [0] * 2),
        "`validation_split` is 0.2, which leaves nothing to judge by: all that has a weight is in the other part",
    ),
    "nothing to train on": (
        lambda: quick(validation_split=0.2).fit(X[0], Y[0], sample_weight=[0] * 8 + [1] * 2),
        "`validation_split` is 0.2, which leaves nothing to train on",
    ),
    "one weight": (lambda: quick().fit(X, Y, sample_weight=2.0), "sample_weight is 2.0, expected one number per"),
    "one answer for one sequence": (
        lambda: quick(targets="sequence").fit(X[0], Y[0]),
        "y has shape (10, 2), expected one answer for the one sequence of X: (1,)",
    ),
    "labels by mistake": (
        lambda: quick(LiquidNeuralNetwork).fit(X, np.arange(80).reshape(8, 10) % 9),
        "or task='regression' if y holds numbers and not labels",
    ),
    "a wiring that was built": (
        lambda: quick(wiring=built_wiring()).fit(X, Y),
        "`wiring` was built already, for 3 inputs, and ncps would add synapses to it. Pass a new one: AutoNCP(...)",
    ),
    "four axes": (lambda: quick().fit(X[None], Y), r"X has shape (1, 8, 10, 3), expected (sequences, time, features)"),
    "a sequence": (
        lambda: quick().fit([X[0], np.full_like(X[1], np.nan)], [Y[0], Y[1]]),
        "sequence 1 of X: X contains NaN or infinity: nan in X[0, 0]",
    ),
    "a sequence's columns": (
        lambda: quick().fit([X[0], X[1, :, :2]], [Y[0], Y[1]]),
        "sequence 1 of X: X has 2 features",
    ),
    "no next sample": (lambda: quick().fit(X[:, :1]), "the shortest sequence has 1 step, expected at least 2"),
    "labels missing": (lambda: quick(LiquidNeuralClassifier).fit(X), "This estimator requires y to be passed"),
    "y of one sequence": (lambda: quick().fit(X[0], X[:1]), "y has shape (1, 10, 3), expected (rows of X,)"),
    "y per sequence": (
        lambda: quick(targets="sequence").fit(X, Y),
        "y has shape (10, 2) per sequence, expected one answer, or (outputs,)",
    ),
    "y in words": (lambda: quick().fit(X, np.where(LABELS, "up", "down")), "Type: task='classification' for labels"),
    "fewer neurons than one motor neuron needs": (
        lambda: quick().fit(X, Y[..., 0], n_neurons=3),
        "`n_neurons` is 3, too few for 1 motor neuron: an AutoNCP needs at least 4",
    ),
    "y not finite": (lambda: quick().fit(X, np.where(Y > 1, np.nan, Y)), "y contains NaN or infinity: nan in y["),
    "columns of labels": (
        lambda: quick(LiquidNeuralClassifier).fit(X, np.stack([LABELS, LABELS], 1)),
        "y has 2 columns of labels, expected one label per step or per sequence. Fit one classifier per column",
    ),
    "numbers as labels": (lambda: quick(LiquidNeuralClassifier).fit(X, X[:, -1, 0]), "Unknown label type"),
    "weights' shape": (
        lambda: quick().fit(X, Y, sample_weight=np.ones((8, 3))),
        "sample_weight has 8 entries of shape [(3,)], expected one number per answer of y, or one per sequence: 8",
    ),
    "weights' number": (lambda: quick().fit(X, Y, sample_weight=np.ones(3)), "sample_weight has 3 entries"),
    "negative weights": (lambda: quick().fit(X, Y, sample_weight=-np.ones(8)), "sample_weight holds negative, NaN or"),
    "weights of NaN": (
        lambda: quick().fit(X, Y, sample_weight=np.full(8, np.nan)),
        "sample_weight holds negative, NaN or",
    ),
    "weights of zero": (
        lambda: quick().fit(X, Y, sample_weight=np.zeros(8)),
        "Sample weights must contain at least one non-zero number",
    ),
    "one answer": (lambda: quick().fit(X[:1], X[:1, -1, 0]), "Found 1 sample with an answer (n_samples=1)"),
    "timespans' shape": (
        lambda: quick().fit(X, Y, timespans=SPANS[:, :4]),
        "`timespans` has 8 of shape (4,), expected 8 of shape (10,): one number per sample of X",
    ),
    "one timespan": (
        lambda: quick().fit(X, Y, timespans=0.1),
        "`timespans` is 0.1, expected 8 of shape (10,): one number per sample of X. Where all are the same, leave it",
    ),
    "timespan of NaN": (lambda: quick().fit(X, Y, timespans=SPANS * np.nan), "`timespans` holds nan in sequence 0"),
    "divergence": (
        lambda: quick(learning_rate=1e30, clip_value=None, epochs=3, batch_size=2).fit(X, Y),
        "training diverged: the loss was not finite in the first epoch. Lower `learning_rate` or `clip_value`",
    ),
}


@pytest.mark.parametrize("name", FITS)
def test_data(name):
    call, message = FITS[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


USES = {
    "score before fit": ("unfitted", lambda m: m.score(X, Y), "This LiquidNeuralRegressor instance is not fitted yet"),
    "score without answers": ("plain", lambda m: m.score(X, None), "the target y is None: a score needs answers"),
    "score's axes": ("plain", lambda m: m.score(X, Y.swapaxes(1, 2)), "y has shape (2, 10) for sequence 0 of 10 steps"),
    "score's outputs": ("plain", lambda m: m.score(X, X), "y has 3 columns, but the model was fitted with 2"),
    "score's lengths": (
        "plain",
        lambda m: m.score([X[0, :5], X[1, :7]], [Y[0, :7], Y[1, :5]]),
        "y has shape (7, 2) for sequence 0 of 5 steps",
    ),
    "score's weights": (
        "plain",
        lambda m: m.score(X, Y, sample_weight=np.ones((10, 8))),
        "sample_weight has 10 entries of shape [(8,)]",
    ),
    "state of NaN": (
        "plain",
        lambda m: m.predict_step(X[0, 0], (np.full((1, 8), np.nan, np.float32),)),
        "`state` contains NaN or infinity",
    ),
    "timespan too small for float32": (
        "timed",
        lambda m: m.predict_step(X[0, 0], timespan=1e-50),
        "`timespan` is 1e-50, expected a finite number above 0",
    ),
    "timespan too large for float32": (
        "timed",
        lambda m: m.predict_step(X[0, 0], timespan=1e39),
        "`timespan` is 1e+39, expected a finite number above 0",
    ),
    "timespans too small for float32": (
        "timed",
        lambda m: m.predict(X, SPANS.astype(float) * 1e-50),
        "`timespans` holds 0 in sequence 0",
    ),
    "sample's columns": (
        "forecasting",
        lambda m: m.predict_step(pd.Series([0.0, 1.0, 2.0], index=["hip", "knee", "heel"])),
        "`x` has its columns by name, hip, knee, heel; expected hip, knee, toe: 'toe' is missing",
    ),
    "future's columns": (
        "partial",
        lambda m: m.forecast(3, HISTORY, columns=[0, 1], future=pd.DataFrame({"heel": [1.0, 1.0]})),
        "`future` has its columns by name, heel; expected toe: 'toe' is missing",
    ),
    "margin of words": ("plain", lambda m: m.export("m.lnn", period_s=0.1, margin="a"), "`margin` is 'a', expected a"),
    "timespans missing": (
        "timed",
        lambda m: m.predict(X),
        "the model was fitted with timespans, so it needs them here",
    ),
    "timespans too many": (
        "plain",
        lambda m: m.predict(X, timespans=SPANS),
        "the model was fitted without: leave it out",
    ),
    "features": (
        "plain",
        lambda m: m.predict(X[..., :2]),
        "X has 2 features, but LiquidNeuralRegressor is expecting 3",
    ),
    "state's parts": (
        "plain",
        lambda m: m.predict_step(X[0, 0], ()),
        "`state` has parts of shapes [], expected 1 of (1, units), as `warm_up` and `predict_step` return them",
    ),
    "state's rows": ("plain", lambda m: m.predict(X, state=m.warm_up(X[:2])), "expected 1 of (8, units)"),
    "sample's shape": ("plain", lambda m: m.predict_step(X[0]), "`x` has shape (10, 3), expected one sample: (3,)"),
    "sample of NaN": (
        "plain",
        lambda m: m.predict_step([0.0, np.nan, 1.0]),
        "`x` contains NaN or infinity, first in column 1",
    ),
    "timespan of zero": (
        "timed",
        lambda m: m.predict_step(X[0, 0], timespan=0),
        "`timespan` is 0, expected a finite number",
    ),
    "timespan of words": (
        "timed",
        lambda m: m.predict_step(X[0, 0], timespan="1"),
        "`timespan` is '1', expected a finite",
    ),
    "timespan of NaN": ("timed", lambda m: m.predict_step(X[0, 0], timespan=np.nan), "`timespan` is nan, expected"),
    "horizon": ("forecasting", lambda m: m.forecast(0), "`horizon` is 0, expected a whole number of at least 1"),
    "horizon in part": ("forecasting", lambda m: m.forecast(2.5), "`horizon` is 2.5, expected a whole number"),
    "horizon of truth": ("forecasting", lambda m: m.forecast(True), "`horizon` is True, expected a whole number"),
    "horizon behind X": (
        "forecasting",
        lambda m: m.forecast(HISTORY, 5),
        "`horizon` is DataFrame, expected a whole number of at least 1. Type: forecast(horizon, X)",
    ),
    "several histories": (
        "forecasting",
        lambda m: m.forecast(2, [HISTORY, HISTORY]),
        "X holds 2 sequences, expected one",
    ),
    "no history": ("partial", lambda m: m.forecast(1, columns=[0, 1]), "Pass X, the samples that came before"),
    "outputs of no name": (
        "plain",
        lambda m: m.forecast(2, X[0]),
        "the model has 2 outputs for 3 columns of X. Name which columns they are: columns=[...]",
    ),
    "columns' number": (
        "partial",
        lambda m: m.forecast(1, HISTORY, columns=["hip"]),
        "`columns` is ['hip'], expected 2",
    ),
    "a column twice": (
        "partial",
        lambda m: m.forecast(1, HISTORY, columns=[1, "knee"]),
        "expected 2 different columns",
    ),
    "column's name": (
        "partial",
        lambda m: m.forecast(1, HISTORY, columns=["hip", "kne"]),
        "`columns` names 'kne'. Valid: hip, knee, toe. Did you mean 'knee'?",
    ),
    "column's place": (
        "partial",
        lambda m: m.forecast(1, HISTORY, columns=[0, 3]),
        "`columns` holds 3, expected numbers from 0",
    ),
    "column of no kind": (
        "partial",
        lambda m: m.forecast(1, HISTORY, columns=[0, 1.5]),
        "`columns` holds 1.5, expected",
    ),
    "future": (
        "partial",
        lambda m: m.forecast(3, HISTORY, columns=[0, 1]),
        "`future` is missing: 1 columns of X are not",
    ),
    "future's shape": (
        "partial",
        lambda m: m.forecast(3, HISTORY, columns=[0, 1], future=[1.0]),
        "`future` has shape (1, 1), expected (2 or more, 1)",
    ),
    "future of NaN": (
        "partial",
        lambda m: m.forecast(3, HISTORY, columns=[0, 1], future=[1.0, np.nan]),
        "`future` contains NaN or infinity",
    ),
    "future timespans too many": (
        "forecasting",
        lambda m: m.forecast(3, future_timespans=[1, 1]),
        "`future_timespans` was passed, but the model was fitted without timespans",
    ),
    "future timespans missing": (
        "timed",
        lambda m: m.forecast(3, X[0], timespans=SPANS[0], columns=[0, 1], future=[1.0, 1.0]),
        "`future_timespans` is missing: the model was fitted with timespans, and needs them, for 2 samples to come",
    ),
    "future timespans of zero": (
        "timed",
        lambda m: m.forecast(3, X[0], timespans=SPANS[0], columns=[0, 1], future=[1.0, 1.0], future_timespans=[0.1, 0]),
        "`future_timespans` must hold numbers above 0",
    ),
    "score's answers": ("plain", lambda m: m.score(X, Y[:3]), "inconsistent numbers of samples: [8, 3]"),
    "margin": ("plain", lambda m: m.export("m.lnn", period_s=0.1, margin=-1), "`margin` is -1, expected a number"),
    "names": (
        "plain",
        lambda m: m.export("m.lnn", period_s=0.1, inputs=["a", "b"]),
        "`inputs` is ['a', 'b'], expected 3 names, one per column",
    ),
    "timespan in export": (
        "timed",
        lambda m: m.export("m.lnn", timespan=0.1),
        "`timespan` follows from the timespans of training; leave it out",
    ),
    "name of the file": ("plain", lambda m: m.save("m.pkl"), "m.pkl"),
}


@pytest.mark.parametrize("name", USES)
def test_use(name, request, tmp_path, monkeypatch):
    model, call, message = USES[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        call(request.getfixturevalue(model))
    assert not list(tmp_path.iterdir())


def test_labels_are_no_samples():
    model = quick(LiquidNeuralClassifier).fit(X, LABELS)
    with pytest.raises(ValueError, match=r"the model predicts labels, and a forecast needs the next sample.*fit\(X\)"):
        model.forecast(2, X[0])
    model = quick().fit(X, X[:, -1])
    with pytest.raises(ValueError, match="the model predicts one answer per sequence"):
        model.forecast(2, X[0])


def test_files(plain, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors"):
        LiquidNeuralRegressor.load(tmp_path / "nothing.safetensors")
    plain.save(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"m\.safetensors' holds a LiquidNeuralRegressor, ") as got:
        LiquidNeuralClassifier.load(tmp_path / "m.safetensors")
    assert str(got.value).endswith(
        f", not a LiquidNeuralClassifier. Type: LiquidNeuralRegressor.load('{tmp_path / 'm.safetensors'}')"
    )
    lnn_edge.save_checkpoint(CfC(3, 8), tmp_path / "layer.safetensors")
    with pytest.raises(ValueError, match=r"layer\.safetensors' holds no estimator of lnn-edge"):
        LiquidNeuralNetwork.load(tmp_path / "layer.safetensors")
    odd = quick().fit(X, Y).set_params(cell_options={"mode": object()})
    with pytest.raises(TypeError, match=r"parameter `cell_options` is .*which a file without pickle cannot hold"):
        odd.save(tmp_path / "odd.safetensors")
    assert not (tmp_path / "odd.safetensors").exists()


STATES = {
    "too many": ((torch.zeros(1, 8), torch.zeros(1, 8)), r"`state` is 2 tensor\(s\), expected one tensor"),
    "shape": (torch.zeros(4, 7), r"`state` has a tensor of shape \(4, 7\), expected \(2, 8\)"),
}


@pytest.mark.parametrize("name", STATES)
def test_states_of_the_unrolled_pass(name):
    state, message = STATES[name]
    with pytest.raises(ValueError, match=message):
        unrolled(CfC(3, 8, batch_first=True), torch.zeros(2, 5, 3), state)


def leaves(node, path=()):
    """Where every value of a JSON tree is; of a list, whose values are alike, the first and the last."""
    yield path
    if isinstance(node, (dict, list)):
        for key in node if isinstance(node, dict) else sorted({0, len(node) - 1} & set(range(len(node)))):
            yield from leaves(node[key], (*path, key))


def changed(node, path, value):
    if not path:
        return value
    copy = node.copy()
    copy[path[0]] = changed(node[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize("value", [None, -1, 2, 10**9, 0.5, "no such thing", [], {}, [1, 2, 3]], ids=repr)
def test_forged_files(value, plain, tmp_path):
    """A signed description that contradicts itself, each value in turn: an error that names the file, or a model."""
    plain.save(tmp_path / "m.safetensors")
    with safe_open(str(tmp_path / "m.safetensors"), "numpy") as file:
        description = json.loads(file.metadata()["lnn_edge.estimator"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    forged = tmp_path / "forged.safetensors"
    loaded = 0
    for path in leaves(description):
        write_tensors(forged, "estimator", changed(description, path, value), tensors)
        try:
            model = LiquidNeuralRegressor.load(forged)
        except ValueError as error:
            assert "forged.safetensors" in str(error), path  # noqa: PT017 - some changes do no harm
        else:
            loaded += 1
            assert isinstance(model, LiquidNeuralRegressor)
    assert loaded < len(list(leaves(description)))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (("columns",), "its x_mean is not of the 1000000000 columns that it describes"),
        (("learnt", "outputs"), "its y_mean is not of the 1000000000 columns that it describes"),
        (("branches", 0, "cores", 0, "layer", "proj_size"), "it describes sizes that need more weights than the file"),
    ],
    ids=["columns", "outputs", "projection"],
)
def test_sizes_are_refused_before_anything_is_built(path, message, plain, tmp_path):
    """They took a minute and twelve gigabytes."""
    plain.save(tmp_path / "m.safetensors")
    with safe_open(str(tmp_path / "m.safetensors"), "numpy") as file:
        description = json.loads(file.metadata()["lnn_edge.estimator"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    write_tensors(tmp_path / "forged.safetensors", "estimator", changed(description, path, 10**9), tensors)
    with pytest.raises(ValueError, match=rf"forged.safetensors' is damaged: {message}"):
        LiquidNeuralRegressor.load(tmp_path / "forged.safetensors")
