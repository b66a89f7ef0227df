"""Warnings that name the line of the calling program, however deep they arise."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from cases import BY_NAME
from exports import quick_export

import lnn_edge
from lnn_edge.errors import ModelWarning

RANDOM = np.random.default_rng(0)


def lines(caught):
    return {(warning.filename, warning.lineno) for warning in caught}


def test_fit():
    x = RANDOM.standard_normal((4, 10, 2))
    far = (x + 5.4e6).astype(np.float32)
    estimator = lnn_edge.LiquidNeuralNetwork(4, "CfC", epochs=1, verbose=0)
    line = sys._getframe().f_lineno + 2
    with pytest.warns(ModelWarning) as caught:
        estimator.fit(far, x[..., :1])
    assert lines(caught) == {(__file__, line)}


def test_step_and_run(tmp_path):
    module, mean = BY_NAME["cfc-units"].build(), np.full(5, 5.4e6)
    x = RANDOM.standard_normal((40, 5)) + mean
    quick_export(module, tmp_path / "m.lnn", example=x, scale_inputs=(mean, np.ones(5)))
    model = lnn_edge.load(tmp_path / "m.lnn")
    for call in (lambda s: s.step(x[0].astype(np.float32)), lambda s: s.run(x.astype(np.float32))):
        stream = model.stream()
        with pytest.warns(ModelWarning, match="too coarse") as caught:
            call(stream)
        assert lines(caught) == {(__file__, call.__code__.co_firstlineno)}
