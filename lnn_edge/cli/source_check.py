"""The name of a trained model, looked at before torch is imported, which takes seconds.

What is wrong with a file or a name is told at once, in the words of `lnn_edge.export.checkpoint`. What only Python can
tell, by running the file, is left to that.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..wording import choices, nearest

if TYPE_CHECKING:
    from .arguments.source import SourceChoice

__all__ = ["check_source"]

_DYNAMIC = {"exec", "eval", "globals", "setattr", "vars", "locals"}  # with these a file may define any name
_PICKLED = (".pt", ".pth", ".pkl")


def check_source(source: str, beside: SourceChoice) -> None:
    """Refuse a source or weights that are not there.

    Raises:
        ValueError, OSError: Naming what is wrong.
    """
    pickled = source.endswith((".safetensors", *_PICKLED))
    if beside.weights is not None and not pickled:  # which have no place beside such a source
        _check_file(beside.weights, f"no weights file '{beside.weights}'")
    place, colon, name = source.rpartition(":")
    if pickled:
        if beside.weights is None:
            _check_file(source, f"no file '{source}'")
    elif not (colon and place and name):
        raise ValueError(
            f"SOURCE is '{source}', expected FILE.py:FACTORY or package.module:FACTORY, such as train.py:make_model, "
            "or a checkpoint NAME.safetensors"
        )
    elif place.endswith(".py"):
        _check_file(place, f"no file '{place}'")
        _check_name(Path(place), name)


def _check_file(path: str, missing: str) -> None:
    if not os.path.exists(path):
        parent = Path(path).parent
        there = sorted(file.name for file in parent.glob(f"*{Path(path).suffix}")) if parent.is_dir() else []
        raise FileNotFoundError(f"{missing}. {choices(Path(path).name, there)}" if there else missing)


def _check_name(path: Path, name: str) -> None:
    """Refuse a name that a file cannot have."""
    try:
        code = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):  # whoever imports it says what is wrong
        return
    bound = _bound(code)
    if bound is not None and name not in bound:
        own = [made for made in _makers(code) if not made.startswith("_")]
        imported = [a.asname or a.name for node in code.body if isinstance(node, ast.ImportFrom) for a in node.names]
        near = nearest(name, own) or nearest(name, imported)
        known = dict.fromkeys([*own, *([near] if near else [])])
        raise ValueError(f"'{path}' has no '{name}'. {choices(name, known) if known else 'It defines no function'}")


def _makers(code: ast.Module) -> Iterator[str]:
    """What the file itself defines that could be a model or make one: functions, classes, and results of calls."""
    for node in code.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.value, (ast.Call, ast.Lambda)):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _bound(code: ast.Module) -> set[str] | None:
    """All names that are bound anywhere in a file; `None` if it may define others while it runs."""
    found: set[str] = set()
    for node in ast.walk(code):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.Attribute) and node.attr == "modules":  # of sys
            return None
    unknown = "*" in found or found & _DYNAMIC or "__getattr__" in found
    return None if unknown else found
