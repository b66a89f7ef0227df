"""Checkpoints of a training run: everything that the next epoch depends on, in one file that is always whole."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import torch
from ncps.wirings import Wiring
from torch import nn

from ...tensor_file import read_tensors, write_tensors
from ...wording import one_line
from ..data.dataset import Dataset
from ..settings import Settings
from .progress import Record

__all__ = ["TrainingState", "load_progress", "mismatches", "run_fingerprint", "save_progress"]

_VERSION = 1
_DIGITS = 9  # of the number of a parameter
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
        """Put a network and an optimizer where this run is.

        Raises:
            ValueError: If its tensors are not those of the network.
        """
        for wrong in self._faults(network.state_dict(), optimizer):
            raise ValueError(f"the checkpoint is damaged: it contradicts itself: {wrong}. Remove it to begin anew")
        network.load_state_dict(self.weights)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": self.optimizer, "param_groups": groups})

    def _faults(self, own: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> Iterator[str]:
        yield from mismatches(own, self.weights)
        yield from mismatches(own, self.best) if self.best_epoch else ()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for k, kept in self.optimizer.items():
            if not 0 <= k < len(parameters) or set(kept) != {"step", "exp_avg", "exp_avg_sq"}:
                yield f"Adam's state {k} is of no parameter, or not whole"
            elif any(kept[name].shape != parameters[k].shape for name in ("exp_avg", "exp_avg_sq")):
                yield f"Adam's state {k} has another shape than its parameter"
            elif kept["step"].numel() != 1:
                yield f"Adam's state {k} counts its steps by an array"


def mismatches(own: Mapping[str, torch.Tensor], held: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """Where tensors from a file are not those of a network: their names, shapes or dtypes."""
    for name in (*own, *(name for name in held if name not in own)):
        if name not in held or name not in own:
            yield f"tensor '{one_line(name, 80)}' is {'missing' if name in own else 'unknown'}"
        elif (held[name].shape, held[name].dtype) != (own[name].shape, own[name].dtype):
            got, expected = (f"{own.dtype} {list(own.shape)}" for own in (held[name], own[name]))
            yield f"tensor '{name}' is {got}, expected {expected}"


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
    run = TrainingState(described.seed, described.history, described.best_epoch)
    for name, value in arrays.items():
        _put(path, run, name, torch.from_numpy(np.array(value)))
    if not 0 <= run.best_epoch <= len(run.history) or not run.history:
        raise ValueError(_damaged(path, f"epoch {run.best_epoch} was the best of {len(run.history)}"))
    if not 0 <= run.seed < 2**32:
        raise ValueError(_damaged(path, f"its seed is {run.seed}"))
    return run


def _put(path: Path, run: TrainingState, name: str, value: torch.Tensor) -> None:
    """A tensor of the file in its place."""
    kind, _, rest = name.partition(".")
    number, _, key = rest.partition(".")
    if kind == "optimizer" and number.isdecimal() and len(number) < _DIGITS:
        run.optimizer.setdefault(int(number), {})[key] = value
    elif kind in ("weights", "best"):
        getattr(run, kind)[rest] = value
    else:
        raise ValueError(_damaged(path, f"tensor '{one_line(name, 80)}' is none of a run"))


def _damaged(path: Path, what: str) -> str:
    return f"checkpoint '{path}' is damaged: it contradicts itself: {what}. Remove it to begin anew"
