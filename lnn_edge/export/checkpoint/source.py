"""Trained modules from a checkpoint, or `train.py:make_model` and weights. Only code the user named is run."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ...wording import choices, listed
from .file import read_weights
from .save_load import described, rebuilt
from .state_dict import load_state
from .torch_save import loaded_weights, unpickled

__all__ = ["Source", "load_trained"]


@dataclass(frozen=True)
class Source:
    """What there is to export.

    Attributes:
        module: The trained module.
        checkpoint_sha256: SHA-256 of the checkpoint, `None` if there is none.
        step: The step function, `None` if the module needs none.
        initial_state: The function that makes the state it starts from, `None` for zeros.
    """

    module: nn.Module
    checkpoint_sha256: str | None = None
    step: Callable[..., Any] | None = None
    initial_state: Callable[..., Any] | None = None


def load_trained(
    source: str,
    *,
    weights: str | None,
    trust_pickle: bool,
    step: str | None = None,
    initial_state: str | None = None,
) -> Source:
    """Build the model and load its weights.

    Args:
        source: FILE.py:FACTORY, package.module:FACTORY, a file from `save_checkpoint`, or with `trust_pickle` a file
            with a pickled module.
        weights: File with the weights, or `None`.
        trust_pickle: Whether the source, or a file of weights that holds more than tensors, may be unpickled, which
            runs whatever code is in the file.
        step: Name of the step function: a function beside the factory, or a method of the model.
        initial_state: Name of the function that makes the state which the step starts from, likewise.

    Raises:
        ValueError, TypeError, OSError: Naming what is wrong with the source or the weights.
    """
    code: ModuleType | None = None
    checkpoint: str | None
    if source.endswith((".pt", ".pth", ".pkl")):
        module, checkpoint = _unpickled(Path(source), weights, trust_pickle)
    elif source.endswith(".safetensors"):
        module, checkpoint = _checkpoint(Path(source), weights)
    else:
        code, module = _built(source)
        checkpoint = None if weights is None else _load_weights(code, module, Path(weights), trust_pickle)
    return Source(
        module,
        checkpoint,
        None if step is None else _function("--step", step, code, module),
        None if initial_state is None else _function("--initial-state", initial_state, code, module),
    )


def _function(option: str, name: str, code: ModuleType | None, module: nn.Module) -> Callable[..., Any]:
    """A function of the source file, or a method of the model."""
    for place in ([] if code is None else [code]) + [type(module)]:
        found = getattr(place, name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
    own = [n for n, value in vars(type(module)).items() if callable(value)]
    beside = [] if code is None else [n for n, v in vars(code).items() if inspect.isfunction(v) and _is_own(code, v)]
    known = sorted(n for n in {*own, *beside} if not n.startswith("_"))
    where = f"a method of {type(module).__name__}" + ("" if code is None else f" nor a function of '{_shown(code)}'")
    raise ValueError(f"{option} is '{name}', which is not {where}. {choices(name, known)}")


def _shown(code: ModuleType) -> str:
    return Path(code.__file__).name if code.__file__ else code.__name__


def _built(source: str) -> tuple[ModuleType, nn.Module]:
    place, separator, name = source.rpartition(":")
    if not separator or not place or not name:
        raise ValueError(
            f"SOURCE is '{source}', expected FILE.py:FACTORY or package.module:FACTORY, such as train.py:make_model, "
            "or a checkpoint NAME.safetensors"
        )
    code = _from_file(Path(place)) if place.endswith(".py") else _from_package(place)
    if not hasattr(code, name):
        raise ValueError(f"'{place}' has no '{name}'. {choices(name, _factories(code, name))}")
    made = getattr(code, name)
    if not isinstance(made, nn.Module):
        if not callable(made):
            raise TypeError(f"'{source}' is {type(made).__name__}, expected a function that returns a torch module")
        _check_no_arguments(source, made)
        with _users_code(source):
            made = made()
    if not isinstance(made, nn.Module):
        raise TypeError(f"'{source}' returned {type(made).__name__}, expected a torch.nn.Module")
    return code, made


def _factories(code: ModuleType, wanted: str) -> list[str]:
    """What a file defines that could be a factory; of what it imports, only what is called nearly as was wanted."""
    public = {n: value for n, value in vars(code).items() if not n.startswith("_") and callable(value)}
    own = [n for n, value in public.items() if _is_own(code, value) or isinstance(value, (nn.Module, partial))]
    near = get_close_matches(wanted, own, 1, 0.5) or get_close_matches(wanted, public, 1, 0.5)
    return [*own, *(n for n in near if n not in own)]


def _is_own(code: ModuleType, value: Any) -> bool:
    """Whether a function or class was written in this file."""
    return getattr(value, "__module__", None) == code.__name__


def _check_no_arguments(source: str, factory: Callable[..., Any]) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # written in C: calling it will tell
        return
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if needed:
        given = ", ".join("..." if p.kind is p.POSITIONAL_ONLY else f"{p.name}=..." for p in needed)
        name = source.rpartition(":")[2]
        raise ValueError(
            f"'{source}' needs {listed(f'`{p.name}`' for p in needed)}, but export calls it without arguments. Write a "
            "function beside it that passes what it was trained with, and name that: "
            f"def exported(): return {name}({given})"
        )


@contextmanager
def _users_code(source: str) -> Iterator[None]:
    """Say in one line what the user's own code raised, and where. A missing import stays what it is."""
    try:
        yield
    except ImportError:
        raise
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        ours = isinstance(error, SyntaxError) or frame.filename == __file__  # a line of which would help nobody
        where = "" if ours else f" ({Path(frame.filename).name}, line {frame.lineno})"
        hint = ". Put what trains under `if __name__ == '__main__':`" if isinstance(error, SystemExit) else ""
        raise ValueError(f"'{source}' raised {type(error).__name__}: {error}{where}{hint}") from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"no file '{path}'")
    name = path.stem if path.stem not in sys.modules else f"_lnn_edge_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"'{path}' cannot be imported as Python")
    code = importlib.util.module_from_spec(spec)
    sys.modules[name] = code
    sys.path.insert(0, str(path.resolve().parent))  # so that the script finds the files beside it, as when it is run
    with _users_code(str(path)):
        spec.loader.exec_module(code)
    return code


