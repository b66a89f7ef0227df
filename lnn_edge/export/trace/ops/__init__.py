"""The torch operations that export can translate, by name: one table from the modules that hold the rules.

shape       views, cuts, joins, arithmetic, reductions
linear      linear layers, convolutions, normalisation, pooling
activation  functions of each element
logic       comparisons and choices
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import activation, linear, logic, shape

__all__ = ["RULES"]

RULES: dict[str, Callable[..., Any]] = {
    **shape.RULES, **logic.RULES, **linear.RULES, **activation.RULES,
}  # fmt: skip
