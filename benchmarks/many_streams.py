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


def shortest(call, times, clock=time.perf_counter_ns):
    """Nanoseconds of the shortest of some calls."""
    best = np.inf
    for _ in range(times):
        begin = clock()
        call()
        best = min(best, clock() - begin)
    return best


def in_c(model, x):
    """Nanoseconds of a row in C, and which share of a call through `model.step_many` lies outside of it.

    Both by the clock of this thread, which stands still while others have the core. What lies outside is what another
    thread waits for.
    """
    _, state, _ = model.step_many(x, model.initial_state(rows=len(x)))
    rows, inside, calls = model._backend.rows(), [np.inf], CALLS if len(x) == FEW else 40
    own, in_extension = rows._rows, rows._in_c

    def timed(*arguments):
        begin = time.thread_time_ns()
        own(*arguments)
        inside[0] = min(inside[0], time.thread_time_ns() - begin)

    whole = shortest(lambda: model.step_many(x, state), calls, time.thread_time_ns)
    rows._rows, rows._in_c = timed, None  # the same function of the same library, called where it can be timed
    try:
        for _ in range(calls):
            model.step_many(x, state)
    finally:
        rows._rows, rows._in_c = own, in_extension
    return inside[0] / len(x), 1 - inside[0] / whole


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


def two_threads(model, x, row_ns):
    """How many times as fast two threads step half of the rows each as one thread both, and what the machine gives.

    The second is the same of as many rows in a single call, where threads have nothing to wait for but the machine.
    Both in turns, as the medians of 11 ratios: other work comes and goes, and a ratio is of one moment.
    """
    calls = int(np.clip(5e7 / (row_ns * len(x)), 5, 40))  # some 50 ms, which a moment of other work is little beside
    ways = [(_halves(model, x), calls), (_halves(model, np.tile(x, (calls, 1))), 1)]
    ratios = [[_alone_by_together(model, *way) for way in ways] for _ in range(11)]
    return [float(np.median(own)) for own in zip(*ratios, strict=True)]


def _halves(model, x):
    parts = np.split(x, 2)
    return [(part, model.step_many(part, model.initial_state(rows=len(part)))[1]) for part in parts]


def _alone_by_together(model, halves, calls):
    def stepped(half):
        for _ in range(calls):
            model.step_many(*half)

    def together():
        threads = [threading.Thread(target=stepped, args=(half,)) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return shortest(lambda: [stepped(half) for half in halves], 1) / shortest(together, 1)


def measured(model, x):
    """All figures of a model."""
    few, _ = in_c(model, x[:FEW])
    _, outside = in_c(model, x)
    row = in_python(model, x)
    threads, machine_gives = two_threads(model, x, row)
    return {
        "alone_ns": alone(model, x[:FEW]),
        f"row_of_{FEW}_in_c_ns": few,
        f"row_of_{FEW}_ns": in_python(model, x[:FEW]),
        f"row_of_{MANY}_ns": row,
        f"outside_c_of_{MANY}": outside,
        "two_threads": threads,
        "two_threads_in_one_call": machine_gives,
    }


def said(own):
    """The figures in a line."""
    return (
        f"a row of {FEW} in C {own[f'row_of_{FEW}_in_c_ns']:.0f} ns, alone {own['alone_ns']:.0f} ns; through step_many "
        f"{own[f'row_of_{FEW}_ns']:.0f} ns, of {MANY} {own[f'row_of_{MANY}_ns']:.0f} ns, of which "
        f"{own[f'outside_c_of_{MANY}']:.3f} outside C, in two threads {own['two_threads']:.2f} times as fast, "
        f"where the machine gives {own['two_threads_in_one_call']:.2f}"
    )


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
            figures[title] = measured(model, x)
            print(f"{title}: {said(figures[title])}", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"machine": machine(), "figures": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
