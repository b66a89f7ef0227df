"""Replay of golden sequences through the real runtime, closed loop: each step gets the state that the last one left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..equality import EXACT, TORCH, Comparison, compare, largest_error, versus
from ..errors import VerificationError
from ..golden import Golden
from ..manifest import DT_INPUT
from .model import Model

__all__ = ["Progress", "compare_results", "compare_with_golden", "replay", "replay_golden", "telling"]

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int], None]


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
        Per output and state output, float32 of shape (steps, *shape).
    """
    manifest, stream = model.manifest, model.stream()
    steps = len(reset)
    shapes = {t.name: t.shape for t in manifest.outputs} | {s.output: s.shape for s in manifest.states}
    results = {name: np.empty((steps, *shape), np.float32) for name, shape in shapes.items()}
    samples = {t.name: _as_caller(inputs[t.name], manifest.batch) for t in manifest.inputs}
    single = next(iter(samples.values())) if len(samples) == 1 else None
    dt = inputs.get(DT_INPUT)
    for k in range(steps):
        if reset[k]:
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
            progress(k)
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
    return compare_results(model.backend, results, golden.float32, golden.float64, [("golden", 0, golden.steps)])


def compare_results(
    backend: str,
    results: Mapping[str, Array],
    float32: Mapping[str, Array],
    float64: Mapping[str, Array],
    segments: Sequence[tuple[str, int, int]],
) -> list[Comparison]:
    """Compare what a backend gave with torch float32 and with float64, by segment (name, start, stop) and tensor."""
    rows = []
    for segment, start, stop in segments:
        part = slice(start, stop)
        for name, got in results.items():
            own = largest_error(float32[name][part], float64[name][part])
            for reference, expected in ((TORCH, float32), (EXACT, float64)):
                against = versus(backend, reference)
                rows.append(compare(name, against, segment, got[part], expected[name][part], own=own))
    return rows


def _as_caller(samples: Array, batch: int) -> Array:
    """Samples in the shape that `Stream.step` takes: without the batch axis when the batch is 1."""
    return samples[:, 0] if batch == 1 else samples
