"""What one step costs in C: the kernel alone, and the public `stream.step` beside that of onnxruntime.

The kernel feeds its state back and makes all its checks. Its cycles are counted by a chain of additions of known length
that is timed beside it, so that they hold whatever the clock does. What is compared takes turns in one process.
Type: python benchmarks/native_step.py
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP

import lnn_edge
from lnn_edge.codegen.form import Source
from lnn_edge.machine.describe import machine
from lnn_edge.runtime.backends.native.compiler import FLAGS, compiled, find_compiler

MODELS = {
    "LTC(20, AutoNCP(28, 4))": (20, lambda: LTC(20, AutoNCP(28, 4))),
    "CfC(20, AutoNCP(28, 4))": (20, lambda: CfC(20, AutoNCP(28, 4))),
    "CfC(20, 64)": (20, lambda: CfC(20, 64)),
    "LTC(20, 64)": (20, lambda: LTC(20, 64)),
    "CfC(8, AutoNCP(19, 1))": (8, lambda: CfC(8, AutoNCP(19, 1))),
}
CALLS, ROUNDS = 200, 1500
_CHAIN_ROUNDS = 5_000  # long beside what a call through ctypes takes
_CHAIN = """#include "chain.h"
uint64_t chain(uint64_t rounds) {
    uint64_t v = 1;
    while (rounds--) __asm__ volatile("add $1,%0\\n add $1,%0\\n add $1,%0\\n add $1,%0\\n add $1,%0\\n"
                                      "add $1,%0\\n add $1,%0\\n add $1,%0\\n add $1,%0\\n add $1,%0" : "+r"(v));
    return v;
}
"""


def cycle_counter(folder):
    """A function that takes a known number of cycles, ten for each round, on x86-64."""
    data = compiled(find_compiler(), Source("#include <stdint.h>\n", _CHAIN), "chain", (*FLAGS, "-O2"), folder)
    (folder / "chain.so").write_bytes(data)
    chain = ctypes.CDLL(str(folder / "chain.so")).chain
    chain.argtypes = [ctypes.c_uint64]
    return chain


def kernel(model, inputs, chain):
    """Nanoseconds and cycles of a step: the shortest and the median of many rounds."""
    library = model._backend._library
    run = library.whole.lnn_run
    run.restype, run.argtypes = ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]
    memory = np.zeros(library.facts.model + 64, np.uint8)
    start = memory.ctypes.data + -memory.ctypes.data % 64
    library.whole.lnn_init(ctypes.c_void_p(start))
    x = np.random.default_rng(1).standard_normal((CALLS, inputs)).astype(np.float32)
    y = np.zeros(CALLS * library.facts.output, np.uint8)
    took, clock, now = [], [], time.perf_counter_ns
    for _ in range(ROUNDS):
        begin = now()
        chain(_CHAIN_ROUNDS)
        middle = now()
        done = run(start, CALLS, x.ctypes.data, y.ctypes.data)
        took.append((now() - middle) / CALLS)
        clock.append(10 * _CHAIN_ROUNDS / (middle - begin))
        assert done == CALLS
    ghz = float(np.max(clock))
    return {"ns": min(took), "median_ns": float(np.median(took)), "cycles": min(took) * ghz, "ghz": ghz}


def public(models, inputs, calls=4000):
    """Median microseconds of `stream.step`, in turns of twenty."""
    x = np.random.default_rng(1).standard_normal((256, inputs)).astype(np.float32)
    steps, took, now = [model.stream(reuse=True).step for model in models], [[] for _ in models], time.perf_counter_ns
    for turn in range(calls // 20):
        for step, own in zip(steps, took, strict=True):
            for k in range(20):
                begin = now()
                step(x[(turn * 20 + k) % 256])
                own.append(now() - begin)
    return [float(np.median(own)) / 1e3 for own in took]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", metavar="FOLDER", help="keep the bundles there for the next time")
    parser.add_argument("--json", metavar="FILE", help="save the figures, with the machine they are from")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = Path(arguments.bundles or folder)
        chain = cycle_counter(folder)
        for title, (inputs, make) in MODELS.items():
            torch.manual_seed(0)
            bundle = bundles / f"{title}.lnn"
            if not bundle.exists():
                lnn_edge.export_model(make(), bundle)
            native, stock = (lnn_edge.load(bundle, backend=own) for own in ("native", "onnxruntime"))
            ours, theirs = public((native, stock), inputs)
            figures[title] = kernel(native, inputs, chain) | {"step_us": ours, "onnxruntime_us": theirs}
            own = figures[title]
            print(
                f"{title}: kernel {own['ns'] / 1e3:.3f} us (median {own['median_ns'] / 1e3:.3f}), {own['cycles']:.0f} "
                f"cycles; stream.step {ours:.2f} us, on onnxruntime {theirs:.2f} us: {ours / theirs:.3f}"
            )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"machine": machine(), "figures": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
