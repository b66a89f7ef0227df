"""Closed loop: a fresh stream stepped through recorded samples, each step with the state that the last one left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle
from typing import Any

import numpy as np

from ..arrays import Array
from ..bundle.golden import Golden
from ..bundle.manifest import Manifest
from ..bundle.spec import DT_INPUT
from ..progress import Progress
from .model import Model
from .sequence import samples_from_unroll_blocks, unroll_blocks_from_samples
from .state import State
from .stream import Stream, uncounted

__all__ = ["Step", "constants_of", "golden_steps", "rehearsed_steps", "replay", "replay_progress"]

Step = Callable[[], object]  # one step of a stream of its own


def replay(
    model: Model,
    inputs: Mapping[str, Array],
    reset: Array,
    progress: Callable[[int], None] | None = None,
    start: Mapping[str, Array] | None = None,
    order: Array | None = None,
) -> dict[str, Array]:
    """Step a fresh stream through recorded samples.

    Args:
        model: The model to step.
        inputs: Per graph input, `dt` included when time is measured, float32 of shape (steps, *shape).
        reset: Shape (steps,); where it is 1 the stream is reset before the step.
        progress: Called with the number of steps done, now and then.
        start: The states after each reset, (steps, *shape) by input; `None` for the model's own.
        order: The number of the sample at each step, (steps,), whole calls; `None` where each step has its own.

    Returns:
        Float32: per output, (steps, *shape); per state output, (calls, *shape), one for each unroll block.
    """
    manifest, unroll = model.manifest, model.manifest.unroll
    constants = constants_of(inputs, manifest)
    stream = model.plain_stream(constants(0), reuse=True)  # until the first reset
    calls = len(reset) // unroll
    results = {name: np.empty((calls, *shape), np.float32) for name, shape in manifest.results().items()}
    samples = {t.name: _as_caller(inputs[t.name], manifest) for t in manifest.streamed}
    places = np.arange(calls) if order is None else order[::unroll] // unroll
    single = next(iter(samples.values())) if len(samples) == 1 else None
    dt = unroll_blocks_from_samples(inputs[DT_INPUT], unroll)[..., 0] if DT_INPUT in inputs else None
    for k in range(calls):
        if reset[k * unroll]:
            first = k * unroll
            stream.reset(constants=constants(int(places[k]) * unroll))
            if start is not None:
                stream.restore(State({n: v[first].copy() for n, v in start.items()}))
        at = places[k]
        sample = single[at] if single is not None else {name: value[at] for name, value in samples.items()}
        y = stream.step(sample, dt_s=None if dt is None else dt[k])
        heads = y if isinstance(y, dict) else {manifest.outputs[0].name: y}
        for name, value in heads.items():
            results[name][k] = value
        state = stream.state_arrays()
        for pair in manifest.states:
            results[pair.output][k] = state[pair.input]
        if progress and k % 64 == 0:
            progress(k * unroll)
    if unroll > 1:
        results |= {t.name: samples_from_unroll_blocks(results[t.name]) for t in manifest.outputs}
    return results


def replay_progress(progress: Progress, model: Model, steps: int) -> Callable[[int], None]:
    """The progress of one replay as a phase (phase, done, total) of a longer work."""
    phase = f"{model.backend}, closed loop"
    return lambda done: progress(phase, done, steps)


def golden_steps(model: Model, golden: Golden) -> Step:
    """A function that steps a fresh stream through the golden samples, over and over; inputs are ready beforehand.

    With `unroll` it steps through unroll blocks of them.
    """
    return _golden_steps(model, golden)[0]


def rehearsed_steps(model: Model, golden: Golden) -> tuple[Step, Step]:
    """Golden steps, and what rehearses them as a loop does: a step of another stream, and one of theirs, uncounted.

    The second is made where the step is compiled, so that its memory is in the caches as well; see `uncounted`.
    """
    step, stream, sample = _golden_steps(model, golden)
    other, again = golden_steps(model, golden), uncounted(stream)
    if again is None:
        return step, other

    def rehearse() -> None:
        other()
        again(sample)

    return step, rehearse


def _golden_steps(model: Model, golden: Golden) -> tuple[Step, Stream, Any]:
    """Golden steps, their stream, and their first sample."""
    manifest = model.manifest
    stream = model.plain_stream(constants_of(golden.inputs, manifest)(0))  # those of its first sequence
    step = stream.step
    calls = golden.steps // manifest.unroll
    names = [t.name for t in manifest.streamed]
    columns = {name: list(_as_caller(golden.inputs[name], manifest)) for name in names}
    samples: list[Any] = columns[names[0]]
    if len(names) > 1:
        samples = [{name: columns[name][k] for name in names} for k in range(calls)]
    dts = None
    if DT_INPUT in golden.inputs:
        dts = list(unroll_blocks_from_samples(golden.inputs[DT_INPUT], manifest.unroll)[..., 0])
        if manifest.batch * manifest.unroll == 1:
            dts = [float(dt[0, 0]) for dt in dts]
    if dts is None:
        turns = cycle(samples)
        return lambda: step(next(turns)), stream, samples[0]
    timed_turns = cycle(list(zip(samples, dts, strict=True)))

    def timed() -> object:
        sample, dt_s = next(timed_turns)
        return step(sample, dt_s=dt_s)

    return timed, stream, samples[0]


def constants_of(inputs: Mapping[str, Array], manifest: Manifest) -> Callable[[int], dict[str, Array] | None]:
    """What `Stream.reset` takes before a step; recordings hold the constants with each sample."""
    names = [t.name for t in manifest.constants]

    def at(step: int) -> dict[str, Array] | None:
        rows = {name: inputs[name][step] for name in names}
        return {n: v[0] if manifest.batch == 1 else v for n, v in rows.items()} if names else None

    return at


def _as_caller(samples: Array, manifest: Manifest) -> Array:
    """What `Stream.step` takes, call by call: unroll blocks, and no batch axis when the batch is 1."""
    calls = samples if manifest.unroll == 1 else unroll_blocks_from_samples(samples, manifest.unroll)
    return calls[:, 0] if manifest.batch == 1 else calls
