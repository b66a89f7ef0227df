"""Timespans: seconds to the unit of training, and what a network may give its cores by itself."""

from __future__ import annotations

import numpy as np
import torch

from ...arrays import Array
from ...bundle.spec import Time
from ...reference import LiquidCore, LtcCell, ReferenceCore

__all__ = ["check_timespans", "timespans_from_dt"]


def timespans_from_dt(dt_s: Array, time: Time) -> Array:
    """What ncps counts as timespan for a dt in seconds, float64, any shape."""
    spans: Array = dt_s.astype(np.float64) * (time.timespan / (time.period_s or 1.0))
    return spans


def check_timespans(name: str, core: ReferenceCore, timespans: torch.Tensor) -> None:
    """Refuse time that runs backwards, and time that stands still where the solver divides by it.

    Raises:
        ValueError: Naming the core, and how to say what its inputs may be.
    """
    shortest = float(timespans.min())
    divides = isinstance(core, LiquidCore) and isinstance(core.cell, LtcCell)
    if shortest < 0 or (divides and shortest == 0):
        raise ValueError(
            f"the model itself gives the core '{name}' the timespan {shortest:.3g}, expected "
            f"{'more than 0' if divides else 'at least 0'}. If it comes from an input, say what is legal there: "
            "inputs=[..., lnn_edge.Feature('gap', limits=(0.001, 0.5))] (--inputs ...,gap:s:0.001:0.5). The proof and "
            "the robot then keep to it"
        )
