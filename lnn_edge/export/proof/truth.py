"""The truth of a proof: the trained module on whole sequences and stepped, and its program in float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from ...arrays import Array
from ...bundle.program import StepProgram
from ...bundle.spec import Readout, Tensor, Time
from ...errors import ExportWarning, VerificationError
from ...progress import Progress
from ...reference.closed_loop import interpreted
from ...reference.interpreter import Interpreter
from ...remarks import warn_caller
from ...runtime.readouts import read_out
from ...verify.comparison import Comparison, compare
from ...verify.excitation import SINGLE_STEPS
from ...verify.grounds import finite_ground
from ...verify.samples import Excitation
from ...verify.tolerance import COMPUTABLE, EXACT, TORCH, largest_error, versus
from ...wording import limits_advice, typed
from ..forward.forward import Known
from ..torch_settings import one_thread
from ..trained.protocol import Results, Trained
from .few_samples import stepped_over_few
from .length import FULL_PROOF

__all__ = [
    "EXTRACTED",
    "STEPPED_WHOLE",
    "TORCH_EXACT",
    "Truth",
    "check_causal",
    "interpret",
    "interpret_where_finite",
    "truth_from_model",
]

_Part = TypeVar("_Part")

TORCH_EXACT = versus(TORCH, EXACT)
STEPPED_WHOLE = versus("torch stepped", "torch on the whole sequence")
EXTRACTED = versus(TORCH, "step program")

_DRAWS = (
    "its forward draws random numbers in eval mode (noise, a sample of a distribution, a dropout that is always on), "
    "which no step can draw again. Draw them only `if self.training`, call dropout with `training=self.training`, and "
    "return what a distribution is made of, its mean or logits, in place of a sample"
)
_KEEPS = (
    "its forward keeps something from call to call, or draws random numbers outside torch. Keep all state in the state "
    "that it takes and returns, and draw only `if self.training`"
)


@dataclass(frozen=True)
class Truth:
    """What the trained module gives, called on whole sequences and stepped, and what its program gives in float64."""

    samples: Excitation
    whole: Known
    stepped: Results
    float64: Results
    rounded: Results  # the program in float32: how far rounding alone may take torch from float64
    readout: Readout | None = None  # what the whole sequence gives, if not the output of its last sample
    fixed_number: str = ""  # see `Trained`

    @property
    def float32(self) -> Results:
        """Torch float32: the whole sequence's values where they are known, else those of stepping."""
        merged = {name: value.copy() for name, value in self.stepped.items()}
        if self.readout is not None:
            return merged
        for name, (steps, values) in self.whole.items():
            merged[name][steps] = values
        return merged

    def comparisons(self) -> list[Comparison]:
        """Before any backend: stepping torch equals its own sequence, the program equals torch, float32 can compute it.

        How far torch may be from the program is judged by the program's own rounding, and not by torch's: a program
        that is slightly wrong would else excuse itself, and every lowering of it.
        """
        rows = []
        for segment, start, stop in self.samples.segments:
            part = slice(start, stop)
            for name, (steps, whole) in self.whole.items():
                here = (steps >= start) & (steps < stop)
                if here.any():
                    stepped = self._read(self.stepped[name], steps[here])
                    own = largest_error(stepped, self._read(self.float64[name], steps[here]))
                    rows.append(compare(name, STEPPED_WHOLE, segment, stepped, whole[here], own=own))
            for name, exact in self.float64.items():
                got, rounding = self.stepped[name][part], largest_error(self.rounded[name][part], exact[part])
                rows.append(compare(name, TORCH_EXACT, segment, got, exact[part], tolerance=COMPUTABLE))
                rows.append(compare(name, EXTRACTED, segment, got, exact[part], own=rounding))
        return rows

    def _read(self, outputs: Array, at: Array) -> Array:
        return outputs[at] if self.readout is None else read_out(self.readout, outputs, self.samples.reset, at)


