"""An engine in a file, for GPUs elsewhere: a line of JSON that says what it is for, and the engine behind it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from ....bundle.manifest import control_characters
from ....errors import BackendUnavailable
from ....files.whole import read_whole, whole_file
from ....format_version import newer_version
from ....wording import one_line
from .dialects import FOR_RTX

__all__ = ["PlanHeader", "is_plan", "read_plan", "write_plan"]

_MAGIC = b"lnn-edge engine\n"
_VERSION = 2  # in 1 the checksum was of the engine alone
_LONGEST_HEADER = 1 << 16
_LONGEST_PLAN = 1 << 31

# What is shown, and compared with what is here, comes from a file that anyone may have made.
_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Gpu = Annotated[str, msgspec.Meta(pattern=r"^sm_[0-9]{2,4}[a-z]?\Z")]
_Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=_LONGEST_PLAN)]


class PlanHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine is for.

    Args:
        builder: The version that built it, which alone can load it.
        targets: The GPUs, "sm_86" and the like.
        bundle: Name of the bundle.
        model: SHA-256 of its model.onnx.
        tf32: Whether float32 products may be computed with 10 bits of mantissa.
        nodes: How many pieces of work a step is for the GPU; 0 where that is not known.
        backend: The backend that runs it.
        version: Of this header.
        sha256: Of this header without it, and of the engine.
        size: Of the engine.
    """

    builder: _Short
    targets: Annotated[tuple[_Gpu, ...], msgspec.Meta(min_length=1, max_length=64)]
    bundle: _Short
    model: _Hash
    tf32: bool
    nodes: _Count
    backend: Literal["tensorrt-rtx"] = "tensorrt-rtx"
    version: Annotated[int, msgspec.Meta(ge=1)] = _VERSION
    sha256: _Hash = ""
    size: _Count = 0


def is_plan(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as these do; a pipe or a device is none, and is not waited for.

    Raises:
        OSError: If there is a file, and it cannot be read.
    """
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def write_plan(path: Path, header: PlanHeader, plan: bytes) -> None:
    """Write an engine, whole or not at all.

    Raises:
        OSError: If the file cannot be written.
    """
    sized = msgspec.structs.replace(header, size=len(plan))
    line = msgspec.json.encode(msgspec.structs.replace(sized, sha256=_digest(sized, plan)))
    with whole_file(path) as file:
        file.write(b"%s%s\n%s" % (_MAGIC, line, plan))


def read_plan(path: Path) -> tuple[PlanHeader, bytes]:
    """Read an engine.

    Raises:
        BackendUnavailable: If it is none, of a newer lnn-edge, or not as it was written.
        OSError: If it cannot be read.
        ValueError: If it is no plain file, too large, or changed while it was read.
    """
    data = read_whole(path, "an engine", _LONGEST_PLAN)
    if not data.startswith(_MAGIC):
        raise BackendUnavailable(f"'{path}' is no engine that `lnn-edge build --for GPU -o FILE` wrote")
    line = data[len(_MAGIC) : len(_MAGIC) + _LONGEST_HEADER].partition(b"\n")[0]
    header = _header(path, line)
    plan = data[len(_MAGIC) + len(line) + 1 :]
    if len(plan) != header.size or _digest(header, plan) != header.sha256:
        raise BackendUnavailable(f"'{path}' was cut or changed since it was built: copy it again")
    return header, plan


def _digest(header: PlanHeader, plan: bytes) -> str:
    """What is shown of an engine, and what says on which GPU it may be loaded, is as it was built as well."""
    told = b"" if header.version == 1 else msgspec.json.encode(msgspec.structs.replace(header, sha256=""))
    return hashlib.sha256(told + plan).hexdigest()


def _header(path: Path, line: bytes) -> PlanHeader:
    try:
        newer = newer_version(line, _VERSION)
        if newer:
            raise BackendUnavailable(f"'{path}' {newer}")
        header = msgspec.json.decode(line, type=PlanHeader)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _strange(path, str(error)) from error
    unprintable = next(control_characters(msgspec.to_builtins(header)), None)
    if unprintable is not None:
        raise _strange(path, f"control characters in `{unprintable}`")
    return header


def _strange(path: Path, what: str) -> BackendUnavailable:
    return BackendUnavailable(
        f"'{path}' says of itself what no engine does: {one_line(what)}. Build it again, on a machine that you trust. "
        f"Type: lnn-edge build BUNDLE --backend {FOR_RTX.backend} --for GPU,... -o {path.name}"
    )
