"""The protocol of trained models: what the exporter asks of one, be it a layer, a network or a step of the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from ...arrays import Array
from ...bundle.program import StepProgram
from ...bundle.spec import Core, Readout, StatePair, Tensor, Time
from ...verify.samples import Excitation
from ..forward.forward import Known

__all__ = ["NOT_CAUSAL", "Results", "Steppable", "Trained", "state_pair"]

Results = dict[str, Array]  # per output and state output, (steps, *shape)
NOT_CAUSAL = (
    "the model depends on more than the samples up to then: it is bidirectional, pools, attends or normalises over "
    "time, or carries state outside its cores. Stepping it would not equal the sequence; move that part out of the "
    "model, or make it causal"
)


class Steppable(Protocol):
    """What can become a step program: a trained model, or a core alone."""

    batch: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    states: tuple[StatePair, ...]

    def program(self, time: Time) -> StepProgram:
        """One step, apart from any runtime.

        Raises:
            TypeError: If the model computes what no step program can; the message names it.
        """


class Trained(Steppable, Protocol):
    """A trained model, frozen for export.

    Attributes:
        batch_first: Whether it takes (batch, time, ...) rather than (time, batch, ...).
        cores: Its cores, for the manifest.
        readout: How its forward makes one output of a whole recording; `None` where each output is one of a sample.
    """

    batch_first: bool
    cores: tuple[Core, ...]
    readout: Readout | None

    @property
    def fixed_number(self) -> str:
        """Where its code takes a number out of a tensor that is taken for one of its own, as no sample changed it.

        " (file.py, line 3: `code`)"; "" if it does not.
        """

    @property
    def why_unequal(self) -> str:
        """What it means if stepping torch does not equal torch on the whole sequence, and what to do."""

    def accepts(self, samples: Mapping[str, Array]) -> bool:
        """Whether the user's code takes a few samples of one row, (steps, *shape) by input, or raises."""

    def whole(self, samples: Excitation, time: Time) -> Known:
        """Outputs of the torch module called on whole sequences, as it was trained."""

    def stepped(self, samples: Excitation, time: Time) -> Results:
        """Outputs and states of the torch module called once per sample with its own state fed back, float32."""


def state_pair(name: str, batch: int, width: int, start: torch.Tensor | None = None) -> StatePair:
    """The input and output of one state, (batch, width), that starts from one row's value; `None` for zeros."""
    shape = (batch, width)
    if start is None:
        return StatePair(f"{name}_in", f"{name}_out", shape)
    return StatePair(f"{name}_in", f"{name}_out", shape, _initial_value(start))


def _initial_value(start: torch.Tensor) -> float | tuple[float, ...]:
    """As the manifest writes it: one number if all units have the same, else one each."""
    values = [float(value) for value in start.flatten().tolist()]
    return values[0] if len(set(values)) == 1 else tuple(values)