def interpret(step: StepProgram, samples: Excitation, progress: Progress) -> tuple[Results, Results]:
    """What a program gives in float64 and in float32."""
    return _interpreted(step, "float64", samples, progress), _interpreted(step, "float32", samples, progress)


def interpret_where_finite(
    step: StepProgram,
    samples: Excitation,
    tensors: Sequence[Tensor],
    recorded: Mapping[str, Sequence[Array]] | None,
    progress: Progress,
) -> tuple[Excitation, tuple[Results, Results]]:
    """The samples of a proof on which a program is finite, and what `interpret` gives for them.

    Where it is not finite on samples that export made up, these are drawn more narrowly; see `finite_ground`.

    Warns:
        ExportWarning: If they were.
    """

    def computed(some: Excitation) -> tuple[Results, tuple[Results, Results]]:
        exact, rounded = interpret(step, some, progress)
        return exact | {f"{name}, rounded": value for name, value in rounded.items()}, (exact, rounded)

    found, (_, results), ground = finite_ground(samples, tensors, recorded, computed)
    if ground:
        warn_caller(
            "the model has no finite result on samples that export made up beyond the example, such as zeros, negative "
            f"or very large numbers, so it was proven {ground}. On the device such samples are refused only once the "
            f"step has failed: give limits, {limits_advice()}",
            ExportWarning,
        )
    return found, results


@one_thread()
def truth_from_model(
    model: Trained,
    step: StepProgram,
    samples: Excitation,
    time: Time,
    progress: Progress,
    computed: tuple[Results, Results] | None = None,
) -> Truth:
    """Run the trained module whole and stepped, and its program in float64, segment by segment.

    Each segment starts with a reset, so progress can show. `computed` is what `interpret` gave, if it is known.

    Raises:
        VerificationError: If what torch gives when it is stepped is not finite.
    """
    whole = _by_segment(
        "torch, whole sequences", samples, progress, lambda part: _whole(model, part, time), _joined_known
    )
    stepped = _by_segment("torch, stepped", samples, progress, lambda part: _stepped(model, part, time), _joined)
    # before the values are judged: it knows why, where time ran backwards
    exact, rounded = computed or interpret(step, samples, progress)
    _check_steps(stepped, samples)
    pools = model.readout is not None and model.readout.kind != "last"
    return Truth(samples, whole, stepped, exact, rounded, model.readout if pools else None, model.fixed_number)


def _interpreted(step: StepProgram, dtype: str, samples: Excitation, progress: Progress) -> Results:
    phase = f"step program, {dtype}"
    return interpreted(Interpreter(step, dtype), samples, lambda done: progress(phase, done, samples.steps))


def _whole(model: Trained, part: Excitation, time: Time) -> Known:
    """One segment; of samples that come over and over, until all have come."""
    if part.order is None:
        return model.whole(part, time)
    index = part.beginnings()
    known = model.whole(part.pick(index).unfolded(), time)
    return {name: (index[steps], values) for name, (steps, values) in known.items()}


def _stepped(model: Trained, part: Excitation, time: Time) -> Results:
    return model.stepped(part, time) if part.order is None else stepped_over_few(model, part, time)


def _check_steps(stepped: Results, samples: Excitation) -> None:
    for segment, start, stop in samples.segments:
        for name, values in stepped.items():
            bad = np.argwhere(~np.isfinite(values[start:stop]))
            if len(bad):
                value = values[start:stop][tuple(bad[0])]
                whose = "those of the example" if segment == "recorded" else "made up by export"
                raise VerificationError(
                    f"'{name}' of the model is {value} at step {bad[0][0]} of the {segment} inputs ({whose}). Torch "
                    "itself cannot step this model on them, so no step can be proven equal to it: the training "
                    "diverged, nothing kept the model's parameters in bounds, or the inputs need limits: "
                    f"{limits_advice()}"
                )


