"""C that another generator, emx-onnx-cgen, makes of a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emx_onnx_cgen.cli import main
from jinja2 import Environment

__all__ = ["c_of"]

_compile = Environment.compile
_TEMPLATES: dict[tuple[Any, ...], Any] = {}


def _compile_once(environment: Environment, source: Any, *rest: Any) -> Any:
    """For each model it compiles all of its templates again, which takes it longest."""
    key = (source, *rest)
    if key not in _TEMPLATES:
        _TEMPLATES[key] = _compile(environment, source, *rest)
    return _TEMPLATES[key]


def c_of(graph: Path, name: str, target: Path) -> str:
    """Write it to a file, as one function of this name, and return it."""
    Environment.compile = _compile_once
    try:
        assert main(["compile", "--model-name", name, str(graph), str(target)]) == 0
    finally:
        Environment.compile = _compile
    return target.read_text()
