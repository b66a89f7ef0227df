"""One sequence for ever, and its readout so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...arrays import Array
from ..constants import Constants
from ..state import State
from .readout import FROM_ANOTHER, Row, RowMoment

__all__ = ["Running"]


class Running:
    """See `Sequences`. What it keeps is its row's moment."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self.sample = row.plain.sample

    def beginning(self, constants: Constants | None) -> RowMoment:
        """See `Sequences.beginning`."""
        return self._row.beginning(constants)

    def take(self, kept: RowMoment, x: Any, dt: Array | None) -> tuple[RowMoment, dict[str, Array]]:
        """See `Sequences.take`."""
        now = self._row.advance(kept, x, dt)
        return now, now[1].value()

    def parked(self, kept: RowMoment) -> RowMoment:
        """See `Mode.parked`."""
        return self._row.parked(kept)

    def read(self, kept: RowMoment) -> tuple[dict[str, Array], dict[str, Array]]:
        """See `Sequences.read`."""
        return dict(self._row.plain.state(kept[0]).tensors), kept[1].read()

    def restored(
        self, tensors: Mapping[str, Array], own: Mapping[str, Array], constants: Constants | None
    ) -> RowMoment:
        """See `Sequences.restored`."""
        if own and "count" not in own:
            raise ValueError(FROM_ANOTHER.format("samples of windows, but this stream has none"))
        state = State({name: value.copy() for name, value in tensors.items()})
        return self._row.restored(state, own or {"count": np.array(0)}, constants)

    def checked(self, x: Any) -> Any:
        """See `Sequences.checked`."""
        return self._row.plain.checked(x)
