"""Tensors and a JSON description in one safetensors file: written whole or not at all, and holding no code.

Estimators and training runs are written and read here. Checkpoints of models have tensors that NumPy lacks (bfloat16),
so torch reads and writes those; their digest and their description are checked by the same functions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from .arrays import Array
from .files import given_path, whole_file
from .format_version import newer_version

__all__ = ["TensorBytes", "check_name", "content_digest", "decode_description", "read_tensors", "write_tensors"]

_SUFFIX = ".safetensors"
_PREFIX, _DIGEST = "lnn_edge.", "lnn_edge.digest"
_T = TypeVar("_T", bound=msgspec.Struct)

TensorBytes = tuple[str, str, list[int], bytes]  # name, dtype as its library writes it, shape, content


def check_name(path: str | os.PathLike[str]) -> Path:
    """Refuse a name without the suffix of the format.

    Raises:
        ValueError: If it has another.
    """
    target = given_path(path, f"the name of a file that ends in '{_SUFFIX}'")
    if target.suffix != _SUFFIX:
        raise ValueError(
            f"the file is '{target}', expected a name that ends in '{_SUFFIX}'. Type: {target.stem}{_SUFFIX}"
        )
    return target


def write_tensors(path: Path, entry: str, description: msgspec.Struct, tensors: Mapping[str, Array]) -> None:
    """Write the file.

    Args:
        path: Where; an existing file is replaced once the new one is complete.
        entry: What kind of file it is, "estimator" for instance.
        description: All that is no tensor; has a field `version`.
        tensors: By name.

    Raises:
        OSError: If it cannot be written.
    """
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    text = msgspec.json.encode(description)
    metadata = {_PREFIX + entry: text.decode(), _DIGEST: _digest(text, arrays)}
    with whole_file(path) as file:
        file.write(save(arrays, metadata))


def read_tensors(path: Path, entry: str, kind: type[_T], version: int) -> tuple[_T, dict[str, Array]]:
    """Read what `write_tensors` wrote, checked against damage (not against forgery).

    Args:
        path: The file.
        entry: What kind of file it should be.
        kind: The type of its description.
        version: The newest version that can be read.

    Raises:
        ValueError: If it is another kind of file, damaged, or newer.
        OSError: If it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file '{path}'")
    try:
        with safe_open(str(path), "numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, TypeError) as error:
        raise ValueError(f"'{path}' is not a safetensors file: {error}") from error
    if _PREFIX + entry not in metadata:
        raise ValueError(f"'{path}' holds no {entry} of lnn-edge; it has the entries {sorted(metadata)}")
    text = metadata[_PREFIX + entry].encode()
    described = decode_description(f"'{path}'", text, kind, version)
    if _digest(text, tensors) != metadata.get(_DIGEST):
        raise ValueError(f"'{path}' is damaged: its content does not match its digest. Save it again")
    return described, tensors


def decode_description(what: str, text: bytes | str, kind: type[_T], version: int) -> _T:
    """Decode the description in a file.

    Args:
        what: The file, as messages name it.
        text: JSON, with a version where `newer_version` looks for it.
        kind: The type of the description.
        version: The newest version that can be read.

    Raises:
        ValueError: If it is newer, or not valid.
    """
    try:
        newer = newer_version(text, version)
        if newer:
            raise ValueError(f"{what} {newer}")
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(f"{what} is damaged: its description is not valid: {error}") from error


def content_digest(text: bytes, tensors: Iterable[TensorBytes]) -> str:
    """SHA-256 (hex) of a description and its tensors, which come sorted by name: damage is found, forgery is not."""
    digest = hashlib.sha256(text)
    for name, dtype, shape, data in tensors:
        digest.update(f"\n{name} {dtype} {shape}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def _digest(text: bytes, tensors: Mapping[str, Array]) -> str:
    return content_digest(text, ((n, str(v.dtype), list(v.shape), v.tobytes()) for n, v in sorted(tensors.items())))
