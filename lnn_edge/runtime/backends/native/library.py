"""A compiled step, loaded from its bytes and called through ctypes.

What is loaded is what was checked: the bytes lie in memory, under a name of their own for the loader, and no file is
opened a second time. A cache on a disk that allows no programs does no harm.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from pathlib import Path
from typing import Any

from ....codegen.form import ABI
from ....errors import BackendUnavailable
from ..forks import Turns

__all__ = ["DONE", "Facts", "Library", "load_library", "opened"]

_SHOWN = 12  # digits of a build's name
DONE = 0  # what a call returns that was done


class Facts(ctypes.Structure):
    """What a library says of itself: see the generated header."""

    _fields_ = (
        ("abi", ctypes.c_uint32),
        ("lanes", ctypes.c_uint32),
        ("model", ctypes.c_uint64),
        ("input", ctypes.c_uint64),
        ("output", ctypes.c_uint64),
        ("state", ctypes.c_uint64),
        ("results", ctypes.c_uint64),
        ("work", ctypes.c_uint64),
        ("digest", ctypes.c_ubyte * 68),
    )


class Library:
    """The functions of one library. It keeps nothing between calls, so streams and threads share it.

    Attributes:
        facts: What it says of itself.
        digest: What it was made from.
        build: Its name: what its bytes are, so that another one gives other last bits, and this one never does.
        advance: The step: scratch memory, sample, place with the state, place for the results.
    """

    def __init__(self, library: ctypes.CDLL, prefix: str, build: str = "") -> None:
        self.build, self._prefix = build, prefix
        self.facts = Facts.in_dll(library, f"{prefix}_about")
        self.digest = bytes(self.facts.digest).rstrip(b"\0").decode()
        self.advance: Any = getattr(library, f"{prefix}_advance")
        self.advance.restype = ctypes.c_int
        self.advance.argtypes = [ctypes.c_void_p] * 4
        self.whole = library

    def function(self, name: str, result: Any, *arguments: Any) -> Any:
        """A function of the public interface."""
        found = self.whole[f"{self._prefix}_{name}"]  # with types of its own, unlike an attribute
        found.restype, found.argtypes = result, arguments
        return found


_loaded: dict[str, Library] = {}  # by SHA-256; a library is never unloaded, so each is loaded once
_loading = Turns()


def load_library(data: bytes, prefix: str, digest: str) -> Library:
    """Load a library that was compiled here.

    Args:
        data: Its bytes.
        prefix: Of its names.
        digest: What it must have been made from.

    Raises:
        BackendUnavailable: If it cannot be loaded, or is of something else.
    """
    name = hashlib.sha256(data).hexdigest()
    with _loading.lock:
        if name not in _loaded:
            try:
                _loaded[name] = Library(opened(data), prefix, name[:_SHOWN])
            except (OSError, AttributeError, ValueError) as error:
                raise BackendUnavailable(f"the compiled step cannot be loaded: {error}") from error
    found = _loaded[name]
    if found.facts.abi != ABI or found.digest != digest:
        raise BackendUnavailable("the compiled step is of another bundle or version")
    return found


def opened(data: bytes) -> ctypes.CDLL:
    """A library for as long as the process runs.

    The loader knows libraries by their names: the descriptor stays open, so that its name is never given again.

    Raises:
        OSError: If the loader refuses it.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("lnn-edge", os.MFD_CLOEXEC)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        return ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="lnn-edge-"))
    try:
        (folder / "step.so").write_bytes(data)
        return ctypes.CDLL(str(folder / "step.so"))
    finally:
        (folder / "step.so").unlink(missing_ok=True)
        folder.rmdir()
