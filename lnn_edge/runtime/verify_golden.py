"""Verification without the trained model: the golden sequences that a bundle ships, once or again and again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import monotonic
from typing import Any

import numpy as np

from ..arrays import Array
from ..backends import ALL
from ..bundle.directory import read_bundle
from ..bundle.golden import Golden, golden_from_bundle
from ..bundle.spec import DT_INPUT
from ..progress import Progress
from ..verify.comparison import TORCH, Comparison, compare, versus
from ..verify.report import ExportReport, curves_from_results
from .closed_loop import replay_progress
from .loading import open_each
from .proof import compare_results, report_from_proof
from .self_test import replay_golden

__all__ = ["verify_golden"]


def verify_golden(
    path: str | os.PathLike[str],
    *,
    backend: str = ALL,
    threads: int = 1,
    options: Mapping[str, Any] | None = None,
    steps: int | None = None,
    progress: Progress,
) -> ExportReport:
    """Replay a bundle's golden sequences and compare every output and state at every step.

    With `steps` one stream goes through them again and again. That says nothing new about the model, whose results
    for other samples only `verify --against` knows; it says that a stream which lives long on this machine still
    gives what it gave at first, so that resets are complete, nothing leaks into later steps and results repeat.

    Args:
        path: The bundle.
        backend: As for `lnn_edge.load`, or "all" for every backend that is ready.
        threads: As for `lnn_edge.load`.
        options: As for `lnn_edge.load`; only with a named backend.
        steps: Closed-loop steps, at least those of the golden sequences; `None` for these once.
        progress: Called with (phase, done, total).

    Returns:
        The report; `passed` says whether they are equal.

    Raises:
        ValueError: If `steps` is too low.
        VerificationError: If a step refuses a golden sample or gives a result that is not finite.
        BundleError, BackendUnavailable: As `lnn_edge.load`.
    """
    started = monotonic()
    bundle = read_bundle(path)
    golden = golden_from_bundle(bundle)
    once = golden.steps
    if steps is not None and steps < once:
        raise ValueError(f"`steps` is {steps}, but the golden sequences of '{path}' alone have {once}: pass more")
    unroll = bundle.manifest.unroll
    golden = _repeated(golden, -(-(steps or once) // unroll) * unroll)
    parts = [("golden", 0, once), *([("repeated", once, golden.steps)] if golden.steps > once else [])]
    models = open_each(bundle, backend=backend, threads=threads, options=options)
    comparisons, curves = [], curves_from_results(TORCH, golden.float32, golden.float64)
    for model in models:
        results = replay_golden(model, golden, replay_progress(progress, model, golden.steps))
        comparisons += compare_results(model, results, golden.float32, golden.float64, parts)
        comparisons += _later_passes(model.backend, results, once, golden.steps)
        curves += curves_from_results(model.backend, results, golden.float64)
    return report_from_proof(
        bundle,
        models,
        comparisons,
        curves,
        parts=parts,
        reset=golden.reset,
        dt_s=golden.inputs.get(DT_INPUT),
        regimes=dict.fromkeys(("golden", "repeated"), "as in the proof of the export"),
        started=started,
    )


def _repeated(golden: Golden, steps: int) -> Golden:
    """The sequences one after the other until there are so many steps; each pass starts with a reset."""

    def again(tensors: dict[str, Array]) -> dict[str, Array]:
        return {name: np.resize(value, (steps, *value.shape[1:])) for name, value in tensors.items()}

    return Golden(again(golden.inputs), np.resize(golden.reset, steps), again(golden.float32), again(golden.float64))


def _later_passes(backend: str, results: dict[str, Array], once: int, steps: int) -> list[Comparison]:
    """Compare every later pass with the first one; a backend that is deterministic repeats it to the bit."""
    rows = []
    for name, got in results.items():
        every = steps // len(got)  # states are known at the ends of unroll blocks only
        later = got[once // every :]
        if len(later):
            first = np.resize(got[: once // every], later.shape)
            against = versus(f"{backend} repeated", "its first pass")
            rows.append(compare(name, against, "repeated", later, first, every=every))
    return rows
