"""Files of weights in the safetensors format: ours, which also describe the cores, and those of other programs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load

from ...files.whole import read_whole
from ...tensor_file import TORCH_KINDS, content_digest, decode_description, header_metadata, kind_of_file, reason_of
from ..cores.config import CoreConfig, problems

__all__ = [
    "CHECKPOINT_VERSION",
    "DESCRIPTION_ENTRY",
    "MOST_BYTES",
    "Description",
    "Format",
    "WeightsFile",
    "read_weights",
]

CHECKPOINT_VERSION = 1
MOST_BYTES = 1 << 34  # of weights: more than a device that runs them holds
DESCRIPTION_ENTRY = "lnn_edge.checkpoint"


class Format(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The format's name and version."""

    name: Literal["lnn-edge checkpoint"] = "lnn-edge checkpoint"
    version: int = CHECKPOINT_VERSION


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a checkpoint holds beside its tensors.

    Args:
        format: The format's name and version.
        cores: How every liquid core was built.
        versions: Versions of the packages that wrote the file.
        digest: SHA-256 over all the rest and the tensors; it guards against damage, not against forgery.
    """

    format: Format
    cores: tuple[CoreConfig, ...]
    versions: dict[str, str]
    digest: str = ""

    def signed(self, tensors: Mapping[str, torch.Tensor]) -> Description:
        """With `digest` filled in."""
        unsigned = msgspec.structs.replace(self, digest="")
        parts = ((name, str(t.dtype), list(t.shape), _content(t)) for name, t in sorted(tensors.items()))
        return msgspec.structs.replace(self, digest=content_digest(msgspec.json.encode(unsigned), parts))


def _content(tensor: torch.Tensor) -> bytes:
    """Its bytes, of dtypes that NumPy lacks as well."""
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file in memory; `description` is `None` if another program wrote it."""

    path: Path
    tensors: dict[str, torch.Tensor]
    description: Description | None
    sha256: str


def read_weights(path: Path) -> WeightsFile:
    """Read a safetensors file, whoever wrote it. Nothing that it describes is built.

    Raises:
        ValueError: If it is not a safetensors file, or a checkpoint that is damaged or of a newer format.
        OSError: If it cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(f"no weights file '{path}'")
    data = read_whole(path, "a file of weights", MOST_BYTES)
    try:
        tensors: dict[str, torch.Tensor] = load(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        ending = ". Name it .pt" if kind_of_file(data[:512]) in TORCH_KINDS else ""
        raise ValueError(f"'{path}' is not a safetensors file: {reason_of(data, error)}{ending}") from error
    metadata = header_metadata(data)
    entry = metadata.get(DESCRIPTION_ENTRY)
    if entry is None:
        tensors |= {name: tensors[kept] for name, kept in metadata.items() if name not in tensors and kept in tensors}
    description = None if entry is None else _decoded(entry, tensors, path)
    return WeightsFile(path, tensors, description, hashlib.sha256(data).hexdigest())


def _decoded(entry: str, tensors: Mapping[str, torch.Tensor], path: Path) -> Description:
    description = decode_description(f"checkpoint '{path}'", entry, Description, CHECKPOINT_VERSION)
    wrong = next(_inconsistencies(description, tensors), None)
    if wrong:
        raise ValueError(f"checkpoint '{path}' is damaged: {wrong}. Save it again from training")
    return description


def _inconsistencies(description: Description, tensors: Mapping[str, torch.Tensor]) -> Iterator[str]:
    if description.format.version != CHECKPOINT_VERSION:
        yield f"its format version {description.format.version} was never written, expected {CHECKPOINT_VERSION}"
    if description.signed(tensors).digest != description.digest:
        yield "its content does not match its digest, so something changed since it was saved"
    names = [core.name for core in description.cores]
    if len(set(names)) != len(names) or ("" in names and len(names) > 1):
        yield f"it describes the cores {names}, expected different names, or the model itself alone"
    elements = sum(tensor.numel() for tensor in tensors.values())
    for core in description.cores:
        for problem in problems(core, elements, len(tensors)):
            yield f"it describes {problem}"
