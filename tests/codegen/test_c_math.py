"""The functions of the generated C over a sample of all float32, one number and a vector at a time; their bounds."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest
import torch
from c_functions import ONE_BY_ONE, VECTORS, c_functions

# Every 1021st bit pattern, which is prime, and those around what the functions decide by.
BITS = np.concatenate(
    [np.arange(0, 1 << 32, 1021, dtype=np.uint64), np.float32([0, 1, -1, 88.72, -87.33, 126]).view("u4")]
)
X = BITS.astype(np.uint32).view(np.float32)
FINITE = X[np.isfinite(X)]


def sigmoid(x):
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-x))


def erf(x):
    return torch.erf(torch.from_numpy(x)).numpy()


# Exact in float64; the bounds that the module states, absolute and relative.
BOUNDS = {
    "exp": (np.exp, 0.0, 2e-7),
    "sigmoid": (sigmoid, 2e-7, 0.0),
    "tanh": (np.tanh, 2e-7, 0.0),
    "erf": (erf, 2e-7, 0.0),
    "relu": (lambda x: np.maximum(x, 0.0), 0.0, 0.0),
    "silu": (lambda x: x * sigmoid(x), 2e-7, 3e-7),
    "gelu": (lambda x: 0.5 * x * (1.0 + erf(x / math.sqrt(2.0))), 2e-7, 3e-7),
    "log": (np.log, 1e-7, 2e-7),
    "softplus": (lambda x: np.logaddexp(0.0, x), 2e-7, 2e-7),
}


@pytest.fixture(scope="module")
def library():
    return c_functions()


def computed(library, name, *tables):
    y = np.zeros_like(tables[0])
    getattr(library, name)(*(ctypes.c_void_p(own.ctypes.data) for own in (*tables, y)), len(y))
    return y


@pytest.mark.parametrize("name", VECTORS)
def test_bound_over_a_sample_of_all_numbers(name, library):
    x = np.ascontiguousarray(np.resize(FINITE, len(FINITE) // 16 * 16))
    check({way: computed(library, f"{name}_{way}", x) for way in ("one", "many")}, x, *BOUNDS[name])


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_bound_of_functions_of_one_number(name, library):
    x = np.ascontiguousarray(FINITE if name != "log" else FINITE[FINITE > 0])
    check({"one": computed(library, f"{name}_one", x)}, x, *BOUNDS[name])


def check(results, x, exact, absolute, relative):
    with np.errstate(over="ignore", under="ignore"):
        expected = exact(x.astype(np.float64))
        rounded = expected.astype(np.float32)
    finite = np.isfinite(rounded)
    # Below the smallest normal number float32 itself is 1.4e-45 apart.
    allowed = absolute + relative * np.abs(expected[finite]) + 3e-45
    for way, got in results.items():
        np.testing.assert_array_equal(got[~finite], rounded[~finite], err_msg=way)
        excess = np.abs(got[finite] - expected[finite]) / allowed
        worst = int(excess.argmax())
        assert excess[worst] <= 1.0, f"{way}: {excess[worst]:.3f} of the bound at {x[finite][worst]!r}"


@pytest.mark.parametrize("way", ["one", "many"])
@pytest.mark.parametrize("name", VECTORS)
def test_what_is_no_number_stays_so_whatever_its_bits(name, way, library):
    bits = np.concatenate([np.arange(0x7F800001, 0x80000000, 4099), np.arange(0xFF800001, 0x100000000, 4099)])
    x = np.resize(bits, len(bits) // 16 * 16).astype(np.uint32).view(np.float32)
    assert np.isnan(computed(library, f"{name}_{way}", x)).all()


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_logarithms_at_their_ends(name, library):
    x = np.float32([0.0, -1.0, np.inf, np.nan, 1.0])
    expected = {
        "log": [-np.inf, np.nan, np.inf, np.nan, 0.0],
        "softplus": [np.log(2), np.log1p(np.exp(-1)), np.inf, np.nan, np.log1p(np.e)],
    }
    np.testing.assert_allclose(computed(library, f"{name}_one", x), expected[name], rtol=2e-7)


def test_tanh_is_accurate_near_zero(library):
    x = np.float32(10.0) ** np.linspace(-38, -0.5, 10_000, dtype=np.float32)
    got = computed(library, "tanh_one", x)
    assert np.abs(got / np.tanh(x.astype(np.float64)) - 1).max() <= 4e-7


def test_conductance_of_a_synapse(library):
    """1 / (a + 2^t) with log2 a in t, relative to 1 / a: for weights from 1e-30 to 1e8."""
    draw = np.random.default_rng(1)
    w = 10.0 ** draw.uniform(-30, 8, 100_000)
    z = draw.uniform(-60, 60, 100_000)
    a, t = (1 / w).astype(np.float32), (z - np.log2(w)).astype(np.float32)
    exact = 1.0 / (a.astype(np.float64) + np.exp2(t.astype(np.float64)))
    error = np.abs(computed(library, "conductance_one", t, a) - exact) * a
    assert error.max() <= 2.5e-7
