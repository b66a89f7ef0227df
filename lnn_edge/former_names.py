"""Table of the former names of what pickles hold, with today's homes, and the lookups that follow it.

A pickle calls a class by the module and the name that it had on the day when it was written. So a row stays for ever,
and whatever can be in a user's pickle gets one when it moves: the public functions and classes, and every class that an
object of theirs holds. When it moves again, only the right side changes. The files in tests/fixtures hold the table to
that.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["MODULES", "NAMES", "FormerModules", "serve_former_names"]

# A module that is gone: where its names are, but for those that have a row of their own below.
MODULES = {
    "lnn_edge.equality": "lnn_edge.verify.comparison",
    "lnn_edge.export.rebuilding": "lnn_edge.export.cores.rebuild",
    "lnn_edge.manifest": "lnn_edge.bundle.manifest",
    "lnn_edge.runtime.report": "lnn_edge.verify.report",
    "lnn_edge.train.learnt": "lnn_edge.train.former_pickles",
    "lnn_edge.train.progress": "lnn_edge.train.fit.progress",
}

# A name that moved alone or is called otherwise today, or whose module is a package or another module today: that one
# then calls `serve_former_names(__name__)`. Names alone: a package that looked up any name in one of its own modules
# would import that one whenever another is asked for.
NAMES = {
    ("lnn_edge.export.checkpoint", "load_checkpoint"): ("lnn_edge.export.checkpoint.save_load", "load_checkpoint"),
    ("lnn_edge.export.checkpoint", "save_checkpoint"): ("lnn_edge.export.checkpoint.save_load", "save_checkpoint"),
    ("lnn_edge.manifest", "Core"): ("lnn_edge.bundle.spec", "Core"),
    ("lnn_edge.manifest", "Feature"): ("lnn_edge.bundle.spec", "Feature"),
    ("lnn_edge.manifest", "Graph"): ("lnn_edge.bundle.spec", "Graph"),
    ("lnn_edge.manifest", "Provenance"): ("lnn_edge.bundle.spec", "Provenance"),
    ("lnn_edge.manifest", "StatePair"): ("lnn_edge.bundle.spec", "StatePair"),
    ("lnn_edge.manifest", "Tensor"): ("lnn_edge.bundle.spec", "Tensor"),
    ("lnn_edge.manifest", "Time"): ("lnn_edge.bundle.spec", "Time"),
    ("lnn_edge.manifest", "Verification"): ("lnn_edge.bundle.spec", "Verification"),
    ("lnn_edge.train.learnt", "Learnt"): ("lnn_edge.train.former_pickles", "FormerMetadata"),
    ("lnn_edge.train.network", "Affine"): ("lnn_edge.train.network.module", "Output"),
    ("lnn_edge.train.network", "Branch"): ("lnn_edge.train.network.module", "Branch"),
    ("lnn_edge.train.network", "LiquidModule"): ("lnn_edge.train.network.module", "LiquidModule"),
}


def serve_former_names(module: str) -> None:
    """Let a module that is being imported answer for its rows of the table, as if they were attributes."""
    vars(sys.modules[module])["__getattr__"] = partial(_looked_up, module)  # unseen by mypy, which knows all the others


def _looked_up(module: str, name: str) -> Any:
    home, today = NAMES.get((module, name), (MODULES.get(module), name))
    if home is None or name.startswith("__"):  # Python asks each module for many of these
        raise AttributeError(f"module '{module}' has no attribute '{name}'")
    return getattr(import_module(home), today)


class FormerModules:
    """Finder and loader of modules that are gone: empty ones, made when a pickle asks for them."""

    @classmethod
    def find_spec(cls, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        """For Python's import, which asks it last: what is to be made if this is a former module, else `None`."""
        if name not in MODULES:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, cls)  # type: ignore[arg-type] # the two methods below are all that Python asks for

    @staticmethod
    def create_module(_spec: ModuleSpec) -> None:
        """For Python's import: a module like any other."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """For Python's import: nothing is in it but what the table says."""
        serve_former_names(module.__name__)