def _from_package(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    try:
        with _users_code(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not f"{name}.".startswith(f"{error.name}."):
            raise  # the module was found; something that it imports was not
        raise ValueError(f"no module '{name}'; expected FILE.py:FACTORY or package.module:FACTORY") from error


def _load_weights(code: ModuleType, module: nn.Module, path: Path, trust_pickle: bool) -> str:
    """Load weights into a module; everything must fit. Returns the SHA-256 of the file."""
    if path.suffix == ".safetensors":
        file = read_weights(path)
        load_state(module, file.tensors, path, None if file.description is None else file.description.cores)
        return file.sha256
    weights, sha256 = loaded_weights(path, trust_pickle=trust_pickle, code=code)
    if isinstance(weights, nn.Module):  # it says more than its state_dict: how its cores were built
        tensors, cores = described(weights)
        load_state(module, tensors, path, cores)
    else:
        load_state(module, weights, path)
    return sha256


def _checkpoint(path: Path, weights: str | None) -> tuple[nn.Module, str]:
    if weights is not None:
        raise ValueError(f"--weights has no place beside the checkpoint '{path}'")
    file = read_weights(path)
    return rebuilt(file), file.sha256


def _unpickled(path: Path, weights: str | None, trust_pickle: bool) -> tuple[nn.Module, str]:
    if not trust_pickle:
        raise ValueError(
            f"'{path}' would have to be unpickled as a whole module, which runs whatever code is in the file. Name a "
            "factory instead (train.py:make_model with --weights), or pass --trust-pickle if you made the file yourself"
        )
    if weights is not None:
        raise ValueError(f"--weights has no place beside the pickled module '{path}'")
    if not path.exists():
        raise FileNotFoundError(f"no file '{path}'")
    sys.path.insert(0, os.getcwd())
    module, sha256 = unpickled(path)
    if not isinstance(module, nn.Module):
        raise TypeError(f"'{path}' holds {type(module).__name__}, expected a torch.nn.Module")
    return module, sha256
