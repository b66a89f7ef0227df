"""Check of a single sample before it is stepped, alone or as one of an unroll block."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays import Array
from ..input_port import input_port
from ..model import Model
from ..modes.mode import as_result

__all__ = ["RowCheck"]


class RowCheck:
    """Refuses a sample as a stream does, one by one where the stream takes them in blocks.

    Args:
        model: A loaded model.
    """

    def __init__(self, model: Model) -> None:
        self._ports = {
            tensor.name: input_port(tensor, np.zeros(tensor.shape, tensor.dtype), model.name)
            for tensor in model.manifest.streamed
        }
        self._single = next(iter(self._ports.values())) if len(self._ports) == 1 else None
        self._shortest_s = None if model.time.dt_range_s is None else model.time.dt_range_s[0]

    def values(self, x: Any) -> None:
        """Check a sample's values, shaped as one sample; of several inputs a dict of these by name.

        Raises:
            TypeError, ValueError, NonFiniteError: As `Stream.step`.
        """
        if self._single is not None:
            self._single.put(x)
            return
        for name, port in self._ports.items():
            port.put(x[name])

    def sample(self) -> Array | dict[str, Array]:
        """The sample that was checked last, converted already, which a stream takes as it would that one."""
        found: Array | dict[str, Array] = as_result({name: port.read() for name, port in self._ports.items()})
        return found

    def too_early(self, between_s: float) -> float | None:
        """The shortest time between samples that is legal, seconds, if a sample came sooner; `None` if it did not."""
        if self._shortest_s is None or between_s >= self._shortest_s:
            return None
        return self._shortest_s
