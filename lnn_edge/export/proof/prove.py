"""The proof: the bundle, stepped closed loop through the real runtime, equals the trained module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...bundle.directory import Bundle
from ...bundle.golden import Golden
from ...bundle.manifest import DT_INPUT, Manifest, Time
from ...errors import VerificationError
from ...runtime.closed_loop import Progress, compare_results, replay, telling
from ...runtime.model import Model
from ...verify.comparison import COMPUTABLE, EXACT, EXTREME, TORCH, Comparison, compare, largest_error, versus
from ...verify.report import ExportReport, curves_from_results, report_from_proof
from ..threads import one_thread
from ..trained.protocol import Known, Results, Trained
from .excitation import DT_REGIMES, Excitation
from .onnx_reference import open_evaluator

__all__ = [
    "STEPPED_WHOLE",
    "TORCH_EXACT",
    "Truth",
    "check_causal",
    "golden_from_truth",
    "prove",
    "truth_from_model",
]

Array = npt.NDArray[Any]

TORCH_EXACT = versus(TORCH, EXACT)
STEPPED_WHOLE = versus("torch stepped", "torch on the whole sequence")

_GOLDEN_BYTES = 1 << 20
_GOLDEN_STEPS = 1024
_CAUSAL_STEPS = 24
_DRAWS = (
    "its forward draws random numbers in eval mode (noise, a sample of a distribution, a dropout that is always on), "
    "which no step can draw again. Draw them only `if self.training`, call dropout with `training=self.training`, and "
    "return what a distribution is made of, its mean or logits, in place of a sample"
)
_KEEPS = (
    "its forward keeps something from call to call, or draws random numbers outside torch. Keep all state in the state "
    "that it takes and returns, and draw only `if self.training`"
)
# onnx.reference takes 0.3 to 0.7 ms per step of the graphs that we write, so 0.1 to 0.2 s. In half precision it alone
# computes in half, where onnxruntime's CPU kernels compute in float32 between their casts; so it steps for longer.
_EVALUATED_STEPS = {"float32": 256, "float16": 1024}


@dataclass(frozen=True)
class Truth:
    """What the trained module gives: called on whole sequences, stepped, and restated in float64."""

    samples: Excitation
    whole: Known
    stepped: Results
    float64: Results

    @property
    def float32(self) -> Results:
        """Torch float32: the whole sequence's values where they are known, else those of stepping."""
        merged = {name: value.copy() for name, value in self.stepped.items()}
        for name, (steps, values) in self.whole.items():
            merged[name][steps] = values
        return merged

    def comparisons(self) -> list[Comparison]:
        """Before any bundle: stepping torch must equal its own sequence, and float32 must be able to compute it."""
        rows = []
        for segment, start, stop in self.samples.segments:
            part = slice(start, stop)
            for name, (steps, whole) in self.whole.items():
                here = (steps >= start) & (steps < stop)
                if here.any():
                    stepped = self.stepped[name][steps[here]]
                    own = largest_error(stepped, self.float64[name][steps[here]])
                    rows.append(compare(name, STEPPED_WHOLE, segment, stepped, whole[here], own=own))
            for name, exact in self.float64.items():
                got = self.stepped[name][part]
                rows.append(compare(name, TORCH_EXACT, segment, got, exact[part], tolerance=COMPUTABLE))
        return rows


@one_thread()
def truth_from_model(model: Trained, samples: Excitation, time: Time, progress: Progress) -> Truth:
    """Run the trained module in all three ways, segment by segment: each starts with a reset, so progress can show.

    Raises:
        VerificationError: If what torch gives when it is stepped is not finite.
    """
    whole = _by_segment(
        "torch, whole sequences", samples, progress, lambda part: model.whole(part, time), _joined_known
    )
    stepped = _by_segment("torch, stepped", samples, progress, lambda part: model.stepped(part, time), _joined)
    with np.errstate(all="ignore"):  # what is not finite is an infinite error in every comparison
        exact = _by_segment("float64 reference", samples, progress, lambda part: model.reference(part, time), _joined)
    _check_steps(stepped, samples)  # last: the reference knows why, where time ran backwards
    return Truth(samples, whole, stepped, exact)


def _check_steps(stepped: Results, samples: Excitation) -> None:
    for segment, start, stop in samples.segments:
        for name, values in stepped.items():
            bad = np.argwhere(~np.isfinite(values[start:stop]))
            if len(bad):
                value = values[start:stop][tuple(bad[0])]
                raise VerificationError(
                    f"'{name}' of the model is {value} at step {bad[0][0]} of the {segment} inputs. Torch itself "
                    "cannot step this model on them, so no step can be proven equal to it: the training diverged, or "
                    "nothing kept the model's parameters in bounds"
                )


def _by_segment(
    phase: str,
    samples: Excitation,
    progress: Progress,
    run: Callable[[Excitation], Any],
    join: Callable[[Sequence[int], list[Any]], Any],
) -> Any:
    parts = []
    for _, start, stop in samples.segments:
        progress(phase, start, samples.steps)
        parts.append(run(samples.pick(np.arange(start, stop))))
    return join([start for _, start, _ in samples.segments], parts)


