"""Rows: what every transport yields, a sample or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from ...arrays import Array

__all__ = ["BadRowError", "Row"]


class BadRowError(ValueError):
    """One row cannot be used; the reader can go on with the next.

    Args:
        text: Why.
        missing: Whether it is that a cell says that there is no value, which an earlier one could stand in for.
    """

    def __init__(self, text: str, missing: bool = False) -> None:
        super().__init__(text)
        self.missing = missing


@dataclass(frozen=True)
class Row:
    """One sample: line number in the file, features float64, recording label, time in seconds, new recording or not.

    `time` is the text that the time was read from.
    """

    line: int
    values: Array
    recording: str | None
    t_s: float | None
    reset: bool
    time: str | None = None
