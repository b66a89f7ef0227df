"""Warnings that name the line of the caller's program, however deep in here they arise."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

__all__ = ["warn_caller"]

_OURS = str(Path(__file__).parent)
_BETWEEN = ("contextlib",)  # decorators of ours are called by it


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn of something at the line that called lnn-edge."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(_OURS) or frame.f_globals.get("__name__") in _BETWEEN
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
