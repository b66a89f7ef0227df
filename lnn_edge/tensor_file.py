"""Tensors and a JSON description in one safetensors file: written whole or not at all, and holding no code.

Estimators and training runs are written and read here. Checkpoints of models have tensors that NumPy lacks (bfloat16),
so torch reads and writes those; their digest and their description are checked by the same functions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from .arrays import Array
from .files.whole import given_path, read_whole, whole_file
from .format_version import newer_version
from .wording import one_line

__all__ = [
    "TORCH_KINDS",
    "TensorBytes",
    "check_name",
    "content_digest",
    "decode_description",
    "header_metadata",
    "kind_of_file",
    "read_tensors",
    "reason_of",
    "write_tensors",
]

_SUFFIX = ".safetensors"
_PREFIX, _DIGEST = "lnn_edge.", "lnn_edge.digest"
# How files begin that are taken for weights.
_KINDS = {
    b"PK\x03\x04": "a zip archive, as torch.save and np.savez write",
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9": "a file of torch.save, from before torch 1.6",
    b"\x80": "a pickle",
    b"\x93NUMPY": "a .npy file",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a pointer of Git LFS, and not the file itself. Type: git lfs pull",
    b"<": "a web page or other markup",
}
_MOST_BYTES = 1 << 31  # of an estimator: some 500 million weights
TORCH_KINDS = {kind for kind in _KINDS.values() if "torch.save" in kind}
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
    arrays = {n: np.asarray(v, v.dtype.newbyteorder("="), order="C") for n, v in tensors.items()}  # as it is read
    text = msgspec.json.encode(description)
    metadata = {_PREFIX + entry: text.decode(), _DIGEST: _digest(text, arrays)}
    with whole_file(path) as file:
        file.write(save(arrays, metadata))


def read_tensors(
    path: Path, entry: str, kind: type[_T], version: int, again: str = ". Save it again"
) -> tuple[_T, dict[str, Array]]:
    """Read what `write_tensors` wrote, checked against damage (not against forgery).

    Args:
        path: The file.
        entry: What kind of file it should be.
        kind: The type of its description.
        version: The newest version that can be read.
        again: What to do about damage, at the end of a sentence.

    Raises:
        ValueError: If it is another kind of file, damaged, or newer.
        OSError: If it cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file '{path}'")
    data = read_whole(path, "a file that lnn-edge wrote", _MOST_BYTES)
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:  # a dtype that NumPy lacks is a KeyError
        raise ValueError(f"'{path}' is not a safetensors file of lnn-edge: {reason_of(data, error)}") from error
    metadata = header_metadata(data)
    if _PREFIX + entry not in metadata:
        raise ValueError(f"'{path}' holds no {entry} of lnn-edge; it has the entries {one_line(sorted(metadata))}")
    text = metadata[_PREFIX + entry].encode()
    described = decode_description(f"'{path}'", text, kind, version)
    if _digest(text, tensors) != metadata.get(_DIGEST):
        raise ValueError(f"'{path}' is damaged: its content does not match its digest{again}")
    return described, tensors


def header_metadata(data: bytes) -> dict[str, str]:
    """The metadata in the header of a safetensors file that its own library has accepted."""
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = msgspec.json.decode(data[8 : 8 + length])
    metadata: dict[str, str] = header.get("__metadata__") or {}
    return metadata


def reason_of(data: bytes, error: Exception) -> str:
    """Why a file is none in the format safetensors: what it is instead, where its first bytes tell, else its fault."""
    kind = kind_of_file(data[:512])
    return f"it is {kind}" if kind else one_line(error)


def kind_of_file(beginning: bytes) -> str | None:
    """What a file is by its first bytes, if it is one of those that are taken for weights; `None` for others."""
    if not beginning:
        return "empty"
    if beginning[8:10] == b'{"':  # first, as the length before it may be any bytes
        return "a safetensors file"
    for start, kind in _KINDS.items():
        if beginning.startswith(start):
            return kind
    text = all(byte >= 32 or byte in b"\t\n\r" for byte in beginning)
    return "a text file" if text else None


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
        raise ValueError(f"{what} is damaged: its description is not valid: {one_line(error)}") from error


def content_digest(text: bytes, tensors: Iterable[TensorBytes]) -> str:
    """SHA-256 (hex) of a description and its tensors, which come sorted by name: damage is found, forgery is not."""
    digest = hashlib.sha256(text)
    for name, dtype, shape, data in tensors:
        digest.update(f"\n{name} {dtype} {shape}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def _digest(text: bytes, tensors: Mapping[str, Array]) -> str:
    return content_digest(text, ((n, _named(v.dtype), list(v.shape), v.tobytes()) for n, v in sorted(tensors.items())))


_named = cache(str)  # a dtype's name, which NumPy takes longer to put together than this to hash a small tensor
