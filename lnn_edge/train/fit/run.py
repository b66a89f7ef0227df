"""Training run from prepared data to a trained network: a new one, or one that goes on from its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from sklearn.utils import check_random_state

from ...arrays import Array
from ..data.metadata import Metadata, numbered
from ..data.prepare import Prepared
from ..network.build import build_network
from ..network.module import LiquidModule
from ..network.threads import fitting_threads
from ..predicting import states_after
from ..settings import Settings
from .checkpoint import TrainingState, load_progress, run_fingerprint
from .progress import Record
from .trainer import Trainer, repeatable

__all__ = ["Trained", "train_network"]


@dataclass(frozen=True)
class Trained:
    """What a run ends with.

    Args:
        metadata: Facts from the training data.
        arrays: Those that belong to them, by name.
        network: On the CPU, in eval mode.
        history: One record per epoch.
        best_epoch: From which epoch the weights are, from 1.
        stopped: Why training ended, see `Trainer.train`.
        seed: Of the run.
    """

    metadata: Metadata
    arrays: dict[str, Array]
    network: LiquidModule
    history: list[Record]
    best_epoch: int
    stopped: str
    seed: int


def train_network(settings: Settings, owner: str, prepared: Prepared) -> Trained:
    """Build a network and train it.

    Args:
        settings: The parameters.
        owner: Name of the estimator's class: a checkpoint of another is of another run.
        prepared: The data.

    Raises:
        ValueError, TypeError, OSError, KeyboardInterrupt: As `LiquidEstimator.fit`.
    """
    metadata, fingerprint = prepared.metadata, run_fingerprint(settings, owner, prepared.dataset, prepared.held_out)
    run = _begun(settings, fingerprint)
    dataset, held_out = prepared.split(settings.validation_split, run.seed)
    device = settings.torch_device()
    with repeatable(run.seed, device):
        network = build_network(settings, len(prepared.x_moments[0]), metadata.outputs, metadata.labels)
        network.set_scaling(prepared.x_moments, prepared.y_moments)
        network.to(device)
        trainer = Trainer(network, dataset, held_out, settings, prepared.augmentation(settings), run, fingerprint)
        with fitting_threads(network, min(settings.batch_size, len(dataset)), settings.threads):
            stopped = trainer.train()
        network.to("cpu").eval()
    metadata, arrays = _with_tail(prepared, network)
    return Trained(metadata, arrays, network, run.history, run.best_epoch, stopped, run.seed)


def _begun(settings: Settings, fingerprint: str) -> TrainingState:
    """A new run, or the one in the checkpoint."""
    if settings.checkpoint is not None and Path(settings.checkpoint).exists():
        return load_progress(Path(settings.checkpoint), fingerprint)
    own = settings.random_state
    seed = own if isinstance(own, (int, np.integer)) else check_random_state(own).randint(2**31)
    return TrainingState(int(seed))


def _with_tail(prepared: Prepared, network: LiquidModule) -> tuple[Metadata, dict[str, Array]]:
    """Metadata and its arrays with where the only sequence ended, which the trained network alone can compute."""
    metadata, arrays = prepared.metadata, prepared.arrays
    if prepared.series is None:
        return metadata, arrays
    states, last = states_after(network, prepared.series, metadata.time_unit)
    tail = (*states, np.stack(last))
    return msgspec.structs.replace(metadata, tails=len(tail)), arrays | numbered("tail", tail)
