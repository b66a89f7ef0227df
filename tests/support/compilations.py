"""Count of a test run's compilations of generated models, by all its processes, told at its end.

A call of a compiler counts that was given the text of a model, or of the functions that models are made of, and has
compiled it: for a library, a program, an object, sizes or warnings, by the product or by a test. Scripts that tests put
in the place of a compiler, and that fail as they should, compile nothing.

Where tests do not ask for it, `CC` names a compiler that is not there, for this process and for what it starts: exports
and loads then leave the backend `native` out, as on a machine without a compiler, and none of them compiles.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lnn_edge.cli.cross_compile import Sizes
    from lnn_edge.codegen.form import Source
    from lnn_edge.codegen.targets import Target
    from lnn_edge.runtime.backends.native.compiler import Compiler

__all__ = ["NO_COMPILER", "assert_gone", "compiling_once", "counted", "counting", "summary", "usual_compiler"]

NO_COMPILER = "no-compiler-for-this-test"
_file: list[Path] = []  # to which this process writes


@dataclass
class Call:
    """One call of a compiler."""

    compiled: bool = True


@contextmanager
def counted(what: str) -> Iterator[Call]:
    """A block with one call of a compiler; one that raises has compiled nothing."""
    before, call = _cpu_s(), Call()
    yield call
    for path in _file if call.compiled else ():
        with path.open("a") as file:
            test = os.environ.get("PYTEST_CURRENT_TEST", "between tests")
            file.write(f"{_cpu_s() - before:.2f} {what} in {test}\n")


def _cpu_s() -> float:
    """Of all programs that this process has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def counting(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Count what the backend compiles, in a file of this folder, which all workers share."""
    from lnn_edge.cli import cross_compile
    from lnn_edge.runtime.backends.native import compiler

    _file[:] = [folder / "compilations.txt"]
    watched: Callable[[list[str], Path], tuple[str, int]] = compiler._watched
    crossed: Callable[..., None] = cross_compile._run

    def run(command: list[str], where: Path) -> tuple[str, int]:
        with counted(" ".join(command[-4:])) as call:
            said, status = watched(command, where)
            call.compiled = status == 0
            return said, status

    def cross(command: list[str], *rest: Any) -> None:
        with counted(" ".join(command[-4:])):
            crossed(command, *rest)

    patch.setattr(compiler, "_watched", run)
    patch.setattr(cross_compile, "_run", cross)


def compiling_once(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Give the product what was compiled before in this run, by any worker, from the same text in the same way.

    Tests that begin with an empty cache then find out what the backend asks for, and wait for no compiler; `codegen`
    measures the same text once.
    """
    from lnn_edge.cli import cross_compile
    from lnn_edge.runtime.backends.native import backend, checks

    compiled, sizes, kept = backend.compiled, cross_compile._sizes, folder / "compiled"
    kept.mkdir(exist_ok=True)

    def kept_of(key: object, make: Callable[[], bytes]) -> bytes:
        path = kept / hashlib.sha256(repr(key).encode()).hexdigest()[:32]
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                path.write_bytes(make())
        return path.read_bytes()

    def once(compiler: Compiler, source: Source, prefix: str, flags: tuple[str, ...], keep: Path) -> bytes:
        program = shutil.which(compiler.command[0])
        if program is None:
            return compiled(compiler, source, prefix, flags, keep)
        key = (os.path.realpath(program), compiler.command[1:], source, prefix, flags)  # `cc` and `gcc` may be one
        return kept_of(key, lambda: compiled(compiler, source, prefix, flags, keep))

    def sizes_once(
        command: list[str], files: dict[str, str], prefix: str, target: Target, more: tuple[str, ...]
    ) -> Sizes:
        own = {name: files[name] for name in (f"{prefix}.h", f"{prefix}.c")}
        key = (shutil.which(command[0]), command, own, prefix, target, more)
        return pickle.loads(kept_of(key, lambda: pickle.dumps(sizes(command, files, prefix, target, more))))

    for module in (backend, checks):
        patch.setattr(module, "compiled", once)
    patch.setattr(cross_compile, "_sizes", sizes_once)


def assert_gone(process: int) -> None:
    """Of what a compiler started that was stopped."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":  # ended, and nobody has asked how
            return
        time.sleep(0.01)
    raise AssertionError("a process that the compiler started is still there")


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
    return f"{len(lines)} compilations of generated models, {seconds:.0f} s of a processor"
