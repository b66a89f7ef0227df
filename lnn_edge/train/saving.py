"""Estimators in one file without pickle: parameters, metadata, how the layers are built, and the weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from ncps.wirings import Wiring
from torch import nn

from ..arrays import Array
from ..export.cores.config import CoreConfig, WiringConfig, problems
from ..export.cores.rebuild import SavedWiring, config_from_core, core_from_config
from ..files.whole import check_output, given_path
from ..tensor_file import check_name, read_tensors, write_tensors
from ..wording import one_line
from .data.metadata import Metadata, numbered
from .fit.checkpoint import mismatches
from .fit.progress import Record
from .network.module import Branch, LiquidModule, Output

__all__ = ["SavedEstimator", "load_estimator", "save_estimator"]

_VERSION = 1
_HEADS = {"Identity": "none", "Output": "affine", "Linear": "linear"}  # by class, as files name them


class _BranchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cores: list[CoreConfig]
    head: str


class SavedEstimator(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fitted estimator but for its arrays and weights, as files describe it.

    Args:
        version: Of the format.
        estimator: Name of its class.
        params: Constructor parameters.
        wiring: Of the layers, where `params` holds an object of ncps.wirings, which JSON cannot; else `None`.
        features: Names of the columns, or `None`.
        columns: Their number.
        branches: How the network is built; what is saved is described by `save_estimator`.
        metadata: Facts from the training data.
        history: One record per epoch.
        best_epoch: From which epoch the weights are.
        stopped: Why training ended.
        seed: Its seed.
    """

    version: int = _VERSION
    estimator: str
    params: dict[str, Any]
    wiring: WiringConfig | None = None
    features: list[str] | None
    columns: int
    branches: list[_BranchConfig] = []
    metadata: Metadata = msgspec.field(name="learnt")
    history: list[Record]
    best_epoch: int
    stopped: str
    seed: int


def save_estimator(
    path: str | os.PathLike[str], estimator: SavedEstimator, network: LiquidModule, arrays: Mapping[str, Array]
) -> None:
    """Write the file; an existing one is replaced once the new one is complete.

    Args:
        path: The file.
        estimator: The estimator, with its parameters as they are.
        network: Its network.
        arrays: Those of its metadata.

    Raises:
        ValueError: If the name does not end in ".safetensors".
        TypeError: If a parameter is nothing that JSON can hold.
        OSError: If it cannot be written.
    """
    target = check_name(path)
    check_output(target)
    tensors = {f"network.{name}": value.numpy() for name, value in network.state_dict().items()}
    branches = [_describe_branch(branch) for branch in network.each_branch()]
    wiring = _own_wiring(branches)
    own = isinstance(estimator.params.get("wiring"), Wiring)
    described = msgspec.structs.replace(
        estimator, params=_plain_params(estimator.params), wiring=wiring if own else None, branches=branches
    )
    write_tensors(target, "estimator", described, {**tensors, **arrays})


def _plain_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON: a wiring is described apart, a stream of random numbers has no end to write down."""
    plain: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, (Wiring, np.random.RandomState)):
            value = None
        elif isinstance(value, np.generic):
            value = value.item()
        elif isinstance(value, os.PathLike):
            value = os.fspath(value)
        elif isinstance(value, torch.device):
            value = str(value)
        try:
            msgspec.json.encode(value)
        except TypeError as error:
            raise TypeError(f"parameter `{name}` is {value!r}, which a file without pickle cannot hold") from error
        plain[name] = value
    return plain


def _own_wiring(branches: Sequence[_BranchConfig]) -> WiringConfig | None:
    """Of the layer that a user's wiring is for; a copy of it is in every branch."""
    return getattr(branches[0].cores[-1].cell, "wiring", None) if branches[0].cores else None


def _describe_branch(branch: Branch) -> _BranchConfig:
    cores = [config_from_core(str(k), core) for k, core in enumerate(branch.cores)]
    return _BranchConfig(cores, _HEADS[type(branch.head).__name__])


