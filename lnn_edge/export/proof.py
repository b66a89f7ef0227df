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
from .layer import TrainedLayer

__all__ = ["STEPPED_WHOLE", "TORCH_EXACT", "Truth", "golden_from_truth", "prove", "truth_from_layer"]

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int], None]

TORCH_EXACT = "torch float32 vs float64"
STEPPED_WHOLE = "torch stepped vs torch on the whole sequence"

_GOLDEN_BYTES = 1 << 20
_GOLDEN_STEPS = 1024


@dataclass(frozen=True)
class Truth:
    """What the trained module gives: called on whole sequences, stepped, and restated in float64."""

    samples: Excitation
    whole: dict[str, Array]
    float32: dict[str, Array]
    float64: dict[str, Array]

    def comparisons(self) -> list[Comparison]:
        """Before any bundle: stepping torch must equal its own sequence, and float32 must be able to compute it."""
        rows = []
        for segment, start, stop in self.samples.segments:
            part = slice(start, stop)
            for name, whole in self.whole.items():
                rows.append(compare(name, STEPPED_WHOLE, segment, self.float32[name][part], whole[part]))
            for name, exact in self.float64.items():
                got = self.float32[name][part]
                rows.append(compare(name, TORCH_EXACT, segment, got, exact[part], tolerance=COMPUTABLE))
        return rows


def truth_from_layer(layer: TrainedLayer, samples: Excitation, time: Time, progress: Progress) -> Truth:
    """Run the trained module in all three ways."""
    progress("torch, whole sequences", 0, 4)
    whole = layer.whole(samples, time)
    progress("torch, stepped", 1, 4)
    stepped = layer.stepped(samples, time)
    progress("float64 reference", 2, 4)
    return Truth(samples, whole, stepped, layer.reference(samples, time))


def prove(model: Model, truth: Truth, progress: Progress) -> list[Comparison]:
    """Step the bundle through the same samples and compare every output and state at every step."""
    inputs = dict(truth.samples.inputs)
    if truth.samples.dt is not None:
        inputs[DT_INPUT] = truth.samples.dt
    steps = truth.samples.steps
    results = replay(
        model, inputs, truth.samples.reset, lambda k: progress("bundle, closed loop", 3 * steps + k, 4 * steps)
    )
    return compare_bundle(results, truth.float32 | truth.whole, truth.float64, truth.samples.segments)


def golden_from_truth(truth: Truth, manifest: Manifest) -> Golden:
    """Pick what ships: the beginning of every segment, at most a megabyte."""
    shapes = [t.shape for t in manifest.inputs]
    results = [t.shape for t in manifest.outputs] + [s.shape for s in manifest.states]
    per_step = 4 * sum(int(np.prod(s)) for s in shapes) + 12 * sum(int(np.prod(s)) for s in results) + 8
    budget = min(_GOLDEN_STEPS, max(16 * len(truth.samples.segments), _GOLDEN_BYTES // per_step))
    share = budget // (len(truth.samples.segments) + 1)
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
        {name: value[index] for name, value in (truth.float32 | truth.whole).items()},
        {name: value[index] for name, value in truth.float64.items()},
    )
