"""What a row costs where many streams are stepped in one call: in C, through `model.step_many`, and in two threads.

Each figure is the shortest of many calls, beside a single stream's kernel in the same process.
Type: python benchmarks/many_streams.py
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from native_step import MODELS

import lnn_edge
from lnn_edge.machine.describe import machine

FEW, MANY, CALLS = 64, 4096, 200


def shortest(call, times):
    """Nanoseconds of the shortest of some calls."""
    best = np.inf
    for _ in range(times):
        begin = time.perf_counter_ns()
        call()
        best = min(best, time.perf_counter_ns() - begin)
    return best


def in_c(model, x):
    """Nanoseconds of a row in C, whose state is fed back by nobody: `FEW` rows of the same state."""
    rows = model._backend.rows()
    inputs, states, outputs = rows._counts
    memory = [np.zeros((count, len(x)), np.float32) for count in (inputs, states, outputs, states)]
    memory[0][:] = x.T
    ok, work = np.empty(len(x), np.bool_), np.zeros(rows._work + 64, np.uint8)
    scratch = work.ctypes.data + -work.ctypes.data % 64
    arguments = (
        ctypes.c_void_p(scratch),
        ctypes.c_size_t(len(x)),
        *(ctypes.c_void_p(a.ctypes.data) for a in (*memory, ok)),
    )
    return shortest(lambda: rows._rows(*arguments), 2000) / len(x)


def alone(model, x):
    """Nanoseconds of a step in C of a single stream."""
    library = model._backend._library
    run = library.function("run", ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)
    memory, y = np.zeros(library.facts.model + 64, np.uint8), np.zeros(len(x) * library.facts.output, np.uint8)
    own = memory.ctypes.data + -memory.ctypes.data % 64
    library.function("init", None, ctypes.c_void_p)(own)
    return shortest(lambda: run(own, len(x), x.ctypes.data, y.ctypes.data), 2000) / len(x)


def in_python(model, x):
    """Nanoseconds of a row through `step_many`."""
    _, state, _ = model.step_many(x, model.initial_state(rows=len(x)))
    return shortest(lambda: model.step_many(x, state), CALLS if len(x) == FEW else 40) / len(x)


def two_threads(model, x):
    """How many times as fast two threads step half of the rows each as one thread both halves."""
    halves = []
    for part in np.split(x, 2):
        _, state, _ = model.step_many(part, model.initial_state(rows=len(part)))
        halves.append((part, state))

    def stepped(half):
        for _ in range(20):
            model.step_many(*half)

    def together():
        threads = [threading.Thread(target=stepped, args=(half,)) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return shortest(lambda: [stepped(half) for half in halves], 10) / shortest(together, 10)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="save the figures, with the machine they are from")
    arguments = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, (inputs, make) in MODELS.items():
            torch.manual_seed(0)
            bundle = Path(folder, "m.lnn")
            lnn_edge.export_model(make(), bundle, overwrite=True, backends=("onnxruntime",))
            model = lnn_edge.load(bundle, backend="native")
            x = np.random.default_rng(0).standard_normal((MANY, inputs)).astype(np.float32)
            own = figures[title] = {
                "alone_ns": alone(model, x[:FEW]),
                f"row_of_{FEW}_in_c_ns": in_c(model, x[:FEW]),
                f"row_of_{FEW}_ns": in_python(model, x[:FEW]),
                f"row_of_{MANY}_ns": in_python(model, x),
                "two_threads": two_threads(model, x),
            }
            print(
                f"{title}: a row of {FEW} in C {own[f'row_of_{FEW}_in_c_ns']:.0f} ns, alone {own['alone_ns']:.0f} ns; "
                f"through step_many {own[f'row_of_{FEW}_ns']:.0f} ns, of {MANY} {own[f'row_of_{MANY}_ns']:.0f} ns, in "
                f"two threads {own['two_threads']:.2f} times as fast",
                flush=True,
            )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"machine": machine(), "figures": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
