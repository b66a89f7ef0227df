"""Settings of a program for all of torch: they change nothing here, and are as they were afterwards."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from cases import BY_NAME
from exports import quick_export
from ncps.torch import CfC
from torch import nn

import lnn_edge
from lnn_edge.export.torch_settings import usual_torch


@contextlib.contextmanager
def gradients_off():
    torch.set_grad_enabled(False)
    yield
    torch.set_grad_enabled(True)


@contextlib.contextmanager
def default_dtype(dtype=torch.float64):
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device(device="meta"):  # as a GPU would be, on which nothing of NumPy can be
    torch.set_default_device(device)
    yield
    torch.set_default_device(None)


SETTINGS = {
    "gradients": gradients_off,
    "inference": torch.inference_mode,
    "dtype": default_dtype,
    "device": default_device,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.fixture
def everything():
    """All of them at once."""
    with contextlib.ExitStack() as stack:
        for setting in SETTINGS.values():
            stack.enter_context(setting())
        yield


def in_force():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.zeros(1).device.type,
        torch.zeros(1).dtype,
        torch.is_autocast_enabled("cpu"),
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_usual_within_and_as_it_was_afterwards(name):
    usual = in_force()
    with SETTINGS[name]():
        others = in_force()
        assert others != usual
        with usual_torch():
            assert in_force() == usual
        assert in_force() == others
        with pytest.raises(KeyError), usual_torch():
            raise KeyError
        assert in_force() == others
    assert in_force() == usual


def test_export_and_checkpoint(everything, tmp_path):
    before = in_force()
    with usual_torch():
        module = BY_NAME["cfc-units"].build()
        y, _ = module(torch.ones(1, 3, 5))
    quick_export(module, tmp_path / "m.lnn")
    np.testing.assert_allclose(
        lnn_edge.load(tmp_path / "m.lnn").stream().run(np.ones((3, 5))), y[0].detach().numpy(), rtol=0, atol=1e-5
    )
    lnn_edge.save_checkpoint(module, tmp_path / "m.safetensors")
    assert lnn_edge.load_checkpoint(tmp_path / "m.safetensors").state_dict().keys() == module.state_dict().keys()
    assert in_force() == before


class Watched(nn.Module):
    """Notes on how many threads torch runs it."""

    seen: set[int] = set()  # noqa: RUF012 - of all copies

    def __init__(self):
        super().__init__()
        self.encoder, self.rnn = nn.Linear(5, 4), CfC(4, 6)

    def forward(self, x):
        self.seen.add(torch.get_num_threads())
        return self.rnn(self.encoder(x))[0]


def test_an_export_takes_one_thread_from_its_first_call_on(tmp_path):
    """Threads that wait for one another spin: a look at what an encoder sees took three times the CPU time."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        quick_export(Watched(), tmp_path / "m.lnn", example=np.ones((1, 12, 5), np.float32))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert Watched.seen == {1}


def test_fit_and_predict(everything, tmp_path):
    random = np.random.default_rng(0)
    x = random.standard_normal((6, 12, 2))

    def fitted():
        return lnn_edge.LiquidNeuralNetwork(6, "CfC", epochs=2, random_state=0, verbose=0).fit(x, x[..., :1])

    before = in_force()
    model = fitted()
    with usual_torch():
        expected = fitted().predict(x)
    np.testing.assert_array_equal(model.predict(x), expected)
    np.testing.assert_allclose(model.predict_step(x[0, 0])[0], expected[0, 0], rtol=0, atol=1e-6)
    assert model.warm_up(x)[0].shape == (6, 6)
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(lnn_edge.LiquidNeuralNetwork.load(tmp_path / "m.safetensors").predict(x), expected)
    assert in_force() == before
