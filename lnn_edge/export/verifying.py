"""`verify --against`: the whole proof again, for a bundle that exists and the model it claims to be."""

from __future__ import annotations

import os
import time as clock
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ..bundle import read_bundle
from ..manifest import Manifest
from ..runtime.loading import open_bundle
from .excitation import excite
from .proof import prove, truth_from_model
from .report import ExportReport
from .trained import Trained
from .wrapping import trained_from_module

__all__ = ["verify_against"]

Array = npt.NDArray[Any]


def verify_against(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    backend: str = "auto",
    threads: int = 1,
    options: Mapping[str, Any] | None = None,
    steps: int = 1024,
    progress: Callable[[str, int, int], None],
) -> ExportReport:
    """Step a bundle against a trained module, as the export does.

    Args:
        model: The trained module.
        path: The bundle.
        backend: As for `lnn_edge.load`.
        threads: As for `lnn_edge.load`.
        options: As for `lnn_edge.load`.
        steps: Closed-loop steps of the random part, at least 1000.
        progress: Called with (phase, done, total).

    Returns:
        The report; `passed` says whether they are equal.

    Raises:
        ValueError: If the module's inputs, outputs or states are not those of the bundle.
        BundleError, BackendUnavailable: As `lnn_edge.load`.
    """
    started = clock.monotonic()
    bundle = read_bundle(path)
    manifest = bundle.manifest
    layer = trained_from_module(model, manifest.batch, _zeros(manifest))
    _check_same(layer, manifest)
    samples = excite(manifest.inputs, manifest.time, None, steps)
    truth = truth_from_model(layer, samples, manifest.time, progress)
    ready = open_bundle(bundle, backend=backend, threads=threads, options=options)
    return ExportReport(
        path=Path(path),
        backend=ready.description,
        steps=samples.steps,
        segments=tuple((name, stop - start) for name, start, stop in samples.segments),
        comparisons=(*truth.comparisons(), *prove(ready, truth, progress)),
        nodes=manifest.graph.nodes,
        parameters=manifest.graph.parameters,
        seconds=clock.monotonic() - started,
    )


def _zeros(manifest: Manifest) -> dict[str, list[Array]]:
    """An example with the shapes of the bundle's inputs."""
    return {t.name: [np.zeros((3, *t.shape), np.float32)] for t in manifest.inputs}


def _check_same(layer: Trained, manifest: Manifest) -> None:
    for what, mine, theirs in (
        ("inputs", layer.inputs, manifest.inputs),
        ("outputs", layer.outputs, manifest.outputs),
        ("states", layer.states, manifest.states),
    ):
        here, there = [list(t.shape) for t in mine], [list(t.shape) for t in theirs]
        if here != there:
            raise ValueError(
                f"the model has {what} of shape {here}, but bundle '{manifest.name}' has {there}: "
                "they are not of the same model"
            )
