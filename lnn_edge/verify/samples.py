"""Samples that a model is stepped with, and where their sequences begin."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..arrays import Array

__all__ = ["Excitation"]


@dataclass(frozen=True)
class Excitation:
    """Samples to step through.

    Args:
        inputs: Per input, (steps, *shape) of its dtype; a constant is repeated with each step of its sequence.
        dt: Seconds, float32 (steps, batch, 1); `None` with fixed time.
        reset: uint8 (steps,); 1 where the state goes back to its initial value first.
        segments: Name, start and stop of each segment.
        start: States by the names of their inputs, float32 (steps, *shape): where `reset` is 1 a sequence starts from
            these; `None` for the model's initial state.
    """

    inputs: dict[str, Array]
    dt: Array | None
    reset: Array
    segments: tuple[tuple[str, int, int], ...]
    start: dict[str, Array] | None = None

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
        inputs = {name: value[index] for name, value in self.inputs.items()}
        start = None if self.start is None else {name: value[index] for name, value in self.start.items()}
        return Excitation(inputs, None if self.dt is None else self.dt[index], self.reset[index], (), start)

    def cut(self, longest: int) -> Excitation:
        """The same samples in sequences that are no longer than so many steps."""
        reset = self.reset.copy()
        for part in self.sequences():
            reset[part.start : part.stop : longest] = 1
        return dataclasses.replace(self, reset=reset)
