"""Paths of a command, those that it reads beside those that it writes: no output takes the place of an input."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["READS", "WRITES", "check_paths", "use_standard_names"]

# By the parser's names. A command that reads or writes by another one has it added here; a test looks for it.
READS = {
    "bundle": "the bundle",
    "input": "--input",
    "source": "SOURCE",
    "against": "--against",
    "weights": "--weights",
    "example": "--example",
    "scale_inputs": "--scale-inputs",
    "scale_outputs": "--scale-outputs",
    "guard": "--guard",
}
WRITES = {
    "new_bundle": "the new bundle",
    "output": "--output",
    "resume": "--resume",
    "record": "--record",
    "record_csv": "--record-csv",
    "json": "--json",
    "plot": "--plot",
    "folder": "-o",
}
_FOLDERS = ("new_bundle", "folder")
_CODE = ("source", "against")  # FILE.py:FACTORY or package.module:FACTORY
_STANDARD_OUTPUT = {"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}
_SAME = (stat.S_ISREG, stat.S_ISFIFO, stat.S_ISDIR)  # a terminal, a socket or /dev/null may well be both


class _Place(NamedTuple):
    """A path or a standard stream: what the user calls it, where it really lies, and which file it is if there."""

    what: str
    real: str | None
    file: tuple[int, int] | None


def use_standard_names(arguments: argparse.Namespace) -> None:
    """Let `/dev/stdout` be "-": where it is a file, a result put in its place would displace what else is printed."""
    for name in ("output", "json"):
        if os.path.normpath(getattr(arguments, name, None) or "") in _STANDARD_OUTPUT:
            setattr(arguments, name, "-")


def check_paths(arguments: argparse.Namespace) -> None:
    """Refuse a command that would write where it reads, twice to one place, or into a bundle.

    Files are the same if they are one behind links, by whatever name.

    Raises:
        ValueError: Naming both.
    """
    _check_names(arguments)
    reads, writes = list(_reads(arguments)), list(_writes(arguments))
    for k, own in enumerate(writes):
        for read in reads:
            if _covers(own, read) or _covers(read, own):
                raise ValueError(f"{own.what} would take the place of {read.what}, which is read: {_another(own)}")
        for other in (*writes[:k], *_printed()):
            if _covers(own, other) or _covers(other, own):
                raise ValueError(f"{own.what} and {other.what} are one place: {_another(own)}")
        _check_in_no_bundle(own)
    if getattr(arguments, "folder", None) is not None:  # of one that is there only new files are written
        _check_in_no_bundle(_place(f"-o '{arguments.folder}'", os.path.join(arguments.folder, "main.c")))
    for printed in _printed():
        for read in reads:
            if printed.file == read.file:
                raise ValueError(f"{printed.what} goes to {read.what}, which is read: send it to another file")


def _check_names(arguments: argparse.Namespace) -> None:
    """Refuse what no file is named: nothing at all would be the folder, and a folder is no file to be written."""
    for name, what in (READS | WRITES).items():
        given = getattr(arguments, name, None)
        if given == "":
            raise ValueError(f"{what} is empty, expected the name of a file")
        if name in WRITES and name not in _FOLDERS and given is not None and given.endswith(os.sep):
            raise ValueError(f"{what} '{given}' is the name of a folder, expected that of a file in it")


def _another(place: _Place) -> str:
    return f"give {place.what.partition(' ')[0] if place.what.startswith('-') else 'it'} another name"


def _covers(one: _Place, other: _Place) -> bool:
    """Whether they are one file, or `other` lies in the directory `one`."""
    if one.file is not None and one.file == other.file:
        return True
    if one.real is None or other.real is None:
        return False
    return other.real == one.real or other.real.startswith(one.real.rstrip(os.sep) + os.sep)


def _check_in_no_bundle(place: _Place) -> None:
    from ..bundle.directory import MANIFEST
    from ..bundle.disk.writing import SUFFIX

    for folder in Path(place.real or "").parents:
        if folder.suffix == SUFFIX and (folder / MANIFEST).exists():
            raise ValueError(
                f"{place.what} lies in the bundle '{folder}', whose files are signed: another one there would spoil "
                f"it. {_another(place).capitalize()}"
            )


def _reads(arguments: argparse.Namespace) -> Iterator[_Place]:
    for name, what in READS.items():
        given = getattr(arguments, name, None)
        if given == "-" and name == "input":
            yield from _streamed("standard input", sys.stdin)
        elif given is not None:
            path = _code_file(given) if name in _CODE else given
            yield _place(f"{what} '{given}'", path)
            for file in _files_in(path):  # a name elsewhere may be a hard link to one of them
                yield _place(f"{what} '{given}'", file)


def _writes(arguments: argparse.Namespace) -> Iterator[_Place]:
    for name, what in WRITES.items():
        given = getattr(arguments, name, None)
        # A directory where a file is expected is refused by whoever would write it.
        if given not in (None, "-") and (name == "new_bundle" or not os.path.isdir(given)):
            yield _place(f"{what} '{given}'", given)


def _printed() -> Iterator[_Place]:
    """Standard output and standard error where they go to a file."""
    for what, stream in (("standard output", sys.stdout), ("standard error", sys.stderr)):
        yield from _streamed(what, stream)


def _streamed(what: str, stream: object) -> Iterator[_Place]:
    try:
        found = os.fstat(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):  # closed, or none of the system's, as in a notebook
        return
    if stat.S_ISREG(found.st_mode):
        yield _Place(what, None, (found.st_dev, found.st_ino))


def _place(what: str, path: str) -> _Place:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # not there, which whoever opens it will say better
        return _Place(what, _real(path), None)
    known = any(is_kind(found.st_mode) for is_kind in _SAME)
    return _Place(what, _real(path), (found.st_dev, found.st_ino)) if known else _Place(what, None, None)


def _real(path: str) -> str | None:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return None


def _files_in(path: str) -> Iterator[str]:
    try:
        with os.scandir(path) as found:
            yield from (entry.path for entry in found if entry.is_file())
    except (OSError, ValueError):
        return


def _code_file(source: str) -> str:
    """The file of FILE.py:FACTORY, of package.module:FACTORY, or of a checkpoint."""
    place, colon, _ = source.rpartition(":")
    if not colon or os.path.exists(source):
        return source
    if place.endswith(".py"):
        return place
    inside = place.replace(".", os.sep)
    tried = (os.path.join(base, inside + end) for base in ("", *sys.path) for end in (".py", f"{os.sep}__init__.py"))
    return next((path for path in tried if os.path.isfile(path)), place)
