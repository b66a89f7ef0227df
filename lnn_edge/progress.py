"""Progress of long work, as callers take it."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "silent"]

Progress = Callable[[str, int, int], None]  # phase, done, total


def silent(_phase: str, _done: int, _total: int) -> None:
    """Progress that nobody asked for."""
