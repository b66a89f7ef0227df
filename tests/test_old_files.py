"""Files of every version so far: each loads with the code of today and gives the numbers that were recorded with it.

What they are and what made them is in fixtures/make.py.
"""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from bundles import ROOT
from old_files import FIXTURES, assert_near, found, group, recorded, unpickled

import lnn_edge
from lnn_edge import Feature
from lnn_edge.export.checkpoint.source import load_trained
from lnn_edge.former_names import MODULES, NAMES

NETWORK = f"{FIXTURES / 'two_cores.py'}:make_network"

# Two epochs of Adam divide by the size of gradients, so that their rounding moves a weight by more than its own share.
TRAINED = 1e-3


def test_features():
    expected = [Feature("acc_x", "m/s2"), Feature("acc_y", "m/s2"), Feature("gyro_z", "rad/s", limits=(-8.0, 8.0))]
    assert unpickled("values/features.pickle") == expected


def test_manifest():
    assert unpickled("values/manifest.pickle") == lnn_edge.load(FIXTURES / "bundles" / "measured.lnn").manifest


def test_report():
    """It is of the layer of the measured bundle, whose own report holds the same figures as JSON."""
    report = unpickled("values/report.pickle")
    plain = json.loads((FIXTURES / "bundles" / "measured.lnn" / "report.json").read_bytes())
    assert isinstance(report, lnn_edge.ExportReport)
    assert report.passed
    assert (report.steps, report.nodes, report.parameters) == (plain["steps"], plain["nodes"], plain["parameters"])
    assert [c.max_abs for c in report.comparisons] == [c["max_abs"] for c in plain["comparisons"]]
    assert [s.name for s in report.segments] == [s["name"] for s in plain["segments"]]
    assert all(len(curve.error) == report.steps for curve in report.timeline.curves)


def test_functions():
    today = [lnn_edge.load, lnn_edge.export_model, lnn_edge.save_checkpoint, lnn_edge.load_checkpoint]
    assert unpickled("values/functions.pickle") == today


