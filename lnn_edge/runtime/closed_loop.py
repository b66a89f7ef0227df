"""Replay of golden sequences through the real runtime, closed loop: each step gets the state that the last one left."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from ..arrays import Array
from ..bundle.directory import Bundle
from ..bundle.golden import Golden, golden_from_bundle
from ..bundle.manifest import Manifest
from ..bundle.spec import DT_INPUT
from ..errors import VerificationError
from ..progress import Progress
from ..verify.comparison import EXACT, TORCH, Comparison, compare, largest_error, tolerance_of, versus
from ..verify.report import Curve, ExportReport, Segment, Timeline
from .model import Model
from .sequence import blocks_from_samples, samples_from_blocks

__all__ = [
    "Step",
    "as_caller",
    "compare_results",
    "compare_with_golden",
    "golden_steps",
    "prove_golden",
    "replay",
    "replay_golden",
    "report_from_proof",
    "telling",
]


def replay(
    model: Model, inputs: Mapping[str, Array], reset: Array, progress: Callable[[int], None] | None = None
) -> dict[str, Array]:
    """Step a fresh stream through recorded samples.

    Args:
        model: The model to step.
        inputs: Per graph input, `dt` included when time is measured, float32 of shape (steps, *shape).
        reset: Shape (steps,); where it is 1 the stream is reset before the step.
        progress: Called with the number of steps done, now and then.

    Returns:
        Float32: per output, (steps, *shape); per state output, (calls, *shape), one for each block of `unroll` samples.
    """
    manifest, stream = model.manifest, model.stream()
    unroll = manifest.unroll
    calls = len(reset) // unroll
    results = {name: np.empty((calls, *shape), np.float32) for name, shape in manifest.results().items()}
    samples = {t.name: as_caller(inputs[t.name], manifest) for t in manifest.inputs}
    single = next(iter(samples.values())) if len(samples) == 1 else None
    dt = blocks_from_samples(inputs[DT_INPUT], unroll)[..., 0] if DT_INPUT in inputs else None
    for k in range(calls):
        if reset[k * unroll]:
            stream.reset()
        sample = single[k] if single is not None else {name: value[k] for name, value in samples.items()}
        y = stream.step(sample, dt_s=None if dt is None else dt[k])
        heads = y if isinstance(y, dict) else {manifest.outputs[0].name: y}
        for name, value in heads.items():
            results[name][k] = value
        state = stream.snapshot()
        for pair in manifest.states:
            results[pair.output][k] = state.tensors[pair.input]
        if progress and k % 64 == 0:
            progress(k * unroll)
    if unroll > 1:
        results |= {t.name: samples_from_blocks(results[t.name]) for t in manifest.outputs}
    return results


def telling(progress: Progress, model: Model, steps: int) -> Callable[[int], None]:
    """The progress of one replay as a phase (phase, done, total) of a longer work."""
    phase = f"{model.backend}, closed loop"
    return lambda done: progress(phase, done, steps)


def replay_golden(model: Model, golden: Golden, progress: Callable[[int], None] | None = None) -> dict[str, Array]:
    """Replay golden sequences; see `replay`.

    Raises:
        VerificationError: If a step refuses a golden sample or gives a result that is not finite.
    """
    try:
        return replay(model, golden.inputs, golden.reset, progress)
    except ValueError as error:
        raise VerificationError(
            f"bundle '{model.path}' failed its self-test on {model.description}: a golden step was refused: {error}"
        ) from error


def compare_with_golden(model: Model, golden: Golden) -> list[Comparison]:
    """Replay the golden sequences and compare every output and state with torch and with the float64 reference.

    Raises:
        VerificationError: As `replay_golden`.
    """
    results = replay_golden(model, golden)
    return compare_results(model, results, golden.float32, golden.float64, [("golden", 0, golden.steps)])


def compare_results(
    model: Model,
    results: Mapping[str, Array],
    float32: Mapping[str, Array],
    float64: Mapping[str, Array],
    segments: Sequence[tuple[str, int, int]],
) -> list[Comparison]:
    """Compare what a model gave with torch float32 and with float64, by segment (name, start, stop) and tensor.

    The model's precision says how much may be between them.
    """
    rows = []
    for segment, start, stop in segments:
        for name, got in results.items():
            every = len(float32[name]) // len(got)  # states are known at the ends of blocks only
            known, part = slice(start // every, stop // every), slice(start + every - 1, stop, every)
            own = largest_error(float32[name][part], float64[name][part])
            for reference, expected in ((TORCH, float32), (EXACT, float64)):
                against = versus(model.backend, reference)
                row = compare(
                    name,
                    against,
                    segment,
                    got[known],
                    expected[name][part],
                    tolerance=tolerance_of(model.manifest.precision, segment),
                    own=own,
                    every=every,
                )
                rows.append(row)
    return rows


def as_caller(samples: Array, manifest: Manifest) -> Array:
    """What `Stream.step` takes, call by call: blocks, and no batch axis when the batch is 1."""
    calls = samples if manifest.unroll == 1 else blocks_from_samples(samples, manifest.unroll)
    return calls[:, 0] if manifest.batch == 1 else calls


Step = Callable[[], object]


def golden_steps(model: Model, golden: Golden) -> Step:
    """A function that steps a fresh stream through the golden samples, over and over; inputs are ready beforehand.

    With `unroll` it steps through blocks of them.
    """
    manifest, step = model.manifest, model.stream().step
    calls = golden.steps // manifest.unroll
    names = [t.name for t in model.inputs]
    columns = {name: list(as_caller(golden.inputs[name], manifest)) for name in names}
    samples: list[Any] = columns[names[0]]
    if len(names) > 1:
        samples = [{name: columns[name][k] for name in names} for k in range(calls)]
    dts = None
    if DT_INPUT in golden.inputs:
        dts = list(blocks_from_samples(golden.inputs[DT_INPUT], manifest.unroll)[..., 0])
        if manifest.batch * manifest.unroll == 1:
            dts = [float(dt[0, 0]) for dt in dts]
    turns = _cycle(calls)
    if dts is None:
        return lambda: step(samples[next(turns)])

    def timed() -> object:
        k = next(turns)
        return step(samples[k], dt_s=dts[k])

    return timed


def _cycle(length: int) -> Iterator[int]:
    return (k % length for k in count())


def prove_golden(model: Model, bundle: Bundle) -> None:
    """Replay the golden sequences; see `load`.

    Raises:
        BundleError: If golden.safetensors does not fit the manifest.
        VerificationError: Naming the worst tensor, the error and the step.
    """
    comparisons = compare_with_golden(model, golden_from_bundle(bundle))
    failed = [c for c in comparisons if not c.passed]
    if failed:
        worst = max(failed, key=lambda c: c.max_abs / c.limit)
        raise VerificationError(
            f"bundle '{bundle.path}' failed its self-test on {model.description}: {worst}. It does not start. "
            f"Type: lnn-edge verify {bundle.path}"
        )


def report_from_proof(
    bundle: Bundle,
    models: Sequence[Model],
    comparisons: Sequence[Comparison],
    curves: Sequence[Curve],
    *,
    parts: Sequence[tuple[str, int, int]],
    reset: Array,
    dt_s: Array | None,
    regimes: Mapping[str, str],
    started: float,
) -> ExportReport:
    """Put together what a proof found.

    Args:
        bundle: The bundle.
        models: The bundle made ready, once per backend.
        comparisons: Every tensor against every reference.
        curves: Errors over time.
        parts: Name, start and stop of each segment.
        reset: uint8 (steps,).
        dt_s: Seconds, (steps, batch, ...); `None` with fixed time.
        regimes: How the dt of each segment was chosen, by its name.
        started: When the work began, by `time.monotonic`.
    """
    return ExportReport(
        path=bundle.path,
        backends=tuple(model.description for model in models),
        precision=bundle.manifest.precision,
        steps=len(reset),
        segments=tuple(_segment(part, reset, dt_s, regimes) for part in parts),
        comparisons=tuple(comparisons),
        nodes=bundle.manifest.graph.nodes,
        parameters=bundle.manifest.graph.parameters,
        seconds=clock.monotonic() - started,
        timeline=Timeline(
            curves=tuple(curves),
            reset=reset,
            dt_s=None if dt_s is None else dt_s.reshape(len(reset), -1)[:, 0],
            period_s=bundle.manifest.time.period_s,
        ),
    )


def _segment(part: tuple[str, int, int], reset: Array, dt_s: Array | None, regimes: Mapping[str, str]) -> Segment:
    name, start, stop = part
    sequences = int(np.count_nonzero(reset[start:stop]))
    if dt_s is None:
        return Segment(name, start, stop - start, sequences)
    own = dt_s[start:stop]
    return Segment(name, start, stop - start, sequences, regimes[name], (float(own.min()), float(own.max())))
