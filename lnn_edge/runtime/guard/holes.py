"""Holes of samples: values that are missing, NaN or infinite, and what stands in for them while a stream is stepped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...arrays import Array
from ...bundle.columns import InputColumns
from ...bundle.manifest import Manifest
from ...bundle.spec import Guard
from ...errors import NonFiniteError
from ...wording import listed
from ..input_port import named_values
from .held_values import Filled, HeldValues

__all__ = ["Holes"]

_HELD_PERIODS = 10


class Holes:
    """Fills the holes of the samples of one sequence with what its good samples had.

    Args:
        manifest: The model's.
        guard: Whose policy is to hold or to predict.
        count: Counts the values that stood in, by column; of all sequences.

    Raises:
        ValueError: If its samples are no rows of named columns.
    """

    def __init__(self, manifest: Manifest, guard: Guard, count: Counter[str]) -> None:
        self._tensors = manifest.streamed
        try:
            self._columns = InputColumns(manifest)
        except ValueError as error:
            raise ValueError(
                f"Guard(on_bad='{guard.on_bad}') fills columns of one row; model '{manifest.name}' takes "
                f"{listed(f'{t.name} {list(t.shape)}' for t in self._tensors)}"
            ) from error
        self._count = count
        hold_for_s = guard.hold_for_s or _HELD_PERIODS * (manifest.time.period_s or 0.0)
        features = [f for tensor in self._tensors for f in tensor.features]
        self._low, self._high = np.array([f.limits or (-np.inf, np.inf) for f in features]).T
        # Between two categories or switch positions there is nothing, and a line leads past the last one.
        straight = [guard.on_bad == "predict" and t.dtype == "float32" for t in self._tensors for _ in t.features]
        self._held = HeldValues(self._columns.names, hold_for_s, predict=np.array(straight))
        self._good: tuple[Array, float] | None = None  # the newest whole sample, which `_held` does not know yet

    def sample(self, filled: Filled) -> Any:
        """A filled sample as a stream takes it, of several inputs a dict by name."""
        return self._columns.sample(filled.values)

    def filled(self, x: Any, at_s: float, error: Exception) -> Filled:
        """A sample whose holes are filled, in one row.

        Args:
            x: What was refused.
            at_s: When it was measured, seconds.
            error: What it was refused with.

        Raises:
            NonFiniteError: If nothing may stand in; or `error`, if it has no holes.
        """
        try:
            values = self._row(x)
        except (KeyError, TypeError, ValueError):
            raise error from None
        if np.isfinite(values).all():
            raise error
        self._tell()
        try:
            filled = self._held.fill(values, at_s)
        except ValueError as missing:
            raise NonFiniteError(f"{missing}. The state is unchanged") from error
        legal = np.clip(filled.values, self._low, self._high)  # a line may lead outside
        values = np.where(filled.missing, legal, filled.values)
        return Filled(values, filled.columns, filled.missing)

    def remember(self, x: Any, filled: Filled | None, at_s: float) -> None:
        """Keep a sample's good values, to stand in later; `filled` is what it became, where it had holes."""
        self._tell()
        if filled is None:
            self._good = self._columns.values(x), at_s
        else:
            self._held.keep(filled, at_s)
            self._count.update(filled.columns)

    def _row(self, x: Any) -> Array:
        """What came, in one row with NaN where something is masked.

        Raises:
            KeyError, TypeError, ValueError: If it is no sample.
        """
        parts = [x] if len(self._tensors) == 1 else [x[tensor.name] for tensor in self._tensors]
        rows = []
        for part, tensor in zip(parts, self._tensors, strict=True):
            masked = isinstance(part, np.ma.MaskedArray)
            whole = part.astype(np.float64).filled(np.nan) if masked else named_values(part, tensor)
            rows.append(np.asarray(whole, np.float64).reshape(len(tensor.features)))
        return np.concatenate(rows)

    def kept(self) -> dict[str, Any]:
        """What may stand in for later samples, as JSON has it; see `go_on`."""
        self._tell()
        return self._held.kept()

    def go_on(self, kept: Mapping[str, Any], later_s: float) -> None:
        """Go on from what `kept` gave, by a clock that stands so much later.

        Raises:
            KeyError, TypeError, ValueError: If it is of other columns.
        """
        self._held.go_on(kept, later_s)

    def _tell(self) -> None:
        """Hand the newest whole sample on; until here it was only copied, as most samples have no holes."""
        if self._good is not None:
            values, at_s = self._good
            self._good = None
            self._held.keep(Filled(values, (), np.zeros(len(values), np.bool_)), at_s)
