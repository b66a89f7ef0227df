"""The closed loop in which a step program is interpreted: samples, resets and states, all rows together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import Array
from ..bundle.program import output_of_state
from ..verify.samples import Excitation
from .interpreter import Interpreter

__all__ = ["interpreted"]


def interpreted(
    program: Interpreter, samples: Excitation, progress: Callable[[int], None] | None = None
) -> dict[str, Array]:
    """Step a program through samples with its own state fed back.

    What is not finite is kept as it is: it is an infinite error in every comparison.

    Args:
        program: The program.
        samples: The samples.
        progress: Called with the number of steps done, now and then.

    Returns:
        By output and by the manifest's name of each state's output, (steps, rows, *shape), in the program's dtype.
    """
    inputs = {name: value.astype(program.dtype) for name, value in samples.inputs.items()}
    rows = next(iter(inputs.values())).shape[1]
    own = program.program
    shapes = {o.name: o.shape for o in own.outputs} | {output_of_state(s.name): s.shape for s in own.states}
    results = {name: np.empty((samples.steps, rows, *shape), program.dtype) for name, shape in shapes.items()}
    state: dict[str, Array] = {}
    with np.errstate(all="ignore"):
        for k in range(samples.steps):
            before = program.start(rows) if samples.reset[k] else state
            dt_s = None if samples.dt is None else samples.dt[k]
            outputs, state = program.step({name: value[k] for name, value in inputs.items()}, before, dt_s)
            for name, value in (*outputs.items(), *((output_of_state(n), v) for n, v in state.items())):
                results[name][k] = value
            if progress and k % 64 == 0:
                progress(k)
    return results
