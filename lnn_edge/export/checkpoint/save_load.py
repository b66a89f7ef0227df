"""Checkpoints: one safetensors file with the weights and, as JSON beside them, all that a state_dict does not hold.

Any program that reads safetensors finds the plain state_dict in it. The metadata entry `lnn_edge.checkpoint` describes
the cores. Nothing in the file is code, and nothing in it is run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import torch
from safetensors.torch import save
from torch import nn

from ...files.whole import check_output, given_path, whole_file
from ...wording import listed
from ..cores.config import CoreConfig
from ..cores.rebuild import configs_from_module, core_from_config
from ..cores.wrappers import plain_names
from ..provenance import installed_versions
from ..torch_settings import usual_torch
from .file import DESCRIPTION_ENTRY, Description, Format, WeightsFile, read_weights
from .state_dict import load_state

__all__ = ["described", "load_checkpoint", "rebuilt", "save_checkpoint"]

_SUFFIX = ".safetensors"
_CHECKPOINT = f"the name of a file that ends in '{_SUFFIX}'"


@usual_torch()
def save_checkpoint(model: nn.Module, path: str | os.PathLike[str]) -> str:
    """Save a model so that it can be exported later without guessing: its weights and how its cores were built.

    A state_dict does not hold what decides the maths of a core: `ode_unfolds`, `epsilon`, the mode, the activation,
    whether parameters pass through a softplus, the wiring. Two models can share a state_dict and compute different
    things. The checkpoint holds these too, for every ncps layer and cell in the model. At the end of training:

        lnn_edge.save_checkpoint(model, "gait.safetensors")

    A single ncps layer or cell is then exported without any Python file, and `lnn_edge.load_checkpoint` returns it; a
    network around cores needs the function that builds it, because its forward is code:

        lnn-edge export gait.safetensors gait.lnn
        lnn-edge export train.py:make_model gait.lnn --weights gait.safetensors

    Args:
        model: The module, on any device; wrappers such as torch.compile's are left out. It is not changed.
        path: The file to write, `NAME.safetensors`; an existing one is replaced once the new one is complete.

    Returns:
        SHA-256 of the file, the `checkpoint_sha256` of `export_model`.

    Raises:
        TypeError: If it is no module, or holds a core or a part that a file of tensors cannot describe.
        ValueError: If the name of the file or a core is not as expected.
        OSError: If the file cannot be written.
    """
    target = given_path(path, _CHECKPOINT)
    if target.suffix != _SUFFIX:
        raise ValueError(
            f"a checkpoint's name ends in '{_SUFFIX}', got '{target}'. Type: {target.stem or 'model'}{_SUFFIX}"
        )
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    check_output(target)
    data = _encoded(model)
    with whole_file(target) as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()


def _encoded(model: nn.Module) -> bytes:
    tensors, cores = described(model)
    for core in cores:
        if not core.name:
            _check_complete(core, tensors)
    description = Description(Format(), cores, installed_versions()).signed(tensors)
    metadata = {"format": "pt", DESCRIPTION_ENTRY: msgspec.json.encode(description).decode()}
    return bytes(save(tensors, metadata))


def described(model: nn.Module) -> tuple[dict[str, torch.Tensor], tuple[CoreConfig, ...]]:
    """What a checkpoint of a model holds: its tensors by name and how its cores were built, wrappers left out.

    Raises:
        TypeError, ValueError: If it holds a core or a part that a file of tensors cannot describe.
    """
    tensors, found = _tensors(model), configs_from_module(model)
    plain = plain_names(model, found)
    return tensors, tuple(msgspec.structs.replace(core, name=plain[name]) for name, core in found.items())


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state_dict, every tensor with memory of its own: the format has none that is shared."""
    state: dict[str, Any] = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided or value.is_meta:
            kind = f"a {value.layout} tensor" if isinstance(value, torch.Tensor) else type(value).__name__
            raise TypeError(
                f"'{name}' in the state_dict is {'without data' if getattr(value, 'is_meta', False) else kind}, "
                "expected a dense tensor: a checkpoint holds nothing else"
            )
    plain = plain_names(model, state)
    return {plain[name]: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}


def _check_complete(core: CoreConfig, tensors: Mapping[str, torch.Tensor]) -> None:
    """A model that is one core must come out of the file again."""
    wrong = next(_mismatches(_built(core), tensors), None)
    if wrong:
        raise ValueError(f"the {core.kind} is not what ncps builds from its own arguments: {wrong}. Undo the change")


@usual_torch()
def load_checkpoint(path: str | os.PathLike[str], *, into: nn.Module | None = None) -> nn.Module:
    """Load what `save_checkpoint` wrote.

    Args:
        path: The file.
        into: A module built like the saved one, to load the weights into; needed for a network around cores. Each of
            its cores must be built as the checkpoint says. Left as it is if anything does not fit.

    Returns:
        `into`, or a new ncps layer or cell in eval mode on the CPU, with the dtype that was saved.

    Raises:
        ValueError: If the file is no checkpoint, damaged, of a newer format, not a single core, or does not fit.
        OSError: If it cannot be read.
    """
    file = read_weights(given_path(path, _CHECKPOINT))
    if into is None:
        return rebuilt(file)
    load_state(into, file.tensors, file.path, _description(file).cores)
    return into


def _description(file: WeightsFile) -> Description:
    if file.description is None:
        raise ValueError(
            f"'{file.path}' holds weights only, and a state_dict does not say how a model computes. In the training "
            f"script type: lnn_edge.save_checkpoint(model, '{file.path.name}'). Or name the function that builds the "
            f"model: lnn-edge export train.py:make_model {file.path.stem}.lnn --weights {file.path}"
        )
    return file.description


def rebuilt(file: WeightsFile) -> nn.Module:
    """Build the single layer or cell that a checkpoint holds, in eval mode, with its weights and their dtype.

    Raises:
        ValueError: If the file is no checkpoint, not of a single core, or its tensors are not those of the core.
    """
    path, tensors = file.path, file.tensors
    cores = {core.name: core for core in _description(file).cores}
    if "" not in cores:
        around = f"around the cores {listed(cores, 5)}" if cores else "without a liquid core"
        raise ValueError(
            f"checkpoint '{path}' is of a network {around}, whose forward is code and in no file of weights. Name the "
            f"function that builds it: lnn-edge export train.py:make_model {path.stem}.lnn --weights {path}, or in "
            "Python load_checkpoint(..., into=make_model())"
        )
    module = _built(cores[""])
    wrong = next(_mismatches(module, tensors), None)
    if wrong:
        raise ValueError(f"checkpoint '{path}' contradicts itself: it describes {cores[''].kind}, but {wrong}")
    for name, parameter in module.named_parameters():
        parameter.data = parameter.data.to(tensors[name].dtype)  # the same Parameter: LTCCell keeps it in a dict too
    module.load_state_dict(dict(tensors))
    return module.eval()


def _built(core: CoreConfig) -> nn.Module:
    """Build a core without moving the caller's random numbers on."""
    with torch.random.fork_rng(devices=[]):
        return core_from_config(core)


def _mismatches(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Iterator[str]:
    own = module.state_dict()
    for name in (*own, *(name for name in tensors if name not in own)):
        if name not in tensors or name not in own:
            yield f"tensor '{name}' is {'missing' if name in own else 'unknown'}"
        elif tensors[name].shape != own[name].shape or not tensors[name].is_floating_point():
            got = f"{tensors[name].dtype} {list(tensors[name].shape)}"
            yield f"tensor '{name}' is {got}, expected floating point {list(own[name].shape)}"
