"""Sensitivity: how long float32 can follow a model that amplifies every disturbance, and the samples that prove it.

A net that is mildly chaotic when it runs for ever is a sound model of some dozen steps. No arithmetic but the exact
one follows it further, so it is proven closed loop over as many steps as float32 holds, and step by step from the
states that exact arithmetic reaches.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from ...arrays import Array
from ...bundle.program import StepProgram
from ...bundle.spec import Sensitive, StatePair, output_of_state
from ...reference.closed_loop import interpreted
from ...reference.interpreter import Interpreter
from ...runtime.state import initial_value
from ...verify.excitation import SINGLE_STEPS
from ...verify.samples import Excitation
from ...verify.tolerance import COMPUTABLE, OWN_FACTOR, errors_by_step
from ..trained.protocol import Results

__all__ = ["FEWEST_STEPS", "samples_that_hold", "sensitivity"]

FEWEST_STEPS = 32  # that a step must hold, or it is refused
_HELD = COMPUTABLE / OWN_FACTOR  # another order of summation may be so many times worse, and must be computable still
_DISTURBANCE = 1e-6
_GROWN = 1e-2  # where a disturbance is no longer small, and stops growing
_GROWTH = 30.0  # what is less may be the length of one step's memory, which fades
_SINGLE = 256  # steps from the states of exact arithmetic


def sensitivity(step: StepProgram, samples: Excitation, exact: Results, rounded: Results) -> Sensitive | None:
    """Whether a model amplifies disturbances so that float32 cannot follow it.

    Args:
        step: The step program.
        samples: What it was stepped with.
        exact: Its results in float64.
        rounded: In float32.

    Returns:
        Over how many steps float32 stays within the tolerance, and how fast a disturbance of 1e-6 doubles; `None` if
        float32 follows it, or loses it for another reason than growth.
    """
    error = _error(exact, rounded)
    over = error > _HELD
    if not np.isfinite(error).all() or not over.any():
        return None
    lost = [part for part in samples.sequences() if over[part].any()]
    doubling = min(filter(None, (_doubling(step, samples, part) for part in lost)), default=None)
    if doubling is None:
        return None
    firsts = (np.flatnonzero(over[part]) for part in samples.sequences())
    return Sensitive(int(min(first[0] for first in firsts if len(first))), doubling)


def _error(exact: Results, other: Results) -> Array:
    """Largest error of any tensor at each step, relative to its size, (steps,)."""
    with np.errstate(all="ignore"):
        scaled = [errors_by_step(other[n], value) / max(1.0, float(np.abs(value).max())) for n, value in exact.items()]
        worst: Array = np.max(scaled, axis=0)
    return worst


def _doubling(step: StepProgram, samples: Excitation, part: slice) -> float | None:
    """Steps in which a disturbance of all states doubles, in float64, over one sequence; `None` if it fades."""
    sequence = samples.pick(np.arange(part.start, part.stop))
    rows = next(iter(sequence.inputs.values())).shape[1]
    program = Interpreter(step)
    shape = (sequence.steps, rows)
    start = {name: np.broadcast_to(value, (*shape, *value.shape[1:])) for name, value in program.start(1).items()}
    disturbed = dataclasses.replace(sequence, start={name: value + _DISTURBANCE for name, value in start.items()})
    error = _error(interpreted(program, sequence), interpreted(program, disturbed))
    place = int(np.argmax(error > _GROWN) if error.max() > _GROWN else error.argmax())
    growth = float(error[place]) / _DISTURBANCE
    return (place + 1) / math.log2(growth) if growth > _GROWTH else None


def samples_that_hold(
    samples: Excitation, exact: Results, states: Sequence[StatePair], holds_steps: int, unroll: int
) -> Excitation:
    """The same samples in sequences that float32 holds, and behind them single calls from states of exact arithmetic.

    Args:
        samples: The samples.
        exact: What they give in float64, in the sequences that they have.
        states: The states.
        holds_steps: How long sequences may be, a whole number of calls.
        unroll: Samples of a call.
    """
    cut = samples.cut(holds_steps)
    calls = np.arange(unroll, samples.steps - unroll + 1, unroll)
    calls = calls[samples.reset[calls] == 0]
    calls = calls[np.unique(np.linspace(0, len(calls) - 1, min(_SINGLE, len(calls))).astype(int))]
    index = (calls[:, None] + np.arange(unroll)).ravel()
    picked = samples.pick(index)
    inputs = cut.inputs
    if cut.order is None:
        inputs = {name: np.concatenate([value, picked.inputs[name]]) for name, value in cut.inputs.items()}
    start = {}
    for pair in states:
        first = initial_value(pair)
        before = exact[output_of_state(pair.input)][calls - 1].astype(np.float32).reshape(len(calls), *pair.shape)
        own = np.broadcast_to(first, (samples.steps, *pair.shape))
        start[pair.input] = np.concatenate([own, np.repeat(before, unroll, axis=0)])
    return Excitation(
        inputs,
        None if cut.dt is None or picked.dt is None else np.concatenate([cut.dt, picked.dt]),
        np.concatenate([cut.reset, np.tile(np.eye(1, unroll, dtype=np.uint8)[0], len(calls))]),
        (*cut.segments, (SINGLE_STEPS, cut.steps, cut.steps + len(index))),
        start,
        None if cut.order is None or picked.order is None else np.concatenate([cut.order, picked.order]),
    )
