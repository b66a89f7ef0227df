"""Numbers that callers pass: of the right kind and in range, or refused by the argument's name before anything runs."""

from __future__ import annotations

import math
import numbers
from typing import Any

__all__ = [
    "MOST_STEPS",
    "given_flag",
    "is_real",
    "is_whole",
    "nanoseconds",
    "number_text",
    "real_number",
    "wanted_number",
    "whole_number",
]

MOST_STEPS = 100_000_000  # of a proof or a measurement, some 24 bytes each: a day at 1 kHz
_LONG_S = 1e9
_SHOWN = 40  # digits of a number in a message


def is_whole(value: object) -> bool:
    """Whether it is a whole number by its type, Python's or NumPy's; True and False are none, nor are spans of time."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and not _is_span(value)


def is_real(value: object) -> bool:
    """Whether it is a real number by its type, likewise."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and not _is_span(value)


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number from `least` to `most`.

    Raises:
        TypeError: If it is none by its type.
        ValueError: If it is out of range.
    """
    wanted = wanted_number("whole number", least, most)
    if not is_whole(value):
        raise TypeError(f"`{name}` is {number_text(value)}, expected {wanted}")
    if not least <= value or (most is not None and value > most):
        raise ValueError(f"`{name}` is {number_text(value)}, expected {wanted}")
    return int(value)


def real_number(name: str, value: Any, *, above: float, unit: str = "") -> float:
    """A finite number above `above`, with everything that a float can hold.

    Args:
        name: Of the argument.
        value: Python's or NumPy's number.
        above: What it must be above.
        unit: In what it is, for messages: ", in seconds".

    Raises:
        TypeError: If it is no real number by its type: a text, an array, True.
        ValueError: If it is not above, not finite, or more than a float can hold.
    """
    wanted = f"a number above {above:g}{unit}"
    if not is_real(value):
        hint = f". Type: {name}={value}" if isinstance(value, str) and _is_number_text(value) else ""
        raise TypeError(f"`{name}` is {number_text(value)}, expected {wanted}{hint}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not above < number < math.inf:
        raise ValueError(f"`{name}` is {number_text(value)}, expected {wanted}")
    return number


def nanoseconds(name: str, value: Any) -> int:
    """Seconds above 0 as nanoseconds; more than thirty years are as many.

    Raises:
        As `real_number`.
    """
    return round(min(real_number(name, value, above=0, unit=", in seconds"), _LONG_S) * 1e9)


def _is_span(value: object) -> bool:
    """Whether it is NumPy's timedelta64, which counts as a whole number by its type."""
    return type(value).__name__ == "timedelta64"


def _is_number_text(text: str) -> bool:
    """Whether a text is a finite number in digits."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def wanted_number(kind: str, least: float, most: float | None = None) -> str:
    """`a whole number from 1 to 100,000,000`, or `of at least 1`."""
    low = f"{least:,}" if isinstance(least, int) else f"{least:g}"
    if most is None:
        return f"a {kind} of at least {low}"
    return f"a {kind} from {low} to {f'{most:,}' if isinstance(most, int) else f'{most:g}'}"


def given_flag(name: str, value: object) -> bool:
    """True or False: a text such as "no" would count as True.

    Raises:
        TypeError: If it is neither.
    """
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(f"`{name}` is {number_text(value)}, expected True or False")
    return bool(value)


def number_text(value: object) -> str:
    """A value as a message shows it, a very long one by its beginning."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        return "a number of thousands of digits"
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
