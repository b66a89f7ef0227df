"""The meaning of "equal": the tolerance with its reason, and the error figures of one tensor over a run."""

from __future__ import annotations

import math

import msgspec
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
    "Comparison",
    "compare",
    "errors_by_step",
    "is_equal",
    "largest_error",
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
_QUANTILES = (0.5, 0.9, 0.99, 1.0)


class Comparison(msgspec.Struct, frozen=True):
    """How far one tensor is from its reference over one segment of a run.

    Args:
        tensor: Name of the output or state.
        against: What was compared, "onnxruntime vs torch float32" for instance; see `versus`.
        segment: Which inputs, "recorded" for instance.
        steps: Number of steps compared.
        max_abs: Largest absolute error.
        max_rel: Largest absolute error divided by the largest reference magnitude of the tensor.
        max_ulp: Largest error in units of the float32 spacing at the reference value.
        quantiles: Absolute error at the 50, 90, 99 and 100 percent quantile.
        growth: Mean error in the last tenth of the run divided by that in the first tenth; about 1 when errors do
            not accumulate. 0 when there is no error at all.
        limit: Absolute error allowed.
        first_over: Step at which the error first exceeds the limit, or `None`.
        own: Torch float32's own largest error against float64 on the same samples, which is what "equal" is judged by.
    """

    tensor: str
    against: str
    segment: str
    steps: int
    max_abs: float
    max_rel: float
    max_ulp: float
    quantiles: tuple[float, float, float, float]
    growth: float
    limit: float
    first_over: int | None
    own: float

    @property
    def subject(self) -> str:
        """What was judged: a backend, or torch itself."""
        return self.against.partition(" vs ")[0]

    @property
    def reference(self) -> str:
        """What it was judged by."""
        return self.against.partition(" vs ")[2]

    @property
    def passed(self) -> bool:
        """Whether the error stays within the limit at every step."""
        return self.first_over is None

    def __str__(self) -> str:
        subject = f"{self.tensor} on {self.segment} inputs: {self.against}"
        if self.passed:
            return f"{subject} differ by at most {self.max_abs:.1e} (allowed {self.limit:.1e})"
        return (
            f"{subject} differ by {self.max_abs:.1e}, allowed {self.limit:.1e}; "
            f"first over at step {self.first_over} of {self.steps}"
        )


def compare(
    tensor: str,
    against: str,
    segment: str,
    got: Array,
    expected: Array,
    *,
    tolerance: float = TOLERANCE,
    own: float = 0.0,
    every: int = 1,
) -> Comparison:
    """Compare one tensor over one segment with its reference.

    Args:
        tensor: Name of the output or state.
        against: What is compared, for the report.
        segment: Which inputs, for the report.
        got: Results, shape (steps, ...).
        expected: Reference, same shape; its dtype may be float32 or float64.
        tolerance: Allowed error relative to max(1, largest reference magnitude).
        own: Torch float32's own largest error against float64 in this segment; `OWN_FACTOR` times it is allowed,
            but no more than `COMPUTABLE` relative to the size.
        every: Steps between two values; the value of step k * every + every - 1 is the k-th.

    Returns:
        The figures. A value that is not finite in either counts as an infinite error.
    """
    steps = len(expected)
    size = _size(expected)
    error = _errors(got, expected)
    limit = _limit(size, tolerance, own)
    worst = error.max(axis=1)
    over = np.flatnonzero(~((worst <= limit) & np.isfinite(worst)))
    return Comparison(
        tensor=tensor,
        against=against,
        segment=segment,
        steps=steps * every,
        max_abs=float(error.max()),
        max_rel=float(error.max()) / size if size else 0.0,
        max_ulp=_ulp(error, expected),
        quantiles=_quantiles(error),
        growth=_growth(worst),
        limit=limit,
        first_over=int(over[0]) * every + every - 1 if len(over) else None,
        own=own,
    )


def is_equal(got: Array, expected: Array, *, tolerance: float, own: float) -> bool:
    """Whether `compare` would find no step over the limit, in a fourth of its time."""
    worst = largest_error(got, expected)
    return math.isfinite(worst) and worst <= _limit(_size(expected), tolerance, own)


def _size(expected: Array) -> float:
    """The largest magnitude."""
    return float(np.max(np.abs(expected), initial=0.0))


def _limit(size: float, tolerance: float, own: float) -> float:
    """The absolute error allowed."""
    scale = max(1.0, size)
    return max(tolerance * scale, min(OWN_FACTOR * own, COMPUTABLE * scale))


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


def largest_error(got: Array, expected: Array) -> float:
    """Largest absolute difference; infinite if anything is not finite."""
    return float(errors_by_step(got, expected).max())


def errors_by_step(got: Array, expected: Array) -> Array:
    """Largest absolute difference at each step, float64 (steps,); infinite where anything is not finite."""
    worst: Array = _errors(got, expected).max(axis=1)
    return worst


def _errors(got: Array, expected: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        error: Array = np.abs(got.astype(np.float64) - expected.astype(np.float64)).reshape(len(expected), -1)
    error[~np.isfinite(error)] = np.inf
    return error


def _ulp(error: Array, expected: Array) -> float:
    """Largest error in float32 spacings; infinite where a value is beyond float32."""
    with np.errstate(all="ignore"):
        spacing = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64).reshape(error.shape)
        return float(np.max(np.where(error > 0, error / spacing, 0.0)))


def _quantiles(error: Array) -> tuple[float, float, float, float]:
    ordered = np.sort(error, axis=None)
    picks = [float(ordered[min(len(ordered) - 1, int(q * len(ordered)))]) for q in _QUANTILES]
    return picks[0], picks[1], picks[2], picks[3]


def _growth(per_step: Array) -> float:
    tenth = max(1, len(per_step) // 10)
    with np.errstate(over="ignore"):
        first, last = float(np.mean(per_step[:tenth])), float(np.mean(per_step[-tenth:]))
    return last / first if first > 0 and np.isfinite(last) else 0.0
