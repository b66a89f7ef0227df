"""Readouts and windows of a bundle, verified: what its streams give is what the truth gives, computed offline."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..arrays import Array
from ..bundle.golden import Golden
from ..bundle.manifest import Manifest
from ..bundle.program import StepProgram
from ..bundle.spec import DT_INPUT, Readout, Window
from ..reference.closed_loop import interpreted
from ..reference.interpreter import Interpreter
from ..verify.comparison import Comparison, compare
from ..verify.samples import Excitation
from ..verify.tolerance import largest_error, tolerance_of, versus
from .closed_loop import constants_of
from .model import Model
from .readouts import LAST, read_out, readout_text
from .stream import Stream

__all__ = ["compare_readouts"]

_WINDOWS, _LONG_WINDOWS, _LONG = 8, 2, 1024  # how many are run, and of how many samples they are long ones
_TIE = 1e-4  # of the size of outputs that vote: what is nearer may fall on either side


def compare_readouts(model: Model, golden: Golden, step: StepProgram | None) -> list[Comparison]:
    """Run the golden samples through the stream that a robot program has, and compare it with the truth.

    A readout is compared with that of the golden outputs, at each call. Windows are run over the golden samples, one
    after the other, and compared with what the step program in float64 gives for each of them from the initial state.

    Args:
        model: The model.
        golden: Its golden sequences.
        step: Its step program; without one there is nothing to compare windows with.

    Returns:
        Nothing for a model with neither.
    """
    manifest, found = model.manifest, []
    if manifest.readout is not None:
        found += _of_sequences(model, golden, manifest.readout)
    if manifest.window is not None and step is not None and _holds(manifest, manifest.window.length):
        found += _of_windows(model, golden, step, manifest.window)
    return found


def _holds(manifest: Manifest, steps: int) -> bool:
    """Whether float32 follows the model over a window."""
    return manifest.sensitive is None or steps <= manifest.sensitive.holds_steps


def _of_sequences(model: Model, golden: Golden, readout: Readout) -> list[Comparison]:
    """The readout of the sequence so far, call by call."""
    manifest, constants = model.manifest, constants_of(golden.inputs, model.manifest)
    stream = model.stream(constants=constants(0))
    ends = np.arange(manifest.unroll - 1, golden.steps, manifest.unroll)
    parts = []
    for part in Excitation(golden.inputs, None, golden.reset, ()).sequences():
        stream.reset(constants=constants(part.start))
        parts.append(_run(stream, manifest, {name: value[part] for name, value in golden.inputs.items()}))
    subject = f"{model.backend}, {readout_text(readout)}"
    rows = []
    for name in (tensor.name for tensor in manifest.outputs):
        got = np.concatenate([part[name] for part in parts])
        exact, torch = (read_out(readout, own[name], golden.reset, ends) for own in (golden.float64, golden.float32))
        unsure = _unsure(manifest, golden.float64[name], golden.reset)[ends].max()
        rows.append(_row(manifest, name, subject, "readout", got, exact, torch, unsure, manifest.unroll))
    return rows


def _of_windows(model: Model, golden: Golden, step: StepProgram, window: Window) -> list[Comparison]:
    """Windows over the golden samples, each from the initial state."""
    manifest, length, every = model.manifest, window.length, window.every
    count = _WINDOWS if length <= _LONG else _LONG_WINDOWS
    order = np.resize(np.arange(golden.steps), length + (count - 1) * every)
    index = (np.arange(count)[:, None] * every + np.arange(length)).ravel()
    reset = np.tile(np.eye(1, length, dtype=np.uint8)[0], count)
    held = {t.name for t in manifest.constants}  # those of the first sequence
    given = {n: np.broadcast_to(v[:1], v.shape) if n in held else v for n, v in golden.inputs.items()}
    inputs = {name: value for name, value in given.items() if name != DT_INPUT}
    dt = golden.inputs[DT_INPUT][order[index]] if DT_INPUT in golden.inputs else None
    each = Excitation(inputs, dt, reset, (), order=order[index])
    exact, rounded = (interpreted(Interpreter(step, dtype), each) for dtype in ("float64", "float32"))
    stream = model.stream(window=length, every=every, constants=constants_of(given, manifest)(0))
    run = _run(stream, manifest, {name: value[order] for name, value in given.items()})
    calls = (length + np.arange(count) * every) // manifest.unroll - 1
    readout, ends = manifest.readout or LAST, np.arange(length - 1, count * length, length)
    subject = f"{model.backend}, windows of {length} every {every}"
    rows = []
    for name in (tensor.name for tensor in manifest.outputs):
        own, other = (read_out(readout, values[name], reset, ends) for values in (exact, rounded))
        unsure = _unsure(manifest, exact[name], reset)[ends].max()
        rows.append(_row(manifest, name, subject, "windows", run[name][calls], own, other, unsure, length))
    return rows


def _run(stream: Stream, manifest: Manifest, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What a stream gives for a recording, per output (calls, batch, ...)."""
    squeezed = manifest.batch == 1
    samples = {t.name: inputs[t.name][:, 0] if squeezed else inputs[t.name] for t in manifest.streamed}
    xs = samples if len(samples) > 1 else next(iter(samples.values()))
    ys = stream.run(xs, dt_s=inputs.get(DT_INPUT))
    named = ys if isinstance(ys, dict) else {manifest.outputs[0].name: ys}
    return {name: value[:, None] if squeezed else value for name, value in named.items()}


def _row(
    manifest: Manifest,
    name: str,
    subject: str,
    segment: str,
    got: Array,
    exact: Array,
    rounded: Array,
    unsure: float,
    every: int,
) -> Comparison:
    return compare(
        name,
        versus(subject, "the truth offline"),
        segment,
        got,
        exact,
        tolerance=max(unsure, tolerance_of(manifest.precision)),
        own=largest_error(rounded, exact),
        every=every,
    )


def _unsure(manifest: Manifest, outputs: Array, reset: Array) -> Array:
    """At each step the share of votes that rounding may decide, as two columns are nearly equal; 0 without votes."""
    if manifest.readout is None or manifest.readout.kind != "vote" or outputs.shape[-1] < 2:
        return np.zeros(len(outputs))
    ordered, near = np.sort(outputs, axis=-1), max(_TIE, tolerance_of(manifest.precision))
    close = (ordered[..., -1] - ordered[..., -2] < near * max(1.0, float(np.abs(outputs).max()))).reshape(
        len(reset), -1
    )
    return read_out(Readout("mean", manifest.readout.over), close.any(axis=1, keepdims=True), reset)[:, 0]