CHECKPOINTS = {
    "layer.safetensors": lambda path: lnn_edge.load_checkpoint(path),
    "network.safetensors": lambda path: load_trained(NETWORK, weights=path, trust_pickle=False).module,
    "state_dict.pt": lambda path: load_trained(NETWORK, weights=path, trust_pickle=False).module,
    "whole_module.pt": lambda path: load_trained(path, weights=None, trust_pickle=True).module,
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint(name, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    kept = recorded(f"checkpoints/{name}")
    module = CHECKPOINTS[name](str(FIXTURES / "checkpoints" / name))
    with torch.no_grad():
        y = module.eval()(torch.from_numpy(kept["x"]))
    y = y if isinstance(y, dict) else {"y": y[0]}
    outputs = group(kept, "output.")
    assert set(y) == set(outputs)
    for key, value in outputs.items():
        assert_near(y[key].numpy(), value)


ESTIMATOR_FILES = ("safetensors", "pickle", "joblib")
CLASSES = {
    "regressor": lnn_edge.LiquidNeuralRegressor,
    "classifier": lnn_edge.LiquidNeuralClassifier,
    "network": lnn_edge.LiquidNeuralNetwork,
    "reloaded": lnn_edge.LiquidNeuralNetwork,
}


def read_estimator(name: str):
    path = FIXTURES / name
    if path.suffix == ".safetensors":
        return CLASSES[path.stem].load(path)
    return joblib.load(path) if path.suffix == ".joblib" else unpickled(name)


@pytest.mark.parametrize("name", [name for kind in ESTIMATOR_FILES for name in found(f"estimators/*.{kind}")])
def test_estimator(name):
    model, kept = read_estimator(name), recorded(name)
    assert type(model) is CLASSES[Path(name).stem]
    assert [record.loss for record in model.history_] == list(kept["losses"])
    x, spans = kept["x"], kept.get("spans")
    y, after = model.predict_step(x[0, 0], None, None if spans is None else float(spans[0, 0]))
    assert_near(y, kept["step"])
    for part, expected in zip(after, group(kept, "after.").values(), strict=True):
        assert_near(part, expected)
    frames = [pd.DataFrame(part, columns=kept["names"].tolist()) for part in x] if "names" in kept else x
    if "probabilities" in kept:
        assert_near(model.predict_proba(frames), kept["probabilities"])
        np.testing.assert_array_equal(model.predict(frames), kept["predicted"])
    else:
        assert_near(model.predict(frames, spans), kept["predicted"])
    if "forecast" in kept:
        assert_near(model.forecast(5), kept["forecast"])


@pytest.mark.parametrize("name", found("estimators/*.pickle"))
def test_estimator_can_be_saved_again(name, tmp_path):
    model = unpickled(name)
    model.save(tmp_path / "again.safetensors")
    again = type(model).load(tmp_path / "again.safetensors")
    assert again.history_ == model.history_
    assert pickle.dumps(model)


def test_interrupted_training_goes_on(tmp_path):
    """The rates of the first epochs are those of a run of two: had it begun anew, they would be those of four."""
    kept = recorded("training/run.safetensors")
    path = shutil.copy(FIXTURES / "training" / "run.safetensors", tmp_path)
    model = lnn_edge.LiquidNeuralRegressor(
        8, "CfC", checkpoint=path, epochs=4, n_jobs=1, verbose=0, random_state=0, batch_size=4
    ).fit(kept["x"], kept["y"])
    assert [record.learning_rate for record in model.history_[:2]] == list(kept["rates"])
    assert [record.loss for record in model.history_[:2]] == list(kept["losses"][:2])
    assert_near([record.loss for record in model.history_], kept["losses"], TRAINED)
    assert_near(model.predict(kept["x"]), kept["predicted"], TRAINED)


# former names


@pytest.mark.parametrize(("module", "name"), NAMES, ids=".".join)
def test_former_name_is_todays(module, name):
    home, today = NAMES[module, name]
    assert getattr(import_module(module), name) is vars(import_module(home))[today]


@pytest.mark.parametrize("module", MODULES)
def test_former_module_has_the_names_of_todays(module):
    home = import_module(MODULES[module])
    for name in home.__all__:
        assert getattr(import_module(module), name) is getattr(home, name)


@pytest.mark.parametrize("module", dict.fromkeys([*MODULES, *(module for module, _ in NAMES)]))
def test_former_module_knows_no_other_names(module):
    for name in ("not_there", "__path_of__"):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
            getattr(import_module(module), name)


def test_former_modules_are_those_that_are_gone():
    """A file of that name would be found first."""
    for module in MODULES:
        place = ROOT.joinpath(*module.split("."))
        assert not place.exists()
        assert not place.with_suffix(".py").exists()


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'lnn_edge\.never'"):
        import_module("lnn_edge.never")


BEGINNING = f"import os, pickle, sys; sys.path.insert(0, {str(ROOT)!r})"
ON_A_DEVICE = """
with open(sys.argv[1], "rb") as file:
    pickle.load(file)
print(sorted({"torch", "onnx", "ncps", "sklearn"} & set(sys.modules)))
"""
# What is slow to import is not ours, so it is imported once, and each file has a child of this process for itself.
IN_TRAINING = """
import joblib, ncps.torch, onnx.reference, sklearn.model_selection, sympy, torch.fx.experimental.symbolic_shapes
for path in sys.argv[1:]:
    child = os.fork()
    if not child:
        assert not [name for name in sys.modules if name.startswith("lnn_edge")]
        torch.load(path, weights_only=False) if path.endswith(".pt") else joblib.load(path)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{path} could not be unpickled")
"""


@pytest.mark.parametrize("name", [name for name in found("values/*.pickle") if "functions" not in name])
def test_a_fresh_process_unpickles_what_a_device_holds(name, python):
    done = python("-I", "-c", BEGINNING + ON_A_DEVICE, FIXTURES / name)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_fresh_process_unpickles_what_training_leaves(warm):
    """A joblib file names what its pickle does, so that one stands for all."""
    names = [*found("estimators/*.pickle"), "estimators/regressor.joblib", *found("checkpoints/*.pt")]
    paths = [FIXTURES / name for name in [*names, "values/functions.pickle"]]
    command = ["python", "-c", BEGINNING + IN_TRAINING, *map(str, paths)]
    done = subprocess.run(command, env=warm, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
