"""Receptive field over time: the samples that an output depends on, cores aside, found by changing some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from ....arrays import Array
from ....bundle.spec import Tensor
from ....wording import chosen, plural, step_advice
from ...forward.example import folded
from ...forward.leaves import Leaf
from ..kept_states import KeptStates

__all__ = ["PerturbedForward", "ReceptiveField"]

_FEW = 24
_MANY = (160, 40, 16)  # a forward may take no more than so many
_CLOSE = 3e-7  # of the values' size: what rounding changes, and no more, as what is further back is left out
_PLACES = 6  # of changed samples in the middle, as a ReLU hides some of what it sees

Called = Callable[[Mapping[str, Array]], Any]  # what the forward returns for samples (T, ...) by input


@dataclass(frozen=True)
class ReceptiveField:
    """How far what surrounds the cores sees.

    Attributes:
        back: Samples before that of an output or of the input of a core; `None` for all.
        ahead: Samples behind it; `None` for all.
        inside: Whether only the inputs of cores see ahead.
        pools: Whether an output that comes once for a recording is made of more samples than that.
        counts: Whether it knows how many samples there were.
    """

    back: int | None = 0
    ahead: int | None = 0
    inside: bool = False
    pools: bool = False
    counts: bool = False

    def told(self) -> str:
        """What is wrong with it, and what to write instead; "" where nothing is."""
        if self.ahead is None or (self.ahead and self.back is None):
            return _BACKWARDS if self.inside else _ALL
        if self.ahead:
            return (
                f"an output depends on up to {plural(self.ahead, 'sample')} after it, which a stream does not have "
                "yet: a convolution or filter over time that is centred. Let it see the past alone, padded on the "
                "left, functional.pad(x, (n, 0)) along time before a convolution with padding=0, and train it so"
            )
        if self.pools:
            kept = "Or keep what it needs, a maximum or a sum and a count, in the state"
            return f"{_POOLS} {chosen('readout', 'mean')}. {kept}: {step_advice()}"
        if self.back is None:
            return f"{_PAST} {step_advice()}"
        if self.counts:
            return _COUNTS
        if self.back:
            return (
                f"the model looks back over {self.back + 1} samples, and export cannot keep the last {self.back} of "
                "them by itself, as it computes the beginning of a sequence otherwise, or looks back behind a core. "
                f"Keep them in the state: {step_advice()}, with window = torch.cat([past, x.unsqueeze(1)], dim=1) from "
                f"past = zeros of (batch, {self.back}, features), and window[:, 1:] in the new state beside that of "
                "the core"
            )
        return ""


_ALL = (
    "each output depends on all samples of the sequence, also on those after it: the model pools, attends or "
    "normalises over time, or flips it, so stepping it would not equal the sequence. Compute it from the samples up to "
    "then, and normalise with fixed numbers, such as those of the training data"
)
_BACKWARDS = (
    "a core reads the sequence backwards (a bidirectional model, or one that flips it), and a stream does not have the "
    "samples that it begins with, so stepping it would not equal the sequence. Train with the forward direction alone"
)
_COUNTS = (
    "the model computes with the place of a sample in its sequence (a positional embedding, torch.arange over time), "
    "and a stream has no end. Leave it out: a core knows the order of its samples. Or give the place as a feature"
)
_POOLS = (
    "the model makes one output of all samples of a recording by something else than their last output or a mean of "
    "their outputs: a maximum, attention, or layers behind the mean. Return the output of each sample, and say how one "
    "comes of them:"
)
_PAST = (
    "what surrounds the cores depends on all samples before, or on the first: a running mean or sum, a recurrence of "
    "your own, attention or pooling over the past. A stream keeps that as a state if one turn of the loop takes and "
    "returns it:"
)


class PerturbedForward:
    """A forward whose samples are changed, to see which of its values change.

    Args:
        called: The forward, on any number of samples.
        kept: Its cores.
        leaves: Its outputs.
        recording: Samples by input, (T, ...).
        inputs: The inputs; a constant stays what it is, and whole numbers stay among those of its recording.
    """

    def __init__(
        self,
        called: Called,
        kept: KeptStates,
        leaves: Sequence[Leaf],
        recording: Mapping[str, Array],
        inputs: Sequence[Tensor],
    ) -> None:
        self._called, self._kept, self._leaves, self._recording = called, kept, leaves, recording
        self._inputs = inputs
        self._of_samples: dict[tuple[int, bool], tuple[list[Array], list[Array]]] = {}  # by their number, and `_inside`
        self._inside = False  # whether other samples must stay between the lowest and the highest that was recorded

    def around(self) -> bool:
        """Whether something depends on other samples than its own: a quick look, over a few samples."""
        others = self._others(self._samples(_FEW), slice(0, None))
        self._inside = not (self._finite(_FEW) and _is_finite(self._values(others)))
        outputs, inputs, _ = self._changed(_FEW, slice(0, 1))
        *_, pooled = self._changed(_FEW, slice(0, _FEW - 1))
        return any((own[1:] > _CLOSE).any() for own in (*outputs, *inputs)) or any(pooled)

    def needs_several(self) -> bool:
        """Whether several samples give numbers, and one alone does not."""
        return self._finite(_FEW) and not self._finite(1)

    def _finite(self, length: int) -> bool:
        return _is_finite(self._values_of(length))

    def receptive_field(self) -> ReceptiveField:
        """How far everything sees, the furthest of all; over fewer samples where the forward does not take many."""
        for many in _MANY[:-1]:
            try:
                return self._receptive_field(many)
            except Exception:  # the user's own code
                continue
        return self._receptive_field(_MANY[-1])

    def _receptive_field(self, many: int) -> ReceptiveField:
        most = many * 2 // 5  # what reaches further than this reaches to the end
        reach = np.zeros((2, 2), int)  # of outputs and of the inputs of cores, back and ahead
        fades = False
        for place in (0, *range(most, most + _PLACES), many - 1):
            *tracks, _ = self._changed(many, slice(place, place + 1))
            for kind, own in enumerate(tracks):
                for changed in own:
                    places = np.flatnonzero(changed > _CLOSE) - place
                    if len(places):
                        reach[kind] = np.maximum(reach[kind], [places.max(), -places.min()])
                        # a filter ends, where what a recurrence keeps becomes less and less
                        fades |= bool(changed[place + places.max() + 1 :].any())
        if fades:
            reach[:, 0] = many
        back, ahead = (int(furthest) for furthest in reach.max(axis=0))
        pools = back <= most and any(self._changed(many, slice(0, many - 1 - back))[2])
        per_sample = any(leaf.time_axis is not None for leaf in self._leaves)
        return ReceptiveField(
            None if back > most else back,
            None if ahead > most else ahead,
            inside=per_sample and not reach[0, 1],
            pools=pools or (not per_sample and back > most and not ahead),
            counts=self._counts(many),
        )

    def _changed(self, length: int, part: slice) -> tuple[list[Array], list[Array], list[bool]]:
        """How outputs and inputs of cores change with a part of the samples, by place; whether outputs without do."""
        other = self._others(self._samples(length), part)
        (outputs, inputs), (others, other_inputs) = self._values_of(length), self._values(other)
        differ = [_apart(a, b) for a, b in zip(outputs, others, strict=True)]
        placed = [leaf.time_axis is not None for leaf in self._leaves]
        return (
            [own for own, placed_ in zip(differ, placed, strict=True) if placed_],
            [_apart(a, b) for a, b in zip(inputs, other_inputs, strict=True)],
            [bool((own > _CLOSE).any()) for own, placed_ in zip(differ, placed, strict=True) if not placed_],
        )

    def _others(self, samples: Mapping[str, Array], part: slice) -> dict[str, Array]:
        """The same samples, but for some that are others."""
        other = {name: value.copy() for name, value in samples.items()}
        for tensor in self._inputs:
            if not tensor.constant:
                value, recorded = other[tensor.name], self._recording[tensor.name]
                changed = _another(tensor, value[part], recorded)
                value[part] = folded(changed, recorded) if self._inside and tensor.dtype == "float32" else changed
        return other

    def _counts(self, many: int) -> bool:
        """Whether samples that are all alike give values that are not, inside of what padding at the ends changes."""
        same = {name: np.repeat(rows[:1], many, axis=0) for name, rows in self._recording.items()}
        outputs, inputs = self._values(same)
        middle = slice(many * 2 // 5, many * 3 // 5)
        values = [own[middle] for own in (*outputs, *inputs) if len(own) == many]
        return any(bool((_apart(own[1:], own[:-1]) > _CLOSE).any()) for own in values)

    def _values_of(self, length: int) -> tuple[list[Array], list[Array]]:
        """Of so many samples, called once."""
        which = length, self._inside
        if which not in self._of_samples:
            self._of_samples[which] = self._values(self._samples(length))
        return self._of_samples[which]

    def _values(self, samples: Mapping[str, Array]) -> tuple[list[Array], list[Array]]:
        """Of outputs and of the inputs of cores, (T or 1, width) each."""
        inputs: dict[str, list[torch.Tensor]] = {}
        with self._kept.memoryless(inputs):
            leaves = pytree.tree_leaves(self._called(samples))
        outputs = [leaf.by_step(leaves[leaf.index]) for leaf in self._leaves]
        return [own.reshape(len(own), -1) for own in outputs], [
            own.reshape(-1, own.shape[-1]).numpy() for calls in inputs.values() for own in _joined(calls)
        ]

    def _samples(self, length: int) -> dict[str, Array]:
        """So many samples, no two of them alike; whole numbers in a new order."""
        rng = np.random.default_rng(0)
        gain = rng.uniform(0.5, 1.5, length).astype(np.float32)
        samples = {}
        for tensor in self._inputs:
            rows = self._recording[tensor.name]
            own = np.resize(rows, (length, *rows.shape[1:]))
            if tensor.dtype != "float32" and not tensor.constant:
                own = own[rng.permutation(length)]
            elif not tensor.constant:
                center = np.array(tensor.center or 0.0, rows.dtype)
                own = center + (own - center) * gain.reshape(-1, *[1] * (rows.ndim - 1))
                own = folded(own, rows) if self._inside else own
            samples[tensor.name] = own
        return samples


def _is_finite(values: tuple[list[Array], list[Array]]) -> bool:
    return all(bool(np.isfinite(own).all()) for kind in values for own in kind)


def _joined(calls: list[torch.Tensor]) -> list[torch.Tensor]:
    """What a core is given, as one sequence where the forward loops over its samples by itself."""
    looped = len(calls) > 1 and all(own.numel() == own.shape[-1] for own in calls)
    return [torch.cat([own.reshape(1, -1) for own in calls])] if looped else calls


def _another(tensor: Tensor, values: Array, recorded: Array) -> Array:
    """Other samples than these: of whole numbers, each becomes the next one that its recording holds."""
    if tensor.dtype != "float32":
        held = np.unique(recorded)
        following: Array = held[(np.searchsorted(held, values) + 1) % len(held)]
        return following
    center = np.array(tensor.center or 0.0, values.dtype)
    changed: Array = center + 0.7 - 0.6 * (values - center)
    return changed


def _apart(one: Array, other: Array) -> Array:
    """By how much of their size two values differ, at each place; what is not finite differs by more than anything."""
    with np.errstate(all="ignore"):
        found: Array = np.abs(one.astype(np.float64) - other).max(axis=1) / max(1e-6, float(np.abs(one).max()))
    return np.nan_to_num(found, nan=np.inf)
