"""Constants beside a product become part of its weights: same values, fewer nodes; and where they must not."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exports import quick_export
from ncps.torch import CfC
from torch import nn

import lnn_edge
from lnn_edge.bundle.spec import Time
from lnn_edge.export.step_graph import step_graph
from lnn_edge.export.trace.folding import per_channel
from lnn_edge.export.trained.open import open_module

LIMIT = 1e-5  # as for networks


class Around(nn.Module):
    """A CfC between an encoder and a head."""

    def __init__(self, encoder, head, inputs=5):
        super().__init__()
        self.encoder, self.rnn, self.head = encoder, CfC(inputs, 4, backbone_units=8), head

    def forward(self, x):
        batch, time = x.shape[:2]
        z = self.encoder(x.flatten(0, 1)).reshape(batch, time, -1)
        y = self.rnn(z)[0].flatten(0, 1)
        result = self.head(y)
        return (
            tuple(part.reshape(batch, time, -1) for part in result)
            if isinstance(result, tuple)
            else (result.reshape(batch, time, -1))
        )


class Call(nn.Module):
    """A function with modules in it."""

    def __init__(self, function, *parts):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x):
        return self.function(x, *self.parts)


def norm(kind, width):
    """Batch normalisation as training leaves it."""
    module = kind(width)
    for tensor in (module.weight, module.running_var):
        tensor.data = torch.rand(width) + 0.5
    for tensor in (module.bias, module.running_mean):
        tensor.data = torch.randn(width)
    return module


MEAN, STD = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.5]), torch.tensor([0.5, 2.0, 1.0, 3.0, 0.7])
OUT, SPAN = torch.tensor([3.0, -2.0]), torch.tensor([10.0, 0.1])


def operators(module, tmp_path, x=None):
    """Operators around the core, after a proof that they compute what torch computes."""
    torch.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((1, 30, 5)).astype(np.float32) if x is None else x
    quick_export(module, tmp_path / "m.lnn", example=x)
    model = lnn_edge.load(tmp_path / "m.lnn")
    got = model.stream().run(x[0])
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(x))
    for mine, theirs in zip(
        got.values() if isinstance(got, dict) else [got],
        expected if isinstance(expected, tuple) else [expected],
        strict=True,
    ):
        theirs = theirs[0].numpy()
        np.testing.assert_allclose(mine, theirs, rtol=LIMIT, atol=LIMIT)
    return counted(onnx.load(tmp_path / "m.lnn" / "model.onnx")) - core_operators()


def counted(model):
    """Operators; a state that is an output as well is copied, times 1."""
    return Counter("copy" if node.input[-1] == "one" else node.op_type for node in model.graph.node)


def core_operators():
    """What the core alone takes."""
    torch.manual_seed(0)
    module = Around(nn.Identity(), nn.Identity())
    model = step_graph(
        open_module(module).trained(1, {"input": [np.zeros((3, 1, 5), np.float32)]}).program(Time("fixed"))
    )
    return counted(model) - Counter({"copy": 1})  # which a head makes unnecessary


FOLDED = {
    "linear-norm": (lambda: nn.Sequential(nn.Linear(5, 5), norm(nn.BatchNorm1d, 5)), nn.Identity, {"Gemm": 1}),
    "linear-norm-linear": (
        lambda: nn.Sequential(nn.Linear(5, 6), norm(nn.BatchNorm1d, 6), nn.ReLU(), nn.Linear(6, 5)),
        nn.Identity,
        {"Gemm": 2, "Relu": 1},
    ),
    "no-bias-norm": (
        lambda: nn.Sequential(nn.Linear(5, 5, bias=False), norm(nn.BatchNorm1d, 5)),
        nn.Identity,
        {"Gemm": 1},
    ),
    "norm-linear": (lambda: nn.Sequential(norm(nn.BatchNorm1d, 5), nn.Linear(5, 5)), nn.Identity, {"Gemm": 1}),
    "standardised": (lambda: Call(lambda x, a: a((x - MEAN) / STD), nn.Linear(5, 5)), nn.Identity, {"Gemm": 1}),
    "reversed": (lambda: Call(lambda x, a: a(1.0 - 2.0 * x), nn.Linear(5, 5)), nn.Identity, {"Gemm": 1}),
    "selu": (
        lambda: nn.Sequential(nn.Linear(5, 6), nn.SELU(), nn.Linear(6, 5)),
        nn.Identity,
        {"Gemm": 2, "Elu": 1},
    ),
    "scaled-output": (nn.Identity, lambda: Call(lambda y, a: a(y) * SPAN + OUT, nn.Linear(4, 2)), {"Gemm": 1}),
    "divided-output": (nn.Identity, lambda: Call(lambda y, a: 2.0 - a(y) / SPAN, nn.Linear(4, 2)), {"Gemm": 1}),
    "masked-output": (
        nn.Identity,
        lambda: Call(lambda y, a: torch.where(torch.tensor([True, False]), a(y), 0.5), nn.Linear(4, 2)),
        {"Gemm": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_constants_fold(name, tmp_path):
    encoder, head, expected = FOLDED[name]
    torch.manual_seed(1)
    found = operators(Around(encoder(), head()), tmp_path)
    if head is nn.Identity:
        found -= Counter({"copy": 1})
    assert found == Counter(expected)


IMAGE_MEAN, IMAGE_STD = torch.tensor([0.48, 0.45, 0.4]).view(3, 1, 1), torch.tensor([0.22, 0.3, 0.25]).view(3, 1, 1)


@pytest.mark.parametrize(("padding", "left"), [(0, {}), (1, {"Sub": 1})])
def test_convolutions(padding, left, tmp_path):
    """Image normalisation goes into the kernel; its shift only where no zeros are padded, which it would move too."""
    torch.manual_seed(1)
    convolution = nn.Conv2d(3, 4, 3, padding=padding)
    encoder = Call(
        lambda x, a, b: b(a((x - IMAGE_MEAN) / IMAGE_STD)).mean((2, 3)), convolution, norm(nn.BatchNorm2d, 4)
    )
    x = np.random.default_rng(0).random((1, 20, 3, 6, 6), np.float32)
    found = operators(Around(encoder, nn.Identity(), inputs=4), tmp_path, x)
    assert found - Counter({"copy": 1, "Reshape": 2}) == Counter({"Conv": 1, "ReduceMean": 1} | left)


KEPT = {
    "two-users": (lambda y, a: (z := a(y), z * SPAN), {"Gemm": 1, "Mul": 1}),
    "own-output": (lambda y, a: (a(y) * SPAN + OUT, y), {"Gemm": 1}),
    "scaled-twice": (lambda y, a: (z := a(y)) * SPAN + torch.tanh(z), {"Gemm": 1, "Mul": 1, "Add": 1, "Tanh": 1}),
    "squared": (lambda y, a: (z := a(y) * SPAN) * z, {"Gemm": 1, "Mul": 1}),
    "differs-between-values": (lambda y, a: a(y) * y[..., :1], {"Gemm": 1, "Mul": 1, "Slice": 1}),
    "nonlinear-between": (lambda y, a: torch.tanh(a(y)) * SPAN + OUT, {"Gemm": 1, "Tanh": 1, "Mul": 1, "Add": 1}),
    "gelu": (lambda y, a: nn.functional.gelu(a(y)), {"Gemm": 1, "Mul": 3, "Erf": 1, "Add": 1}),
    "added-to-itself": (lambda y, a: (lambda z: torch.add(z, z, alpha=2.0))(a(y)), {"Gemm": 1, "Mul": 1, "Add": 1}),
    "neutral": (lambda y, a: torch.tanh(a(y)) * 1.0 + 0.0, {"Gemm": 1, "Tanh": 1}),
    "number-over-value": (lambda y, a: 1.0 / (a(y) + 9.0), {"Gemm": 1, "Div": 1}),
}


@pytest.mark.parametrize("name", KEPT)
def test_nothing_folds_that_others_see(name, tmp_path):
    function, expected = KEPT[name]
    torch.manual_seed(1)
    found = operators(Around(nn.Identity(), Call(function, nn.Linear(4, 2))), tmp_path)
    assert found - Counter({"copy": 1}) == Counter(expected)


def test_a_large_mean_is_subtracted_first():
    """Behind the product, 293 K +- 0.05 would lose the digits that matter: with it, the step equals torch."""
    mean = torch.tensor([293.15, 101325.0, 0.5, 0.0, 1.0])
    std = torch.tensor([0.05, 20.0, 1.0, 1.0, 1.0])
    torch.manual_seed(1)
    module = Around(Call(lambda x, a: a((x - mean) / std), nn.Linear(5, 5)), nn.Identity()).eval()
    x = (mean + std * torch.randn(1, 40, 5)).numpy()
    model = step_graph(open_module(module).trained(1, {"input": [x[0][:, None]]}).program(Time("fixed")))
    assert Counter(node.op_type for node in model.graph.node)["Sub"] == core_operators()["Sub"] + 1
    assert Counter(node.op_type for node in model.graph.node)["Div"] == 0  # the scale folds all the same
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    state, got = np.zeros((1, 4), np.float32), []
    for sample in x[0]:
        y, state = session.run(["output", "h_out"], {"input": sample[None], "h_in": state})
        got.append(y[0])
    with torch.no_grad():
        expected = module(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(np.stack(got), expected, rtol=0, atol=LIMIT)


def test_per_channel():
    vector = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(per_channel(vector, (2, 1, 3), (2, 3), 1), vector)
    np.testing.assert_array_equal(per_channel(0.5, (2, 1, 3), (2, 3), 1), [0.5] * 3)
    assert per_channel(vector.reshape(1, 3, 1), (1, 3, 2), (1, 6), 1).tolist() == [1, 1, 2, 2, 3, 3]
    assert per_channel(vector.reshape(3, 1), (3, 2), (3, 2), 1) is None  # differs between rows
    assert per_channel(vector, (1, 3), (1, 6), 1) is None  # other elements
