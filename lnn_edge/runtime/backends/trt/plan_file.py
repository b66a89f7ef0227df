"""An engine in a file, for GPUs elsewhere: a line of JSON that says what it is for, and the engine behind it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from ....errors import BackendUnavailable
from ....files import whole_file
from ....format_version import newer_version

__all__ = ["PlanHeader", "is_plan", "read_plan", "write_plan"]

_MAGIC = b"lnn-edge engine\n"
_VERSION = 1
_LONGEST_HEADER = 1 << 16
_LONGEST_PLAN = 1 << 31


class PlanHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine is for.

    Args:
        backend: The backend that runs it.
        builder: The version that built it, which alone can load it.
        targets: The GPUs, "sm_86" and the like.
        bundle: Name of the bundle.
        model: SHA-256 of its model.onnx.
        tf32: Whether float32 products may be computed with 10 bits of mantissa.
        nodes: How many pieces of work a step is for the GPU; 0 where that is not known.
        version: Of this header.
        sha256, size: Of the engine.
    """

    backend: str
    builder: str
    targets: tuple[str, ...]
    bundle: str
    model: str
    tf32: bool
    nodes: int
    version: int = _VERSION
    sha256: str = ""
    size: int = 0


def is_plan(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as these do."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def write_plan(path: Path, header: PlanHeader, plan: bytes) -> None:
    """Write an engine, whole or not at all.

    Raises:
        OSError: If the file cannot be written.
    """
    digest = hashlib.sha256(plan).hexdigest()
    line = msgspec.json.encode(msgspec.structs.replace(header, sha256=digest, size=len(plan)))
    with whole_file(path) as file:
        file.write(b"%s%s\n%s" % (_MAGIC, line, plan))


def read_plan(path: Path) -> tuple[PlanHeader, bytes]:
    """Read an engine.

    Raises:
        BackendUnavailable: If it is none, of a newer lnn-edge, or not as it was written.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise BackendUnavailable(f"'{path}' is no engine that `lnn-edge build --for GPU -o FILE` wrote")
        line = file.readline(_LONGEST_HEADER)
        plan = file.read(_LONGEST_PLAN)
    header = _header(path, line)
    if len(plan) != header.size or hashlib.sha256(plan).hexdigest() != header.sha256:
        raise BackendUnavailable(f"'{path}' was cut or changed since it was built: copy it again")
    return header, plan


def _header(path: Path, line: bytes) -> PlanHeader:
    try:
        newer = newer_version(line, _VERSION)
        if newer:
            raise BackendUnavailable(f"'{path}' {newer}")
        return msgspec.json.decode(line, type=PlanHeader)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BackendUnavailable(f"'{path}' says of itself what no engine does: {error}. Build it again") from error
