"""Steps of a bundle's graph in programs that know nothing of lnn-edge; run as a program, in a process of its own.

    python tests/support/foreign_runtimes.py NAME FOLDER...

Each FOLDER holds `model.onnx`, `steps.npz` (the inputs of each step by name, `reset`) and `names.json` (inputs and
outputs in the order of the graph, states as pairs with their initial values); NAME.npz is left there, or NAME.txt,
which says what was raised. The libraries lie in a folder of their own, as one of them is an older onnxruntime:
`make build/runtimes/ready` installs them; emx-onnx-cgen is among what tests need anyway.
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Step = Callable[[Arrays], Arrays]


def openvino(folder: Path, names: Any) -> Step:
    import openvino as ov

    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = ov.Core().compile_model(folder / "model.onnx", "CPU", options)

    def step(given: Arrays) -> Arrays:
        results = compiled(given)
        return {name: results[name].copy() for name in names["outputs"]}

    return step


def onnxruntime(folder: Path, names: Any) -> Step:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    return lambda given: dict(zip(names["outputs"], session.run(names["outputs"], given), strict=True))


def tract(folder: Path, names: Any) -> Step:
    """By place, in the order of the graph."""
    import tract as library

    model = library.onnx().load(str(folder / "model.onnx")).into_model().into_runnable()

    def step(given: Arrays) -> Arrays:
        results = model.run([np.ascontiguousarray(given[name]) for name in names["inputs"]])
        return {name: value.to_numpy() for name, value in zip(names["outputs"], results, strict=True)}

    return step


def mnn(folder: Path, names: Any) -> Step:
    """Converted first, by what `mnnconvert` calls; the program itself then looks for packages that report its use."""
    import _tools  # of MNN
    import MNN

    source, target = str(folder / "model.onnx"), str(folder / "model.mnn")
    _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "x"])
    manager = MNN.nn.create_runtime_manager(({"backend": 0, "numThread": 1},))
    module = MNN.nn.load_module_from_file(target, names["inputs"], names["outputs"], runtime_manager=manager)

    def step(given: Arrays) -> Arrays:
        values = [MNN.expr.const(given[n], list(given[n].shape), MNN.expr.NCHW) for n in names["inputs"]]
        return {n: np.array(v.read()) for n, v in zip(names["outputs"], module.onForward(values), strict=True)}

    return step


def emx_onnx_cgen(folder: Path, names: Any) -> Step:
    """C that it makes of the graph, compiled; the arguments of the function are the tensors, by name."""
    from other_generator import c_of

    source, library = folder / "emx.c", folder / "emx.so"
    text = c_of(folder / "model.onnx", "emx", source)
    subprocess.run(["gcc", "-O0", "-shared", "-fPIC", source, "-o", library, "-lm"], check=True)
    (arguments,) = re.findall(r"^void emx\((.*)\) \{", text, re.M)
    tensors = {
        name: np.zeros([int(n) for n in re.findall(r"\d+", shape)], {"float": np.float32, "_Float16": np.float16}[kind])
        for kind, name, shape in re.findall(r"(\w+) (\w+)((?:\[[^]]*\])+)", arguments)
    }
    call = ctypes.CDLL(str(library)).emx
    places = [ctypes.c_void_p(tensor.ctypes.data) for tensor in tensors.values()]

    def step(given: Arrays) -> Arrays:
        for name in names["inputs"]:
            tensors[name][...] = given[name].reshape(tensors[name].shape)
        call(*places)
        return {name: tensors[name].copy() for name in names["outputs"]}

    return step


STEPS = {
    "openvino": openvino,
    "onnxruntime-1.20": onnxruntime,
    "tract": tract,
    "mnn": mnn,
    "emx-onnx-cgen": emx_onnx_cgen,
}


def main(name: str, folder: Path) -> None:
    """Run the sequence, states fed back by the names of the pairs."""
    names, steps = json.loads((folder / "names.json").read_text()), np.load(folder / "steps.npz")
    step, kept = STEPS[name](folder, names), {output: [] for output in names["outputs"]}
    start = {own["input"]: np.array(own["initial"], np.float32) for own in names["states"]}
    state = start
    for k in range(len(steps["reset"])):
        state = start if steps["reset"][k] else state
        results = step({n: steps[n][k] for n in names["inputs"] if n in steps} | state)
        for output, value in results.items():
            kept[output].append(np.array(value))
        state = {own["input"]: results[own["output"]] for own in names["states"]}
    np.savez(folder / f"{name}.npz", **{output: np.stack(values) for output, values in kept.items()})


if __name__ == "__main__":
    for place in map(Path, sys.argv[2:]):
        try:
            main(sys.argv[1], place)
        except Exception:
            (place / f"{sys.argv[1]}.txt").write_text(traceback.format_exc())
