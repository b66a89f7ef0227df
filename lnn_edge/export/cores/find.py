"""The recurrent parts of a network: which there are, and what each computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ncps.torch import CfCCell, LTCCell, WiredCfCCell
from torch import nn

from ...bundle.spec import Core
from ...wording import listed, step_advice
from .checks import type_name
from .describe import describe_core
from .liquid import LoopedCell, core_from_module, is_core
from .maths import LiquidCore, RecurrentCore
from .recurrent import describe_recurrent, is_recurrent, is_recurrent_cell, recurrent_from_module

__all__ = ["ReadCore", "find_cores", "find_parts", "is_batch_first", "is_cell", "is_liquid_cell", "read_core"]


@dataclass(frozen=True)
class ReadCore:
    """A core as it was read from a module: what it computes, and its description for the manifest."""

    maths: LiquidCore | RecurrentCore
    described: Core


def is_liquid_cell(module: nn.Module) -> bool:
    """Whether a module is one of ncps' cells."""
    return isinstance(module, (LTCCell, CfCCell, WiredCfCCell))


def is_cell(module: nn.Module) -> bool:
    """Whether a module takes one sample and its state, rather than a sequence."""
    return is_liquid_cell(module) or is_recurrent_cell(module)


def find_cores(module: nn.Module) -> dict[str, nn.Module]:
    """The ncps layers and the recurrent layers of torch inside a module, by name.

    Raises:
        TypeError: If none of them is an ncps layer.
    """
    cores = {name: part for name, part in module.named_modules() if is_core(part) or is_recurrent(part)}
    if any(is_core(core) for core in cores.values()):
        return cores
    cells = [name for name, part in module.named_modules() if is_liquid_cell(part)]
    if cells:
        raise TypeError(
            f"{type_name(module)} holds the cell '{cells[0]}', which its own code loops over time. Say what one turn "
            f"of that loop is: {step_advice()}"
        )
    raise _none_found(module, cores)


def find_parts(module: nn.Module) -> dict[str, nn.Module]:
    """As `find_cores`, for a module whose step the user writes: cells that no layer holds are parts as well."""
    parts: dict[str, nn.Module] = {}
    for name, part in module.named_modules():
        inside = any(not outer or f"{name}.".startswith(f"{outer}.") for outer in parts)
        if not inside and (is_core(part) or is_recurrent(part) or is_cell(part)):
            parts[name] = part
    if any(is_core(part) or is_liquid_cell(part) for part in parts.values()):
        return parts
    raise _none_found(module, parts)


def _none_found(module: nn.Module, foreign: Mapping[str, nn.Module]) -> TypeError:
    names = [f"{type(core).__name__} '{name}'" if name else type(core).__name__ for name, core in foreign.items()]
    found = f"only torch's own {listed(names)} inside; type torch.onnx.export for such a model" if names else ""
    return TypeError(
        f"expected an ncps.torch LTC or CfC, or a network around some, got {type_name(module)} with "
        f"{found or 'none inside'}"
    )


def is_batch_first(cores: Mapping[str, nn.Module]) -> bool:
    """Whether a network takes (batch, time, ...): as its liquid cores do, whatever torch's layers are fed."""
    return all(bool(core.batch_first) for core in cores.values() if is_core(core))


def read_core(name: str, part: nn.Module) -> ReadCore:
    """Read a layer or cell; the name is the one that the manifest and messages give it."""
    if is_recurrent(part) or is_recurrent_cell(part):
        recurrent = recurrent_from_module(name, part)
        return ReadCore(recurrent, describe_recurrent(name, part, recurrent))
    layer = LoopedCell(part) if is_liquid_cell(part) else part
    liquid = core_from_module(layer)
    return ReadCore(liquid, describe_core(name, layer, liquid))
