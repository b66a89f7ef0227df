"""Steps of five models on other runtimes beside ours: first whether they are right, then what they cost.

Each peer gets the same step, fed back by itself, tuned as its documentation advises for one small model on one thread,
and is called from Python with a float32 array, as a robot's program would call it. What is compared takes turns in one
process; a figure is the median of the runs, with the smallest and the largest. A peer whose closed loop leaves torch's
is not in the race. Kernels without Python are compared as well, where a peer is C: much of what it costs from Python is
the call. Type: make bench-peers
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from native_step import MODELS

import lnn_edge
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.machine.describe import machine

RIGHT = 2e-5  # of torch's outputs, absolute below 1: other orders of sums, over the whole closed loop
PARITY_STEPS = 500
TURN, TURNS = 200, 10  # steps of one after the other, and how often in a run
PERCENTILES = (50, 99, 99.9)


class Step(torch.nn.Module):
    """One sample of an ncps core, with its state as a value."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x, h):
        y, h = self.rnn(x.unsqueeze(1), h)
        return y[:, 0], h


# ---- ours and the peers: each makes a step, which takes and gives an array, of a bundle, a torch module and a folder -


def native(bundle, _module, _folder):
    return lnn_edge.load(bundle, backend="native").stream(reuse=True).step


def ours_on_onnxruntime(bundle, _module, _folder):
    return lnn_edge.load(bundle, backend="onnxruntime").stream(reuse=True).step


def onnxruntime_bound(bundle, _module, _folder):
    """Bound memory, the results of a step bound as the next one's state: onnxruntime's advice for small models."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle / "model.onnx", options, providers=["CPUExecutionProvider"])
    shapes = {v.name: v.shape for v in (*session.get_inputs(), *session.get_outputs())}
    memory = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in memory.items()}
    (sample,) = (v.name for v in session.get_inputs() if v.name != "h_in")
    (result,) = (v.name for v in session.get_outputs() if v.name != "h_out")
    state, after = "h_in", "h_out"
    turns = []
    for source, target in ((state, after), (after, state)):
        binding = session.io_binding()
        binding.bind_ortvalue_input(sample, values[sample])
        binding.bind_ortvalue_input(state, values[source])
        binding.bind_ortvalue_output(result, values[result])
        binding.bind_ortvalue_output(after, values[target])
        turns.append(binding)
    shown, run, now = values[result].numpy()[0], session.run_with_iobinding, 0
    given = values[sample]

    def step(x):
        nonlocal now
        given.update_inplace(x[None])
        run(turns[now])
        now = 1 - now
        return shown

    return step


def litert(_bundle, module, folder):
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter

    inputs, units = module.input_size, module.state_size
    path = folder / "step.tflite"
    if not path.exists():
        litert_torch.convert(Step(module).eval(), (torch.zeros(1, inputs), torch.zeros(1, units))).export(str(path))
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    given, state = sorted(interpreter.get_input_details(), key=lambda own: own["name"])
    result, after = sorted(interpreter.get_output_details(), key=lambda own: own["name"])
    put, get, invoke = interpreter.set_tensor, interpreter.get_tensor, interpreter.invoke
    put(state["index"], np.zeros((1, units), np.float32))

    def step(x):
        put(given["index"], x[None])
        invoke()
        put(state["index"], get(after["index"]))
        return get(result["index"])[0]

    return step


def openvino(bundle, _module, _folder):
    import openvino as ov

    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    request = ov.Core().compile_model(bundle / "model.onnx", "CPU", hints).create_infer_request()
    (sample,) = (port.any_name for port in request.model_inputs if port.any_name != "h_in")
    (result,) = (port.any_name for port in request.model_outputs if port.any_name != "h_out")
    given, state = request.get_tensor(sample).data, request.get_tensor("h_in").data
    shown, after, infer = request.get_tensor(result).data, request.get_tensor("h_out").data, request.infer
    state[...] = 0

    def step(x):
        given[0] = x
        infer()
        state[...] = after
        return shown[0]

    return step


def emx(*flags):
    """C of emx-onnx-cgen, called through ctypes with pointers that are made once."""

    def made(bundle, _module, folder):
        library, order, memory = emx_library(bundle, folder, flags)
        call, (result,) = library.emx, set(order) - {"input", "h_in", "h_out"}
        swapped = memory | {"h_in": memory["h_out"], "h_out": memory["h_in"]}
        turns = [[ctypes.c_void_p(own[name].ctypes.data) for name in order] for own in (memory, swapped)]
        given, shown, now = memory["input"][0], memory[result][0], 0

        def step(x):
            nonlocal now
            given[:] = x
            call(*turns[now])
            now = 1 - now
            return shown

        step.memory = memory  # which the pointers do not keep
        return step

    return made


_LOOP = """
#include <stddef.h>
void emx_loop(size_t count, const float *x, size_t inputs, float *a, float *b, float *y) {
    for (size_t k = 0; k < count; ++k) {
        float *const before = k & 1 ? b : a, *const after = k & 1 ? a : b;
        emx(ARGUMENTS);
    }
}
"""


def emx_library(bundle, folder, flags):
    """Its library, which also has a loop, the names of the call's tensors in their order, and memory for each."""
    name = "emx" + re.sub(r"\W", "", "".join(flags))
    library, source = folder / f"{name}.so", folder / f"{name}.c"
    if not library.exists():  # one that is loaded must stay as it is
        # Weights within the source, and nothing on the heap.
        options = ["--large-weight-threshold", "0", "--large-temp-threshold", "0", "--model-name", "emx"]
        command = [sys.executable, "-m", "emx_onnx_cgen", "compile", *options, bundle / "model.onnx", source]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        written = source.read_text()
        passed = {"input": "(void *)(x + k % 256 * inputs)", "h_in": "(void *)before", "h_out": "(void *)after"}
        call = ", ".join(passed.get(tensor, "(void *)y") for tensor in tensors_of(written))
        source.write_text(written + _LOOP.replace("ARGUMENTS", call))
        subprocess.run(["gcc", *flags, "-shared", "-fPIC", source, "-o", library, "-lm"], cwd=folder, check=True)
    order = tensors_of(source.read_text())
    manifest = read_bundle(bundle).manifest
    shapes = manifest.sample_inputs() | manifest.results() | {s.input: s.shape for s in manifest.states}
    return ctypes.CDLL(str(library)), order, {own: np.zeros(shapes[own], np.float32) for own in order}