def load_estimator(path: str | os.PathLike[str], name: str) -> tuple[SavedEstimator, LiquidModule, dict[str, Array]]:
    """Read what `save_estimator` wrote. Nothing in the file is code, and nothing in it is run.

    Args:
        path: The file.
        name: Of the class of estimator that it should hold.

    Returns:
        The estimator, its network in eval mode, and the arrays of its metadata.

    Raises:
        ValueError: If the file is none, damaged, newer, or of another class.
        OSError: If it cannot be read.
    """
    source = given_path(path, "the file that `save` wrote")
    described, arrays = read_tensors(source, "estimator", SavedEstimator, _VERSION)
    if described.estimator != name:
        held = one_line(described.estimator, 40)
        raise ValueError(f"'{source}' holds a {held}, not a {name}. Type: {held}.load('{source}')")
    _check_sizes(source, described, arrays)
    if described.wiring is not None:
        if not described.branches or described.wiring != _own_wiring(described.branches):
            raise ValueError(f"'{source}' is damaged: it contradicts itself: its `wiring` is not that of its layers")
        params = {**described.params, "wiring": SavedWiring(described.wiring)}
        described = msgspec.structs.replace(described, params=params)
    try:
        network = _network(described, arrays)
        _check_outputs(described.metadata, len(network.state_widths) + 1)
        own = described.metadata.named(arrays)
        _check_arrays(described, network, own)
    except (KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"'{source}' is damaged: it contradicts itself: {one_line(error)}") from error
    return described, network, own


def _check_sizes(path: Path, described: SavedEstimator, arrays: Mapping[str, Array]) -> None:
    """Refuse impossible sizes before anything of them is built."""
    for name, count in (("x_mean", described.columns), ("y_mean", described.metadata.outputs)):
        held = arrays.get(f"network.{name}")
        if held is None or held.shape != (count,):
            raise ValueError(f"'{path}' is damaged: its {name} is not of the {count} columns that it describes")
    elements = sum(value.size for value in arrays.values())
    for branch in described.branches:
        for core in branch.cores:
            for problem in problems(core, elements, len(arrays)):
                raise ValueError(f"'{path}' is damaged: it describes {problem}")


def _check_outputs(metadata: Metadata, tails: int) -> None:
    """Refuse classes or names that are not those of the outputs, and an end that is not of so many arrays.

    Raises:
        ValueError, TypeError, OverflowError: If so.
    """
    classes = metadata.class_array()
    if metadata.labels != (classes is not None) or (classes is not None and classes.shape != (metadata.outputs,)):
        raise ValueError(f"its classes are not those of {metadata.outputs} outputs of a {metadata.task}")
    if len(metadata.output_names) != metadata.outputs:
        raise ValueError(f"it names {len(metadata.output_names)} outputs of {metadata.outputs}")
    if metadata.tails not in (0, tails):
        raise ValueError(f"it has {metadata.tails} tails, expected {tails}")


def _check_arrays(described: SavedEstimator, network: LiquidModule, own: Mapping[str, Array]) -> None:
    """Refuse arrays of metadata that would be broadcast, or fail in some later use.

    Raises:
        ValueError: If one has another shape than described, or holds what is no finite number.
    """
    columns, outputs = described.columns, described.metadata.outputs
    wanted: dict[str, tuple[int, ...]] = {"x_range": (2, columns), "y_range": (2, outputs)}
    wanted |= {"x_center": (columns,), "y_center": (outputs,)}
    ends = [(1, width) for width in [*network.state_widths, outputs]]
    wanted |= numbered("tail", ends)
    for name, array in own.items():
        shape = wanted.get(name, (*array.shape[:1], columns))
        if array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"its {name} is {array.dtype} {array.shape}, expected finite numbers of shape {shape}")


def _network(described: SavedEstimator, arrays: Mapping[str, Array]) -> LiquidModule:
    labels = described.metadata.labels
    with torch.random.fork_rng(devices=[]):
        built = [_branch(config, k, arrays) for k, config in enumerate(described.branches)]
    network = LiquidModule(built, described.columns, described.metadata.outputs, labels)
    prefix = "network."
    state = {n.removeprefix(prefix): torch.from_numpy(v.copy()) for n, v in arrays.items() if n.startswith(prefix)}
    for wrong in mismatches(network.state_dict(), state):
        raise ValueError(wrong)
    network.load_state_dict(state)
    return network.eval()


def _branch(config: _BranchConfig, number: int, arrays: Mapping[str, Array]) -> Branch:
    name, head = f"network.branches.{number}.head", config.head
    made: nn.Module = nn.Identity()
    if head == "affine":
        made = Output(len(arrays[f"{name}.gain"]))
    elif head == "linear":
        outputs, width = arrays[f"{name}.weight"].shape
        made = nn.Linear(width, outputs)
    elif head != "none":
        raise ValueError(f"a head '{head}', expected one of {list(_HEADS.values())}")
    return Branch([core_from_config(core) for core in config.cores], made)
