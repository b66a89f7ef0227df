"""Files that torch.save wrote: a state_dict, alone or in a checkpoint; whole modules only where the user trusts them.

Without that trust nothing but tensors and plain values is read, by torch's own unpickler for such files.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeGuard

import torch
from torch import nn

from ...files.whole import read_whole
from ...tensor_file import TORCH_KINDS, kind_of_file
from ...wording import listed
from .file import MOST_BYTES

__all__ = ["loaded_weights", "unpickled"]

_NESTED = ("state_dict", "model_state_dict", "model")  # where training frameworks keep the weights in a checkpoint
_SAVE = "In the training script type: torch.save(model.state_dict(), 'weights.pt')"


def loaded_weights(
    path: Path, *, trust_pickle: bool, code: ModuleType | None = None
) -> tuple[Mapping[str, torch.Tensor] | nn.Module, str]:
    """What holds the weights in a file, a state_dict or with `trust_pickle` perhaps a whole module, and its SHA-256.

    Args:
        path: The file.
        trust_pickle: Whether a file that holds more than tensors may be unpickled, which runs whatever code is in it.
        code: Where to look for the classes of a script that was run.

    Raises:
        ValueError: If torch.save did not write it, it is damaged, not to be trusted, or holds no weights.
        OSError: If it cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(f"no weights file '{path}'")
    data = _data(path)
    return _weights_among(_read(path, data, trust_pickle, code), path), _sha256(data)


def unpickled(path: Path) -> tuple[Any, str]:
    """Whatever a file holds, and its SHA-256. This runs the code in it.

    Raises:
        ValueError: If it cannot be unpickled.
        OSError: If it cannot be read.
    """
    data = _data(path)
    return _unpickled(path, data, None), _sha256(data)


def _data(path: Path) -> bytes:
    """Read once, so that the hash is of what was loaded, whatever takes its place meanwhile."""
    return read_whole(path, "a file of weights", MOST_BYTES)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _unpickled(path: Path, data: bytes, code: ModuleType | None) -> Any:
    """What was read from a file. This runs the code in it.

    Args:
        path: The file.
        data: All of it.
        code: Where to look for the classes that were defined in the script that saved it: in the file they are known
            under `__main__`, which is our own program now.
    """
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False, pickle_module=_pickle(code))
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises anything; and the classes of a module may be missing here
        hint = ""
        if code is None and isinstance(error, AttributeError) and "__main__" in str(error):
            hint = f". Name the script that defines it: lnn-edge export train.py:make_model --weights {path} ..."
        raise ValueError(f"'{path}' cannot be unpickled: {type(error).__name__}: {error}{hint}") from error


def _pickle(code: ModuleType | None) -> Any:
    """Python's pickle, for which `__main__` is the script that the user named."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module == "__main__" and code is not None and hasattr(code, name):
                return getattr(code, name)
            return super().find_class(module, name)

    return SimpleNamespace(**{**vars(pickle), "Unpickler": Unpickler})


def _read(path: Path, data: bytes, trust_pickle: bool, code: ModuleType | None) -> Any:
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what a damaged pickle makes torch raise has no common base
        wrong = _wrong_beginning(data[:512])
        if wrong:
            raise ValueError(f"'{path}' is not a torch checkpoint: {wrong}. {_SAVE}") from error
        if trust_pickle:
            return _unpickled(path, data, code)
        if isinstance(error, pickle.UnpicklingError):
            raise ValueError(
                f"'{path}' is damaged, or holds more than tensors, say a whole model, and loading it would run code "
                f"from the file. {_SAVE}. Or add --trust-pickle if you made the file yourself"
            ) from error
        raise ValueError(f"'{path}' is not a torch checkpoint, or damaged: {_brief(error)}. {_SAVE}") from error


def _wrong_beginning(beginning: bytes) -> str | None:
    """Why torch.save cannot have written a file, `None` if it can have."""
    kind = kind_of_file(beginning)
    if kind in TORCH_KINDS:
        return None
    if kind == "a safetensors file":
        return "it is a safetensors file. Name it .safetensors"
    if kind == "a pickle":
        return "it is a pickle of Python's own, not of torch.save"
    return f"it is {kind}" if kind else f"it begins with {beginning[:16]!r}, as no file of torch.save does"


def _brief(error: Exception) -> str:
    """The first sentence of an error: what torch says after it is about its own code."""
    return f"{type(error).__name__}: {error}".splitlines()[0].partition(". ")[0].rstrip(": ")


def _weights_among(loaded: Any, path: Path) -> Mapping[str, torch.Tensor] | nn.Module:
    """The state_dict or module in what was loaded: all of it, or the one entry that is one."""
    if _holds_weights(loaded):
        return loaded
    if not isinstance(loaded, Mapping):
        raise ValueError(f"'{path}' holds no state_dict but {type(loaded).__name__}. {_SAVE}")
    found = {key: value for key, value in loaded.items() if _holds_weights(value) and value != {}}
    usual = [key for key in _NESTED if key in found]
    if usual or len(found) == 1:
        return found[usual[0] if usual else next(iter(found))]
    if found:
        raise ValueError(
            f"'{path}' holds several mappings of names to tensors, {_shown(found)}, and nothing says which are the "
            f"model's weights. {_SAVE}"
        )
    raise ValueError(f"'{path}' holds no state_dict, a mapping of names to tensors, but {_shown(loaded)}. {_SAVE}")


def _holds_weights(value: Any) -> TypeGuard[Mapping[str, torch.Tensor] | nn.Module]:
    return isinstance(value, nn.Module) or (
        isinstance(value, Mapping)
        and all(isinstance(name, str) and isinstance(own, torch.Tensor) for name, own in value.items())
    )


def _shown(entries: Mapping[Any, Any]) -> str:
    """Entries by key with their types, those that are no tensors first: they are what is unexpected."""
    ordered = sorted(entries.items(), key=lambda entry: isinstance(entry[1], torch.Tensor))
    return listed((f"{key!r} ({type(value).__name__})" for key, value in ordered), 8)
