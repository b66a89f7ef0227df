"""The judgement of "equal": the short question and the long answer agree, whatever numbers there are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lnn_edge.verify.comparison import compare
from lnn_edge.verify.tolerance import COMPUTABLE, TOLERANCE, is_equal

NUMBERS = st.floats(-2, 2, width=32) | st.sampled_from([0.0, 1e30, -1e30, math.inf, -math.inf, math.nan])
RESULTS = arrays(np.float32, (4, 2), elements=NUMBERS)


@given(RESULTS, RESULTS, st.sampled_from([TOLERANCE, 0.5]), st.sampled_from([0.0, 1e-6, 1.0, math.inf]))
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of figures that are not finite
def test_is_equal_where_a_comparison_has_passed(got, expected, tolerance, own):
    for other in (expected, expected.astype(np.float64), got, got + np.float32(1e-6)):
        row = compare("y", "a vs b", "golden", got, other, tolerance=tolerance, own=own)
        assert is_equal(got, other, tolerance=tolerance, own=own) is row.passed


@pytest.mark.parametrize(("off", "own"), [(0.99 * TOLERANCE, 0.0), (15 * 1e-6, 1e-6), (0.99 * COMPUTABLE, 1.0)])
def test_how_far_an_equal_one_may_be(off, own):
    expected = np.zeros((3, 1))
    expected[1] = 0.5
    assert is_equal(expected + off, expected, tolerance=TOLERANCE, own=own)
    assert not is_equal(expected + 1.1 * off / 0.99 + 1e-6, expected, tolerance=TOLERANCE, own=own)
    assert not is_equal(np.full((3, 1), np.nan), expected, tolerance=TOLERANCE, own=own)
