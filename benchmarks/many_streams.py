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
from lnn_edge.codegen.form import Source
from lnn_edge.machine.describe import machine
from lnn_edge.runtime.backends.native.compiler import FLAGS, compiled, find_compiler

FEW, MANY, CALLS = 64, 4096, 200
TURNS, TURN_NS = 80, 25e6  # with two threads: a turn is long beside their start, and short beside other work


def shortest(call, times, clock=time.perf_counter_ns):
    """Nanoseconds of the shortest of some calls."""
    best = np.inf
    for _ in range(times):
        begin = clock()
        call()
        best = min(best, clock() - begin)
    return best


_DRIVER = """#include "driver.h"
#include <time.h>
typedef void (*rows)(void *, size_t, void *const *, const float *, const unsigned char *, unsigned char *);
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e9 + t.tv_nsec; }
static double chain(void) { /* gigahertz: a sum that waits for itself takes a cycle each time */
    const double begin = now();
    uint64_t v = 1;
    int k;
#if defined(__x86_64__)
    for (k = 0; k < 10000; ++k) __asm__ volatile("add $1,%0\\n add $1,%0" : "+r"(v));
#else
    for (k = 0; k < 10000; ++k) __asm__ volatile("add %0,%0,#1\\n add %0,%0,#1" : "+r"(v));
#endif
    return 20000 / (now() - begin);
}
void measure(rows f, void *work, size_t count, void *const *places, unsigned char *ok, int calls, int rounds,
             double *best) {
    best[0] = 1e30, best[1] = 0;
    while (rounds--) {
        const double ghz = chain(), begin = now();
        for (int k = 0; k < calls; ++k) f(work, count, places, 0, 0, ok);
        const double ns = (now() - begin) / calls;
        if (ns < best[0]) best[0] = ns;
        if (ghz > best[1]) best[1] = ghz;
    }
}
"""


def driver(folder):
    """The function that calls rows of C from C, where a call from Python would cost a row of 64 some 30 ns."""
    text = Source("#include <stddef.h>\n#include <stdint.h>\n", _DRIVER)
    flags = tuple(own.replace("gnu99", "gnu11") for own in FLAGS)
    library = Path(folder, "driver.so")
    library.write_bytes(compiled(find_compiler(), text, "driver", (*flags, "-O2"), Path(folder)))
    return ctypes.CDLL(str(library)).measure


def in_c(model, x, measure, rounds=300):
    """Nanoseconds and cycles of a row in C, without Python."""
    _, state, _ = model.step_many(x, model.initial_state(rows=len(x)))
    rows, seen = model._backend.rows(), []
    own, in_extension = rows._rows, rows._in_c
    rows._rows, rows._in_c = lambda *arguments: (seen.append(arguments), own(*arguments)), None
    try:
        made = model.step_many(x, state)  # which keeps the memory that the arguments tell of
    finally:
        rows._rows, rows._in_c = own, in_extension
    (work, count, places, _, _, ok), best = seen[0], (ctypes.c_double * 2)()
    function, calls = ctypes.cast(own, ctypes.c_void_p), max(4096 // count, 1)
    size, work, ok = ctypes.c_size_t(count), ctypes.c_void_p(work), ctypes.c_void_p(ok)
    measure(function, work, size, places, ok, calls, rounds, best)
    del made
    return best[0] / count, best[0] / count * best[1]


def outside(model, x, measure):
    """Which share of a call through `model.step_many` lies outside of the C, where another thread waits.

    Both in turns, as the clock moves, and the call by this thread's time, which stands still while others run.
    """
    _, state, _ = model.step_many(x, model.initial_state(rows=len(x)))
    turns = np.array(
        [
            (
                in_c(model, x, measure, rounds=4)[0] * len(x),
                shortest(lambda: model.step_many(x, state), 4, time.thread_time_ns),
            )
            for _ in range(40)
        ]
    )
    inside, whole = turns.min(axis=0)
    return float(1 - inside / whole)


def alone(model, x):
    """Nanoseconds of a step in C of a single stream."""
    library = model._backend._library
    run = library.function("run", ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)
    memory, y = np.zeros(library.facts.model + 64, np.uint8), np.zeros(len(x) * library.facts.output, np.uint8)
    own = memory.ctypes.data + -memory.ctypes.data % 64
    library.function("init", None, ctypes.c_void_p)(own)
    return shortest(lambda: run(own, len(x), x.ctypes.data, y.ctypes.data), 300) / len(x)


def in_python(model, x):
    """Nanoseconds of a row through `step_many`."""
    _, state, _ = model.step_many(x, model.initial_state(rows=len(x)))
    return shortest(lambda: model.step_many(x, state), CALLS if len(x) == FEW else 40) / len(x)


def two_threads(model, x, row_ns):
    """How many times as fast two threads step half of the rows each as one thread both.

    In many short turns of both. The first figure is of the shortest turns of each, in which both cores had their full
    clock and nobody else's work; the second is the median of the ratios of neighbouring turns.
    """
    calls = int(np.clip(TURN_NS / (row_ns * len(x)), 5, 400))
    halves = [(part, model.step_many(part, model.initial_state(rows=len(part)))[1]) for part in np.split(x, 2)]
    turns = np.array([_alone_and_together(model, halves, calls) for _ in range(TURNS)])
    best = turns.min(axis=0)
    return float(best[0] / best[1]), float(np.median(turns[:, 0] / turns[:, 1]))


def _alone_and_together(model, halves, calls):
    def stepped(half):
        for _ in range(calls):
            model.step_many(*half)

    def together():
        threads = [threading.Thread(target=stepped, args=(half,)) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return shortest(lambda: [stepped(half) for half in halves], 1), shortest(together, 1)


def measured(model, x, measure):
    """All figures of a model."""
    few, cycles = in_c(model, x[:FEW], measure)
    row = in_python(model, x)
    threads, median = two_threads(model, x, row)
    return {
        "alone_ns": alone(model, x),
        f"row_of_{FEW}_in_c_ns": few,
        f"row_of_{FEW}_in_c_cycles": cycles,
        f"row_of_{FEW}_ns": in_python(model, x[:FEW]),
        f"row_of_{MANY}_ns": row,
        f"outside_c_of_{MANY}": outside(model, x, measure),
        "two_threads": threads,
        "two_threads_median": median,
    }


def said(own):
    """The figures in a line."""
    return (
        f"a row of {FEW} in C {own[f'row_of_{FEW}_in_c_ns']:.0f} ns, {own[f'row_of_{FEW}_in_c_cycles']:.0f} cycles, "
        f"alone {own['alone_ns']:.0f} ns; through step_many {own[f'row_of_{FEW}_ns']:.0f} ns, of {MANY} "
        f"{own[f'row_of_{MANY}_ns']:.0f} ns, of which {own[f'outside_c_of_{MANY}']:.3f} outside C, "
        f"in two threads {own['two_threads']:.2f} times as fast, median {own['two_threads_median']:.2f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="save the figures, with the machine they are from")
    arguments = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        measure = driver(folder)
        for title, (inputs, make) in MODELS.items():
            torch.manual_seed(0)
            bundle = Path(folder, "m.lnn")
            lnn_edge.export_model(make(), bundle, overwrite=True, backends=("onnxruntime",))
            model = lnn_edge.load(bundle, backend="native")
            x = np.random.default_rng(0).standard_normal((MANY, inputs)).astype(np.float32)
            figures[title] = measured(model, x, measure)
            print(f"{title}: {said(figures[title])}", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"machine": machine(), "figures": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
