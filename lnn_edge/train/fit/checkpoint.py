"""Checkpoints of a training run: everything that the next epoch depends on, in one file that is always whole."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import msgspec
import numpy as np
import torch
from ncps.wirings import Wiring
from torch import nn

from ...tensor_file import read_tensors, write_tensors
from ..data.dataset import Dataset
from ..settings import Settings
from .progress import Record

__all__ = ["TrainingState", "load_progress", "run_fingerprint", "save_progress"]

_VERSION = 1
_FREE = {"epochs", "patience", "n_jobs", "verbose", "device", "checkpoint", "checkpoint_every"}


class _Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    fingerprint: str
    seed: int
    best_epoch: int
    history: list[Record]


@dataclasses.dataclass
class TrainingState:
    """Where a run is after a whole epoch.

    Args:
        seed: Seed of the run.
        history: One record per epoch done.
        best_epoch: The epoch with the lowest watched loss, from 1; 0 for none.
        weights: State of the network.
        best: State of the network at the best epoch.
        second_epoch: The epoch that was best before it, 0 for none; not kept in files.
        second: State of the network then.
        optimizer: State of Adam by number of the parameter.
    """

    seed: int
    history: list[Record] = dataclasses.field(default_factory=list)
    best_epoch: int = 0
    weights: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    best: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    second_epoch: int = 0
    second: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    optimizer: dict[int, dict[str, torch.Tensor]] = dataclasses.field(default_factory=dict)

    def note(self, record: Record, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Take an epoch in."""
        self.history.append(record)
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        held = optimizer.state_dict()["state"]
        self.optimizer = {k: {name: value.detach().clone() for name, value in s.items()} for k, s in held.items()}
        lowest = self.history[self.best_epoch - 1].watched if self.best_epoch else float("inf")
        if record.watched < lowest:
            self.second, self.second_epoch = self.best, self.best_epoch
            self.best, self.best_epoch = self.weights, len(self.history)

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put a network and an optimizer where this run is."""
        network.load_state_dict(self.weights)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": self.optimizer, "param_groups": groups})


def run_fingerprint(settings: Settings, owner: str, dataset: Dataset, held_out: Dataset | None) -> str:
    """What must be the same for a run to be continued: the data and every parameter that changes the
    result, but for the number of epochs.
    """
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings) if f.name not in _FREE}
    own = settings.random_state
    values["random_state"] = int(own) if isinstance(own, (int, np.integer)) else None  # else the file's seed counts
    if isinstance(settings.wiring, Wiring):
        values["wiring"] = (type(settings.wiring).__name__, np.asarray(settings.wiring.adjacency_matrix).tobytes())
    digest = hashlib.sha256(f"{owner} {sorted(values.items(), key=lambda pair: pair[0])}".encode())
    for data in (dataset, *([] if held_out is None else [held_out])):
        for part in (data.x, data.y, data.weight, data.spans or ()):
            for tensor in part:
                digest.update(f"{list(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def save_progress(path: Path, run: TrainingState, fingerprint: str) -> None:
    """Write a checkpoint; the last one is replaced once the new one is complete."""
    tensors = {f"weights.{name}": value for name, value in run.weights.items()}
    tensors |= {f"best.{name}": value for name, value in run.best.items()}
    tensors |= {f"optimizer.{k}.{name}": v for k, state in run.optimizer.items() for name, v in state.items()}
    described = _Description(_VERSION, fingerprint, run.seed, run.best_epoch, run.history)
    write_tensors(path, "training", described, {name: value.cpu().numpy() for name, value in tensors.items()})


def load_progress(path: Path, fingerprint: str) -> TrainingState:
    """Read a checkpoint.

    Args:
        path: The file.
        fingerprint: Of the run to be continued.

    Raises:
        ValueError: If it is no checkpoint, damaged, or of another run.
    """
    described, arrays = read_tensors(path, "training", _Description, _VERSION)
    if described.fingerprint != fingerprint:
        raise ValueError(
            f"checkpoint '{path}' is of another run: other data or other parameters. Pass what that run was given, "
            f"another name, or type: rm {path}"
        )
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    run = TrainingState(described.seed, described.history, described.best_epoch)
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            number, _, key = rest.partition(".")
            run.optimizer.setdefault(int(number), {})[key] = value
        else:
            getattr(run, kind)[rest] = value
    return run
