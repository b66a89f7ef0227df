"""The NumPy reference against torch in float64: the same equations to the last digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import CASES, INPUTS, Case
from ncps.torch import LTC, CfC

from lnn_edge.bundle.spec import Time
from lnn_edge.export.cores.liquid import core_from_module
from lnn_edge.export.trained.core_step import CoreStep
from lnn_edge.reference.functions import gelu, sigmoid, silu, softplus
from lnn_edge.reference.interpreter import Interpreter

# Both compute in float64 with another order of summation: some hundred roundings of 1e-16 on values of order 1.
LIMIT = 1e-12

MEASURED = Time("measured", 1.0, 1.0, (0.1, 10.0))  # one timespan is one second


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reference_equals_torch_in_float64(case: Case):
    """With a timespan of its own for each step: shorter, equal and longer than that of the training."""
    module = case.build().double().eval()
    module.return_sequences = True
    program = Interpreter(CoreStep(core_from_module(module), 1).program(MEASURED))
    x = np.random.default_rng(0).standard_normal((60, INPUTS))
    timespans = np.resize([0.3, 1.0, 4.0], 60)
    state = program.start(1)
    hx = tuple(torch.zeros(value.shape, dtype=torch.float64) for value in state.values())
    axis = 0 if module.batch_first else 1
    spans = torch.from_numpy(timespans).unsqueeze(axis)
    with torch.no_grad():
        y, _ = module(torch.from_numpy(x).unsqueeze(axis), hx if len(hx) > 1 else hx[0], timespans=spans)
    expected = y.squeeze(axis).numpy()
    for k in range(60):
        got, state = program.step({"input": x[k : k + 1]}, state, timespans[k : k + 1])
        # torch's Softplus is linear above 20, which costs up to 2e-9; these weights stay below
        np.testing.assert_allclose(got["output"][0], expected[k], rtol=0, atol=LIMIT)


def test_ltc_solver_is_first_order():
    """The fused step of Eq. 3 is semi-implicit Euler: twice the unfolds halve the error."""
    exact = _after_one_step(unfolds=4096)
    errors = [np.abs(_after_one_step(unfolds) - exact).max() for unfolds in (16, 32, 64)]
    order = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(order, 1.0, atol=0.1)


def _after_one_step(unfolds):
    torch.manual_seed(0)
    cell = core_from_module(LTC(3, 6, ode_unfolds=unfolds)).cell
    return cell.step(np.full((1, 3), 0.4), np.full((1, 6), 0.3), 1.0)[1]


def test_gate_sign_follows_ncps():
    """With a huge positive time_b the gate is open and the output is ff2's, not ff1's as in the paper."""
    torch.manual_seed(0)
    module = CfC(2, 4, backbone_layers=0)
    with torch.no_grad():
        module.rnn_cell.time_b.bias.fill_(100.0)
        module.rnn_cell.ff1.bias.fill_(5.0)
        module.rnn_cell.ff2.bias.fill_(-5.0)
    y, _ = core_from_module(module).cell.step(np.zeros((1, 2)), np.zeros((1, 4)), 1.0)
    np.testing.assert_allclose(y, np.tanh(-5.0), atol=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (sigmoid, torch.sigmoid),
        (silu, torch.nn.functional.silu),
        (gelu, torch.nn.functional.gelu),
        (softplus, torch.nn.functional.softplus),
    ],
)
def test_functions_for_all_arguments(ours, theirs):
    x = np.concatenate([np.linspace(-50, 50, 2001), [-1e4, 1e4]])
    # torch's softplus is linear above its threshold of 20: exp(-20) = 2.1e-9
    np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)).numpy(), rtol=1e-12, atol=2.2e-9)
