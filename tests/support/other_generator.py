"""C that another generator, emx-onnx-cgen, makes of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emx_onnx_cgen.cli import main
from jinja2 import Environment

__all__ = ["c_of"]

_compile, _get_template = Environment.compile, Environment.get_template
_COMPILED: dict[tuple[Any, ...], Any] = {}


def _compile_once(environment: Environment, source: Any, *rest: Any) -> Any:
    """For each model it compiles its templates again, which takes it longest."""
    key = (source, *rest)
    if key not in _COMPILED:
        _COMPILED[key] = _compile(environment, source, *rest)
    return _COMPILED[key]


def _get_later(environment: Environment, name: str) -> _Template:
    """For each model it gets all of its 169 templates, and renders some ten."""
    return _Template(environment, name)


@dataclass(frozen=True)
class _Template:
    """A template that is got when it is rendered."""

    environment: Environment
    name: str

    def render(self, *given: Any, **values: Any) -> str:
        return _get_template(self.environment, self.name).render(*given, **values)


def c_of(graph: Path, name: str, target: Path) -> str:
    """Write it to a file, as one function of this name, and return it."""
    Environment.compile, Environment.get_template = _compile_once, _get_later
    try:
        assert main(["compile", "--model-name", name, str(graph), str(target)]) == 0
    finally:
        Environment.compile, Environment.get_template = _compile, _get_template
    return target.read_text()
