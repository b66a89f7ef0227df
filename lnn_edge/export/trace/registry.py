"""The registry of translation rules: torch's name of an operation, and how to translate it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["LeftToTorch", "Refused", "Rules", "folds", "takes_unwritten"]

_Rule = TypeVar("_Rule", bound=Callable[..., Any])
_TAKES_UNWRITTEN: set[Callable[..., Any]] = set()


class Refused(TypeError):
    """A form of an operation that a rule refuses; the message says what export takes instead."""


class LeftToTorch(Exception):
    """A form of an operation that torch's own decomposition does as well as a rule would."""


class Rules(dict[str, Callable[..., Any]]):
    """Rules by the name of the torch operation; each is called with (translator, shape, *arguments)."""

    def add(self, *names: str) -> Callable[[_Rule], _Rule]:
        """Decorate a rule with the operations that it translates."""

        def register(function: _Rule) -> _Rule:
            self.update(dict.fromkeys(names, function))
            return function

        return register


def folds(rule: _Rule) -> _Rule:
    """Mark a rule that uses each of its arguments once, so that they may come unwritten; see `folding`."""
    _TAKES_UNWRITTEN.add(rule)
    return rule


def takes_unwritten(rule: Callable[..., Any]) -> bool:
    """Whether a rule is marked; all others get values that have been written."""
    return rule in _TAKES_UNWRITTEN
