"""The proof: the bundle, stepped closed loop through the real runtime, equals the trained module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...arrays import Array
from ...bundle.directory import Bundle
from ...bundle.golden import Golden
from ...bundle.manifest import Manifest
from ...bundle.spec import DT_INPUT
from ...progress import Progress
from ...runtime.closed_loop import replay, replay_progress
from ...runtime.model import Model
from ...runtime.proof import compare_results, report_from_proof
from ...verify.comparison import EXTREME, TORCH, Comparison
from ...verify.excitation import DT_REGIMES, SINGLE_STEPS
from ...verify.report import ExportReport, curves_from_results
from ...verify.samples import Excitation
from ..trained.protocol import Results
from .length import FULL_PROOF, ProofLength
from .onnx_reference import open_evaluator
from .truth import Truth

__all__ = [
    "golden_from_truth",
    "prove",
]


_GOLDEN_BYTES = 1 << 20
_GOLDEN_STEPS = 1024


def prove(
    bundle: Bundle,
    models: Sequence[Model],
    truth: Truth,
    progress: Progress,
    started: float,
    length: ProofLength = FULL_PROOF,
) -> ExportReport:
    """Step a bundle through the same samples and compare every output and state at every step.

    Args:
        bundle: The bundle.
        models: The bundle made ready, once per backend.
        truth: What the trained module gives.
        progress: Called with (phase, done, total).
        started: When the work began, by `time.monotonic`.
        length: How long the proof is.

    Returns:
        The report, which also holds what torch and the step program differ by, and in half precision what ONNX's own
        evaluator gives for the beginning of every segment.
    """
    samples, float32 = truth.samples, truth.float32
    comparisons, curves = truth.comparisons(), curves_from_results(TORCH, truth.stepped, truth.float64)
    for model in models:
        results = replay(
            model, _all_inputs(samples), samples.reset, replay_progress(progress, model, samples.steps), samples.start
        )
        comparisons += compare_results(model, results, float32, truth.float64, samples.segments)
        curves += curves_from_results(model.backend, results, truth.float64)
    if bundle.manifest.precision != "float32":  # onnxruntime's CPU kernels compute in float32 between their casts
        comparisons += _evaluated(bundle, truth, progress, length)
    return report_from_proof(
        bundle,
        models,
        comparisons,
        curves,
        parts=samples.segments,
        reset=samples.reset,
        dt_s=samples.dt,
        regimes=DT_REGIMES,
        started=started,
    )


def _evaluated(bundle: Bundle, truth: Truth, progress: Progress, length: ProofLength) -> list[Comparison]:
    """Compare what ONNX's own evaluator makes of the graph, over the beginnings of the segments."""
    model, manifest = open_evaluator(bundle), bundle.manifest
    budget = min(length.evaluated, _golden_steps(truth, manifest))
    index, segments = _beginnings(truth.samples.segments, budget, manifest.unroll)
    picked = truth.samples.pick(index)
    results = replay(
        model, _all_inputs(picked), picked.reset, replay_progress(progress, model, picked.steps), picked.start
    )
    float32, float64 = ({name: value[index] for name, value in r.items()} for r in (truth.float32, truth.float64))
    return compare_results(model, results, float32, float64, segments)


def _all_inputs(samples: Excitation) -> Results:
    """The graph's inputs, `dt` among them when time is measured."""
    return samples.inputs if samples.dt is None else samples.inputs | {DT_INPUT: samples.dt}


def golden_from_truth(truth: Truth, manifest: Manifest) -> Golden:
    """Pick what ships: the beginning of every segment, at most a megabyte."""
    left_out = {SINGLE_STEPS, *(() if manifest.precision == "float32" else (EXTREME,))}
    kept = [part for part in truth.samples.segments if part[0] not in left_out]
    index, _ = _beginnings(kept, _golden_steps(truth, manifest), manifest.unroll)
    picked = truth.samples.pick(index)
    return Golden(
        _all_inputs(picked),
        picked.reset,
        {name: value[index] for name, value in (truth.float32).items()},
        {name: value[index] for name, value in truth.float64.items()},
    )


def _golden_steps(truth: Truth, manifest: Manifest) -> int:
    """How many steps of this size fit."""
    shapes = [t.shape for t in manifest.inputs]
    results = [t.shape for t in manifest.outputs] + [s.shape for s in manifest.states]
    per_step = 4 * sum(int(np.prod(s)) for s in shapes) + 12 * sum(int(np.prod(s)) for s in results) + 8
    return min(_GOLDEN_STEPS, max(16 * len(truth.samples.segments), _GOLDEN_BYTES // per_step))


def _beginnings(
    parts: Sequence[tuple[str, int, int]], budget: int, unroll: int
) -> tuple[Array, list[tuple[str, int, int]]]:
    """Steps at the beginning of every segment, twice as many of the first, and where the segments then lie.

    Whole calls, and at least one of each segment.
    """
    share = max(1, budget // (len(parts) + 1) // unroll) * unroll
    picks, segments, done = [], [], 0
    for k, (name, start, stop) in enumerate(parts):
        count = min(stop - start, 2 * share if k == 0 else share)
        picks.append(np.arange(start, start + count))
        segments.append((name, done, done + count))
        done += count
    return np.concatenate(picks), segments
