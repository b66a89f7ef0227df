"""Pooling over time in a user's forward, found by what it gives: the last output of a recording, or a mean of some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...arrays import Array
from ...bundle.spec import Readout, Tensor, Time
from ...runtime.readouts import LAST, read_out, readout_text
from ...verify.samples import Excitation
from ...wording import chosen, listed
from ..forward.example import folded
from ..forward.forward import Known
from ..forward.leaves import Leaf
from .protocol import Trained

__all__ = ["differing_readouts", "pooling", "steps_as_called"]

_STEPS = 64  # the longest mean of last outputs that is found is a sample shorter
_FEW = 8  # tell most readouts apart, in an eighth of the time
_MEAN = Readout("mean")  # of all outputs of a recording
_CLOSE = 1e-4  # of the outputs' size: far above rounding, far below what another mean gives


def pooling(model: Trained, recording: Mapping[str, Array]) -> Readout | None:
    """How a forward that returns one output for a whole recording makes it of the outputs of its samples.

    Args:
        model: The model, which steps.
        recording: Samples by input, (T, batch, ...); they are made to differ from one another.

    Returns:
        The readout; `None` if it is nothing that is known here.
    """
    found = list(_equal_readouts(model, recording, _FEW))
    if len(found) == 1 and found != [_MEAN]:  # of few samples, that is the mean of the last as many or more as well
        return found[0]
    return next(_equal_readouts(model, recording, _STEPS), None)


def _equal_readouts(model: Trained, recording: Mapping[str, Array], steps: int) -> Iterator[Readout]:
    """Those that give all outputs of a forward for recordings of so many samples and of fewer."""
    both = _both(model, recording, steps)
    candidates = _candidates(steps) if both.finite else ()
    return (own for own in candidates if all(both.equal(name, own) for name in both.stepped))


def differing_readouts(model: Trained, leaves: Sequence[Leaf], recording: Mapping[str, Array]) -> str:
    """What is wrong with a forward that pools one output in one way, and another otherwise; "" if nothing is known."""
    both, told = _both(model, recording, _STEPS), []
    for leaf in leaves:
        own = next((readout for readout in _candidates(_STEPS) if both.equal(leaf.name, readout)), None)
        if own is None:
            return ""
        told.append(
            f"'{leaf.name}' {'for each sample' if leaf.time_axis is not None else f'as the {readout_text(own)}'}"
        )
    if len(told) == 1:
        return ""
    return (
        f"the model returns {listed(told)}, and a stream has one readout for all outputs. Return all of them for each "
        f"sample, and choose the readout when you export, for instance {chosen('readout', 'mean')}"
    )


@dataclass(frozen=True)
class _Both:
    """Outputs of a forward that was called on a whole recording and stepped through it, on the same samples."""

    known: Known
    stepped: Mapping[str, Array]
    first: Array

    @property
    def finite(self) -> bool:
        """Whether all numbers are."""
        values = (*self.stepped.values(), *(values for _, values in self.known.values()))
        return all(bool(np.isfinite(value).all()) for value in values)

    def equal(self, name: str, readout: Readout) -> bool:
        """Whether the forward makes an output by this readout of those of the samples."""
        steps, whole = self.known[name]
        read = read_out(readout, self.stepped[name], self.first, steps)
        return bool(np.allclose(read, whole, rtol=0, atol=_CLOSE * np.abs(self.stepped[name]).max()))


def steps_as_called(model: Trained, recording: Mapping[str, Array], steps: int) -> bool:
    """Whether a forward gives the same, stepped and called on so many samples, which are as they are: perhaps times."""
    both = _both(model, recording, steps, varied=False)
    return both.finite and all(both.equal(name, LAST) for name in both.stepped)


def _both(model: Trained, recording: Mapping[str, Array], steps: int, *, varied: bool = True) -> _Both:
    """Outputs called whole and stepped, on samples that may differ from one another, and where sequences begin.

    Where these give what is not finite, they are taken between the lowest and the highest that was recorded.
    """
    both = _compared(model, recording, steps, varied=varied, inside=False)
    if both.finite or not varied:
        return both
    return _compared(model, recording, steps, varied=True, inside=True)


def _compared(model: Trained, recording: Mapping[str, Array], steps: int, *, varied: bool, inside: bool) -> _Both:
    gain = np.random.default_rng(0).uniform(0.5, 1.5, steps) if varied else np.ones(steps)
    inputs = {
        t.name: _differing(np.resize(recording[t.name], (steps, *recording[t.name].shape[1:])), t, gain, inside)
        for t in model.inputs
    }
    first = np.zeros(steps, np.uint8)
    first[0] = 1
    samples, time = Excitation(inputs, None, first, ()), Time("fixed")
    known = model.whole(samples, time)
    stepped = {name: value for name, value in model.stepped(samples, time).items() if name in known}
    return _Both(known, stepped, first)


def _differing(rows: Array, tensor: Tensor, gain: Array, inside: bool) -> Array:
    """Samples of which no two are equal, if they are numbers that may be of any size."""
    if tensor.constant or tensor.dtype != "float32":
        return rows
    spread = gain.reshape(-1, *[1] * (rows.ndim - 1))
    center = np.array(tensor.center or 0.0)
    others: Array = (center + (rows - center) * spread).astype(np.float64 if tensor.center else np.float32)
    return folded(others, rows) if inside else others


def _candidates(steps: int) -> Iterator[Readout]:
    """The readouts that so many samples tell apart."""
    yield LAST
    yield _MEAN
    yield from (Readout("mean", over) for over in range(2, steps))
