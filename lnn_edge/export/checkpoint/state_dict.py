"""Loading of a state_dict into a module: every name and shape, and how the cores were built where the file has that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import torch
from torch import nn

from ...errors import ExportWarning
from ...remarks import warn_caller
from ...wording import listed
from ..cores.config import CoreConfig, differences
from ..cores.rebuild import configs_from_module
from ..cores.wrappers import plain_names

__all__ = ["load_state"]

_COMPILED = "_orig_mod"
_WRITERS = {  # prefixes that are no part of the network, and who puts them before every name
    _COMPILED: "torch.compile",
    "module": "DataParallel",
    "model": "a Lightning module",
}
_SAME = "The factory must build the model exactly as it was trained"


def load_state(
    module: nn.Module, state: Mapping[str, torch.Tensor], path: Path, cores: Iterable[CoreConfig] | None = None
) -> None:
    """Load weights into a module; every name and shape must fit. Prefixes of wrappers are taken off with a warning.

    What lies outside such a prefix is left out with a warning that names it, if the module's own tensors are all
    under it and none of the others looks like a layer: metrics, and the class weights of a loss.

    Args:
        module: The module; it is changed only if everything fits.
        state: Tensors by name.
        path: Where they come from, for messages.
        cores: How every core was built, if the file has that; the module's cores must be built like that.

    Raises:
        ValueError: If a name or a shape does not fit, or a core was built in another way.
    """
    own = {plain: name for name, plain in plain_names(module, module.state_dict()).items()}
    fit = _find_fit(list(state), own) or _find_fit_inside(state, own) or _Fit()
    renamed = {fit.applied(name): value for name, value in state.items() if name not in fit.left_out}
    if cores is not None:
        _check_cores({fit.applied(core.name): core for core in cores}, module, path)
    _check_names(renamed, own, path)
    _check_prefix(fit, path)
    targets = module.state_dict()
    for name, value in renamed.items():
        _check_shape(name, value, targets[own[name]], path)
    if fit.prefix or fit.compiled:
        warn_caller(fit.remark(path), ExportWarning)
    module.load_state_dict({own[name]: value for name, value in renamed.items()})


@dataclass(frozen=True)
class _Fit:
    """How the names of a file become those of the model: without this prefix, perhaps without torch.compile's part."""

    prefix: tuple[str, ...] = ()
    compiled: bool = False
    left_out: tuple[str, ...] = ()

    def applied(self, name: str) -> str:
        """The name in the model; one that is not under the prefix stays as it is."""
        parts = self.parts(name)
        return ".".join(parts[len(self.prefix) :] if self.covers(name) else parts)

    def covers(self, name: str) -> bool:
        """Whether a name is under the prefix."""
        return tuple(self.parts(name)[: len(self.prefix)]) == self.prefix

    def parts(self, name: str) -> list[str]:
        """A name between its dots."""
        return [part for part in name.split(".") if part != _COMPILED or not self.compiled]

    def remark(self, path: Path) -> str:
        parts = [*self.prefix, *([_COMPILED] if self.compiled else [])]
        shown = listed(f"'{part}.' ({_WRITERS[part]})" for part in dict.fromkeys(parts))
        text = f"the names of the weights in '{path}' were read without {shown}; so they fit the model exactly"
        if not self.left_out:
            return text
        return (
            f"{text}. Not under that prefix, and so left out: {listed(self.left_out)}. If one of these changes what "
            "the model computes, let the factory build it too"
        )


def _find_fit(names: list[str], own: Collection[str]) -> _Fit | None:
    """The shortest prefix without which the names are exactly those of the model."""
    wanted = set(own)
    for compiled in (False, True):
        prefix: tuple[str, ...] = ()
        while True:
            fit = _Fit(prefix, compiled)
            seen = [fit.applied(name) for name in names]
            if set(seen) == wanted and len(seen) == len(wanted):
                return fit
            heads = {name.split(".")[0] for name in seen}
            if len(heads) != 1 or not any("." in name for name in seen):
                break
            prefix += (heads.pop(),)
    return None


def _find_fit_inside(state: Mapping[str, torch.Tensor], own: Collection[str]) -> _Fit | None:
    """The prefix of wrappers under which the names are exactly those of the model, with nothing outside to miss.

    A training module keeps metrics and the class weights of its loss beside the network. A layer beside it is another
    matter: what was trained passes through it, so the network alone would not be what was trained.
    """
    fit = _fit_among_others(list(state), own)
    return None if fit is None or _layers(fit.left_out, state) else fit


