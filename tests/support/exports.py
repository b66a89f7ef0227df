"""Exports that cost little: with a short proof where nothing depends on its length, or made once for a whole run."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import importlib
import inspect
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch.export._trace  # noqa: F401 - or the first export imports it, after conftest.py has frozen what there is
from short_proofs import SHARED, SHORT
from torch import nn
from unsynced import nothing_waits_for_the_disk

from lnn_edge import export_model
from lnn_edge.export import provenance
from lnn_edge.export.exporting import export_with_proof
from lnn_edge.export.proof.length import ProofLength
from lnn_edge.verify.few_samples import excite_affordably
from lnn_edge.verify.report import ExportReport
from lnn_edge.verify.samples import Excitation, SampleRequest

SHORT_PROOF = ProofLength(**SHORT)
SHARED_PROOF = ProofLength(**SHARED)
_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(export_model).parameters.items()
    if parameter.default is not parameter.empty
}
_SHORTENED = {"steps": SHARED_PROOF.least}


def quick_export(model: nn.Module, path: str | os.PathLike[str], **options: Any) -> ExportReport:
    """`export_model` with a short proof, for tests that are not about the proof, its length or its report."""
    return _export_over(SHORT_PROOF, model, path, options)


def shared_export(model: nn.Module, path: str | os.PathLike[str], **options: Any) -> ExportReport:
    """The same as commands and estimators export in tests, and of bundles that many load, step and replay."""
    return _export_over(SHARED_PROOF, model, path, options)


def _export_over(
    length: ProofLength, model: nn.Module, path: str | os.PathLike[str], options: dict[str, Any]
) -> ExportReport:
    with nothing_waits_for_the_disk(), nobody_asks_git():
        return export_with_proof(model, path, length, **(_DEFAULTS | {"steps": length.least} | options))


@contextmanager
def nobody_asks_git() -> Iterator[None]:
    """An export starts git to learn the commit, which takes it a tenth of a short proof."""
    asked = provenance._git_commit
    provenance._git_commit = lambda: None
    try:
        yield
    finally:
        provenance._git_commit = asked


def short_proofs(monkeypatch: pytest.MonkeyPatch, *places: str) -> None:
    """Let commands or estimators that import `export_model` from these places export with short proofs."""
    for place in places:
        monkeypatch.setattr(place, lambda model, path, **options: shared_export(model, path, **(options | _SHORTENED)))


def short_verifications(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `verify_against` step over as few samples as `shared_export` does, whatever its `steps`."""

    def excited(step: Any, request: SampleRequest) -> Excitation:
        short = dataclasses.replace(request, steps=SHARED_PROOF.least, least=SHARED_PROOF.least)
        return excite_affordably(step, short)

    monkeypatch.setattr(importlib.import_module("lnn_edge.export.verify_against"), "excite_affordably", excited)


def proven(
    factory: pytest.TempPathFactory,
    make: Callable[[], nn.Module],
    name: str = "m.lnn",
    *,
    short: bool = False,
    **options: Any,
) -> Path:
    """A bundle with a full or a short proof, exported once per run for all tests and workers. Read-only: copy it."""
    folder = shared_folder(factory) / _key(make, options | {"short": short})
    folder.mkdir(exist_ok=True)
    bundle = folder / name
    with locked(folder / "lock"):
        if not bundle.exists():
            (shared_export if short else export_model)(make(), bundle, **options)
            for path in (*bundle.iterdir(), bundle):
                path.chmod(0o555 if path.is_dir() else 0o444)
    return bundle


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a run see: xdist gives each of them a folder inside the run's."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def _key(make: Callable[[], nn.Module], options: dict[str, Any]) -> str:
    """Of what makes the bundle: the function, what it is bound to, and the options."""
    made_by = (make.__module__, make.__qualname__, str(getattr(make, "__self__", "")), inspect.getsource(make))
    return hashlib.sha256(pickle.dumps((made_by, sorted(options.items())))).hexdigest()[:16]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """A block that one worker at a time is in, by a file of that path."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
