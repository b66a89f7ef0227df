"""Samples that a model is stepped with, and where their sequences begin."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..arrays import Array
from ..bundle.spec import Tensor, Time

__all__ = ["Distinct", "Excitation", "SampleRequest", "different_samples"]

_FEWEST = 8  # steps of a segment that are stepped whole, however few samples it has


@dataclass(frozen=True)
class SampleRequest:
    """The samples that a proof asks for.

    Args:
        tensors: The inputs.
        time: How the model sees time.
        steps: Steps of the recorded and of the random segment; of all together where a bundle is verified on its own.
        recorded: Per input a list of recordings, each (T, *shape); `None` if the user gave no example.
        unroll: Samples per call; segments and recordings are whole numbers of calls.
        window: Samples of a window if the model was trained on some: then there is a segment of windows, each stepped
            from the initial state.
        least: Fewest steps that are a proof.
        seed: Seed of the random parts.
    """

    tensors: Sequence[Tensor]
    time: Time
    steps: int
    recorded: dict[str, list[Array]] | None = None
    unroll: int = 1
    window: int | None = None
    least: int = 1
    seed: int = 0

    @property
    def rows(self) -> int:
        """Rows of a step."""
        return self.tensors[0].shape[0]


@dataclass(frozen=True)
class Distinct:
    """What a proof over few samples that come over and over was made of, besides its steps.

    Args:
        samples: Samples that differ: the encoder is computed once for each.
        whole_steps: Closed-loop steps over which torch's whole sequences and the whole graph ran.
    """

    samples: int
    whole_steps: int

    def __str__(self) -> str:
        return (
            f"the encoder costs far more than the rest: it is proven on {self.samples} different samples, the whole "
            f"over {self.whole_steps} closed-loop steps of them, what follows the encoder over all steps"
        )


def different_samples(inputs: Mapping[str, Array], order: Array) -> int:
    """How many samples of these numbers differ."""
    return len({b"".join(value[number].tobytes() for value in inputs.values()) for number in np.unique(order)})


@dataclass(frozen=True)
class Excitation:
    """Samples to step through.

    Args:
        inputs: Per input, (steps, *shape) of its dtype, float64 where the runtime centres it; a constant is repeated
            with each step of its sequence; with an order (samples, *shape).
        dt: Seconds, float32 (steps, batch, 1); `None` with fixed time.
        reset: uint8 (steps,); 1 where the state goes back to its initial value first.
        segments: Name, start and stop of each segment.
        start: States by the names of their inputs, float32 (steps, *shape): where `reset` is 1 a sequence starts from
            these; `None` for the model's initial state.
        order: The number of the sample at each step, (steps,), where few samples come over and over; `None` where each
            step has its own.
    """

    inputs: dict[str, Array]
    dt: Array | None
    reset: Array
    segments: tuple[tuple[str, int, int], ...]
    start: dict[str, Array] | None = None
    order: Array | None = None

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.reset)

    def sequences(self) -> Iterator[slice]:
        """The stretches between resets."""
        starts = [*np.flatnonzero(self.reset).tolist(), self.steps]
        for start, stop in pairwise(starts):
            yield slice(start, stop)

    def pick(self, index: Array) -> Excitation:
        """A shorter excitation from steps that keep their order and their sequences' beginnings."""
        inputs = self.inputs if self.order is not None else self.at(index)
        start = None if self.start is None else {name: value[index] for name, value in self.start.items()}
        dt, order = (None if own is None else own[index] for own in (self.dt, self.order))
        return Excitation(inputs, dt, self.reset[index], (), start, order)

    def at(self, index: Array) -> dict[str, Array]:
        """The samples at some steps, by input (steps, *shape)."""
        places = index if self.order is None else self.order[index]
        return {name: value[places] for name, value in self.inputs.items()}

    def unfolded(self) -> Excitation:
        """The same with a sample for each step, however often one comes."""
        return dataclasses.replace(self, inputs=self.at(np.arange(self.steps)), order=None)

    def distinct(self, unroll: int = 1) -> Distinct | None:
        """How many samples differ; `None` where each step has its own."""
        if self.order is None:
            return None
        return Distinct(different_samples(self.inputs, self.order), len(self.beginnings(unroll)))

    def beginnings(self, unroll: int = 1) -> Array:
        """Steps at which each segment begins, until all of its samples have come: whole calls.

        Of each sequence that brings new samples, until all of its own have come; the others are left out.
        """
        if self.order is None:
            return np.arange(self.steps)
        found = []
        for _, start, stop in self.segments or (("", 0, self.steps),):
            new = np.zeros(stop - start, bool)
            new[np.unique(self.order[start:stop], return_index=True)[1]] = True
            for part in self.pick(np.arange(start, stop)).sequences():
                places = np.flatnonzero(new[part])
                if len(places):
                    count = -(-max(_FEWEST, int(places[-1]) + 1) // unroll) * unroll
                    found.append(start + np.arange(part.start, min(part.stop, part.start + count)))
        return np.concatenate(found)

    def cut(self, longest: int) -> Excitation:
        """The same samples in sequences that are no longer than so many steps."""
        reset = self.reset.copy()
        for part in self.sequences():
            reset[part.start : part.stop : longest] = 1
        return dataclasses.replace(self, reset=reset)
