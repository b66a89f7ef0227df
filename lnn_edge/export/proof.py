"""The proof: the bundle, stepped closed loop through the real runtime, equals the trained module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..equality import COMPUTABLE, Comparison, compare
from ..golden import Golden
from ..manifest import DT_INPUT, Manifest, Time
from ..runtime.model import Model
from ..runtime.replay import compare_bundle, replay
from .excitation import Excitation
from .threads import one_thread
from .trained import Known, Results, Trained

__all__ = ["STEPPED_WHOLE", "TORCH_EXACT", "Truth", "check_causal", "golden_from_truth", "prove", "truth_from_model"]

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int], None]

TORCH_EXACT = "torch float32 vs float64"
STEPPED_WHOLE = "torch stepped vs torch on the whole sequence"

_GOLDEN_BYTES = 1 << 20
_GOLDEN_STEPS = 1024
_CAUSAL_STEPS = 24


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
                    rows.append(compare(name, STEPPED_WHOLE, segment, self.stepped[name][steps[here]], whole[here]))
            for name, exact in self.float64.items():
                got = self.stepped[name][part]
                rows.append(compare(name, TORCH_EXACT, segment, got, exact[part], tolerance=COMPUTABLE))
        return rows


@one_thread()
def truth_from_model(model: Trained, samples: Excitation, time: Time, progress: Progress) -> Truth:
    """Run the trained module in all three ways."""
    progress("torch, whole sequences", 0, 4)
    whole = model.whole(samples, time)
    progress("torch, stepped", 1, 4)
    stepped = model.stepped(samples, time)
    progress("float64 reference", 2, 4)
    return Truth(samples, whole, stepped, model.reference(samples, time))


@one_thread()
def check_causal(model: Trained, samples: Excitation, time: Time) -> None:
    """Step the torch module itself through a short sequence and compare it with its own whole sequence.

    Raises:
        ValueError: If they differ: the model looks at more than one sample at a time, so no step can equal it.
    """
    short = samples.pick(np.arange(_CAUSAL_STEPS))
    stepped = model.stepped(short, time)
    for name, (steps, whole) in model.whole(short, time).items():
        found = compare(name, STEPPED_WHOLE, "first", stepped[name][steps], whole, tolerance=COMPUTABLE)
        if not found.passed:
            raise ValueError(
                f"output '{name}' of the model at step {found.first_over} depends on more than the samples up to then "
                f"(torch stepped and torch on the whole sequence differ by {found.max_abs:.1e}): it is bidirectional, "
                "pools, attends or normalises over time, or carries state outside its cores. Stepping it would "
                "not equal the sequence; move that part out of the model, or make it causal"
            )


def prove(model: Model, truth: Truth, progress: Progress) -> list[Comparison]:
    """Step the bundle through the same samples and compare every output and state at every step."""
    inputs = dict(truth.samples.inputs)
    if truth.samples.dt is not None:
        inputs[DT_INPUT] = truth.samples.dt
    steps = truth.samples.steps
    results = replay(
        model, inputs, truth.samples.reset, lambda k: progress("bundle, closed loop", 3 * steps + k, 4 * steps)
    )
    return compare_bundle(results, truth.float32, truth.float64, truth.samples.segments)


def golden_from_truth(truth: Truth, manifest: Manifest) -> Golden:
    """Pick what ships: the beginning of every segment, at most a megabyte."""
    shapes = [t.shape for t in manifest.inputs]
    results = [t.shape for t in manifest.outputs] + [s.shape for s in manifest.states]
    per_step = 4 * sum(int(np.prod(s)) for s in shapes) + 12 * sum(int(np.prod(s)) for s in results) + 8
    budget = min(_GOLDEN_STEPS, max(16 * len(truth.samples.segments), _GOLDEN_BYTES // per_step))
    calls = max(1, budget // (len(truth.samples.segments) + 1) // manifest.unroll)
    share = calls * manifest.unroll
    index = np.concatenate(
        [
            np.arange(start, min(stop, start + (2 * share if k == 0 else share)))
            for k, (_, start, stop) in enumerate(truth.samples.segments)
        ]
    )
    picked = truth.samples.pick(index)
    inputs = dict(picked.inputs)
    if picked.dt is not None:
        inputs[DT_INPUT] = picked.dt
    return Golden(
        inputs,
        picked.reset,
        {name: value[index] for name, value in (truth.float32).items()},
        {name: value[index] for name, value in truth.float64.items()},
    )
