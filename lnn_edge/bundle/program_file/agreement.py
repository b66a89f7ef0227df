"""Agreement of a manifest with the step program beside it: whoever changes one can sign it again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..manifest import Manifest
from ..program import StepProgram
from ..spec import output_of_state

__all__ = ["differences"]


def differences(manifest: Manifest, step: StepProgram) -> Iterator[str]:
    """How a step program differs from the manifest beside it in inputs, outputs, states or time, a sentence each."""
    program = step.program
    pairs = (
        (
            "inputs",
            [(t.name, t.shape[1:], t.dtype) for t in manifest.inputs],
            [(i.name, i.shape, i.dtype) for i in program.inputs],
        ),
        ("outputs", [(t.name, t.shape[1:]) for t in manifest.outputs], [(o.name, o.shape) for o in program.outputs]),
        (
            "states",
            [(s.input, s.output, s.shape[1:]) for s in manifest.states],
            [(s.name, output_of_state(s.name), s.shape) for s in program.states],
        ),
    )
    different = [(what, here, there) for what, here, there in pairs if here != there]
    for what, here, there in different:
        yield f"{what} are {there} in the program, {here} in the manifest"
    measured = manifest.time.mode == "measured"
    if measured != (program.elapsed.dt is not None):
        yield f"time is {manifest.time.mode} in the manifest, and not in the program"
    elif not different:
        yield from _different_numbers(manifest, step)


def _different_numbers(manifest: Manifest, step: StepProgram) -> Iterator[str]:
    """Timespan and initial states: the recorder takes both from what is in the manifest."""
    elapsed, time = step.program.elapsed, manifest.time
    own = time.timespan if elapsed.dt is None or time.period_s is None else time.timespan / time.period_s
    if own not in (elapsed.value, elapsed.timespan_per_s):
        yield f"`elapsed` has {elapsed.value or elapsed.timespan_per_s} in the program, expected {own}"
    for tensor, given in zip(manifest.inputs, step.program.inputs, strict=True):
        center = () if given.center is None else tuple(step.tensors[given.center].tolist())
        if center != tensor.center:
            yield f"'{tensor.name}' is not centred in the program by what the manifest says"
    for pair, state in zip(manifest.states, step.program.states, strict=True):
        start = np.zeros(state.shape) if state.initial is None else step.tensors[state.initial]
        if not np.all(start.ravel() == np.ravel(pair.initial)):
            yield f"'{state.name}' does not start in the program from what the manifest says"
