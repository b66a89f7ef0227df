"""Holes of samples: values that are missing, NaN or infinite, and what stands in for them while a stream is stepped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...arrays import Array
from ...bundle.spec import Guard
from ...errors import NonFiniteError
from ...wording import listed
from ..input_port import named_values
from .held_values import Filled, HeldValues

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["Holes"]

_HELD_PERIODS = 10


class Holes:
    """Fills the holes of the samples of one sequence with what its good samples had.

    Args:
        model: The model.
        guard: Whose policy is to hold or to predict.
        count: Counts the values that stood in, by column; of all sequences.

    Raises:
        ValueError: If its samples are no rows of named columns.
    """

    def __init__(self, model: Model, guard: Guard, count: Counter[str]) -> None:
        streamed = model.manifest.streamed
        if len(streamed) != 1 or not streamed[0].features or model.manifest.batch > 1:
            raise ValueError(
                f"Guard(on_bad='{guard.on_bad}') fills columns of one row; model '{model.name}' takes "
                f"{listed(f'{t.name} {list(t.shape)}' for t in streamed)}"
            )
        (self._tensor,) = streamed
        self._count = count
        hold_for_s = guard.hold_for_s or _HELD_PERIODS * (model.time.period_s or 0.0)
        names = [f.name for f in self._tensor.features]
        self._held = HeldValues(names, hold_for_s, predict=guard.on_bad == "predict")
        self._good: tuple[Array, float] | None = None  # the newest whole sample, which `_held` does not know yet

    def filled(self, x: Any, at_s: float, error: Exception) -> Filled:
        """A sample whose holes are filled.

        Args:
            x: What was refused.
            at_s: When it was measured, seconds.
            error: What it was refused with.

        Raises:
            NonFiniteError: If nothing may stand in; or `error`, if it has no holes.
        """
        try:
            masked = isinstance(x, np.ma.MaskedArray)
            whole = x.astype(np.float64).filled(np.nan) if masked else named_values(x, self._tensor)
            values = np.asarray(whole, np.float64).reshape(len(self._tensor.features))
        except (TypeError, ValueError):
            raise error from None
        if np.isfinite(values).all():
            raise error
        self._tell()
        try:
            filled = self._held.fill(values, at_s)
        except ValueError as missing:
            raise NonFiniteError(f"{missing}. The state is unchanged") from error
        low, high = np.array([f.limits or (-np.inf, np.inf) for f in self._tensor.features]).T
        values = np.where(filled.missing, np.clip(filled.values, low, high), filled.values)  # a line may lead outside
        return Filled(values, filled.columns, filled.missing)

    def remember(self, x: Any, filled: Filled | None, at_s: float) -> None:
        """Keep a sample's good values, to stand in later; `filled` is what it became, where it had holes."""
        self._tell()
        if filled is None:
            self._good = np.array(x, np.float64).reshape(-1), at_s
        else:
            self._held.keep(filled, at_s)
            self._count.update(filled.columns)

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
