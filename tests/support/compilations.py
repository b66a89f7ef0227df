"""How often a run of the tests starts a C compiler: counted by all its processes, and said at its end.

Where tests do not ask for it, `CC` names a compiler that is not there, for this process and for what it starts: exports
and loads then leave the backend `native` out, as on a machine without a compiler, and none of them compiles.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lnn_edge.codegen.form import Source
    from lnn_edge.runtime.backends.native.compiler import Compiler

__all__ = ["NO_COMPILER", "compiling_once", "counted", "counting", "summary", "usual_compiler"]

NO_COMPILER = "no-compiler-for-this-test"
_file: list[Path] = []  # to which this process writes


@contextmanager
def counted(what: str) -> Iterator[None]:
    """One call of a compiler."""
    before = _cpu_s()
    try:
        yield
    finally:
        for path in _file:
            with path.open("a") as file:
                test = os.environ.get("PYTEST_CURRENT_TEST", "between tests")
                file.write(f"{_cpu_s() - before:.2f} {what} in {test}\n")


def _cpu_s() -> float:
    """Of all programs that this process has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def counting(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Count what the backend compiles, in a file of this folder, which all workers share."""
    from lnn_edge.runtime.backends.native import compiler

    _file[:] = [folder / "compilations.txt"]
    watched: Callable[[list[str], Path], tuple[str, int]] = compiler._watched

    def run(command: list[str], where: Path) -> tuple[str, int]:
        with counted(" ".join(command[-4:])):
            return watched(command, where)

    patch.setattr(compiler, "_watched", run)


def compiling_once(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Give the backend what was compiled before in this run, by any worker, from the same text in the same way.

    Tests that begin with an empty cache then find out what the backend asks for, and wait for no compiler.
    """
    from lnn_edge.runtime.backends.native import backend

    compiled, kept = backend.compiled, folder / "compiled"
    kept.mkdir(exist_ok=True)

    def once(compiler: Compiler, source: Source, prefix: str, flags: tuple[str, ...], keep: Path) -> bytes:
        if shutil.which(compiler.command[0]) is None:
            return compiled(compiler, source, prefix, flags, keep)
        key = hashlib.sha256(repr((compiler, source, prefix, flags)).encode()).hexdigest()
        path = kept / key[:32]
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                path.write_bytes(compiled(compiler, source, prefix, flags, keep))
        return path.read_bytes()

    patch.setattr(backend, "compiled", once)


@contextmanager
def usual_compiler() -> Iterator[None]:
    """A block in which this machine's own compiler is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CC", raising=False)
        yield


def summary(folder: Path) -> str:
    """What a run has compiled."""
    try:
        lines = (folder / "compilations.txt").read_text().splitlines()
    except FileNotFoundError:
        return ""
    seconds = sum(float(line.partition(" ")[0]) for line in lines)
    return f"{len(lines)} calls of a C compiler, {seconds:.0f} s of a processor"