def _joined(_starts: Sequence[int], parts: list[Results]) -> Results:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _joined_known(starts: Sequence[int], parts: list[Known]) -> Known:
    return {
        name: (
            np.concatenate([part[name][0] + start for start, part in zip(starts, parts, strict=True)]),
            np.concatenate([part[name][1] for part in parts]),
        )
        for name in parts[0]
    }


@one_thread()
def check_causal(model: Trained, samples: Excitation, time: Time) -> None:
    """Step the torch module itself through a short sequence and compare it with its own whole sequence.

    Raises:
        ValueError: If they differ: the model looks at more than one sample at a time, so no step can equal it. Or if
            what it gives is not finite, or another each time it is called.
    """
    short = samples.pick(np.arange(_CAUSAL_STEPS))
    stepped = model.stepped(short, time)
    for name, values in stepped.items():
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            raise ValueError(
                f"'{name}' of the model is {values[tuple(bad[0])]} at step {bad[0][0]} of the example: the training "
                "diverged, a buffer such as the statistics of a BatchNorm is damaged, or the samples are not in the "
                "units of the training"
            )
    known = model.whole(short, time)
    _check_repeats(model, short, time, known)
    for name, (steps, whole) in known.items():
        found = compare(name, STEPPED_WHOLE, "first", stepped[name][steps], whole, tolerance=COMPUTABLE)
        if not found.passed:
            raise ValueError(
                f"output '{name}' at step {found.first_over}: torch stepped and torch on the whole sequence differ by "
                f"{found.max_abs:.1e}, so {model.why_unequal}"
            )


def _check_repeats(model: Trained, samples: Excitation, time: Time, first: Known) -> None:
    """Call the torch module again: what differs now differs from any step too, and is not for want of causality."""
    before = torch.get_rng_state()
    again = model.whole(samples, time)
    cause = _KEEPS if torch.equal(before, torch.get_rng_state()) else _DRAWS
    for name, (_, values) in first.items():
        found = compare(name, "again vs first", "first", again[name][1], values)
        if not found.passed and np.isfinite(found.max_abs):
            raise ValueError(
                f"output '{name}' differs by {found.max_abs:.1e} when the model is called again with the same samples: "
                f"{cause}"
            )


def prove(bundle: Bundle, models: Sequence[Model], truth: Truth, progress: Progress, started: float) -> ExportReport:
    """Step a bundle through the same samples and compare every output and state at every step.

    Args:
        bundle: The bundle.
        models: The bundle made ready, once per backend.
        truth: What the trained module gives.
        progress: Called with (phase, done, total).
        started: When the work began, by `time.monotonic`.

    Returns:
        The report, which also holds what torch's three ways differ by, and what ONNX's own evaluator gives for the
        beginning of every segment.
    """
    samples, float32 = truth.samples, truth.float32
    comparisons, curves = truth.comparisons(), curves_from_results(TORCH, truth.stepped, truth.float64)
    for model in models:
        results = replay(model, _all_inputs(samples), samples.reset, telling(progress, model, samples.steps))
        comparisons += compare_results(model, results, float32, truth.float64, samples.segments)
        curves += curves_from_results(model.backend, results, truth.float64)
    comparisons += _evaluated(bundle, truth, progress)
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


def _evaluated(bundle: Bundle, truth: Truth, progress: Progress) -> list[Comparison]:
    """Compare what ONNX's own evaluator makes of the graph, over the beginnings of the segments."""
    model, manifest = open_evaluator(bundle), bundle.manifest
    budget = min(_EVALUATED_STEPS[manifest.precision], _golden_steps(truth, manifest))
    index, segments = _beginnings(truth.samples.segments, budget, manifest.unroll)
    picked = truth.samples.pick(index)
    results = replay(model, _all_inputs(picked), picked.reset, telling(progress, model, picked.steps))
    float32, float64 = ({name: value[index] for name, value in r.items()} for r in (truth.float32, truth.float64))
    return compare_results(model, results, float32, float64, segments)


def _all_inputs(samples: Excitation) -> Results:
    """The graph's inputs, `dt` among them when time is measured."""
    return samples.inputs if samples.dt is None else samples.inputs | {DT_INPUT: samples.dt}


def golden_from_truth(truth: Truth, manifest: Manifest) -> Golden:
    """Pick what ships: the beginning of every segment, at most a megabyte."""
    kept = [part for part in truth.samples.segments if manifest.precision == "float32" or part[0] != EXTREME]
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

    Whole blocks, and at least one of each segment.
    """
    share = max(1, budget // (len(parts) + 1) // unroll) * unroll
    picks, segments, done = [], [], 0
    for k, (name, start, stop) in enumerate(parts):
        count = min(stop - start, 2 * share if k == 0 else share)
        picks.append(np.arange(start, start + count))
        segments.append((name, done, done + count))
        done += count
    return np.concatenate(picks), segments
