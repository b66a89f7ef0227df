"""What one step costs in C, in cycles: the five models of `native_step.py`, three large ones, and forty of random
wiring and size.

The kernel feeds its state back and makes all its checks; a driver in C calls it, and times beside each block of steps a
chain of additions of known length, so that cycles hold whatever the clock does. Beside each stands what its synapses or
weights should take: for an LTC rows of synapses, a target in each lane and the longest lists together, times the cycles
of a full row; for a CfC its weights at the bytes that a core loads in a cycle; and no less than what waits for one
another, unfold after unfold or layer after layer.
Type: python benchmarks/native_kernel.py
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from native_step import MODELS
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP, Random

from lnn_edge.bundle.spec import Time
from lnn_edge.codegen.c_source import c_source
from lnn_edge.codegen.form import Form, Source
from lnn_edge.export.trained.open import open_module
from lnn_edge.machine.cpu import vector_lanes
from lnn_edge.machine.describe import machine
from lnn_edge.reference.cells import cfc_cell, ltc_cell
from lnn_edge.runtime.backends.native.compiler import FLAGS, compiled, find_compiler, flags_for
from lnn_edge.runtime.backends.native.library import load_library
from lnn_edge.runtime.backends.native.tuning import synapses, ways

NAMED = MODELS | {
    "LTC(32, AutoNCP(128, 8))": (32, lambda: LTC(32, AutoNCP(128, 8))),
    "LTC(64, AutoNCP(256, 16))": (64, lambda: LTC(64, AutoNCP(256, 16))),
    "CfC(64, 256)": (64, lambda: CfC(64, 256)),
}
DIGEST = "0" * 64
STEPS = 100  # of a block
ROW = {4: 4.0, 8: 6.84, 16: 10.1}  # cycles of a full row of an LTC, by lanes
LOADED = 28.6  # bytes of weights in a cycle
UNFOLD, LAYER = 80.0, 95.0  # cycles that wait for one another

_DRIVER = """#include "driver.h"
#include <time.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e9 + t.tv_nsec; }
static void chain(int rounds) {
    uint64_t v = 1;
#if defined(__x86_64__)
    while (rounds--) __asm__ volatile("add $1,%0\\n add $1,%0\\n add $1,%0\\n add $1,%0\\n add $1,%0\\n"
                                      "add $1,%0\\n add $1,%0\\n add $1,%0\\n add $1,%0\\n add $1,%0" : "+r"(v));
#else
    while (rounds--) __asm__ volatile("add %0,%0,#1\\n add %0,%0,#1\\n add %0,%0,#1\\n add %0,%0,#1\\n add %0,%0,#1\\n"
                                      "add %0,%0,#1\\n add %0,%0,#1\\n add %0,%0,#1\\n add %0,%0,#1\\n add %0,%0,#1"
                                      : "+r"(v));
#endif
}
int measure(size_t (*run)(void *, size_t, const void *, void *), void *m, const void *x, void *y, size_t steps,
            int rounds, double *ns, double *ghz) {
    for (int k = 0; k < rounds; ++k) {
        const double a = now();
        chain(2000);
        const double b = now();
        if (run(m, steps, x, y) != steps) return 1;
        ns[k] = (now() - b) / steps;
        ghz[k] = 20000 / (b - a);
    }
    return 0;
}
"""


def random_models(count=40):
    """Models of random kind, wiring and size, the same each time."""
    draw = np.random.default_rng(20)
    for k in range(count):
        units = int(np.exp(draw.uniform(np.log(8), np.log(257))))
        inputs, outputs = int(draw.integers(2, 65)), int(draw.integers(1, max(2, units // 4)))
        sparsity, seed = float(draw.uniform(0.2, 0.8)), int(draw.integers(1 << 16))
        if k % 4 == 0:
            title = f"LTC({inputs}, AutoNCP({units}, {outputs}, {sparsity:.2f}))"
            yield title, inputs, LTC(inputs, AutoNCP(units, outputs, sparsity_level=sparsity, seed=seed))
        elif k % 4 == 1:
            title = f"LTC({inputs}, Random({units}, {outputs}, {sparsity:.2f}))"
            wiring = Random(units, outputs, sparsity_level=sparsity, random_seed=seed)
            yield title, inputs, LTC(inputs, wiring)
        elif k % 4 == 2:
            title = f"CfC({inputs}, AutoNCP({units}, {outputs}, {sparsity:.2f}))"
            yield title, inputs, CfC(inputs, AutoNCP(units, outputs, sparsity_level=sparsity, seed=seed))
        else:
            yield f"CfC({inputs}, {units})", inputs, CfC(inputs, units)


def program_of(module):
    """The step of a model with a fixed timespan of 1."""
    return open_module(module.eval()).trained(1, None).program(Time("fixed", None, 1.0))


def expected(step, lanes):
    """Cycles that the step should take, and what it has: synapses or weights."""
    (node,) = step.program.nodes
    if node.kind == "ltc":
        cell = ltc_cell(node, step.tensors, step.program.inputs[0].shape[-1])
        sensory, own = (part.target[part.w != 0] for part in (cell.sensory, cell.synapses))
        rows = _rows(sensory, cell.units, lanes) + cell.unfolds * _rows(own, cell.units, lanes)
        return max(rows * ROW[lanes], cell.unfolds * UNFOLD), len(sensory) + cell.unfolds * len(own)
    cell, weights = cfc_cell(node, step.tensors), 0
    for layer in cell.layers:
        weights += sum(weight.size for weight, _ in layer.backbone)
        weights += layer.ff1[0].size + layer.ff2[0].size + layer.time_a[0].size  # both heads of the gate are one
    return max(weights * 4 / LOADED, len(cell.layers) * LAYER), weights


def _rows(targets, units, lanes):
    lists = np.sort(np.bincount(targets, minlength=units))[::-1]
    return int(lists[::lanes].sum())


class Bench:
    """Compiles and times."""

    def __init__(self, folder, seconds):
        self.folder, self.seconds, self.lanes = folder, seconds, vector_lanes()
        self.compiler, self.flags = find_compiler(), flags_for(platform.machine())
        text = Source("#include <stddef.h>\n#include <stdint.h>\n", _DRIVER)
        flags = tuple(own.replace("gnu99", "gnu11") for own in FLAGS)
        (folder / "driver.so").write_bytes(compiled(self.compiler, text, "driver", (*flags, "-O2"), folder))
        self._measure = ctypes.CDLL(str(folder / "driver.so")).measure

    def of(self, step, inputs):
        """Figures of a step in the usual way, and in the fastest of those that a build tries."""
        tried = ways(self.compiler, self.lanes, platform.machine(), synapses(step))
        found = {str(way): self._in_way(way, step, inputs) for way in tried}
        usual, best = str(tried[0]), min(found, key=lambda way: found[way]["cycles"])
        return found[usual] | {"fastest": best, "fastest_cycles": found[best]["cycles"], "ways": found}

    def _in_way(self, way, step, inputs):
        begin = time.perf_counter()
        source, flags = c_source(step, Form(DIGEST), way.target), (*self.flags, *way.flags)
        data = compiled(self.compiler, source, "lnn", flags, self.folder)
        took = time.perf_counter() - begin
        library = load_library(data, "lnn", DIGEST)
        model, out = np.zeros(library.facts.model + 64, np.uint8), np.zeros(STEPS * library.facts.output, np.uint8)
        start = ctypes.c_void_p(model.ctypes.data + -model.ctypes.data % 64)
        library.whole.lnn_init(start)
        x = np.random.default_rng(1).standard_normal((STEPS, inputs)).astype(np.float32)
        few = self._timed(library, start, x, out, 20)
        rounds = min(max(int(self.seconds * 1e9 / (few[0].min() * STEPS)), 20), 20_000)
        ns, ghz = self._timed(library, start, x, out, rounds)
        cycles, (should, parts) = float(ns.min() * ghz.max()), expected(step, self.lanes)
        return {
            "cycles": cycles,
            "ns": float(ns.min()),
            "median_ns": float(np.median(ns)),
            "spread_ns": np.percentile(ns, [10, 90]).tolist(),
            "ghz": float(ghz.max()),
            "parts": parts,
            "expected_cycles": should,
            "ratio": cycles / should,
            "compile_s": took,
            "library_bytes": len(data),
        }

    def _timed(self, library, model, x, out, rounds):
        ns, ghz = np.zeros(rounds), np.zeros(rounds)
        places = (ctypes.c_void_p(own.ctypes.data) for own in (x, out))
        run = ctypes.cast(library.whole.lnn_run, ctypes.c_void_p)
        tables = (ctypes.c_void_p(own.ctypes.data) for own in (ns, ghz))
        status = self._measure(run, model, *places, ctypes.c_size_t(STEPS), ctypes.c_int(rounds), *tables)
        if status:
            raise RuntimeError("a step was refused")
        return ns, ghz


def told(own):
    """Figures as a line."""
    low, high = own["spread_ns"]
    return (
        f"{own['cycles']:.0f} cycles, {own['ns']:.0f} ns (median {own['median_ns']:.0f}, {low:.0f} to {high:.0f}), "
        f"{own['ns'] / own['parts']:.3f} ns each of {own['parts']}, {own['ratio']:.2f} of "
        f"{own['expected_cycles']:.0f}, compiled in {own['compile_s']:.1f} s; {own['fastest']}: "
        f"{own['fastest_cycles']:.0f} cycles, {own['fastest_cycles'] / own['expected_cycles']:.2f}"
    )


def _mean(ratios):
    many = np.sum(ratios > 1.5)
    return f"geometric mean {np.exp(np.mean(np.log(ratios))):.3f}, largest {max(ratios):.2f}, {many} above 1.5"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing for each model")
    parser.add_argument("--random", type=int, default=40, help="models of random wiring")
    parser.add_argument("--json", metavar="FILE", help="save the figures, with compiler, flags and machine")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    named = [(title, inputs, make()) for title, (inputs, make) in NAMED.items()]
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), arguments.seconds)
        about = {"compiler": bench.compiler.identity, "flags": bench.flags, "lanes": bench.lanes, "machine": machine()}
        print(f"{about['compiler']}; {' '.join(bench.flags)}; {bench.lanes} lanes; {about['machine']}")
        for title, inputs, module in (*named, *random_models(arguments.random)):
            figures[title] = bench.of(program_of(module), inputs)
            print(f"{title}: {told(figures[title])}")
    drawn = {title: own for title, own in figures.items() if title not in NAMED}
    for name, kind in (("all", ""), ("LTC", "LTC"), ("CfC", "CfC")):
        own = [own for title, own in drawn.items() if title.startswith(kind)]
        if own:
            usual, chosen = np.array([[one["cycles"], one["fastest_cycles"]] for one in own]).T / [
                one["expected_cycles"] for one in own
            ]
            print(f"random, {name}: {_mean(usual)} in the usual way, {_mean(chosen)} in the fastest of those tried")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(about | {"figures": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
