"""Packages that are installed, hidden from a program that starts warm: it runs as where they are not."""

from __future__ import annotations

import sys

__all__ = ["HIDDEN", "hide"]

HIDDEN = "LNN_EDGE_TESTS_HIDDEN"  # in the environment of a program that starts warm, names separated by commas


class _Without:
    """A finder that finds none of some packages, and all else as before."""

    def __init__(self, finder, hidden):
        self._finder, self._hidden = finder, hidden

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in self._hidden else self._finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self._finder, name)


def hide(names: str) -> None:
    """Hide packages, those that are imported already as well."""
    hidden = frozenset(filter(None, names.split(",")))
    for module in [name for name in sys.modules if name.partition(".")[0] in hidden]:
        del sys.modules[module]
    if hidden:
        sys.meta_path[:] = [_Without(finder, hidden) for finder in sys.meta_path]
