"""Seconds to the unit of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..manifest import Time

__all__ = ["timespans_from_dt"]

Array = npt.NDArray[Any]


def timespans_from_dt(dt_s: Array, time: Time) -> Array:
    """What ncps counts as timespan for a dt in seconds, float64, any shape."""
    spans: Array = dt_s.astype(np.float64) * (time.timespan / (time.period_s or 1.0))
    return spans
