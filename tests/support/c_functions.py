"""The functions of the generated C, each over a table of numbers: one library in a run, as wide as this machine is."""

from __future__ import annotations

import ctypes

from generated import LANES, shared_library

from lnn_edge.codegen.c_math import scalar, vector
from lnn_edge.codegen.form import Source

__all__ = ["ONE_BY_ONE", "VECTORS", "c_functions"]

VECTORS = ("exp", "sigmoid", "tanh", "erf", "relu", "silu", "gelu")
ONE_BY_ONE = ("log", "softplus")
_OF_VECTORS = """
void conductance_one(const float *x, const float *a, float *y, int n) {
    for (int i = 0; i < n; ++i) y[i] = conductance1(x[i], a[i]);
}
void many(const float *t, const float *a, float *y, int n) {
    for (int i = 0; i < n; i += LANES) put(y + i, conductancev(get(t + i), get(a + i)));
}
void pairs(const float *t, const float *a, float *y, int n) {
    for (int i = 0; i < n; i += 2 * LANES) {
        V g, h;
        two_conductancesv(get(t + i), get(a + i), get(t + i + LANES), get(a + i + LANES), &g, &h, 0);
        put(y + i, g), put(y + i + LANES, h);
    }
}
void permuted_pairs(const float *t, const float *a, float *y, int n) {
    for (int i = 0; i < n; i += 2 * LANES) {
        V g, h;
        two_conductancesv(get(t + i), get(a + i), get(t + i + LANES), get(a + i + LANES), &g, &h, 1);
        put(y + i, g), put(y + i + LANES, h);
    }
}
void pairs_near(const float *t, const float *a, float *y, int n) {
    for (int i = 0; i < n; i += 2 * LANES) {
        V g, h;
        two_conductances_nearv(get(t + i), get(a + i), get(t + i + LANES), get(a + i + LANES), &g, &h, 0);
        put(y + i, g), put(y + i + LANES, h);
    }
}
void limited(const float *x, const float *limit, float *y, int n) {
    for (int i = 0; i < n; i += LANES) put(y + i, withinv(get(x + i), get(limit + i)));
}
void picked(const float *x, const int32_t *index, float *y, int n) {
    for (int i = 0; i < n; i += LANES) put(y + i, permuted(get(x + i), index + i));
}
int finite_table(const float *x, size_t n) { return all_finite(x, n); }
int strange(const float *x) { return anyv(unusualv(get(x))) != 0; }
"""

_ONE = """void NAME_one(const float *x, float *y, int n) {
    for (int i = 0; i < n; ++i) y[i] = NAME1(x[i]);
}
"""
_MANY = """void NAME_many(const float *x, float *y, int n) {
    for (int i = 0; i + LANES <= n; i += LANES) put(y + i, NAMEv(get(x + i)));
}
"""


def c_functions() -> ctypes.CDLL:
    """The library: `exp_one` of one number at a time, `exp_many` of vectors, and so on."""
    return ctypes.CDLL(str(shared_library("functions", _source, "-O3")))  # as where they run


def _source() -> Source:
    begin = ['#include "lnn.h"\n#include <math.h>\n', scalar(LANES[-1]), vector(LANES[-1]), _OF_VECTORS]
    text = begin + [_ONE.replace("NAME", name) for name in (*VECTORS, *ONE_BY_ONE)]
    text += [_MANY.replace("NAME", name) for name in VECTORS]
    return Source("#include <stddef.h>\n#include <stdint.h>\n", "".join(text))
