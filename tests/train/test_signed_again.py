"""Files of estimators and of training runs that somebody changed and signed again: refused in a sentence, or used."""

from __future__ import annotations

import re

import msgspec
import numpy as np
import pytest
from ncps.wirings import AutoNCP

from lnn_edge import LiquidNeuralClassifier, LiquidNeuralRegressor
from lnn_edge.tensor_file import read_tensors, write_tensors
from lnn_edge.train.fit.checkpoint import _Description
from lnn_edge.train.saving import SavedEstimator

RNG = np.random.default_rng(1)
X = RNG.standard_normal((12, 10, 3)).astype(np.float32)
Y = X[..., :2].cumsum(axis=1)
LABELS = np.where(X[:, -1, 0] > 0, "up", "down")


def quick(kind=LiquidNeuralRegressor, **options):
    return kind(6, "CfC", **{"epochs": 1, "n_jobs": 1, "verbose": 0, "random_state": 0} | options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    quick(wiring=AutoNCP(8, 2)).fit(X, Y).save(folder / "LiquidNeuralRegressor.safetensors")
    quick(LiquidNeuralClassifier).fit(X, LABELS).save(folder / "LiquidNeuralClassifier.safetensors")
    return folder


def forged(saved, target, kind, change):
    """A file of which the description, as plain JSON, and the arrays were changed."""
    described, arrays = read_tensors(saved / f"{kind.__name__}.safetensors", "estimator", SavedEstimator, 1)
    plain, arrays = msgspec.to_builtins(described), {name: np.array(value) for name, value in arrays.items()}
    change(plain, arrays)
    write_tensors(target, "estimator", plain, arrays)
    return target


ESTIMATORS = {
    "a range that broadcasts": (lambda _, a: a.update(x_range=np.ones((2, 1))), "its x_range is float64 (2, 1), exp"),
    "a centre that broadcasts": (lambda _, a: a.update(x_center=np.ones(1)), "its x_center is float64 (1,), exp"),
    "a range of NaN": (lambda _, a: a.update(y_range=np.full((2, 2), np.nan)), "its y_range is float64 (2, 2), exp"),
    "an example of text": (lambda _, a: a.update({"example.0": np.ones((4, 2), np.float32)}), "its example.0 is fl"),
    "weights of whole numbers": (
        lambda _, a: a.update({"network.x_mean": np.ones(3, np.int64)}),
        "tensor 'x_mean' is torch.int64 [3], expected torch.float32 [3]",
    ),
    "weights that are missing": (lambda _, a: a.pop("network.x_scale"), "tensor 'x_scale' is missing"),
    "an unknown weight": (lambda _, a: a.update({"network.z\n": np.ones(1)}), "tensor 'z' is unknown"),
    "a synapse of no neuron": (
        lambda d, _: d["wiring"].update(synapses=[[99, 0, 1.0]]),
        "its `wiring` is not that of its layers",
    ),
    "a wiring of no layer": (lambda d, _: d.update(branches=[]), "its `wiring` is not that of its layers"),
    "a parameter of many lines": (lambda d, _: d["params"].update({"a\nb" * 999: 1}), "unexpected keyword argument"),
    "a field of many lines": (lambda d, _: d.update({"a\nb" * 999: 1}), "its description is not valid: Obj"),
    "names of no output": (lambda d, _: d["learnt"].update(output_names=["a"]), "it names 1 outputs of 2"),
    "tails": (lambda d, _: d["learnt"].update(tails=-1), "it has -1 tails, expected 2"),
    "classes of values": (
        lambda d, _: d["learnt"].update(classes=[0, 1], classes_dtype="<i8"),
        "its classes are not those of 2 outputs of a regression",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator(saved, tmp_path, name):
    change, message = ESTIMATORS[name]
    path = forged(saved, tmp_path / "m.safetensors", LiquidNeuralRegressor, change)
    with pytest.raises(ValueError, match=rf"m.safetensors' is damaged: .*{re.escape(message)}") as caught:
        LiquidNeuralRegressor.load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800


def test_a_class_too_few(saved, tmp_path):
    path = forged(saved, tmp_path / "m.safetensors", LiquidNeuralClassifier, lambda d, _: d["learnt"]["classes"].pop())
    with pytest.raises(ValueError, match="its classes are not those of 2 outputs of a classification"):
        LiquidNeuralClassifier.load(path)


def test_a_name_of_many_lines(saved, tmp_path):
    path = forged(
        saved, tmp_path / "m.safetensors", LiquidNeuralRegressor, lambda d, _: d.update(estimator="a\nb" * 99)
    )
    with pytest.raises(ValueError, match=r"holds a a ba ba .*\.\.\., not a LiquidNeuralRegressor"):
        LiquidNeuralRegressor.load(path)


FORGED = {
    "a weight that is missing": (lambda a: a.pop("weights.x_mean"), "tensor 'x_mean' is missing. Remove it to begin"),
    "a weight of another shape": (lambda a: a.update({"best.x_mean": np.ones(1, np.float32)}), "expected torch."),
    "an unknown weight": (lambda a: a.update({"weights.x": np.ones(1)}), "tensor 'x' is unknown"),
    "a tensor of no run": (lambda a: a.update({"tensor": np.ones(1)}), "tensor 'tensor' is none of a run"),
    "no number": (lambda a: a.update({"optimizer.one.step": np.ones(1)}), "tensor 'optimizer.one.step' is none"),
    "a parameter too many": (lambda a: a.update({"optimizer.999.step": np.ones(())}), "Adam's state 999 is of no para"),
    "Adam's shape": (lambda a: a.update({"optimizer.0.exp_avg": np.ones(1)}), "Adam's state 0 has another shape than"),
    "Adam's steps": (lambda a: a.update({"optimizer.0.step": np.ones(2)}), "Adam's state 0 counts its steps by"),
}  # fmt: skip


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run.safetensors"
    quick(checkpoint=path).fit(X, Y)
    return path


@pytest.mark.parametrize("name", FORGED)
def test_a_checkpoint_that_is_changed_and_signed_again_is_refused_in_words(begun, tmp_path, name):
    change, message = FORGED[name]
    path = tmp_path / "run.safetensors"
    described, arrays = read_tensors(begun, "training", _Description, 1)
    arrays = {key: np.array(value) for key, value in arrays.items()}
    change(arrays)
    write_tensors(path, "training", described, arrays)
    with pytest.raises(ValueError, match=re.escape(message)):
        quick(epochs=2, checkpoint=path).fit(X, Y)


@pytest.mark.parametrize("changes", [{"best_epoch": 2}, {"best_epoch": -1}, {"seed": 2**40}, {"history": []}])
def test_a_run_that_cannot_have_been_is_refused_in_words(begun, tmp_path, changes):
    path = tmp_path / "run.safetensors"
    described, arrays = read_tensors(begun, "training", _Description, 1)
    write_tensors(path, "training", msgspec.structs.replace(described, **changes), arrays)
    with pytest.raises(ValueError, match=r"is damaged: it contradicts itself: .*Remove it to begin anew"):
        quick(epochs=2, checkpoint=path).fit(X, Y)
