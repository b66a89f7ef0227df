"""Learning rates as a function of how far training is, so that a resumed run needs no more than its epoch."""

from __future__ import annotations

import math

__all__ = ["rate_at"]

_RISE = 0.3  # share of a one-cycle run in which the rate rises
_START = 0.04  # and where it starts, as a share of its peak
_END = 1e-3  # what is left of the rate at the end of a cycle


def rate_at(progress: float, peak: float, schedule: str) -> float:
    """The learning rate.

    Args:
        progress: Share of the run that is done, 0 to 1.
        peak: The highest rate.
        schedule: "constant", "cosine" (down along half a cosine) or "one-cycle" (up, then down).
    """
    if schedule == "constant":
        return peak
    if schedule == "cosine":
        return _between(peak, peak * _END, progress)
    if progress < _RISE:
        return _between(peak * _START, peak, progress / _RISE)
    return _between(peak, peak * _END, (progress - _RISE) / (1.0 - _RISE))


def _between(start: float, stop: float, share: float) -> float:
    """From start to stop along half a cosine."""
    return stop + (start - stop) * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))
