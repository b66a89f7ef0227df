"""The protocol of trained models: what the exporter asks of one, be it a layer, a network or a step of the user."""

from __future__ import annotations

from typing import Protocol

from ...arrays import Array
from ...bundle.spec import Core, StatePair, Tensor, Time
from ...verify.samples import Excitation
from ..graph.builder import GraphBuilder, Value
from ..lowering.step_time import StepTime

__all__ = ["NOT_CAUSAL", "Known", "Lowerable", "Results", "Trained"]

Results = dict[str, Array]  # per output and state output, (steps, *shape)
Known = dict[str, tuple[Array, Array]]  # per output the steps whose value is known, and the values (known, *shape)
NOT_CAUSAL = (
    "the model depends on more than the samples up to then: it is bidirectional, pools, attends or normalises over "
    "time, or carries state outside its cores. Stepping it would not equal the sequence; move that part out of the "
    "model, or make it causal"
)


class Lowerable(Protocol):
    """What can become a step graph: a trained model, or a core alone."""

    batch: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    states: tuple[StatePair, ...]

    def lower(self, graph: GraphBuilder, inputs: list[Value], states: list[Value], when: StepTime) -> list[Value]:
        """Add one step to a graph: from the values of one sample and of the states to [*outputs, *next states]."""


class Trained(Lowerable, Protocol):
    """A trained model, frozen for export.

    Attributes:
        why_unequal: What it means if stepping torch does not equal torch on the whole sequence, and what to do.
        batch_first: Whether it takes (batch, time, ...) rather than (time, batch, ...).
        cores: Its cores, for the manifest.
    """

    why_unequal: str
    batch_first: bool
    cores: tuple[Core, ...]

    def whole(self, samples: Excitation, time: Time) -> Known:
        """Outputs of the torch module called on whole sequences, as it was trained."""

    def stepped(self, samples: Excitation, time: Time) -> Results:
        """Outputs and states of the torch module called once per sample with its own state fed back, float32."""

    def reference(self, samples: Excitation, time: Time) -> Results:
        """Outputs and states in exact arithmetic, float64."""
