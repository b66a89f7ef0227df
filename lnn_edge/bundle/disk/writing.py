"""Bundles written: staged beside their place, and put there in one step of the system.

Where one is there already, the two are exchanged. Where the system has no exchange the old one is renamed away and the
new one in; a reader that comes between waits (see `reading`), and what a kill leaves between is put back by the next
reader or writer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ...files.staging import OLD, beside, keep_rights, lock, moved, settle, staged
from ...files.whole import named_in_errors, real_place, sync_names
from ...wording import typed
from ..directory import MANIFEST
from .exchange import exchange

__all__ = ["SUFFIX", "check_target", "staged_directory"]

SUFFIX = ".lnn"


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse a target that cannot be written, before any long work.

    Raises:
        ValueError: If the name is no bundle name, something is there already, or it is not a bundle.
        OSError: If the parent directory is missing or not writable.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"a bundle's name ends in '{SUFFIX}', got '{path}'. Type: {path.stem or 'model'}{SUFFIX}")
    if path.name != path.name.encode(errors="replace").decode():  # it becomes the model's, in manifest and graph
        raise ValueError(f"a bundle's name is text in UTF-8, got {path.name!r}. Choose plain letters")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"directory '{path.parent}' does not exist. Type: mkdir -p {path.parent}")
    place = real_place(path) if path.exists() else path
    if not os.access(place.parent, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(f"directory '{place.parent}' is not writable")
    if path.exists() or path.is_symlink():
        if not (path / MANIFEST).is_file():
            raise ValueError(f"'{path}' exists and is not a bundle; it is left alone. Choose another name")
        if not overwrite:
            raise ValueError(f"'{path}' exists. Choose another name, or pass {typed('overwrite=True', '--overwrite')}")


@contextmanager
def staged_directory(target: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary directory beside `target`; on success it becomes `target`, on any failure it is gone.

    A reader sees the old bundle or the new one, at every moment. A link stays a link: the bundle that it names is
    replaced. The directory has the rights of the one that it replaces, or else those that the umask leaves.
    """
    check_target(target, overwrite)
    place = real_place(target)
    ours = place.with_name(f".{place.name}.")  # as every staged name begins
    with named_in_errors(target, ours), staged(place, _make_directory) as (stage, descriptor):
        yield stage
        keep_rights(descriptor, place)
        _sync(descriptor, stage)
        _put_in_place(stage, place, overwrite)
        sync_names(place.parent)


def _make_directory(path: Path) -> int | None:
    os.mkdir(path)
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _put_in_place(stage: Path, place: Path, overwrite: bool) -> None:
    if overwrite and exchange(stage, place):  # the stage is the old one now, and is removed
        return
    while not moved(stage, place):
        if not overwrite:
            raise ValueError(f"'{place}' was made by somebody else meanwhile; it is left alone")
        with _out_of_the_way(place):
            if moved(stage, place):
                return


@contextmanager
def _out_of_the_way(place: Path) -> Iterator[None]:
    """Rename a bundle away; after the block it has its place again unless another is there."""
    old = beside(place, OLD)
    with ExitStack() as stack:
        with suppress(FileNotFoundError):  # another writer has just done so
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            lock(descriptor)  # who reads waits as long as it is held
            stack.callback(settle, old, place, OLD)
            os.rename(place, old)
        yield


def _sync(descriptor: int, path: Path) -> None:
    with named_in_errors(path):
        os.fsync(descriptor)