def _by_segment(
    phase: str,
    samples: Excitation,
    progress: Progress,
    run: Callable[[Excitation], _Part],
    join: Callable[[Sequence[int], list[_Part]], _Part],
) -> _Part:
    parts = []
    for name, start, stop in samples.segments:
        progress(phase, start, samples.steps)
        part = samples.pick(np.arange(start, stop))
        parts.append(run(part if name == SINGLE_STEPS else dataclasses.replace(part, start=None)))
    return join([start for _, start, _ in samples.segments], parts)


def _joined(_starts: Sequence[int], parts: list[Results]) -> Results:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _joined_known(starts: Sequence[int], parts: list[Known]) -> Known:
    return {
        name: (
            np.concatenate([part[name][0] + start for start, part in zip(starts, parts, strict=True)]),
            np.concatenate([part[name][1] for part in parts]),
        )
        for name in parts[0]
    }


@one_thread()
def check_causal(model: Trained, samples: Excitation, time: Time, first: int = FULL_PROOF.causal) -> None:
    """Step the torch module itself through the first samples and compare it with its own whole sequence.

    Raises:
        ValueError: If they differ: the model looks at more than one sample at a time, so no step can equal it. Or if
            what it gives is not finite, or another each time it is called.
    """
    short = samples.pick(np.arange(first))
    recorded = not samples.segments or samples.segments[0][0] == "recorded"
    whose = "the example" if recorded else "the random samples that export made up"
    stepped = model.stepped(short, time)
    for name, values in stepped.items():
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            _refuse_single_samples(model, short, time, name, values)
            raise ValueError(
                f"'{name}' of the model is {values[tuple(bad[0])]} at step {bad[0][0]} of {whose}: the training "
                "diverged, a buffer such as the statistics of a BatchNorm is damaged, the samples are not in the units "
                "of the training, or the forward leaves out samples and so has none of one: write it for any length"
            )
    known = model.whole(short, time)
    _check_repeats(model, short, time, known)
    for name, (places, whole) in known.items():
        own, readout = stepped[name], model.readout
        outputs = own[places] if readout is None else read_out(readout, own, short.reset, places)
        found = compare(name, STEPPED_WHOLE, "first", outputs, whole, tolerance=COMPUTABLE)
        if not found.passed:
            raise ValueError(
                f"output '{name}' at step {found.first_over}: torch stepped and torch on the whole sequence differ by "
                f"{found.max_abs:.1e}, so {model.why_unequal}"
            )


def _refuse_single_samples(model: Trained, samples: Excitation, time: Time, name: str, stepped: Array) -> None:
    """Refuse a model that is finite on several samples at once, and has no result for the same ones by one."""
    for places, values in [model.whole(samples, time)[name]] if model.readout is None else []:
        known = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        bad = known & ~np.isfinite(stepped[places].reshape(len(places), -1)).all(axis=1)
        if bad.any():
            raise ValueError(
                f"'{name}' of the model is finite on the example when it is called on all of it, and not when it is "
                f"stepped, first at step {places[bad][0]}: it computes something of several samples that one alone "
                "does not have, such as a spread over time (std, var). Normalise with fixed numbers, such as those of "
                f"the training data, or keep what it needs in a state: {typed('step=function', '--step NAME')}"
            )


def _check_repeats(model: Trained, samples: Excitation, time: Time, first: Known) -> None:
    """Call the torch module again: what differs now differs from any step too, and is not for want of causality."""
    before = torch.get_rng_state()
    again = model.whole(samples, time)
    cause = _KEEPS if torch.equal(before, torch.get_rng_state()) else _DRAWS
    for name, (_, values) in first.items():
        found = compare(name, "again vs first", "first", again[name][1], values)
        if not found.passed and np.isfinite(found.max_abs):
            raise ValueError(
                f"output '{name}' differs by {found.max_abs:.1e} when the model is called again with the same samples: "
                f"{cause}"
            )
