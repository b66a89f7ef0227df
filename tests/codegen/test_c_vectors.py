"""Whole vectors in the generated C: permutations, limits, checks, and conductances two at a time."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from c_functions import c_functions
from generated import LANES

WIDE = LANES[-1]


@pytest.fixture(scope="module")
def library():
    return c_functions()


def computed(library, name, *tables):
    y = np.zeros(len(tables[0]), np.float32)
    getattr(library, name)(*(ctypes.c_void_p(own.ctypes.data) for own in (*tables, y)), len(y))
    return y


def synapses(reach):
    draw = np.random.default_rng(4)
    w = 10.0 ** draw.uniform(-20, 8, 1 << 15)
    t = np.clip(draw.uniform(-60, 60, len(w)) - np.log2(w), -reach, reach)
    return t.astype(np.float32), (1 / w).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "reach"), [("many", 300.0), ("pairs", 300.0), ("permuted_pairs", 300.0), ("pairs_near", 123.0)]
)
def test_conductances(name, reach, library):
    """Relative to the weight, as of one number."""
    t, a = synapses(reach)
    exact = 1.0 / (a.astype(np.float64) + np.exp2(t.astype(np.float64)))
    assert (np.abs(computed(library, name, t, a) - exact) * a).max() <= 2.5e-7


@pytest.mark.parametrize("name", ["many", "pairs", "permuted_pairs"])
def test_conductance_of_any_finite_number_is_within_its_ends(name, library):
    bits = np.arange(0, 1 << 32, 65521, dtype=np.uint64).astype(np.uint32)
    t = np.resize(bits.view(np.float32), 1 << 16)
    t = np.where(np.isfinite(t), t, np.float32(0))
    got = computed(library, name, t, np.ones_like(t))
    assert got.min() >= 0.0
    assert got.max() <= 1.0
    assert np.isnan(computed(library, name, np.full(64, np.nan, np.float32), np.ones(64, np.float32))).all()


def test_limits(library):
    x = np.float32([0.0, -0.5, 2.0, -2.0, 1.0, -1.0, 3e38, -3e38, np.nan, np.inf, -np.inf, 1e-40] * 4)
    x = np.resize(x, 48)
    limit = np.ones_like(x)
    np.testing.assert_array_equal(computed(library, "limited", x, limit), np.clip(x, -1, 1))


def test_permutation(library):
    x = np.arange(48, dtype=np.float32)
    index = np.random.default_rng(1).integers(0, WIDE, 48).astype(np.int32)
    expected = x[np.arange(48) // WIDE * WIDE + index]
    np.testing.assert_array_equal(computed(library, "picked", x, index), expected)


@pytest.mark.parametrize("count", [1, WIDE - 1, WIDE, WIDE + 1, 3 * WIDE + 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_every_place_of_a_table_is_looked_at(count, bad, library):
    for place in range(-1, count):
        x = np.full(count, 3e38, np.float32)
        if place >= 0:
            x[place] = bad
        assert library.finite_table(ctypes.c_void_p(x.ctypes.data), ctypes.c_size_t(count)) == (place < 0)
        if count == WIDE:
            assert library.strange(ctypes.c_void_p(x.ctypes.data)) == (place >= 0)
