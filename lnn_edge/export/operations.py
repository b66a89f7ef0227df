"""The torch operations that export can translate, by name: one table from the modules that hold the rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import rules_conditions, rules_functions, rules_products, rules_shapes

__all__ = ["RULES"]

RULES: dict[str, Callable[..., Any]] = {
    **rules_shapes.RULES, **rules_conditions.RULES, **rules_products.RULES, **rules_functions.RULES,
}  # fmt: skip