def tensors_of(source):
    """The tensors of its step, in their order."""
    (arguments,) = re.findall(r"^void emx\((.*)\) {", source, re.M)
    return re.findall(r"float (\w+)\[", arguments)


EMX = {
    "emx-onnx-cgen": ("-O3", "-march=native"),
    "emx-onnx-cgen, fast math but for what is not finite": (
        *("-O3", "-march=native", "-ffast-math", "-fno-finite-math-only"),
    ),
    "emx-onnx-cgen, -ffast-math": ("-O3", "-march=native", "-ffast-math"),
}
OURS = {"lnn-edge, native": native, "lnn-edge, onnxruntime": ours_on_onnxruntime}
PEERS = {
    "onnxruntime, bound memory": onnxruntime_bound,
    "LiteRT": litert,
    "OpenVINO": openvino,
    **{name: emx(*flags) for name, flags in EMX.items()},
}
DISTRIBUTIONS = ("onnxruntime", "ai-edge-litert", "litert-torch", "openvino", "emx-onnx-cgen", "torch", "numpy")


# ---- the race -------------------------------------------------------------------------------------------------------


def error(step, module, scale):
    """The largest difference to torch's outputs over a closed loop of samples of some scale; infinite if not finite."""
    x = torch.randn(1, PARITY_STEPS, module.input_size, generator=torch.Generator().manual_seed(1)) * scale
    with torch.no_grad():
        expected = module(x)[0][0].numpy()
    got = np.stack([np.array(step(row)) for row in x[0].numpy()])
    return float(np.max(np.abs(got - expected) / np.maximum(np.abs(expected), 1))) if np.isfinite(got).all() else np.inf


def race(steps, inputs):
    """Nanoseconds of each step in turns, (turns * steps,) for each name; two readings of the clock are in each."""
    x = np.random.default_rng(1).standard_normal((256, inputs)).astype(np.float32)
    rows, now, took = list(x), time.perf_counter_ns, {name: [] for name in steps}
    for turn in range(TURNS):
        for name, step in steps.items():
            own = took[name]
            for k in range(TURN):
                row = rows[(turn * TURN + k) % 256]
                begin = now()
                step(row)
                own.append(now() - begin)
    return {name: np.array(own) for name, own in took.items()}


