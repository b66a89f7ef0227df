"""Numbers, tables and names as C. No text of a bundle becomes an identifier, a comment or a string: bytes alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from ..arrays import Array

__all__ = ["byte_numbers", "byte_table", "check_prefix", "float_table", "int_table", "number", "short_table"]

_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,31}")
# Files beside the two that have the prefix's name, headers that these include, and names that CMake keeps for itself.
_TAKEN = frozenset(
    {"golden", "main", "replay", "math", "stddef", "stdint", "stdio"}
    | {"all", "clean", "help", "install", "package", "test"}
)
_LINE = 116  # characters of a line of numbers


def check_prefix(prefix: str) -> str:
    """The prefix of all public names, which is the caller's and not the bundle's.

    Raises:
        ValueError: If it cannot begin an identifier of C, or its files would take the place of others.
    """
    if prefix in _TAKEN:
        raise ValueError(
            f"the prefix '{prefix}' is the name of another file or target, expected a name of your model's"
        )
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"the prefix '{prefix}' cannot begin names in C, expected a small letter, then small letters, digits and _"
        )
    return prefix


def number(value: float) -> str:
    """A float32 constant, exactly."""
    rounded = float(np.float32(value))
    if np.isnan(rounded):
        raise ValueError("a table of a step holds what is no number")
    if np.isinf(rounded):
        return "-INFINITY" if rounded < 0 else "INFINITY"
    return _finite(rounded)


def _finite(value: float) -> str:
    """Of a float32, and nine digits say which."""
    text = f"{value:.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def float_table(name: str, values: Array) -> str:
    """A constant table of float32."""
    rounded = np.asarray(values, np.float64).astype(np.float32).reshape(-1)
    if not np.all(np.isfinite(rounded)):
        return _table("float", name, map(number, rounded.tolist()))
    return _table("float", name, map(_finite, rounded.tolist()))


def int_table(name: str, values: Array) -> str:
    """A constant table of int32."""
    return _table("int32_t", name, map(str, np.asarray(values).reshape(-1).tolist()))


def short_table(name: str, values: Array) -> str:
    """A constant table of uint16: the bits of float16 numbers."""
    return _table("uint16_t", name, map(str, np.asarray(values, np.uint16).reshape(-1).tolist()))


def byte_numbers(name: str, values: Array) -> str:
    """A constant table of uint8."""
    return _table("uint8_t", name, map(str, np.asarray(values, np.uint8).reshape(-1).tolist()))


def byte_table(text: str) -> str:
    """A text of the bundle as the initialiser of an array of bytes, zero at its end."""
    return "{" + ", ".join(map(str, [*text.encode(), 0])) + "}"


def _table(kind: str, name: str, items: Iterable[str]) -> str:
    every = list(items)
    lines, line, width = [], list[str](), 0
    for item in every:
        if width + len(item) > _LINE:
            lines.append(", ".join(line))
            line, width = [], 0
        line.append(item)
        width += len(item) + 2
    lines.append(", ".join(line))
    return f"static const {kind} {name}[{len(every)}] = {{\n    " + ",\n    ".join(lines) + "};\n"
