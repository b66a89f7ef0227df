"""The golden sequence of a bundle of each kind in everybody else's runtime, states fed back there.

`make build/runtimes/ready` installs them outside the environment, `make runtimes` runs these tests too. What is missing
is skipped by name, and fails in CI. docs/runtimes.md says what came of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bundles import ROOT
from cases import BY_NAME
from exports import locked, proven, shared_folder
from networks import NETWORKS, built, images

from lnn_edge.bundle.directory import read_bundle
from lnn_edge.bundle.golden import decode_golden
from lnn_edge.runtime.state import initial_state

SUPPORT = ROOT / "tests" / "support"
HERE = Path(os.environ.get("LNN_EDGE_RUNTIMES", ROOT / "build" / "runtimes"))
MEASURED = {"time": "measured", "period_s": 0.1}
STEPS = 200
# Closed loop, relative above 1: as between any two backends and torch, which round as they like.
LIMIT = 1e-5
# In half precision runtimes compute in float16 or in float32, and round between nodes or not; the proof allows 2e-2.
HALF_LIMIT = 5e-3


def conv_encoder():
    return built(NETWORKS["conv-encoder"][0])


BUNDLES = {
    "ltc-mixed": (BY_NAME["ltc-mixed"].build, MEASURED),
    "cfc-autoncp": (BY_NAME["cfc-autoncp"].build, MEASURED),
    "cfc-fixed": (BY_NAME["cfc-pure-autoncp"].build, {}),
    "blocks": (BY_NAME["cfc-units"].build, MEASURED | {"unroll": 4}),
    "rows": (BY_NAME["cfc-mixed"].build, MEASURED | {"batch": 4}),
    "conv-encoder": (conv_encoder, {"example": images()}),
    "half": (BY_NAME["cfc-mixed-autoncp"].build, MEASURED | {"precision": "float16"}),
}


# Where each lies, and the program without which it cannot be installed.
RUNTIMES = {
    "openvino": ("pypi/openvino", ""),
    "onnxruntime-1.20": ("pypi/onnxruntime", ""),
    "tract": ("pypi/tract", ""),
    "mnn": ("pypi/MNN", ""),
    "onnxruntime-node": ("node_modules/onnxruntime-node", "npm"),
}


def needs(name: str) -> Path:
    """The folder that a runtime lies in; without it the test is skipped, and in CI fails if it can be installed."""
    place, program = RUNTIMES[name]
    if not (HERE / place).is_dir():
        can = not program or shutil.which(program) is not None
        say = pytest.fail if can and os.environ.get("CI") == "true" else pytest.skip
        say(f"{name} is not in {HERE}. Type: make build/runtimes/ready")
    return (HERE / place).parent


# Their machines have cores of others, and idle threads of theirs would spin on them.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def laid_out(factory, name):
    """The golden sequence of a bundle as runtimes read it, for all tests and workers of a run.

    Returns:
        Its folder, and what the trained model makes of it.
    """
    make, options = BUNDLES[name]
    bundle = read_bundle(proven(factory, make, short=True, steps=STEPS, **options))
    manifest = bundle.manifest
    golden = decode_golden(bundle.files["golden.safetensors"], manifest)
    folder = shared_folder(factory) / "runtimes" / name
    with locked(shared_folder(factory) / f"runtimes-{name}.lock"):
        if not folder.exists():
            folder.mkdir(parents=True)
            _lay_out(folder, bundle.files["model.onnx"], manifest, golden)
    shapes, calls = manifest.results(), STEPS // manifest.unroll
    return folder, {t.name: in_calls(golden.float32[t.name], shapes[t.name], manifest, calls) for t in manifest.outputs}


def _lay_out(folder, graph, manifest, golden):
    shapes, calls = manifest.sample_inputs(), STEPS // manifest.unroll
    steps = {key: in_calls(value, shapes[key], manifest, calls) for key, value in golden.inputs.items()}
    start = initial_state(manifest).tensors
    states = [
        {"input": s.input, "output": s.output, "initial": start[s.input].tolist(), "flat": flat(start[s.input])}
        for s in manifest.states
    ]
    order = {"inputs": [*manifest.sample_inputs(), *(s.input for s in manifest.states)]}
    (folder / "names.json").write_text(json.dumps(order | {"outputs": [*manifest.results()], "states": states}))
    reset = golden.reset[: calls * manifest.unroll : manifest.unroll].astype(bool)
    np.savez(folder / "steps.npz", reset=reset, **steps)
    each = [
        {"reset": bool(reset[k]), "inputs": {key: flat(value[k]) for key, value in steps.items()}} for k in range(calls)
    ]
    (folder / "steps.json").write_text(json.dumps(each))
    (folder / "model.onnx").write_bytes(graph)


def stepped(runtime, name, factory, command, environment):
    """Where a runtime left its results, and what the trained model makes of the same samples.

    The first test of a run that asks lets the runtime step all bundles, in one process of its own.
    """
    with locked(shared_folder(factory) / f"runtimes-{runtime}.lock"):
        done = shared_folder(factory) / f"runtimes-{runtime}.txt"
        if not done.exists():
            each = [laid_out(factory, other)[0] for other in from_its_own(runtime)]
            ended = subprocess.run(
                [*command, *each],
                env=ENVIRONMENT | environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=240,
            )
            done.write_text(f"ended with {ended.returncode}: {ended.stderr[-2000:]}")
    folder, expected = laid_out(factory, name)
    failed = folder / f"{runtime}.txt"
    assert not failed.exists(), failed.read_text()[-2000:]
    assert done.read_text().startswith("ended with 0: "), done.read_text()
    return folder / runtime, expected


def from_its_own(runtime):
    """All bundles, another one first for each runtime: else a second worker waits for each that the first exports."""
    first = [*RUNTIMES, "emx-onnx-cgen"].index(runtime)
    return [*BUNDLES][first:] + [*BUNDLES][:first]


def in_calls(array, shape, manifest, calls):
    """Samples, (T, rows, ...), as what each call takes or gives."""
    if manifest.unroll == 1:
        return np.asarray(array[:calls], np.float32).reshape(calls, *shape)
    blocks = array[: calls * manifest.unroll].reshape(calls, manifest.unroll, *array.shape[1:])
    return np.ascontiguousarray(np.moveaxis(blocks, 1, 2), np.float32).reshape(calls, *shape)


def flat(array):
    return {"data": np.asarray(array, np.float32).ravel().tolist(), "shape": list(np.shape(array))}


def check(results, expected, name):
    limit = HALF_LIMIT if name == "half" else LIMIT
    for output, value in expected.items():
        got = np.asarray(results[output], np.float32).reshape(value.shape)
        np.testing.assert_allclose(got, value, rtol=limit, atol=limit, err_msg=output)


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime-1.20", "tract", "mnn", "emx-onnx-cgen"])
def test_equals_the_trained_model(runtime, name, tmp_path_factory):
    environment = {"PYTHONPATH": str(needs(runtime))} if runtime in RUNTIMES else {}
    command = [sys.executable, SUPPORT / "foreign_runtimes.py", runtime]
    left, expected = stepped(runtime, name, tmp_path_factory, command, environment)
    check(np.load(f"{left}.npz"), expected, name)


@pytest.mark.parametrize("name", BUNDLES)
def test_equals_the_trained_model_in_javascript(name, tmp_path_factory):
    runtime = "onnxruntime-node"
    environment = {"NODE_PATH": str(needs(runtime))}
    left, expected = stepped(runtime, name, tmp_path_factory, ["node", SUPPORT / "foreign_runtime.cjs"], environment)
    check(json.loads(Path(f"{left}.json").read_text()), expected, name)
