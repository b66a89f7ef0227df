"""The pace of samples over a window, of a model with fixed time, which counts each of them as a period."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Pace", "PaceWindow"]


class Pace(NamedTuple):
    """How samples came over a window.

    Args:
        samples: Times between samples in the window.
        bias: Their mean, in periods, less one: 0.1 where each sample comes a tenth of a period too late.
        jitter: Their standard deviation, in periods.
    """

    samples: int
    bias: float
    jitter: float

    def __str__(self) -> str:
        side = "more" if self.bias >= 0 else "less"
        return (
            f"over {self.samples} samples {abs(self.bias):.1%} {side} time between them than the period of the model, "
            f"with a jitter of {self.jitter:.1%}"
        )


class PaceWindow:
    """Takes the times between samples and tells whether their mean keeps to the period.

    Args:
        period_s: Of the model, seconds.
        legal: Lowest and highest mean, in periods.
        length: Samples of the window.
    """

    def __init__(self, period_s: float, legal: tuple[float, float], length: int) -> None:
        self._period_s = period_s
        self._low, self._high = (side * period_s * length for side in legal)
        self._spans = [0.0] * length
        self._last = length - 1
        self.begin()

    def begin(self) -> None:
        """Forget all times; the next sample begins a sequence."""
        self._spans[:] = [0.0] * len(self._spans)
        self._place, self._sum, self._full = 0, 0.0, False

    def take(self, between_s: float) -> bool:
        """Take the seconds between two samples; whether the window is full and its mean off the period."""
        place, spans = self._place, self._spans
        self._sum += between_s - spans[place]
        spans[place] = between_s
        if place == self._last:
            self._sum = sum(spans)  # anew, as rounding must not add up over days
            self._place, self._full = 0, True
        else:
            self._place = place + 1
        return self._full and not self._low <= self._sum <= self._high

    def kept(self) -> dict[str, Any]:
        """What came, as JSON has it; see `go_on`."""
        return {"spans_s": list(self._spans), "place": self._place, "full": self._full, "sum_s": self._sum}

    def go_on(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `kept` gave.

        Raises:
            KeyError, TypeError, ValueError: If it is of no such window.
        """
        spans, place = [float(own) for own in kept["spans_s"]], int(kept["place"])
        if len(spans) != len(self._spans) or not 0 <= place <= self._last:
            raise ValueError(f"`spans_s` has {len(spans)} numbers and {place} is next, expected {len(self._spans)}")
        self._spans, self._place, self._full, self._sum = spans, place, bool(kept["full"]), float(kept["sum_s"])

    def pace(self) -> Pace | None:
        """What came, as far as the window has it; `None` before the second sample."""
        count = len(self._spans) if self._full else self._place
        if not count:
            return None
        periods = np.array(self._spans[:count]) / self._period_s
        return Pace(count, float(periods.mean()) - 1.0, float(periods.std()))
