"""Estimators in one file without pickle: parameters, what was learnt, how the layers are built, and the weights."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
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
from ..files import check_output
from ..tensor_file import check_name, read_tensors, write_tensors
from .data.metadata import Learnt
from .fit.progress import Record
from .network.module import Affine, Branch, LiquidModule

__all__ = ["Contents", "load_estimator", "save_estimator"]

_VERSION = 1
_HEADS = {"Identity": "none", "Affine": "affine", "Linear": "linear"}


class _BranchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cores: list[CoreConfig]
    head: str


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`Learnt` without its arrays."""

    task: str
    level: str
    flat: bool
    outputs: int
    output_names: list[str]
    classes: list[Any] | None
    classes_dtype: str | None
    readout: int | None
    time_unit: float | None
    span_range: tuple[float, float] | None
    rows: str
    next_sample: bool
    examples: int
    tails: int


class _Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    estimator: str
    params: dict[str, Any]
    wiring: WiringConfig | None
    features: list[str] | None
    columns: int
    branches: list[_BranchConfig]
    learnt: _Facts
    history: list[Record]
    best_epoch: int
    stopped: str
    seed: int


@dataclasses.dataclass(frozen=True)
class Contents:
    """A fitted estimator taken apart.

    Args:
        estimator: Name of its class.
        params: Constructor parameters.
        features: Names of the columns, or `None`.
        columns: Their number.
        learnt: Facts from the training data.
        network: The network.
        history: One record per epoch.
        best_epoch: From which epoch the weights are.
        stopped: Why training ended.
        seed: Its seed.
    """

    estimator: str
    params: dict[str, Any]
    features: tuple[str, ...] | None
    columns: int
    learnt: Learnt
    network: LiquidModule
    history: list[Record]
    best_epoch: int
    stopped: str
    seed: int


def save_estimator(path: str | os.PathLike[str], contents: Contents) -> None:
    """Write the file; an existing one is replaced once the new one is complete.

    Raises:
        ValueError: If the name does not end in ".safetensors".
        TypeError: If a parameter is nothing that JSON can hold.
        OSError: If it cannot be written.
    """
    target = check_name(path)
    check_output(target)
    network, learnt = contents.network, contents.learnt
    tensors = {f"network.{name}": value.numpy() for name, value in network.state_dict().items()}
    tensors |= {"x_range": learnt.x_range, "y_range": learnt.y_range}
    tensors |= {f"example.{k}": rows for k, rows in enumerate(learnt.example)}
    tensors |= {f"tail.{k}": value for k, value in enumerate(learnt.tail)}
    branches = [_describe_branch(branch) for branch in network.branches]
    wiring = getattr(branches[0].cores[-1].cell, "wiring", None)
    own = isinstance(contents.params.get("wiring"), Wiring)
    described = _Description(
        version=_VERSION,
        estimator=contents.estimator,
        params=_plain_params(contents.params),
        wiring=wiring if own else None,
        features=None if contents.features is None else list(contents.features),
        columns=contents.columns,
        branches=branches,
        learnt=_facts(learnt),
        history=contents.history,
        best_epoch=contents.best_epoch,
        stopped=contents.stopped,
        seed=contents.seed,
    )
    write_tensors(target, "estimator", described, tensors)


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


def _describe_branch(branch: Any) -> _BranchConfig:
    cores = [config_from_core(str(k), core) for k, core in enumerate(branch.cores)]
    return _BranchConfig(cores, _HEADS[type(branch.head).__name__])


def _facts(learnt: Learnt) -> _Facts:
    arrays = ("classes", "x_range", "y_range", "example", "tail", "output_names")
    plain = {f.name: getattr(learnt, f.name) for f in dataclasses.fields(Learnt) if f.name not in arrays}
    classes = learnt.classes
    return _Facts(
        **plain,
        output_names=list(learnt.output_names),
        classes=None if classes is None else classes.tolist(),
        classes_dtype=None if classes is None else classes.dtype.str,
        examples=len(learnt.example),
        tails=len(learnt.tail),
    )


