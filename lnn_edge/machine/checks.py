"""One line of what `lnn-edge doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, "ready", "missing" or "note", what was found, and what to type."""

    what: str
    status: str
    found: str
    fix: str = ""
