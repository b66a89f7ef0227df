"""The bundle on disk: a directory that is read whole, checked whole, and written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import BundleError
from ..files import named_in_errors
from .agreement import differences
from .manifest import FILES, FileEntry, Manifest, decode_manifest, encode_json
from .onnx_graph import check_graph
from .program import StepProgram
from .program_files import MAX_TEXT_BYTES, decode_program
from .program_weights import MAX_WEIGHTS_BYTES
from .spec import PROGRAM_JSON, PROGRAM_WEIGHTS

__all__ = [
    "MANIFEST",
    "SUFFIX",
    "Bundle",
    "check_target",
    "file_entry",
    "read_bundle",
    "staged_directory",
    "write_manifest",
    "write_synced",
]

MANIFEST = "manifest.json"
SUFFIX = ".lnn"
# What a file may have at most; one that has more is refused before a byte is read.
_MAX_BYTES = {
    MANIFEST: 32 << 20,  # states have the range of each unit, 60 bytes: half a million units
    "model.onnx": 2 * MAX_WEIGHTS_BYTES,  # float32 is half of the program's float64, and may be there in four layouts
    "golden.safetensors": 256 << 20,  # a megabyte, or 16 steps of a few recordings where samples are pictures
    "report.json": 32 << 20,  # a line for each output and state, backend and recording
    PROGRAM_JSON: MAX_TEXT_BYTES,
    PROGRAM_WEIGHTS: MAX_WEIGHTS_BYTES + (1 << 20),
}


@dataclass(frozen=True)
class Bundle:
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


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read and check a bundle: manifest, sizes, hashes, names, path safety.

    Args:
        path: The bundle's directory, `NAME.lnn`.

    Raises:
        BundleError: Naming the file and what is wrong with it.
    """
    root = Path(path)
    _require_directory(root)
    try:
        manifest = decode_manifest(_read(root, MANIFEST))
        files = {name: _read_checked(root, name, manifest.files[name]) for name in FILES[manifest.schema.version]}
        check_graph(files["model.onnx"])  # here, before anything that could run it has it
        step = _program(files, manifest)
    except BundleError as error:
        raise BundleError(f"bundle '{root}': {error}") from error.__cause__
    return Bundle(root, manifest, files, step)


def _program(files: dict[str, bytes], manifest: Manifest) -> StepProgram | None:
    """The step program, if there is one, checked to be a step of what the manifest describes."""
    if PROGRAM_JSON not in files:
        return None
    step = decode_program(files[PROGRAM_JSON], files[PROGRAM_WEIGHTS])
    problem = next(differences(manifest, step), None)
    if problem:
        raise BundleError(f"{PROGRAM_JSON} and {MANIFEST} differ: {problem}")
    return step


def _require_directory(root: Path) -> None:
    try:
        mode = os.stat(root).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise BundleError(f"no bundle at '{root}'. Type: lnn-edge export FILE.py:FACTORY {root}") from None
    except OSError as error:
        raise BundleError(f"bundle '{root}' cannot be read: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise BundleError(f"'{root}' is a file, but a bundle is a directory that `lnn-edge export` writes")


def _read(root: Path, name: str, size: int | None = None) -> bytes:
    """Read one regular file; links are refused, because a bundle must not point outside itself.

    What it has is known before it is read, and no more is read: a file may be sparse, or grow meanwhile.
    """
    try:
        descriptor = os.open(root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise BundleError(f"{name} is missing. Export the bundle again or copy the whole directory") from None
    except OSError as error:
        reason = "it is a link, and a bundle holds plain files only" if error.errno == errno.ELOOP else error.strerror
        raise BundleError(f"{name} cannot be read: {reason}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{name} is not a regular file")
        _check_size(name, status.st_size, size)
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            data = _whole(file, status.st_size + 1)
    finally:
        os.close(descriptor)
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


def _read_checked(root: Path, name: str, entry: FileEntry) -> bytes:
    data = _read(root, name, entry.size)
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


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse a target that cannot be written, before any long work.

    Raises:
        ValueError: If the name is no bundle name, something is there already, or it is not a bundle.
        OSError: If the parent directory is missing or not writable.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"a bundle's name ends in '{SUFFIX}', got '{path}'. Type: {path.stem or 'model'}{SUFFIX}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"directory '{path.parent}' does not exist. Type: mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(f"directory '{path.parent}' is not writable")
    if path.exists() or path.is_symlink():
        if not (path / MANIFEST).is_file():
            raise ValueError(f"'{path}' exists and is not a bundle; it is left alone. Choose another name")
        if not overwrite:
            raise ValueError(f"'{path}' exists. Choose another name, or pass overwrite=True (--overwrite)")


@contextmanager
def staged_directory(target: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary directory beside `target`; on success it becomes `target`, on any failure it is gone.

    A reader sees the old bundle or the new one. Only while an old bundle is being replaced is there a moment with
    none; the old one then lies beside it and is put back if the second rename fails.
    """
    check_target(target, overwrite)
    with named_in_errors(target):
        stage = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        with named_in_errors(target, stage):
            yield stage
            stage.chmod(0o755)
            _sync_directory(stage)
            _move_into_place(stage, target)
        _sync_directory(target.parent)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _move_into_place(stage: Path, target: Path) -> None:
    if not target.exists():
        stage.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    try:
        target.rename(old / target.name)
        stage.rename(target)
    finally:
        if not target.exists():  # Ctrl-C may come between the two
            (old / target.name).rename(target)
        shutil.rmtree(old, ignore_errors=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with named_in_errors(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
