"""Training of liquid networks on the workstation."""

from __future__ import annotations

__all__: list[str] = []
