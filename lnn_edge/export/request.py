"""The request of an export: its arguments, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundle.spec import Feature, Guard, Precision, Readout, Time
from ..progress import Progress
from .forward.scaling import Scale
from .proof.length import ProofLength

__all__ = ["ExportRequest", "Names", "Windows"]

Names = Sequence[str | Feature]
Windows = tuple[int, int]  # length, and samples from the beginning of one to that of the next


@dataclass(frozen=True)
class ExportRequest:
    """What `export_model` was asked for, besides the model and its example; the names are its arguments'.

    Attributes:
        target: Where the bundle goes.
        scaling: Of the inputs and of the outputs.
        backends: That must run the proof; `None` for every one that can.
        length: How long the proof is.
        started: When the work began, by `time.monotonic`.
    """

    target: Path
    overwrite: bool
    time: Time
    batch: int
    unroll: int
    precision: Precision
    windows: Windows | None
    steps: int
    readout: str | Readout | None
    labels: Sequence[object] | None
    constants: Sequence[str] | None
    scaling: tuple[Scale, Scale]
    probabilities: bool | str
    inputs: Names | Mapping[str, Names] | None
    outputs: Names | Mapping[str, Names] | None
    margin: float | None
    guard: Guard | None
    backends: tuple[str, ...] | None
    checkpoint_sha256: str | None
    length: ProofLength
    progress: Progress
    started: float

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.target.stem

    @property
    def scaled(self) -> bool:
        """Whether inputs or outputs are scaled."""
        return self.scaling != (None, None)

    @property
    def window(self) -> int | None:
        """Samples of a window."""
        return None if self.windows is None else self.windows[0]
