"""The check that a buffer is finite: right for every float32, however many there are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lnn_edge.arrays import finite_check

BITS = [
    0x7F800000,  # infinity
    0xFF800000,
    0x7F800001,  # NaN, signalling and quiet
    0x7FC00000,
    0xFFFFFFFF,
    0x7F7FFFFF,  # the largest finite ones
    0xFF7FFFFF,
    0x7F000000,  # 2^127, whose highest byte is that of a NaN
    0x007F7FFF,  # bytes of a NaN's in other places
    0x3F7F7F7F,
    0x00FFFFFF,
    0x80000000,
    0x00000001,
]


@pytest.mark.parametrize("size", [1, 2, 127, 128, 129, 1000])
@pytest.mark.parametrize("bits", BITS, ids=hex)
def test_one_number_anywhere(bits, size):
    numbers = np.zeros(size, np.float32)
    is_finite = finite_check(numbers)
    assert is_finite()
    value = np.array(bits, np.uint32).view(np.float32)
    for place in {0, size // 2, size - 1}:
        numbers[:] = 1
        numbers[place] = value
        assert is_finite() == bool(np.isfinite(value))
    numbers[:] = 1
    assert is_finite()


@given(st.lists(st.integers(0, 2**32 - 1) | st.sampled_from(BITS), min_size=1, max_size=140))
@example([0x3F800000] * 128 + [0x7FC00000])
def test_as_numpy(bits):
    numbers = np.array(bits, np.uint32).view(np.float32)
    assert finite_check(numbers)() == bool(np.isfinite(numbers).all())


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_other_dtypes(dtype):
    numbers = np.full(4, -1, dtype)  # of a whole number each byte is 0xff
    is_finite = finite_check(numbers)
    assert is_finite()
    if dtype == "float64":
        numbers[2] = np.nan
        assert not is_finite()
