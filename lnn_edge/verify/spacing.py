"""The spacing of float32 at the values of a column, which must lie far below the column's spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import Array

__all__ = ["FINE", "coarse_columns", "spacing_remark"]

FINE = 1024.0  # numbers that float32 should have within a standard deviation: it then adds less than any sensor's noise


def coarse_columns(values: Array) -> Array:
    """Columns whose float32 numbers lie too far apart for their spread, (columns,) of bool.

    Args:
        values: (..., columns), finite.
    """
    rows = np.asarray(values, np.float64).reshape(-1, np.shape(values)[-1])
    with np.errstate(over="ignore", invalid="ignore"):  # of what is refused elsewhere
        largest, spread = np.abs(rows).max(axis=0), rows.std(axis=0)
        apart = np.spacing(largest.astype(np.float32)).astype(np.float64)
    coarse: Array = (spread > 0) & (apart * FINE > spread)
    return coarse


def spacing_remark(names: Sequence[str], values: Array) -> str | None:
    """What is wrong with the first column that float32 cannot hold finely enough; `None` if there is none.

    Args:
        names: Of the columns.
        values: (..., columns).
    """
    coarse = np.flatnonzero(coarse_columns(values))
    if not len(coarse):
        return None
    column = np.asarray(values, np.float64).reshape(-1, len(names))[:, coarse[0]]
    most = float(np.abs(column).max())
    return (
        f"'{names[coarse[0]]}' has values up to {most:.3g} in a spread (standard deviation) of {column.std():.2g}, and "
        f"float32 numbers lie {np.spacing(np.float32(most)):.2g} apart there"
    )
