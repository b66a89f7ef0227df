"""Constant inputs as they are typed: `goal=0.5,-1.2`."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["constants_from_texts"]


def constants_from_texts(given: Sequence[str]) -> dict[str, list[float]]:
    """Their numbers, by name.

    Raises:
        ValueError: If one is no such text, or is given twice.
    """
    found: dict[str, list[float]] = {}
    for text in given:
        name, _, numbers = text.partition("=")
        if name in found:
            raise ValueError(f"--constant {name} is given twice")
        try:
            found[name] = [float(number) for number in numbers.split(",")]
        except ValueError:
            raise ValueError(f"--constant is '{text}', expected a name and numbers: --constant goal=0.5,-1.2") from None
    return found
