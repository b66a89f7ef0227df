"""The step as C beside C that another generator, emx-onnx-cgen, makes of the bundle's `model.onnx`, closed loop."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys

import numpy as np
import pytest
from compilations import counted

import lnn_edge
from lnn_edge.bundle.directory import read_bundle

STEPS = 2000
BUNDLES = ("cfc_bundle", "ltc_bundle")
LIMIT = 1e-5  # relative above 1, as between any two backends and torch: both round as they like


@pytest.fixture
def foreign(tmp_path):
    """Makes a library of a bundle's graph, and gives its step and its text."""

    def made(bundle):
        command = [
            sys.executable,
            "-m",
            "emx_onnx_cgen",
            "compile",
            "--model-name",
            "emx",
            bundle / "model.onnx",
            "emx.c",
        ]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        with counted("emx-onnx-cgen"):
            subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "emx.c", "-o", "emx.so", "-lm"], cwd=tmp_path, check=True)
        return ctypes.CDLL(str(tmp_path / "emx.so")).emx, (tmp_path / "emx.c").read_text()

    return made


def tensors_of(source):
    """The tensors of a step's call, in its order."""
    (arguments,) = re.findall(r"^void emx\((.*)\) {", source, re.M)
    return re.findall(r"float (\w+)\[", arguments)


@pytest.mark.parametrize("name", BUNDLES)
def test_both_give_the_same(foreign, name, request, compiler):
    path = request.getfixturevalue(name)
    call, source = foreign(path)
    manifest = read_bundle(path).manifest
    stream = lnn_edge.load(path, backend="native", options={"tune": "off"}).stream()
    order = tensors_of(source)
    shapes = manifest.sample_inputs() | manifest.results() | {s.input: s.shape for s in manifest.states}
    assert set(order) == set(shapes)
    arrays = {tensor: np.zeros(shapes[tensor], np.float32) for tensor in order}
    pointers = [ctypes.c_void_p(arrays[tensor].ctypes.data) for tensor in order]
    rng, (low, high) = np.random.default_rng(3), manifest.time.dt_range_s or (1, 1)
    (sample,) = manifest.streamed
    worst = 0.0
    for k in range(STEPS):
        if k % 500 == 0:
            stream.reset()
            for state in manifest.states:
                arrays[state.input][...] = state.initial or 0
        arrays[sample.name][...] = rng.uniform(-1, 1, shapes[sample.name])
        timing = {}
        if "dt" in arrays:
            arrays["dt"][...] = rng.uniform(low, high)
            timing = {"dt_s": float(arrays["dt"].flat[0])}
        call(*pointers)
        y = stream.step(arrays[sample.name][0], **timing)
        expected = arrays[manifest.outputs[0].name][0]
        worst = max(worst, float(np.max(np.abs(y - expected) / np.maximum(np.abs(expected), 1))))
        for state in manifest.states:
            arrays[state.input][...] = arrays[state.output]
    assert worst < LIMIT