def kernels(bundle, folder, inputs, rounds=300, calls=200):
    """The shortest microseconds of a step in C, ours and the peer's, taking turns."""
    x = np.random.default_rng(1).standard_normal((256, inputs)).astype(np.float32)
    library = lnn_edge.load(bundle, backend="native")._backend._library
    ours = library.function("run", ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)
    memory, y = np.zeros(library.facts.model + 64, np.uint8), np.zeros(256 * library.facts.output, np.uint8)
    model = memory.ctypes.data + -memory.ctypes.data % 64
    library.function("init", None, ctypes.c_void_p)(model)
    kept, loops = [], {"lnn-edge, native": lambda: ours(model, calls, x.ctypes.data, y.ctypes.data)}
    for name, flags in EMX.items():
        foreign, _, own = emx_library(bundle, folder, flags)
        kept.append(own)  # which the pointers do not
        ends = [ctypes.c_void_p(own[tensor].ctypes.data) for tensor in ("h_in", "h_out")]
        given, out = ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data)
        arguments = (ctypes.c_size_t(calls), given, ctypes.c_size_t(inputs), *ends, out)
        loops[name] = partial(foreign.emx_loop, *arguments)
    best = dict.fromkeys(loops, np.inf)
    for _ in range(rounds):
        for name, loop in loops.items():
            begin = time.perf_counter_ns()
            loop()
            best[name] = min(best[name], (time.perf_counter_ns() - begin) / calls / 1e3)
    return best


def measured(bundle, module, folder, runs):
    """All figures of one model."""
    inputs, errors, steps = module.input_size, {}, {}
    for name, make in {**OURS, **PEERS}.items():
        steps[name] = make(bundle, module, folder)
        errors[name] = max(error(make(bundle, module, folder), module, scale) for scale in (1.0, 30.0))
    found = [race(steps, inputs) for _ in range(runs)]
    medians = {name: [float(np.median(run[name])) / 1e3 for run in found] for name in steps}
    every = {name: np.concatenate([run[name] for run in found]) / 1e3 for name in steps}
    rows = {
        name: {
            "error": errors[name],
            "right": errors[name] <= RIGHT,
            "us": float(np.median(own)),
            "us_of_runs": own,
            **{f"p{p}_us": float(np.percentile(every[name], p)) for p in PERCENTILES},
        }
        for name, own in medians.items()
    }
    fastest = min((name for name in PEERS if rows[name]["right"]), key=lambda name: rows[name]["us"])
    ratios = {
        other: float(np.median(np.divide(medians["lnn-edge, native"], medians[other])))
        for other in (fastest, "lnn-edge, onnxruntime")
    }
    return {
        "steps": rows,
        "fastest peer": fastest,
        "ratio": ratios[fastest],
        "ratio to ours on onnxruntime": ratios["lnn-edge, onnxruntime"],
        "kernels_us": kernels(bundle, folder, inputs),
    }


def told(title, own):
    """The figures of a model as lines."""
    ours = f"{own['ratio to ours on onnxruntime']:.3f} of ours on onnxruntime"
    lines = [f"{title}: {own['ratio']:.3f} of {own['fastest peer']}, {ours}"]
    for name, row in own["steps"].items():
        spread = f"{min(row['us_of_runs']):.2f} to {max(row['us_of_runs']):.2f}"
        tail = ", ".join(f"p{p} {row[f'p{p}_us']:.2f}" for p in PERCENTILES)
        wrong = "" if row["right"] else "  WRONG"
        lines.append(f"  {name:52} {row['us']:8.2f} us ({spread}), {tail}, error {row['error']:.1e}{wrong}")
    lines.append("  in C: " + ", ".join(f"{name} {us:.3f} us" for name, us in own["kernels_us"].items()))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of which a figure is the median (default: 5)")
    parser.add_argument("--models", type=int, nargs="*", help="their numbers, from 0 on (default: all)")
    parser.add_argument("--json", metavar="FILE", help="save the figures, with the machine they are from")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = {}
    for number, (title, (_, make)) in enumerate(MODELS.items()):
        if arguments.models is not None and number not in arguments.models:
            continue
        with tempfile.TemporaryDirectory() as name:
            torch.manual_seed(0)
            module, bundle = make().eval(), Path(name, "m.lnn")
            lnn_edge.export_model(module, bundle, backends=("onnxruntime",))
            figures[title] = measured(bundle, module, Path(name), arguments.runs)
        print(told(title, figures[title]), flush=True)
    if arguments.json:
        versions = {name: version(name) for name in DISTRIBUTIONS}
        text = json.dumps({"machine": machine(), "versions": versions, "figures": figures}, indent=2)
        Path(arguments.json).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
