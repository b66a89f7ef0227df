"""Each operation of the step program as C, beside what torch computes in float64."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from generated import LANES, Family
from generated_models import COMPILED, OPERATIONS_ALONE, operation
from operation_rows import ROWS, expected_of, inputs_of

from lnn_edge.bundle.operations import OPERATIONS
from lnn_edge.bundle.step_cores import CORES
from lnn_edge.codegen.table import EMITTED

# float32, and sums of at most a hundred products of order 1 to 10: some ten roundings of 6e-8 of the largest.
LIMIT = 3e-6


def test_every_operation_and_core_is_written():
    assert set(EMITTED) == set(OPERATIONS) | set(CORES)


KEEPING = ["relu", "tanh", "sigmoid", "exp", "max", "min", "reduce-max", "softplus", "erf", "elu"]
OF_THREE_ROWS = {(name, 3): partial(operation, name, batch=3) for name in ROWS}
OF_ONE_ROW = {(name, 1): partial(operation, name) for name in KEEPING}
IN_VECTORS = Family("operations", LANES[-1], OF_THREE_ROWS | OF_ONE_ROW)


@pytest.mark.parametrize("name", ROWS)
def test_operation_equals_torch(name):
    own = ROWS[name]
    values = [value.astype(np.float32).astype(np.float64) for value in inputs_of(own, 3)]
    expected = expected_of(own, values)
    c = IN_VECTORS[name, 3]
    got, _ = c.step(dict(zip("abc", values, strict=False)), {})
    assert c.status == 0
    np.testing.assert_allclose(got["output"], expected, rtol=LIMIT, atol=LIMIT)


@pytest.mark.parametrize("name", OPERATIONS_ALONE)
def test_operation_without_vectors(name):
    own = ROWS[name]
    values = [value.astype(np.float32).astype(np.float64) for value in inputs_of(own, 1)]
    expected = expected_of(own, values)
    got, _ = COMPILED[1]["operation", name].step(dict(zip("abc", values, strict=False)), {})
    np.testing.assert_allclose(got["output"], expected, rtol=LIMIT, atol=LIMIT)


@pytest.mark.parametrize("name", KEEPING)
def test_what_is_no_number_stays_so(name):
    """A result that is not finite is refused, so it must not be clamped away; the buffers still show it."""
    own = ROWS[name]
    values = inputs_of(own, 1)
    c = IN_VECTORS[name, 1]
    values[0][..., 0] = np.inf if name == "exp" else 3e38
    got, _ = c.step(dict(zip("abc", values, strict=False)), {})
    assert c.status == (1 if name == "exp" else 0), got
