"""Large LTCs: more columns than ONNX's own evaluator gathers rightly, so the step program has to be their truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exports import quick_export
from ncps.torch import LTC
from ncps.wirings import AutoNCP

import lnn_edge

MODELS = {
    "many-inputs": lambda: LTC(256, AutoNCP(19, 1)),
    "many-neurons": lambda: LTC(64, AutoNCP(256, 16)),
}


@pytest.mark.parametrize("name", MODELS)
def test_large_ltc_is_exported_and_steps_like_torch(name, tmp_path):
    torch.manual_seed(1)
    module = MODELS[name]().eval()
    quick_export(module, tmp_path / "m.lnn")
    x = np.random.default_rng(0).standard_normal((30, module.input_size)).astype(np.float32)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)[None])[0][0].numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)  # the tolerance of a proof
