"""The closed loop in which a step program is interpreted: samples, resets and states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import Array
from ..bundle.spec import output_of_state
from ..verify.samples import Excitation
from .interpreter import Interpreter

__all__ = ["interpreted"]


def interpreted(
    program: Interpreter, samples: Excitation, progress: Callable[[int], None] | None = None
) -> dict[str, Array]:
    """Step a program through samples with its own state fed back.

    Sequences do not know of each other, so all of them are stepped at once, as further rows; the longest come first,
    and those that have ended drop out. What is not finite is kept: it is an infinite error in every comparison.

    Args:
        program: The program.
        samples: The samples.
        progress: Called with the number of steps done, now and then.

    Returns:
        By output and by the manifest's name of each state's output, (steps, rows, *shape), in the program's dtype.
    """
    own, names = program.program, [state.name for state in program.program.states]
    rows = next(iter(samples.inputs.values())).shape[1]
    encoded = _encoded(program, samples, rows)
    shapes = {o.name: o.shape for o in own.outputs} | {output_of_state(s.name): s.shape for s in own.states}
    results = {name: np.empty((samples.steps, rows, *shape), program.dtype) for name, shape in shapes.items()}
    sequences = sorted(samples.sequences(), key=lambda part: part.start - part.stop)
    starts, lengths = (np.array([getattr(part, end) for part in sequences]) for end in ("start", "stop"))
    lengths = lengths - starts
    state = program.start(rows * len(starts))
    if samples.start is not None:
        state = {name: samples.start[name][starts].reshape(state[name].shape).astype(program.dtype) for name in names}
    done = 0
    with np.errstate(all="ignore"):
        for k in range(int(lengths[0])):
            if progress and k % 64 == 0:
                progress(done)
            index = starts[lengths > k] + k
            there = len(index) * rows
            before = {name: state[name][:there] for name in names}
            dt_s = None if samples.dt is None else samples.dt[index].reshape(there, 1)
            outputs, state = program.step_encoded(encoded(index), there, before, dt_s)
            for name, value in (*outputs.items(), *((output_of_state(n), v) for n, v in state.items())):
                results[name][index] = value.reshape(len(index), rows, *value.shape[1:])
            done += len(index)
    return results


def _encoded(program: Interpreter, samples: Excitation, rows: int) -> Callable[[Array], dict[str, Array]]:
    """What the program makes of the samples at some steps alone; of samples that come over and over once."""

    def flat(inputs: dict[str, Array]) -> dict[str, Array]:
        return {name: value.reshape(-1, *value.shape[2:]) for name, value in inputs.items()}

    if samples.order is None:
        return lambda index: program.encode(flat(samples.at(index)))
    order, count = samples.order, len(next(iter(samples.inputs.values())))
    parts = [
        program.encode(flat({name: value[k : k + 1] for name, value in samples.inputs.items()})) for k in range(count)
    ]
    once = {name: np.stack([part[name] for part in parts]) for name in parts[0]}  # (samples, rows or 1, *shape)

    def known(index: Array) -> dict[str, Array]:
        picked = {name: value[order[index]] for name, value in once.items()}
        shapes = {name: (len(index), rows, *value.shape[2:]) for name, value in picked.items()}
        return {name: np.broadcast_to(v, shapes[name]).reshape(-1, *v.shape[2:]) for name, v in picked.items()}

    return known
