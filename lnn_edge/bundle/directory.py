"""The bundle in its directory: every file read once and whole, and checked before anything uses it."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path

import msgspec

from ..errors import BundleError
from ..files.whole import named_in_errors
from .disk.reading import OpenBundle, opened_bundle
from .manifest import FILES, FileEntry, Manifest, decode_manifest, encode_json
from .onnx_graph import check_graph
from .program import StepProgram
from .program_file.agreement import differences
from .program_file.reading import MAX_TEXT_BYTES, decode_program
from .program_file.weights import MAX_WEIGHTS_BYTES
from .spec import PROGRAM_JSON, PROGRAM_WEIGHTS

__all__ = [
    "MANIFEST",
    "Bundle",
    "file_entry",
    "read_bundle",
    "write_manifest",
    "write_synced",
]

MANIFEST = "manifest.json"
_STARTS = 4  # of reading, while others replace what is read
# What a file may have at most; one that has more is refused before a byte is read.
_MAX_BYTES = {
    MANIFEST: 32 << 20,  # states have the range of each unit, 60 bytes: half a million units
    "model.onnx": 2 * MAX_WEIGHTS_BYTES,  # float32 is half of the program's float64, and may be there in four layouts
    "golden.safetensors": 256 << 20,  # a megabyte, or 16 steps of a few recordings where samples are pictures
    "report.json": 32 << 20,  # a line for each output and state, backend and recording
    PROGRAM_JSON: MAX_TEXT_BYTES,
    PROGRAM_WEIGHTS: MAX_WEIGHTS_BYTES + (1 << 20),
}
# Hashes of graphs that this process has checked: one that passed passes again, and a check is a sixth of a load.
_PASSED: set[str] = set()
_MOST_PASSED = 1000


class Bundle(msgspec.Struct, frozen=True):
    """A bundle in memory: every byte was hashed once and is used from here, never read again from disk."""

    path: Path
    manifest: Manifest
    files: dict[str, bytes]
    step: StepProgram | None = None  # of schema 2 and later

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r})"

    def program(self) -> StepProgram:
        """The step program.

        Raises:
            BundleError: If the bundle was written before there were any.
        """
        if self.step is None:
            raise BundleError(
                f"bundle '{self.path}' has schema {self.manifest.schema.version}, which holds no step program. Export "
                f"it again: lnn-edge export FILE.py:FACTORY {self.path} --overwrite"
            )
        return self.step

    def program_digest(self) -> str:
        """SHA-256, hexadecimal, of the step program and its weights, and of nothing else in the bundle.

        Raises:
            BundleError: As `program`.
        """
        self.program()
        parts = [hashlib.sha256(self.files[name]).digest() for name in (PROGRAM_JSON, PROGRAM_WEIGHTS)]
        return hashlib.sha256(b"".join(parts)).hexdigest()


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read and check a bundle: manifest, sizes, hashes, names, path safety.

    Another may take its place meanwhile: what is returned is all of the one or all of the other. A reader that loses
    the one begins with the other, three times.

    Args:
        path: The bundle's directory, `NAME.lnn`.

    Raises:
        BundleError: Naming the file and what is wrong with it.
        OSError: If this machine reads nothing now: too many files are open, or the disk does not answer.
    """
    root = Path(path)
    for again in reversed(range(_STARTS)):
        with opened_bundle(root, _MAX_BYTES) as opened:
            try:
                return _read_bundle(opened)
            except BundleError as error:
                if not again or not opened.is_changed():
                    raise BundleError(f"bundle '{root}': {error}") from error.__cause__
    raise AssertionError("the last start returns or raises")


def _read_bundle(opened: OpenBundle) -> Bundle:
    manifest = decode_manifest(_read(opened, MANIFEST))
    files = {name: _read_checked(opened, name, manifest.files[name]) for name in FILES[manifest.schema.version]}
    digest = manifest.files["model.onnx"].sha256
    if digest not in _PASSED:
        check_graph(files["model.onnx"])  # here, before anything that could run it has it
        if len(_PASSED) >= _MOST_PASSED:
            _PASSED.clear()
        _PASSED.add(digest)
    return Bundle(opened.root, manifest, files, _program(files, manifest))


def _program(files: dict[str, bytes], manifest: Manifest) -> StepProgram | None:
    """The step program, if there is one, checked to be a step of what the manifest describes."""
    if PROGRAM_JSON not in files:
        return None
    step = decode_program(files[PROGRAM_JSON], files[PROGRAM_WEIGHTS])
    problem = next(differences(manifest, step), None)
    if problem:
        raise BundleError(f"{PROGRAM_JSON} and {MANIFEST} differ: {problem}")
    return step


def _read(opened: OpenBundle, name: str, size: int | None = None) -> bytes:
    """Read one regular file. What it has is known before it is read, and no more is read: it may be sparse, or grow."""
    descriptor = opened.descriptor(name)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{name} is not a regular file")
    _check_size(name, status.st_size, size)
    with named_in_errors(opened.root / name), open(descriptor, "rb", buffering=0, closefd=False) as file:
        data = _whole(file, status.st_size + 1)
    if len(data) != status.st_size:
        raise BundleError(f"{name} changed while it was read, from {status.st_size} bytes on. Try again")
    return data


def _check_size(name: str, found: int, size: int | None) -> None:
    limit = _MAX_BYTES[name]
    if found > limit:
        raise BundleError(f"{name} has {found} bytes, more than the {limit} that a bundle may hold")
    if size is not None and found != size:
        raise BundleError(f"{name} has {found} bytes, but the manifest says {size}: it is truncated or changed")


def _whole(file: io.RawIOBase, most: int) -> bytes:
    """What a file has, but no more; one call to the system reads 2 GiB at most, and may read less than it is asked."""
    parts: list[bytes] = []
    while most > 0 and (part := file.read(most)):
        parts.append(part)
        most -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_checked(opened: OpenBundle, name: str, entry: FileEntry) -> bytes:
    data = _read(opened, name, entry.size)
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        raise BundleError(
            f"{name} was changed: its SHA-256 is {digest[:12]}..., the manifest says {entry.sha256[:12]}..."
        )
    return data


def file_entry(data: bytes) -> FileEntry:
    """Describe one file for the manifest."""
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with named_in_errors(path), open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write manifest.json into a staged bundle."""
    write_synced(root / MANIFEST, encode_json(manifest.signed()))