def load_estimator(path: str | os.PathLike[str], estimators: Mapping[str, Any]) -> Contents:
    """Read what `save_estimator` wrote. Nothing in the file is code, and nothing in it is run.

    Args:
        path: The file.
        estimators: Classes that can be loaded, by name.

    Raises:
        ValueError: If the file is none, damaged, newer, or of another class.
        OSError: If it cannot be read.
    """
    source = Path(path)
    described, arrays = read_tensors(source, "estimator", _Description, _VERSION)
    if described.estimator not in estimators:
        raise ValueError(
            f"'{source}' holds a {described.estimator}, not a {' or '.join(estimators)}. "
            f"Type: {described.estimator}.load('{source}')"
        )
    _check_sizes(source, described, arrays)
    params = dict(described.params)
    if described.wiring is not None:
        params["wiring"] = SavedWiring(described.wiring)
    try:
        network, learnt = _network(described, arrays), _learnt(described.learnt, arrays)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"'{source}' is damaged: it contradicts itself: {error}") from error
    return Contents(
        described.estimator,
        params,
        None if described.features is None else tuple(described.features),
        described.columns,
        learnt,
        network,
        described.history,
        described.best_epoch,
        described.stopped,
        described.seed,
    )


def _check_sizes(path: Path, described: _Description, arrays: Mapping[str, Array]) -> None:
    """Refuse impossible sizes before anything of them is built."""
    for name, count in (("x_mean", described.columns), ("y_mean", described.learnt.outputs)):
        held = arrays.get(f"network.{name}")
        if held is None or held.shape != (count,):
            raise ValueError(f"'{path}' is damaged: its {name} is not of the {count} columns that it describes")
    elements = sum(value.size for value in arrays.values())
    for branch in described.branches:
        for core in branch.cores:
            for problem in problems(core, elements, len(arrays)):
                raise ValueError(f"'{path}' is damaged: it describes {problem}")


def _network(described: _Description, arrays: Mapping[str, Array]) -> LiquidModule:
    labels = described.learnt.task == "classification"
    with torch.random.fork_rng(devices=[]):
        built = [_branch(config, k, arrays) for k, config in enumerate(described.branches)]
    network = LiquidModule(built, described.columns, described.learnt.outputs, labels)
    prefix = "network."
    state = {n.removeprefix(prefix): torch.from_numpy(v.copy()) for n, v in arrays.items() if n.startswith(prefix)}
    network.load_state_dict(state)
    return network.eval()


def _branch(config: _BranchConfig, number: int, arrays: Mapping[str, Array]) -> Branch:
    name, head = f"network.branches.{number}.head", config.head
    made: nn.Module = nn.Identity()
    if head == "affine":
        made = Affine(len(arrays[f"{name}.gain"]))
    elif head == "linear":
        outputs, width = arrays[f"{name}.weight"].shape
        made = nn.Linear(width, outputs)
    elif head != "none":
        raise ValueError(f"a head '{head}', expected one of {list(_HEADS.values())}")
    return Branch([core_from_config(core) for core in config.cores], made)


def _learnt(facts: _Facts, arrays: Mapping[str, Array]) -> Learnt:
    plain = {name: getattr(facts, name) for name in facts.__struct_fields__}
    examples, tails, dtype = plain.pop("examples"), plain.pop("tails"), plain.pop("classes_dtype")
    plain["output_names"] = tuple(facts.output_names)
    plain["classes"] = None if facts.classes is None else np.array(facts.classes, np.dtype(dtype))
    return Learnt(
        **plain,
        x_range=arrays["x_range"],
        y_range=arrays["y_range"],
        example=tuple(arrays[f"example.{k}"] for k in range(examples)),
        tail=tuple(arrays[f"tail.{k}"] for k in range(tails)),
    )
