"""Estimators pickled before metadata was one struct and arrays by name."""

import numpy as np
import pytest

from lnn_edge.train import LiquidNeuralClassifier, LiquidNeuralRegressor
from lnn_edge.train.former_pickles import FormerMetadata, todays_state

X = np.random.default_rng(0).normal(size=(4, 9, 2)).astype(np.float32)
QUICK = {"wiring": "full", "model_type": "CfC", "epochs": 1, "verbose": 0, "random_state": 0}


def former_state(model):
    """The attributes as they were then: arrays in the object that held the facts too."""
    state = dict(vars(model))
    metadata, arrays = state.pop("_metadata"), state.pop("_arrays")
    former = FormerMetadata()
    facts = {name: getattr(metadata, name) for name in metadata.__struct_fields__}
    for name in ("classes_dtype", "examples", "tails"):
        del facts[name]
    vars(former).update(
        facts,
        classes=metadata.class_array(),
        x_range=arrays["x_range"],
        y_range=arrays["y_range"],
        example=tuple(metadata.example(arrays)),
        tail=tuple(metadata.tail(arrays)),
    )
    return {**state, "_learnt": former}


FITTED = {
    "labels": lambda: LiquidNeuralClassifier(6, **QUICK).fit(X, np.array(["a", "b", "a", "b"])),
    "forecasts": lambda: LiquidNeuralRegressor(6, **QUICK).fit(X[0]),
}


@pytest.mark.parametrize("name", FITTED)
def test_the_former_layout_becomes_todays(name):
    model = FITTED[name]()
    again = type(model)()
    again.__setstate__(former_state(model))
    assert again._metadata == model._metadata
    assert list(again._arrays) == list(model._arrays)
    for name, array in model._arrays.items():
        np.testing.assert_array_equal(again._arrays[name], array)
    np.testing.assert_array_equal(again.predict(X[:1]), model.predict(X[:1]))
    assert not hasattr(again, "_learnt")


def test_todays_layout_stays():
    assert todays_state({"epochs": 3}) == {"epochs": 3}
