"""What a step takes on a Cortex-M4F: flash, RAM, stack, and the instructions of a step, which QEMU counts.

QEMU's board mps2-an386 runs with one instruction per nanosecond of its clock, and the processor's own timer is read
around a hundred steps; how many instructions a tick is comes from a loop of known length. Instructions are no cycles: a
division takes 14 of them on that core, a load that waits for flash more. Needs gcc-arm-none-eabi,
libnewlib-arm-none-eabi and qemu-system-arm.
Type: python benchmarks/microcontroller.py
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP

from lnn_edge.bundle.spec import Time
from lnn_edge.cli.cross_compile import measured
from lnn_edge.codegen.c_source import Form, c_source
from lnn_edge.codegen.c_text import float_table
from lnn_edge.codegen.targets import named_target
from lnn_edge.export.trained.open import open_module
from lnn_edge.reference.interpreter import Interpreter

MODELS = {
    "LTC(20, AutoNCP(28, 4))": (20, lambda: LTC(20, AutoNCP(28, 4))),
    "CfC(20, AutoNCP(28, 4))": (20, lambda: CfC(20, AutoNCP(28, 4))),
    "CfC(8, AutoNCP(19, 1))": (8, lambda: CfC(8, AutoNCP(19, 1))),
    "CfC(6, 32)": (6, lambda: CfC(6, 32)),
}
STEPS = 100
BOARD = Path(__file__).resolve().parents[1] / "examples" / "microcontroller"
QEMU = "qemu-system-arm -M mps2-an386 -nographic -icount shift=0 -semihosting-config enable=on,target=native -kernel"
_MAIN = """#include <stdio.h>
#include <string.h>
#include "lnn.h"
#include "samples.h"
#define CONTROL (*(volatile uint32_t *)0xE000E010)
#define RELOAD (*(volatile uint32_t *)0xE000E014)
#define VALUE (*(volatile uint32_t *)0xE000E018)
#define LOOPS 100000
static lnn_model model;
static lnn_input input;
static lnn_output output;
static uint32_t since(uint32_t start) { return (start - VALUE) & 0xffffff; }
int main(void) {
    uint32_t start, known, steps = 0, k, i, n = LOOPS;
    CONTROL = 0, RELOAD = 0xffffff, VALUE = 0, CONTROL = 5;
    while (VALUE == 0) {}
    start = VALUE;
    __asm volatile("1: subs %0, #1\\n bne 1b" : "+r"(n) : : "cc");
    known = since(start);
    lnn_init(&model);
    for (k = 0; k < STEPS; ++k) {
        for (i = 0; i < INPUTS; ++i) input.in0[i] = samples[k * INPUTS + i];
        start = VALUE;
        if (lnn_step(&model, &input, &output) != lnn_DONE) return 1;
        steps += since(start);
    }
    memcpy(&n, output.out0, 4);
    printf("%lu %lu %lu\\n", (unsigned long)known, (unsigned long)steps, (unsigned long)n);
    return 0;
}
"""


def instructions(files, flags, step, x, folder):
    """Of a step on average, as QEMU counts them; its last result must be the one that is known."""
    samples = f"#define STEPS {len(x)}\n#define INPUTS {x.shape[1]}\n{float_table('samples', x)}"
    for name, text in {**files, "samples.h": samples, "main.c": _MAIN}.items():
        (folder / name).write_text(text)
    board = ["-T", str(BOARD / "mps2-an386.ld"), str(BOARD / "startup.c")]
    own = ["-std=gnu99", "-ffp-contract=fast", "-fno-math-errno", "--specs=rdimon.specs", *flags]
    command = ["arm-none-eabi-gcc", *own, *board, "main.c", "lnn.c", "-o", "step.elf", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    done = subprocess.run([*QEMU.split(), "step.elf"], cwd=folder, check=True, capture_output=True, text=True)
    known, ticks, last = re.fullmatch(r"(\d+) (\d+) (\d+)\s*", done.stdout).groups()
    last = float(np.uint32(last).view(np.float32))
    judge, states = Interpreter(step), Interpreter(step).start(1)
    for sample in x:
        got, states = judge.step({step.program.inputs[0].name: sample[None]}, states)
    (result,) = got.values()
    if abs(last - result.reshape(-1)[0]) > 1e-5:
        raise RuntimeError(f"the last result is {last}, expected {result.reshape(-1)[0]}")
    return int(ticks) / len(x) * (2 * 100_000 / int(known))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--optimize", default="-O2", help="the compiler's option (default: -O2)")
    parser.add_argument("--json", metavar="FILE", help="save the figures")
    arguments = parser.parse_args()
    target, figures = named_target("cortex-m4f"), {}
    for title, (inputs, make) in MODELS.items():
        torch.manual_seed(0)
        step = open_module(make().eval()).trained(1, None).program(Time("fixed", None, 1.0))
        source = c_source(step, Form("0" * 64), target)
        files = {"lnn.h": source.header, "lnn.c": source.source}
        x = np.random.default_rng(1).standard_normal((STEPS, inputs)).astype(np.float32)
        sizes = measured(files, "lnn", target, arguments.optimize)
        with tempfile.TemporaryDirectory() as folder:
            count = instructions(files, [*target.flags, arguments.optimize], step, x, Path(folder))
        figures[title] = {"instructions": count, **sizes.facts()}
        print(f"{title}: {count:,.0f} instructions a step; {sizes.text()}", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
