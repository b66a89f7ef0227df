"""Types of arguments that are numbers."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

from ...given_numbers import wanted_number

__all__ = ["number", "positive", "whole"]

_SHOWN = 40  # characters of what was typed, in a message
_N = TypeVar("_N", int, float)


def positive(text: str) -> float:
    """The type of an argument that is a finite number above 0."""
    value = _parsed(float, text)
    if value is None or not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {_typed(text)}")
    return value


def number(least: float, most: float) -> Callable[[str], float]:
    """The type of an argument that is a number from `least` to `most`."""

    def typed(text: str) -> float:
        value = _parsed(float, text)
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected {wanted_number('number', least, most)}, got {_typed(text)}")
        return value

    return typed


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number from `least` to `most`."""

    def typed(text: str) -> int:
        value = _parsed(int, text)
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"expected {wanted_number('whole number', least, most)}, got {_typed(text)}"
            )
        return value

    return typed


def _parsed(kind: Callable[[str], _N], text: str) -> _N | None:
    try:
        return kind(text)
    except ValueError:
        return None


def _typed(text: str) -> str:
    return f"'{text}'" if len(text) <= _SHOWN else f"'{text[:_SHOWN]}...'"
