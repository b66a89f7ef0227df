"""Leftovers of a training loop or a node on a model, which do not reach torch's deepcopy."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from exports import quick_export
from ncps.torch import CfC
from torch import nn

SAMPLES = np.random.default_rng(4).normal(size=(40, 3)).astype(np.float32)


class Settings:
    """An object of the user's own."""

    def __init__(self, **held):
        vars(self).update(held)


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = CfC(3, 5)
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def left_over():
    """A state with a graph behind it, as the last training step leaves it."""
    return CfC(3, 5)(torch.zeros(1, 4, 3))[1]


LEFT = {
    "a tensor": left_over,
    "a tensor in a dict": lambda: {"last": (left_over(), [left_over()])},
    "a tensor in an object": lambda: Settings(state=left_over()),
    "a lock": threading.Lock,
    "a lock in an object": lambda: Settings(lock=threading.Lock(), states=[left_over()]),
    "a generator": lambda: (k for k in range(3)),
    "an open file": lambda: open("/dev/null"),  # noqa: SIM115 - as a logger holds it
}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("kind", LEFT)
@pytest.mark.parametrize("build", [lambda: CfC(3, 5), Policy], ids=["layer", "network"])
def test_a_model_that_holds_something_of_its_training(tmp_path, build, kind):
    torch.manual_seed(5)
    model = build()
    model.hidden = held = LEFT[kind]()
    assert quick_export(model, tmp_path / "m.lnn", example=SAMPLES).passed
    assert model.hidden is held
    if hasattr(held, "close"):
        held.close()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_old_norms_of_weights_name_what_removes_them(tmp_path, name):
    model = CfC(3, 5)
    getattr(nn.utils, name)(model.rnn_cell.ff1)
    with pytest.raises(TypeError, match=f"those of {name}. Type: torch.nn.utils.remove_{name}"):
        quick_export(model, tmp_path / "m.lnn", example=SAMPLES)


class OneStep(Policy):
    def forward(self, x, h):
        y, h = self.rnn(x[:, None], h)
        return self.head(y[:, 0]), h


def test_a_forward_of_one_step_is_pointed_to_step(tmp_path):
    with pytest.raises(ValueError, match=r"that is the step\. Type: step=lambda model, x, state"):
        quick_export(OneStep(), tmp_path / "m.lnn", example=SAMPLES)
    assert quick_export(
        OneStep(), tmp_path / "m.lnn", example=SAMPLES, step=lambda model, x, state: OneStep.forward(model, x, state)
    ).passed
