"""Steps of a bundle's graph in programs that know nothing of lnn-edge; run as a program, in a process of its own.

    python tests/support/foreign_runtimes.py NAME FOLDER

FOLDER holds `model.onnx`, `steps.npz` (the inputs of each step by name, `reset`) and `names.json` (inputs and outputs
in the order of the graph, states as pairs with their initial values); `results.npz` is left there. Each library lies in
a folder of its own, as several of them bring versions of their own of the same packages: `make runtimes` installs them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Step = Callable[[Arrays], Arrays]


def openvino(folder: Path, names: Any) -> Step:
    import openvino as ov

    compiled = ov.Core().compile_model(folder / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda given: {name: compiled(given)[name].copy() for name in names["outputs"]}


def onnxruntime(folder: Path, names: Any) -> Step:
    import onnxruntime as ort

    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
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
    """Converted first, by the tool that the package brings."""
    import MNN

    program = Path(MNN.__file__).parents[1] / "bin" / "mnnconvert"
    source, target = folder / "model.onnx", folder / "model.mnn"
    command = [sys.executable, program, "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "x"]
    subprocess.run(command, check=True, capture_output=True)
    module = MNN.nn.load_module_from_file(str(target), names["inputs"], names["outputs"])

    def step(given: Arrays) -> Arrays:
        values = [MNN.expr.const(given[n], list(given[n].shape), MNN.expr.NCHW) for n in names["inputs"]]
        return {n: np.array(v.read()) for n, v in zip(names["outputs"], module.onForward(values), strict=True)}

    return step


STEPS = {"openvino": openvino, "onnxruntime-1.20": onnxruntime, "tract": tract, "mnn": mnn}


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
    np.savez(folder / "results.npz", **{output: np.stack(values) for output, values in kept.items()})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
