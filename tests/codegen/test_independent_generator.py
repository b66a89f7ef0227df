"""The step as C beside C that another generator, emx-onnx-cgen, makes of the bundle's `model.onnx`, closed loop."""

from __future__ import annotations

import ctypes
import re
import subprocess

import numpy as np
import pytest
from compilations import counted
from other_generator import c_of

import lnn_edge
from lnn_edge.bundle.directory import read_bundle

STEPS = 2000
BUNDLES = ("cfc_bundle", "ltc_bundle")
LIMIT = 1e-5  # relative above 1, as between any two backends and torch: both round as they like


@pytest.fixture(scope="module")
def foreign(tmp_path_factory, request):
    """A library of the graphs of all bundles, with the text of each."""
    folder = tmp_path_factory.mktemp("foreign")
    names = [f"{name}.c" for name in BUNDLES]
    texts = {
        name: c_of(request.getfixturevalue(name) / "model.onnx", name, folder / file)
        for name, file in zip(BUNDLES, names, strict=True)
    }
    with counted("emx-onnx-cgen"):
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", *names, "-o", "emx.so", "-lm"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "emx.so")), texts


def tensors_of(name, source):
    """The tensors of a step's call, in its order."""
    (arguments,) = re.findall(rf"^void {name}\((.*)\) {{", source, re.M)
    return re.findall(r"float (\w+)\[", arguments)


@pytest.mark.parametrize("name", BUNDLES)
def test_both_give_the_same(foreign, name, request, compiler):
    path = request.getfixturevalue(name)
    library, sources = foreign
    call = getattr(library, name)
    manifest = read_bundle(path).manifest
    stream = lnn_edge.load(path, backend="native", options={"tune": "off"}).stream()
    order = tensors_of(name, sources[name])
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
