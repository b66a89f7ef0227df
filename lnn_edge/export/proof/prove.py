"""The proof: the bundle, stepped closed loop through the real runtime, equals the trained module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
from ...verify.comparison import Comparison
from ...verify.excitation import DT_REGIMES, SINGLE_STEPS
from ...verify.report import ExportReport, curves_from_results
from ...verify.samples import Excitation
from ...verify.tolerance import EXTREME, TORCH
from ..trained.protocol import Results
from .few_samples import IN_PARTS, graph_parts, replay_in_parts
from .length import FULL_PROOF, ProofLength
from .onnx_reference import open_evaluator
from .truth import Truth

__all__ = [
    "golden_from_truth",
    "prove",
]


_GOLDEN_BYTES = 1 << 20
_GOLDEN_STEPS = 1024
_FEWEST, _FEWEST_OF_COSTLY = 16, 4  # steps of a segment, on average


def prove(
    bundle: Bundle,
    models: Sequence[Model],
    truth: Truth,
    progress: Progress,
    started: float,
    length: ProofLength = FULL_PROOF,
    not_run: Mapping[str, str] | None = None,
) -> ExportReport:
    """Step a bundle through the same samples and compare every output and state at every step.

    Args:
        bundle: The bundle.
        models: The bundle made ready, once per backend.
        truth: What the trained module gives.
        progress: Called with (phase, done, total).
        started: When the work began, by `time.monotonic`.
        length: How long the proof is.
        not_run: Why other backends do not run it, by name.

    Returns:
        The report, which also holds what torch and the step program differ by, and in half precision what ONNX's own
        evaluator gives for the beginning of every segment.
    """
    samples, float32 = truth.samples, truth.float32
    comparisons, curves = truth.comparisons(), curves_from_results(TORCH, truth.stepped, truth.float64)
    each = {TORCH: float32}
    for model in models:
        if samples.order is not None:
            comparisons += _at_beginnings(model, truth)
        name, results = _replayed(bundle, model, samples, progress)
        comparisons += compare_results(model, results, float32, truth.float64, samples.segments, name=name)
        curves += curves_from_results(name, results, truth.float64)
        each[name] = results
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
        distinct=samples.distinct(bundle.manifest.unroll),
        results=each,
        not_run=not_run,
    )


def _replayed(bundle: Bundle, model: Model, samples: Excitation, progress: Progress) -> tuple[str, Results]:
    """What a backend gives at all steps, and what that is called; a costly encoder runs once for each sample."""
    shown = replay_progress(progress, model, samples.steps)
    parts = None if samples.order is None else graph_parts(bundle, model)
    if parts is not None:
        return IN_PARTS.format(model.backend), replay_in_parts(bundle, parts, model, samples, shown)
    return model.backend, replay(model, _all_inputs(samples), samples.reset, shown, samples.start, samples.order)


def _at_beginnings(model: Model, truth: Truth) -> list[Comparison]:
    """Compare the whole graph over the beginnings of the segments, until all samples have come."""
    index = truth.samples.beginnings(model.manifest.unroll)
    picked = truth.samples.pick(index)
    results = replay(model, _all_inputs(picked), picked.reset, None, picked.start, picked.order)
    return compare_results(model, results, *_picked(truth, index), _places(truth.samples.segments, index))


def _picked(truth: Truth, index: Array) -> tuple[Results, Results]:
    """Torch float32 and float64 at some steps."""
    float32, float64 = ({name: value[index] for name, value in r.items()} for r in (truth.float32, truth.float64))
    return float32, float64


def _places(parts: Sequence[tuple[str, int, int]], index: Array) -> list[tuple[str, int, int]]:
    """Where the segments lie in what is left of them."""
    bounds = [(name, *np.searchsorted(index, (start, stop)).tolist()) for name, start, stop in parts]
    return [(name, start, stop) for name, start, stop in bounds if stop > start]


def _evaluated(bundle: Bundle, truth: Truth, progress: Progress, length: ProofLength) -> list[Comparison]:
    """Compare what ONNX's own evaluator makes of the graph, over the beginnings of the segments."""
    model, manifest = open_evaluator(bundle), bundle.manifest
    budget = min(length.evaluated, _golden_steps(truth, manifest))
    index, segments = _beginnings(truth.samples.segments, budget, manifest.unroll)
    picked = truth.samples.pick(index)
    shown = replay_progress(progress, model, picked.steps)
    results = replay(model, _all_inputs(picked), picked.reset, shown, picked.start, picked.order)
    return compare_results(model, results, *_picked(truth, index), segments)


def _all_inputs(samples: Excitation) -> Results:
    """The graph's inputs, `dt` among them when time is measured."""
    return samples.inputs if samples.dt is None else samples.inputs | {DT_INPUT: samples.dt}


def golden_from_truth(truth: Truth, manifest: Manifest) -> Golden:
    """Pick what ships: the beginning of every segment, a megabyte, or a few steps where samples are large."""
    left_out = {SINGLE_STEPS, *(() if manifest.precision == "float32" else (EXTREME,))}
    kept = [part for part in truth.samples.segments if part[0] not in left_out]
    index, _ = _beginnings(kept, _golden_steps(truth, manifest), manifest.unroll)
    picked = truth.samples.pick(index).unfolded()
    return Golden(_all_inputs(picked), picked.reset, *_picked(truth, index))


def _golden_steps(truth: Truth, manifest: Manifest) -> int:
    """How many steps of this size fit."""
    shapes = [t.shape for t in manifest.inputs]
    results = [t.shape for t in manifest.outputs] + [s.shape for s in manifest.states]
    per_step = 4 * sum(int(np.prod(s)) for s in shapes) + 12 * sum(int(np.prod(s)) for s in results) + 8
    fewest = _FEWEST if truth.samples.order is None else _FEWEST_OF_COSTLY
    return min(_GOLDEN_STEPS, max(fewest * len(truth.samples.segments), _GOLDEN_BYTES // per_step))


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
