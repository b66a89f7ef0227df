"""Check of a single sample before it is stepped, alone or as one of an unroll block."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays import Array
from ..input_port import input_port
from ..model import Model

__all__ = ["RowCheck"]


class RowCheck:
    """Refuses a sample as a stream does, one by one where the stream takes them in blocks.

    Args:
        model: A loaded model with one input that is given with each sample.
    """

    def __init__(self, model: Model) -> None:
        (tensor,) = model.manifest.streamed
        self._port = input_port(tensor, np.zeros(tensor.shape, tensor.dtype), model.name)
        self._shortest_s = None if model.time.dt_range_s is None else model.time.dt_range_s[0]

    def values(self, x: Any) -> None:
        """Check a sample's values, shaped as one sample.

        Raises:
            TypeError, ValueError, NonFiniteError: As `Stream.step`.
        """
        self._port.put(x)

    def sample(self) -> Array:
        """The sample that was checked last, converted already, which a stream takes as it would that one."""
        return self._port.read()

    def too_early(self, between_s: float) -> float | None:
        """The shortest time between samples that is legal, seconds, if a sample came sooner; `None` if it did not."""
        if self._shortest_s is None or between_s >= self._shortest_s:
            return None
        return self._shortest_s
