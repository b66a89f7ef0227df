"""The meaning of "equal": the tolerance with its reason, and the largest error of a tensor."""

from __future__ import annotations

import math

import numpy as np

from ..arrays import Array
from ..bundle.spec import Precision

__all__ = [
    "COMPUTABLE",
    "EXACT",
    "EXTREME",
    "HALF_REASON",
    "HALF_TOLERANCE",
    "OWN_FACTOR",
    "TOLERANCE",
    "TOLERANCE_REASON",
    "TORCH",
    "absolute_errors",
    "errors_by_step",
    "is_equal",
    "largest_error",
    "limit_of",
    "size_of",
    "tolerance_of",
    "tolerance_reason",
    "versus",
]


TORCH, EXACT = "torch float32", "float64"  # what results are compared with

TOLERANCE = 1e-5
OWN_FACTOR = 16.0
COMPUTABLE = 1e-3
TOLERANCE_REASON = (
    "1e-5 of the tensor's size (at least 1), or 16 times torch float32's own error against float64 if that is more: "
    "float32 rounds each of the about 100 dependent operations of a step by up to 6e-8, and liquid cores contract, so "
    "errors stay below 1e-6 in normal use. Where huge inputs or long dt amplify rounding, torch's own error says how "
    "much; it is one draw of a spread that another order of summation draws anew, hence 16 (6 was seen). A wrong sign, "
    "mask or bias moves results by more than 1e-3, and a model whose torch float32 is itself off by 1e-3 is refused"
)
EXTREME = "extreme"  # the segment whose inputs are ten times the recorded ones, with dt at the ends of its range
HALF_TOLERANCE = 2e-2
HALF_REASON = (
    "2e-2 of the tensor's size (at least 1): float16 rounds weights and every operation by up to 4.9e-4, and the "
    "arguments of sigmoids by that much of their size; liquid cores contract, so errors do not pile up over steps. Ten "
    "times that on the extreme samples, whose arguments are ten times as large. What a model really drifts is in the "
    "report, measured in true half arithmetic (onnx.reference); 4e-4 to 1e-2 is usual"
)


def tolerance_of(precision: Precision, segment: str = "") -> float:
    """How far a bundle of this precision may be from torch, relative to the tensor's size, on a kind of samples."""
    if precision == "float32":
        return TOLERANCE
    return HALF_TOLERANCE * (10.0 if segment == EXTREME else 1.0)


def tolerance_reason(precision: Precision) -> str:
    """Why it may be so far."""
    return TOLERANCE_REASON if precision == "float32" else HALF_REASON


def versus(subject: str, reference: str) -> str:
    """Name a comparison: "onnxruntime vs torch float32"."""
    return f"{subject} vs {reference}"


def is_equal(got: Array, expected: Array, *, tolerance: float, own: float) -> bool:
    """Whether `compare` would find no step over the limit, in a fourth of its time."""
    worst = largest_error(got, expected)
    return math.isfinite(worst) and worst <= limit_of(size_of(expected), tolerance, own)


def size_of(expected: Array) -> float:
    """The largest magnitude."""
    return float(np.abs(expected).max(initial=0.0))


def limit_of(size: float, tolerance: float, own: float) -> float:
    """The absolute error allowed of a tensor of this size."""
    scale = max(1.0, size)
    return max(tolerance * scale, min(OWN_FACTOR * own, COMPUTABLE * scale))


def largest_error(got: Array, expected: Array) -> float:
    """Largest absolute difference; infinite if anything is not finite."""
    return float(errors_by_step(got, expected).max())


def errors_by_step(got: Array, expected: Array) -> Array:
    """Largest absolute difference at each step, float64 (steps,); infinite where anything is not finite."""
    worst: Array = absolute_errors(got, expected).max(axis=1)
    return worst


def absolute_errors(got: Array, expected: Array) -> Array:
    """Of each number, float64 (steps, numbers); infinite where anything is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        error: Array = np.abs(got.astype(np.float64) - expected.astype(np.float64)).reshape(len(expected), -1)
    error[~np.isfinite(error)] = np.inf
    return error
