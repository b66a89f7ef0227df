"""Timespans: seconds to the unit of training, and what a network may give its cores by itself."""

from __future__ import annotations

import numpy as np
import torch

from ...arrays import Array
from ...bundle.spec import Time
from ...reference import LtcCell
from ...reference.timespans import check_timespan
from .maths import CoreMaths, LiquidCore

__all__ = ["check_timespans", "legal_timespans", "timespans_from_dt"]

_DRAWN = 9  # of a range: a forward that clips the time does so between two of them


def timespans_from_dt(dt_s: Array, time: Time) -> Array:
    """What ncps counts as timespan for a dt in seconds, float64, any shape."""
    spans: Array = dt_s.astype(np.float64) * (time.timespan / (time.period_s or 1.0))
    return spans


def legal_timespans(time: Time) -> list[Array]:
    """Timespans that a model may be given, some for each of a few calls, from end to end of their range."""
    if time.dt_range_s is None:
        return [np.array([time.timespan])]
    return np.split(timespans_from_dt(np.geomspace(*time.dt_range_s, _DRAWN), time), 3)


def check_timespans(name: str, core: CoreMaths, timespans: torch.Tensor) -> None:
    """Refuse timespans that no core takes; see `reference.timespans.check_timespan`.

    Raises:
        ValueError: Also if they are given for each unit, and are not the same for all of them.
    """
    if timespans.dim() > 2 and not torch.equal(timespans, timespans[..., :1].expand_as(timespans)):
        raise ValueError(
            f"the model gives the units of the core '{name}' different timespans, but a step has one for all of them. "
            "Repeat one: timespans.unsqueeze(-1).expand(-1, -1, units)"
        )
    divides = isinstance(core, LiquidCore) and isinstance(core.cell, LtcCell)
    check_timespan(name, float(timespans.min()), divides)
