"""Parameters of an estimator, checked before any long work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ncps.wirings import Wiring

from ..files.whole import check_output
from ..given_numbers import is_real, is_whole, number_text
from ..wording import choices, nearest

__all__ = ["CELLS", "SCHEDULES", "Settings", "make_settings"]

CELLS = ("LTC", "CfC")
SCHEDULES = ("cosine", "one-cycle", "constant")
_DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")  # torch itself would list twenty, most of them its makers' own
_CHOICES: dict[str, tuple[str, ...]] = {
    "model_type": CELLS,
    "schedule": SCHEDULES,
    "rows": ("steps", "sequences"),
    "targets": ("auto", "steps", "sequence"),
    "task": ("auto", "regression", "classification"),
}
_INF = float("inf")
_LARGEST = float(np.finfo(np.float64).max)
_MOST = 10**9  # of what is counted: beyond it is a slip, and far beyond no float holds it
# name: kind of number, lowest, highest, whether the ends themselves are legal, whether `None` is
_NUMBERS: dict[str, tuple[type, float, float, bool, bool]] = {
    "n_neurons": (int, 1, 1 << 16, True, False),
    "sparsity": (float, 0.1, 0.9, True, False),
    "wiring_seed": (int, 0, 2**32 - 1, True, False),
    "epochs": (int, 1, _MOST, True, False),
    "batch_size": (int, 1, _MOST, True, False),
    "learning_rate": (float, 0.0, _INF, False, False),
    "weight_decay": (float, 0.0, _INF, True, False),
    "clip_value": (float, 0.0, _INF, False, True),
    "window": (int, 1, _MOST, True, True),
    "validation_split": (float, 0.0, 0.9, True, False),
    "patience": (int, 1, _MOST, True, True),
    "noise": (float, 0.0, _INF, True, False),
    "gain": (float, 0.0, 1.0, True, False),
    "crop": (float, 0.01, 1.0, True, False),
    "n_jobs": (int, -_MOST, _MOST, True, True),
    "verbose": (int, 0, 2, True, False),
    "checkpoint_every": (int, 1, _MOST, True, False),
}
_FLAGS = ("stacked", "per_target", "mixed_memory", "scale_inputs", "scale_targets")


@dataclass(frozen=True)
class Settings:
    """The parameters of one fit; their meaning is in the docstring of `LiquidNeuralNetwork`."""

    n_neurons: int
    model_type: str
    wiring: Any
    sparsity: float
    wiring_seed: int
    stacked: bool
    per_target: bool
    mixed_memory: bool
    cell_options: Mapping[str, Any] | None
    rows: str
    targets: str
    readout: Any
    scale_inputs: bool
    scale_targets: bool
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    weight_decay: float
    clip_value: float | None
    window: int | None
    validation_split: float
    patience: int | None
    noise: float
    gain: float
    crop: float
    random_state: Any
    device: str
    n_jobs: int | None
    verbose: int
    checkpoint: Any
    checkpoint_every: int
    task: str = "auto"

    @property
    def threads(self) -> int | None:
        """Threads for torch, at most one per CPU core; `None` if the size of the network is to choose."""
        if self.n_jobs is None:
            return None
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores + 1 + self.n_jobs) if self.n_jobs < 0 else min(self.n_jobs, cores)

    @property
    def workers(self) -> int:
        """Threads that make the next batches while torch trains."""
        return max(0, (self.threads or 1) - 1)

    def torch_device(self) -> torch.device:
        """The device to train on: with "auto" a GPU if there is one."""
        if self.device != "auto":
            return torch.device(self.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_settings(params: Mapping[str, Any], overrides: Mapping[str, Any], owner: str) -> Settings:
    """Merge what the constructor and what `fit` was given, and check all of it.

    Raises:
        TypeError: If `fit` was given a keyword that is no parameter, or a value has the wrong type.
        ValueError: If a value is out of range.
        OSError: If the checkpoint cannot be written where it should go.
    """
    for name in overrides:
        if name not in params:
            near = nearest(name, params)
            hint = f" Did you mean `{near}`?" if near else ""
            raise TypeError(f"fit() got the keyword `{name}`, which is no parameter of {owner}.{hint}")
    known = {field.name for field in fields(Settings)}
    settings = Settings(
        **{name: _as_known(name, value) for name, value in {**params, **overrides}.items() if name in known}
    )
    for name, valid in _CHOICES.items():
        _check_choice(name, getattr(settings, name), valid)
    for name in _NUMBERS:
        _check_number(name, getattr(settings, name))
    for name in _FLAGS:
        if not isinstance(getattr(settings, name), bool):
            raise TypeError(f"`{name}` is {number_text(getattr(settings, name))}, expected True or False")
    _check_wiring(settings.wiring)
    _check_readout(settings.readout)
    _check_device(settings.device)
    _check_seed(settings.random_state)
    if settings.n_jobs == 0:
        raise ValueError("`n_jobs` is 0, expected a number of threads, -1 for all CPU cores, or None")
    if settings.cell_options is not None and not isinstance(settings.cell_options, Mapping):
        raise TypeError(
            f"`cell_options` is {number_text(settings.cell_options)}, expected a dict of arguments of the ncps layer"
        )
    if settings.checkpoint is not None:
        _check_checkpoint(settings.checkpoint)
    return settings


def _as_known(name: str, value: Any) -> Any:
    """The name of a cell in any case as it is written here: "cfc" is "CfC"."""
    if name == "model_type" and isinstance(value, str):
        return next((cell for cell in CELLS if cell.lower() == value.strip().lower()), value)
    return value


def _check_choice(name: str, value: Any, valid: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"`{name}` is {number_text(value)}. {choices(number_text(value).strip(chr(39)), valid)}")


def _check_number(name: str, value: Any) -> None:
    kind, low, high, ends, optional = _NUMBERS[name]
    if value is None and optional:
        return
    what = ("a whole number" if kind is int else "a number") + (" or None" if optional else "")
    if not is_whole(value) and (kind is int or not is_real(value)):
        raise TypeError(f"`{name}` is {number_text(value)}, expected {what}")
    if not (low <= value <= high and value < _INF and (ends or value > low)) or value > _LARGEST:
        raise ValueError(f"`{name}` is {number_text(value)}, expected {what} {_interval(low, high, ends)}")


def _interval(low: float, high: float, ends: bool) -> str:
    if high == _INF:
        return f"of at least {low:g}" if ends else f"above {low:g}"
    return f"from {low:,} to {high:,}"


def _check_wiring(wiring: Any) -> None:
    if isinstance(wiring, Wiring):
        return
    if not isinstance(wiring, str):
        raise TypeError(f"`wiring` is {number_text(wiring)}, expected 'auto', 'full' or a wiring from ncps.wirings")
    if wiring not in ("auto", "full"):
        raise ValueError(
            f"`wiring` is {number_text(wiring)}. {choices(wiring, ['auto', 'full'])} Or pass an object of ncps.wirings"
        )


def _check_readout(readout: Any) -> None:
    named = isinstance(readout, str) and readout in ("auto", "last", "mean")
    if not named and not (is_whole(readout) and 1 <= readout <= _MOST):
        raise ValueError(
            f"`readout` is {number_text(readout)}, expected 'auto', 'last', 'mean' or a number of steps above 0"
        )


def _check_device(device: Any) -> None:
    if isinstance(device, str) and device == "auto":
        return
    shown = number_text(device)
    try:
        named = torch.device(device if isinstance(device, (str, torch.device)) else shown)
    except (RuntimeError, TypeError) as error:
        got = shown.strip("'").lower()
        raise ValueError(f"`device` is {shown}. {choices('cuda' if 'gpu' in got else got, _DEVICES)}") from error
    wrong = f"`device` is {shown}, which torch cannot use here"
    try:
        torch.empty(0, device=named)
    except NotImplementedError as error:  # whose text is about operators
        raise ValueError(f"{wrong}: it was built without it. Type: device='auto'") from error
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"{wrong}: {str(error).splitlines()[0]}. Type: device='auto'") from error


def _check_seed(seed: Any) -> None:
    if seed is None or isinstance(seed, np.random.RandomState):
        return
    if not is_whole(seed) or not 0 <= int(seed) < 2**32:
        expected = f"a whole number from 0 to {2**32 - 1}, a numpy.random.RandomState, or None"
        raise ValueError(f"`random_state` is {number_text(seed)}, expected {expected}")


def _check_checkpoint(checkpoint: Any) -> None:
    if not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(f"`checkpoint` is {number_text(checkpoint)}, expected the name of a file")
    path = Path(checkpoint)
    if path.suffix != ".safetensors":
        raise ValueError(f"`checkpoint` is '{path}', expected a name that ends in '.safetensors'")
    check_output(path)
