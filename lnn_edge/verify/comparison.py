"""The error figures of one tensor over a run, beside what is allowed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from .tolerance import TOLERANCE, absolute_errors, limit_of, size_of

__all__ = ["Comparison", "compare"]

_QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class Comparison:
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
    size = size_of(expected)
    error = absolute_errors(got, expected)
    limit = limit_of(size, tolerance, own)
    worst = error.max(axis=1)
    largest = float(worst.max())
    over = (~((worst <= limit) & np.isfinite(worst))).nonzero()[0]
    return Comparison(
        tensor=tensor,
        against=against,
        segment=segment,
        steps=steps * every,
        max_abs=largest,
        max_rel=largest / size if size else 0.0,
        max_ulp=_ulp(error, expected),
        quantiles=_quantiles(error),
        growth=_growth(worst),
        limit=limit,
        first_over=int(over[0]) * every + every - 1 if len(over) else None,
        own=own,
    )


def _ulp(error: Array, expected: Array) -> float:
    """Largest error in float32 spacings; infinite where a value is beyond float32."""
    with np.errstate(all="ignore"):
        spacing = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64).reshape(error.shape)
        return float(np.where(error > 0, error / spacing, 0.0).max())


def _quantiles(error: Array) -> tuple[float, float, float, float]:
    ordered = np.sort(error, axis=None)
    picks = [float(ordered[min(len(ordered) - 1, int(q * len(ordered)))]) for q in _QUANTILES]
    return picks[0], picks[1], picks[2], picks[3]


def _growth(per_step: Array) -> float:
    tenth = max(1, len(per_step) // 10)
    with np.errstate(over="ignore"):  # as np.mean, which takes several times as long for few steps
        first, last = (float(np.add.reduce(part)) / tenth for part in (per_step[:tenth], per_step[-tenth:]))
    return last / first if first > 0 and np.isfinite(last) else 0.0
