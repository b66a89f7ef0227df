"""Files that older versions wrote, with the results that lie beside them; how near to these today's must be."""

from __future__ import annotations

import pickle

import numpy as np
from bundles import ROOT

FIXTURES = ROOT / "tests" / "fixtures"

# Of the tensor's size, at least 1. Another machine or version sums up in another order, and float32 rounds each of the
# about 100 operations of a step by up to 6e-8; a wrong sign, mask or bias moves results by more than 1e-3.
FLOAT32 = 1e-5
# The weights are rounded already, in the file; how much of the arithmetic is in half differs between versions of
# onnxruntime, and each such operation rounds by up to 4.9e-4.
FLOAT16 = 5e-3


def found(pattern: str) -> list[str]:
    names = sorted(str(path.relative_to(FIXTURES)) for path in FIXTURES.glob(pattern))
    assert names
    return names


def recorded(name: str) -> dict[str, np.ndarray]:
    """The results that lie beside a fixture."""
    with np.load((FIXTURES / name).with_suffix(".npz")) as file:
        return dict(file)


def group(results: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): value for key, value in results.items() if key.startswith(prefix)}


def assert_near(actual, expected, tolerance=FLOAT32):
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))


def unpickled(name: str):
    return pickle.loads((FIXTURES / name).read_bytes())
