"""How far the step as C moves from exact arithmetic in 100,000 closed-loop steps, and how far torch in float32 does.

Each feeds its own state back; the judge is the step program in float64. Errors are absolute, the largest of all
outputs: in the first tenth of the steps, and in the last, where they would be larger if they added up.
Type: python benchmarks/native_drift.py
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from native_step import MODELS

from lnn_edge.bundle.spec import Time
from lnn_edge.codegen.c_source import Form, c_source
from lnn_edge.codegen.targets import TARGETS
from lnn_edge.export.trained.open import open_module
from lnn_edge.machine.cpu import vector_lanes
from lnn_edge.machine.describe import machine
from lnn_edge.reference.interpreter import Interpreter
from lnn_edge.runtime.backends.native.compiler import compiled, find_compiler, flags_for
from lnn_edge.runtime.backends.native.library import load_library
from lnn_edge.runtime.backends.native.stepper import zeros

DIGEST = "0" * 64
CHUNK = 1_000  # steps of one call of torch, whose memory is what all of them take


def exactly(step, x):
    """Outputs in float64, (steps, features)."""
    judge, (name,) = Interpreter(step), (own.name for own in step.program.outputs)
    states, outputs = judge.start(1), []
    for sample in x:
        got, states = judge.step({step.program.inputs[0].name: sample[None]}, states)
        outputs.append(got[name][0])
    return np.array(outputs)


def by_torch(module, x):
    """Outputs of the trained module."""
    state, outputs = None, []
    with torch.inference_mode():
        for start in range(0, len(x), CHUNK):
            got, state = module(torch.from_numpy(x[None, start : start + CHUNK]), state)
            outputs.append(got[0].numpy())
    return np.concatenate(outputs)


def compiled_step(step, folder):
    """Outputs of the C as this machine's compiler makes it, as a function of the samples."""
    target = next(own for own in TARGETS if own.lanes == vector_lanes())
    source = c_source(step, Form(DIGEST), target)
    library = load_library(
        compiled(find_compiler(), source, "lnn", flags_for(platform.machine()), folder), "lnn", DIGEST
    )

    def run(x):
        model, y = zeros(library.facts.model), np.zeros((len(x), library.facts.output // 4), np.float32)
        places = [ctypes.c_void_p(own.ctypes.data) for own in (model, x, y)]
        library.function("init", None, ctypes.c_void_p)(places[0])
        types = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)
        done = library.function("run", ctypes.c_size_t, *types)(places[0], len(x), *places[1:])
        if done != len(x):
            raise RuntimeError(f"step {done} was refused")
        return y

    return run


def drift(module, inputs, steps, folder):
    """Largest errors of the C and of torch, by which steps they were looked for in."""
    x = np.random.default_rng(7).standard_normal((steps, inputs)).astype(np.float32)
    step = open_module(module.eval()).trained(1, None).program(Time("fixed", None, 1.0))
    exact, tenth = exactly(step, x), max(steps // 10, 1)
    errors = {"c": np.abs(compiled_step(step, folder)(x) - exact), "torch": np.abs(by_torch(module, x) - exact)}
    parts = {"first": slice(0, tenth), "last": slice(steps - tenth, steps), "all": slice(0, steps)}
    return {who: {part: float(own[place].max()) for part, place in parts.items()} for who, own in errors.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--json", metavar="FILE", help="save the figures, with the machine")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; {arguments.steps:,} steps; {find_compiler().identity}, {vector_lanes()} lanes")
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, (inputs, make) in MODELS.items():
            torch.manual_seed(0)
            figures[title] = own = drift(make(), inputs, arguments.steps, Path(folder))
            told = (f"{who} {e['first']:.1e} first, {e['last']:.1e} last, {e['all']:.1e} all" for who, e in own.items())
            print(f"{title}: {'; '.join(told)}; {own['c']['all'] / own['torch']['all']:.2f}", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"machine": machine(), "figures": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
