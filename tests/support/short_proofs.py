"""Short proofs: how long they are, and how a whole program comes to export with one."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
from contextvars import ContextVar

__all__ = ["ASKED_FOR", "SHARED", "SHORT", "ShortProofs"]

ASKED_FOR = "LNN_EDGE_TESTS_SHORT_PROOFS"  # in the environment of a program that starts warm

# All of the truth, of the segments and of the backends, over few steps: about a thirtieth of a full proof. It still
# finds a step that is wrong; only what grows slowly needs a thousand steps.
SHORT = {"least": 8, "evaluated": 16, "causal": 8}
# Of commands and estimators, and of bundles that are made once in a run for all tests.
SHARED = {"least": 12, "evaluated": 24, "causal": 12}


class ShortProofs(importlib.abc.MetaPathFinder):
    """What imports `export_model` from here on gets one whose proofs are short, whatever `steps` it asks for."""

    def find_spec(self, name, path, target=None):
        if name != "lnn_edge.export.exporting":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            _shorten(module)

        spec.loader.exec_module = exec_module
        return spec


def _shorten(module):
    whole, length = module.export_model, module.ProofLength(**SHARED)
    module._LENGTH = ContextVar("length of proofs", default=length)

    @functools.wraps(whole)
    def export_model(*arguments, **options):
        return whole(*arguments, **options | {"steps": SHARED["least"]})

    module.export_model = export_model
