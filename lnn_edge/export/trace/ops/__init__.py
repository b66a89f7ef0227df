"""The torch operations that export can translate, by name: one table from the modules that hold the rules.

views          views, cuts, joins, padding
activation     functions of each element
arithmetic     of two values
logic          comparisons and choices
reductions     sums, means, norms and extremes over axes
linear         linear layers and convolutions
normalisation  of batches, groups and layers
pooling        pooling and interpolation
places         where the largest is, elements by computed number, orders, writes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import activation, arithmetic, linear, logic, normalisation, places, pooling, reductions, views

__all__ = ["RULES"]

RULES: dict[str, Callable[..., Any]] = {
    **views.RULES, **logic.RULES, **linear.RULES, **activation.RULES, **arithmetic.RULES, **reductions.RULES,
    **normalisation.RULES, **pooling.RULES, **places.RULES,
}  # fmt: skip