def _fit_among_others(names: list[str], own: Collection[str]) -> _Fit | None:
    """The shortest prefix of wrappers under which the names are exactly those of the model, whatever is outside."""
    for compiled in (False, True):
        heads = {prefix: None for name in names for prefix in _heads(_Fit(compiled=compiled).parts(name))}
        for prefix in sorted(heads, key=len):
            fit = _Fit(prefix, compiled)
            inside = [fit.applied(name) for name in names if fit.covers(name)]
            if len(inside) == len(own) and set(inside) == set(own):
                return replace(fit, left_out=tuple(name for name in names if not fit.covers(name)))
    return None


def _heads(parts: list[str]) -> Iterator[tuple[str, ...]]:
    """Every beginning of a name that is made of wrappers alone."""
    known = list(takewhile(_WRITERS.__contains__, parts[:-1]))
    return (tuple(known[:count]) for count in range(1, len(known) + 1))


def _layers(names: Iterable[str], state: Mapping[str, torch.Tensor]) -> list[str]:
    """Those that look like tensors of a layer: weights with two axes, biases, the statistics of a normalisation."""
    return [name for name in names if state[name].dim() > 1 or name.rpartition(".")[2] in ("bias", "running_mean")]


def _check_prefix(fit: _Fit, path: Path) -> None:
    foreign = [part for part in fit.prefix if part not in _WRITERS]
    if foreign:
        whole = ".".join(fit.prefix)
        raise ValueError(
            f"the names of the weights in '{path}' fit the model only without '{whole}.', so the file holds a network "
            f"of which the factory builds the part `{whole}`. Let the factory build the whole network, or in the "
            f"training script save that part: torch.save(model.{whole}.state_dict(), 'weights.pt')"
        )


def _check_names(state: Mapping[str, torch.Tensor], own: Mapping[str, str], path: Path) -> None:
    missing, unknown = [n for n in own if n not in state], [n for n in state if n not in own]
    if missing or unknown:
        raise ValueError(
            f"the weights in '{path}' do not fit the model: missing {listed(missing, 5)}; unknown "
            f"{listed(unknown, 5)}. {_advice(state, list(own))}"
        )


def _advice(state: Mapping[str, torch.Tensor], own: list[str]) -> str:
    """What to do about names that do not fit: one side may hold the other under a prefix."""
    names = list(state)
    inside = _fit_among_others(names, own)
    if inside is not None:
        head = ".".join(inside.prefix)
        return (
            f"Those under '{head}.' fit exactly, but the file holds beside them what looks like layers: "
            f"{listed(_layers(inside.left_out, state), 5)}. If what was trained passes through these, let the factory "
            f"build all of it; else in the training script type: torch.save(model.{head}.state_dict(), 'weights.pt')"
        )
    for head in dict.fromkeys(name.split(".")[0] for name in names):
        under = {name.removeprefix(f"{head}.") for name in names if name.startswith(f"{head}.")}
        if under == set(own):
            return (
                f"Those under '{head}.' fit exactly, but the file holds others beside them. In the training script "
                f"type: torch.save(model.{head}.state_dict(), 'weights.pt')"
            )
    fit = _find_fit(own, names)
    if fit is not None and fit.prefix:
        inner = ".".join(fit.prefix)
        return f"They fit its part `{inner}` exactly: let the factory return that part"
    return _SAME


def _check_shape(name: str, value: torch.Tensor, target: torch.Tensor, path: Path) -> None:
    if not nn.parameter.is_lazy(target) and value.shape != target.shape:
        raise ValueError(
            f"weight '{name}' in '{path}' has shape {list(value.shape)}, but the model has "
            f"{list(target.shape)}. {_SAME}"
        )


def _check_cores(saved: Mapping[str, CoreConfig], module: nn.Module, path: Path) -> None:
    found = configs_from_module(module)
    plain = plain_names(module, found)
    own = {plain[name]: config for name, config in found.items()}
    if set(saved) != set(own):
        raise ValueError(
            f"the cores in the checkpoint '{path}' are {_cores(saved)}, but those of the model are {_cores(own)}. "
            f"{_SAME}"
        )
    for name, config in saved.items():
        different = differences(config, own[name])
        if different:
            shown = "; ".join(f"`{field}` {theirs!r}, but the model has {ours!r}" for field, theirs, ours in different)
            label = f"core '{name}'" if name else "the core"
            raise ValueError(f"{label} in the checkpoint '{path}' has {shown}. {_SAME}")


def _cores(cores: Mapping[str, CoreConfig]) -> str:
    return listed((f"{repr(name) if name else 'the model itself'} ({core.kind})" for name, core in cores.items()), 5)
