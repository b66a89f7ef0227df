"""Source files as trees of Python's grammar, parsed once in a process."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

__all__ = ["parsed", "text_of"]


@cache
def text_of(path: Path) -> str:
    """What a file holds; it is not changed meanwhile."""
    return path.read_text()


@cache
def parsed(path: Path) -> ast.Module:
    """The tree of a file; it is not changed meanwhile. Read-only."""
    return ast.parse(text_of(path))
