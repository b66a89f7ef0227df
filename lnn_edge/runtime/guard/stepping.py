"""Stepping of one sample: once, or several times where a gap is split."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..modes.mode import as_result
from ..modes.plain import Plain
from ..stream import Stream
from .sample_time import Plan

__all__ = ["advance", "as_stepped"]


def advance(stream: Stream, x: Any, plan: Plan) -> Any:
    """Step a sample as often as planned; the last output.

    Raises:
        As `Stream.step`.
    """
    if plan.steps == 1:
        return stream.step(x) if plan.dt_s is None else stream.step(x, dt_s=plan.dt_s)
    one = stream.checked(x)  # as the model has it: an array, or a dict of these by input
    many = [one] * plan.steps
    xs = {name: np.stack([own[name] for own in many]) for name in one} if isinstance(one, dict) else np.stack(many)
    ys = stream.run(xs, dt_s=plan.dt_s)
    return {name: y[-1] for name, y in ys.items()} if isinstance(ys, dict) else ys[-1]


def as_stepped(stream: Stream, x: Any) -> Any:
    """The sample that was stepped last, as the model has it: an array, or a dict of these by input."""
    mode = stream._mode
    if not isinstance(mode, Plain):
        return stream.checked(x)
    return as_result({name: port.read() for name, port in mode.ports.items()})
