"""Every approximation of the generated C over all 2^32 float32 beside double precision: the largest share of its bound.

Numbers and vectors of them, as wide as this machine's. What is infinite when rounded to float32 must be that; what is
no number must stay so. The exact values are those of the C library, in vectors where it has them.
Type: python benchmarks/all_floats.py
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lnn_edge.codegen.c_math import scalar, vector
from lnn_edge.machine.cpu import vector_lanes
from lnn_edge.machine.describe import machine
from lnn_edge.runtime.backends.native.compiler import find_compiler, flags_for

# What it is in double precision, and the bounds that `lnn_edge.codegen.c_math` states: absolute, relative.
BOUNDS = {
    "exp": ("exp(x)", 0.0, 2e-7),
    "sigmoid": ("1.0 / (1.0 + exp(-x))", 2e-7, 0.0),
    "tanh": ("tanh(x)", 2e-7, 0.0),
    "erf": ("erf(x)", 2e-7, 0.0),
    "relu": ("x > 0.0 ? x : 0.0", 0.0, 0.0),
    "silu": ("x / (1.0 + exp(-x))", 2e-7, 3e-7),
    "gelu": ("0.5 * x * erfc(x * -0.70710678118654752)", 2e-7, 3e-7),
    "log": ("log(x)", 1e-7, 2e-7),
    "softplus": ("x > 0.0 ? x + log1p(exp(-x)) : log1p(exp(x))", 2e-7, 2e-7),
    "conductance": ("1.0 / (1.0 + exp2(x))", 2.5e-7, 0.0),
}
ONE_BY_ONE = ("log", "softplus")
_BLOCK = 4096

_CHECK = """
/* The largest share of the bound of a range of bit patterns in two ways, and where; whether what must be kept is. */
void NAME_check(uint32_t first, uint32_t blocks, double *worst, float *where, int *kept) {
    static __thread float x[BLOCK], y[2][BLOCK];
    static __thread double e[BLOCK];
    worst[0] = worst[1] = 0.0, where[0] = where[1] = 0.0f, *kept = 1;
    for (uint32_t b = 0; b < blocks; ++b) {
        const uint32_t start = first + b * BLOCK; /* of one exponent and sign, as BLOCK divides 2^23 */
        if (LOWEST && start >> 31) continue;
        for (int i = 0; i < BLOCK; ++i) x[i] = value1((int32_t)(start + i));
        for (int i = 0; i < BLOCK; ++i) y[0][i] = NAME1(x[i]ONE);
        MANY
        if ((start & 0x7f800000) == 0x7f800000) {
            for (int i = 0; i < BLOCK; ++i)
                for (int w = 0; w < WAYS; ++w) *kept &= x[i] == x[i] || y[w][i] != y[w][i];
            continue;
        }
        NAME_exact(x, e, BLOCK);
        for (int w = 0; w < WAYS; ++w) {
            int none = 0;
            for (int i = 0; i < BLOCK; ++i) none |= (bits1(y[w][i]) & 0x7fffffff) > 0x7f800000;
            if (none) *kept = 0;
            if (NAME_share(y[w], e, BLOCK) <= worst[w]) continue;
            for (int i = 0; i < BLOCK; ++i) {
                const double size = fabs(e[i]), off = fabs(y[w][i] - e[i]), bound = ABSOLUTE + RELATIVE * size + 3e-45;
                if (size >= 3.4028235677973366e38 && y[w][i] != (float)e[i]) *kept = 0;
                if (size < 3.4028235677973366e38 && !(off <= worst[w] * bound)) worst[w] = off / bound, where[w] = x[i];
            }
        }
    }
}
"""


def sources():
    """The functions with their checks, and what is exact."""
    lanes = vector_lanes()
    text = ["#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n", scalar(lanes), vector(lanes)]
    exact = ["#include <math.h>\n"]
    for name, (formula, absolute, relative) in BOUNDS.items():
        text.append(f"void {name}_exact(const float *, double *, int);\n")
        text.append(f"double {name}_share(const float *, const double *, int);\n")
        exact.append(f"void {name}_exact(const float *restrict p, double *restrict e, int n) {{\n#pragma omp simd\n")
        exact.append(f"for (int i = 0; i < n; ++i) {{ const double x = p[i]; e[i] = {formula}; }} }}\n")
        exact.append(f"double {name}_share(const float *restrict y, const double *restrict e, int n) {{\n")
        exact.append("double most = 0.0;\n#pragma omp simd reduction(max : most)\nfor (int i = 0; i < n; ++i) {\n")
        exact.append(f"const double bound = {absolute} + {relative} * fabs(e[i]) + 3e-45, off = fabs(y[i] - e[i]);\n")
        exact.append("most = off / bound > most ? off / bound : most; }\nreturn most; }\n")
        one, all_ = (", 1.0f", ", allv(1.0f)") if name == "conductance" else ("", "")
        many = f"for (int i = 0; i < BLOCK; i += LANES) put(y[1] + i, {name}v(get(x + i){all_}));"
        wide = name not in ONE_BY_ONE and lanes > 1
        parts = {
            "NAME": name,
            "ONE": one,
            "MANY": many if wide else "",
            "WAYS": str(1 + wide),
            "BLOCK": str(_BLOCK),
            "ABSOLUTE": repr(absolute),
            "RELATIVE": repr(relative),
            "LOWEST": str(int(name == "log")),
        }
        own = _CHECK
        for word, value in parts.items():
            own = own.replace(word, value)
        text.append(own)
    return "".join(text), "".join(exact)


def built(folder):
    """The library. What is exact is compiled for itself, with reordered sums: it is far more exact than it must be."""
    command, flags = find_compiler().command, flags_for(platform.machine())
    for name, text in zip(("own.c", "exact.c"), sources(), strict=True):
        (folder / name).write_text(text)
    loose = ["-O3", "-ffast-math", "-fopenmp-simd", "-std=gnu99", "-fPIC", flags[-1], "-c", "exact.c", "-o", "exact.o"]
    subprocess.run([*command, *loose], cwd=folder, check=True)
    subprocess.run([*command, *flags, "own.c", "exact.o", "-o", "all.so", "-lmvec", "-lm"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "all.so"))


def checked(library, function, workers, share):
    """For numbers and vectors the largest share of the bound and where it is; whether infinities and NaN are kept."""
    check, blocks = getattr(library, f"{function}_check"), (1 << 32) // _BLOCK // 64

    def part(place):
        worst, where, kept = (ctypes.c_double * 2)(), (ctypes.c_float * 2)(), ctypes.c_int()
        first = ctypes.c_uint32(place * blocks * _BLOCK)
        check(first, ctypes.c_uint32(int(blocks * share)), worst, where, ctypes.byref(kept))
        return list(zip(worst, where, strict=True)), bool(kept.value)

    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(part, range(64)))
    return [max(found[way] for found, _ in parts) for way in range(2)], all(kept for _, kept in parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of each of 64 ranges, for a first look")
    parser.add_argument("--json", metavar="FILE", help="save the figures, with compiler, flags and machine")
    arguments = parser.parse_args()
    workers, failed, figures = len(os.sched_getaffinity(0)), False, {}
    print(f"{find_compiler().identity}; {vector_lanes()} lanes; {machine()}")
    with tempfile.TemporaryDirectory() as name:
        library = built(Path(name))
        for function in BOUNDS:
            begin = time.perf_counter()
            ways, kept = checked(library, function, workers, arguments.share)
            took = time.perf_counter() - begin
            for way, (worst, where) in zip(("one", "many"), ways[: 1 if function in ONE_BY_ONE else 2], strict=False):
                failed |= not kept or not worst <= 1.0
                figures[f"{function} {way}"] = {"share": worst, "at": where, "kept": kept}
                print(
                    f"{function} {way}: {worst:.3f} of its bound at {where!r}, kept: {kept}, {took:.0f} s", flush=True
                )
    if arguments.json:
        about = {"compiler": find_compiler().identity, "flags": flags_for(platform.machine()), "machine": machine()}
        Path(arguments.json).write_text(json.dumps(about | {"figures": figures}, indent=2) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
