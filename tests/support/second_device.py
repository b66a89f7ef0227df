"""A GPU for torch that is not there: a device whose tensors are apart from the CPU's, and compute on it all the same.

What a GPU refuses is refused here: an operation on tensors of two devices. Run as a program, it trains estimators on
this device and on the CPU, and prints how far their predictions are apart, as JSON.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "second"
ATEN = torch.ops.aten
COPIES = (ATEN.copy_.default, ATEN._to_copy.default)
COMPUTED: Counter[str] = Counter()  # operations on the device, by name


class Elsewhere(torch.Tensor):
    """A tensor on the device; `inner` is its memory."""

    @staticmethod
    def __new__(cls, inner):
        kind = {"dtype": inner.dtype, "device": torch.device(NAME, 0), "storage_offset": inner.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, strides=inner.stride(), **kind)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, operation, _types, arguments=(), keywords=None):
        return computed(operation, arguments, keywords or {})


def computed(operation, arguments, keywords):
    mine, others = {}, []

    def inner(value):
        if isinstance(value, Elsewhere):
            mine[id(value.inner)] = value
            return value.inner
        if isinstance(value, (tuple, list)):
            return [inner(one) for one in value]
        if isinstance(value, torch.Tensor) and value.dim():
            others.append(value)
        return value

    arguments, keywords = inner(arguments), {name: inner(value) for name, value in keywords.items()}
    if mine and operation not in COPIES and others:
        raise RuntimeError(f"{operation}: expected all tensors on one device, found them on {NAME} and cpu")
    target = keywords.get("device")
    leaves = operation is ATEN._to_copy.default and target is not None and torch.device(target).type == "cpu"
    if target is not None and not leaves:
        keywords["device"] = "cpu"
    COMPUTED[str(operation)] += 1

    def back(value):
        if isinstance(value, (tuple, list)):
            return type(value)(map(back, value))
        if leaves or not isinstance(value, torch.Tensor):
            return value
        return mine[id(value)] if id(value) in mine else Elsewhere(value)  # in place: what came in goes out

    return back(operation(*arguments, **keywords))


class Module(_DummyBackendModule):
    """What `torch.second` is: random numbers of its own, which only `manual_seed` here changes."""

    def __init__(self):
        self.seed = 0

    def manual_seed(self, seed):
        self.seed = seed

    manual_seed_all = manual_seed

    def get_rng_state(self, _device=None):
        return torch.tensor([self.seed])

    def set_rng_state(self, state, _device=None):
        self.seed = int(state)

    class device:  # noqa: N801 - torch's name
        def __init__(self, _device):
            pass

        def __enter__(self):
            pass

        def __exit__(self, *_):
            pass


def install() -> torch.library.Library:
    """Make the device known; it is there while the result lives."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda operation, *given, **named: computed(operation, given, named), "PrivateUse1")
    # A module that moves to a GPU keeps its Parameter objects and gets other memory. For this device that takes:
    torch.__future__.set_swap_module_params_on_conversion(True)
    torch.utils.swap_tensors = partial(_swapped, torch.utils.swap_tensors)
    return library


def _swapped(swap, one, other):
    """Torch refuses while something else holds the tensors, and so does the garbage of a fit until it is collected."""
    try:
        swap(one, other)
    except RuntimeError:
        gc.collect()
        swap(one, other)


RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4, 3)).cumsum(axis=1).astype(np.float32)
Y, UP = X[..., :2], np.where(X[:, -1, 0] > 0, "up", "down")
SPANS = RNG.uniform(0.5, 2.0, X.shape[:2]).astype(np.float32)
CASES = {
    "plain": ({}, Y, None),
    "measured": ({}, Y, SPANS),
    "full wiring": ({"wiring": "full"}, Y, None),
    "full wiring, measured": ({"wiring": "full"}, Y, SPANS),
    "stacked": ({"stacked": True}, Y, None),
    "one model per target": ({"per_target": True}, Y, None),
    "mixed memory": ({"mixed_memory": True}, Y, SPANS),
    "windows": ({"window": 3}, Y, None),
    "labels": ({"targets": "sequence", "task": "classification"}, UP, None),
    "held out, noisy": ({"noise": 0.1, "validation_split": 0.25, "patience": 2}, Y, None),
    "loader threads": ({"batch_size": 3, "n_jobs": 2}, Y, None),
    "dropout": ({"wiring": "full", "cell_options": {"backbone_layers": 2, "backbone_dropout": 0.2}}, Y, None),
    "resumed": ({"checkpoint": "run.safetensors", "checkpoint_every": 1}, Y, None),
}


# What the cell computes; the other cases are of the training around it, and CfCs stand for both.
OF_THE_CELL = ("plain", "measured", "full wiring", "full wiring, measured", "stacked", "mixed memory")
TRAININGS = [("CfC", name) for name in CASES] + [("LTC", name) for name in OF_THE_CELL]
# These take a second update, with what the optimizer keeps on the device, or a second validation.
TWO_EPOCHS = ("plain", "held out, noisy", "resumed")


def predicted(device: str, cell: str, name: str):
    from lnn_edge import LiquidNeuralNetwork

    options, y, spans = CASES[name]
    fit, epochs = {"n_jobs": 1} | options, 2 if name in TWO_EPOCHS else 1
    model = LiquidNeuralNetwork(10, cell, epochs=epochs, verbose=0, random_state=0, device=device)
    with tempfile.TemporaryDirectory() as folder:
        if "checkpoint" in fit:
            fit["checkpoint"] = str(Path(folder, fit["checkpoint"]))
            model.fit(X, y, timespans=spans, **(fit | {"epochs": 1}))
        model.fit(X, y, timespans=spans, **fit)
    assert all(p.device.type == "cpu" and type(p) is torch.nn.Parameter for p in model.network_.parameters())
    return (model.predict_proba if model.task_ == "classification" else model.predict)(X, spans)


def main() -> None:
    library = install()
    torch.manual_seed(5)
    torch.second.seed = 6
    apart = {}
    for cell, name in TRAININGS:
        before = COMPUTED.total()
        try:
            apart[f"{cell}, {name}"] = float(np.abs(predicted(NAME, cell, name) - predicted("cpu", cell, name)).max())
        except RuntimeError as error:
            apart[f"{cell}, {name}"] = str(error)
        assert COMPUTED.total() > before + 100, "nothing was computed on the device"
    assert torch.second.seed == 6, "the caller's random numbers on the device are others now"
    json.dump(apart, sys.stdout)
    del library


if __name__ == "__main__":
    main()
