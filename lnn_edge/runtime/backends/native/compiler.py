"""This machine's C compiler: `CC`, `cc`, `gcc` or `clang`, given two files in a folder of its own, and watched.

It gets no shell, 120 seconds and 2 GB of memory, and is ended with everything that it started when its time is over, or
when whoever waits for it is interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ....errors import BackendUnavailable
from ..build_cache import EngineRefused
from .watched import watched

if TYPE_CHECKING:  # here and below: a machine without a compiler must not wait for what it has no use for
    from ....codegen.form import Source
    from ..build_cache import EngineCache

__all__ = [
    "FLAGS",
    "OPTIMIZATION",
    "CompileFailed",
    "Compiler",
    "compiled",
    "find_compiler",
    "flags_for",
    "why_not_ready",
]

# No -ffast-math: results that are not finite must be seen. These two keep every value; `errno` and traps nobody reads.
FLAGS = ("-std=gnu99", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
OPTIMIZATION = "-O3"
_TIMEOUT_S = 120.0
_MEMORY_BYTES = 2 << 30
_CANDIDATES = ("cc", "gcc", "clang")
_INSTALL = "Type: sudo apt install gcc, or name yours: export CC=..."
_LONGEST = 300  # characters of the first error


class CompileFailed(BackendUnavailable):
    """The compiler was started, and gave no library."""


class Compiler(msgspec.Struct, frozen=True):
    """A compiler.

    Args:
        command: What starts it, `CC` taken apart.
        identity: What it says of itself, and of what it compiles for.
    """

    command: tuple[str, ...]
    identity: str


def find_compiler(memory: Callable[[], EngineCache] | None = None) -> Compiler:
    """The compiler of this machine.

    Args:
        memory: Opens the cache that remembers what a compiler says of itself, as asking takes tens of milliseconds.

    Raises:
        BackendUnavailable: If there is none, or what `CC` names cannot be run.
    """
    given = os.environ.get("CC", "").strip()
    if given:
        import shlex

        try:
            command = shlex.split(given)
        except ValueError as error:
            raise BackendUnavailable(f"CC is '{given}', which is no command: {error}. Type: unset CC") from error
        if _found(command[0]) is None:
            raise BackendUnavailable(f"CC is '{given}', and there is no program '{command[0]}'. Type: unset CC")
        return _identified(tuple(command), memory)
    for name in _CANDIDATES:
        if _found(name):
            return _identified((name,), memory)
    raise BackendUnavailable(f"no C compiler: neither {', '.join(_CANDIDATES[:-1])} nor {_CANDIDATES[-1]}. {_INSTALL}")


def why_not_ready() -> str | None:
    """Say why nothing can be compiled here, or `None` if it can."""
    try:
        find_compiler()
    except BackendUnavailable as error:
        return str(error)
    return None


def _identified(command: tuple[str, ...], memory: Callable[[], EngineCache] | None) -> Compiler:
    paths = tuple(os.path.realpath(path) for path in map(_found, command) if path)
    programs = tuple((path, os.stat(path).st_mtime_ns) for path in paths)
    if memory is None or any(map(_is_script, paths)):  # which may call another compiler tomorrow
        return _asked(command, programs)
    cache, facts = memory(), {"command": _shown(command), "programs": repr(programs)}
    with suppress(EngineRefused):  # it is only a memory: without one the compiler is asked
        said = cache.read(facts)
        if said is not None:
            return Compiler(command, said.decode())
    found = _asked(command, programs)
    with suppress(BackendUnavailable):
        cache.write(facts, found.identity.encode())
    return found


def _found(program: str) -> str | None:
    """Where a program of that name lies, as a shell looks for it."""
    for folder in [""] if os.path.dirname(program) else os.get_exec_path():
        place = os.path.join(folder, program)
        if os.path.isfile(place) and os.access(place, os.X_OK):
            return place
    return None


def _shown(command: tuple[str, ...]) -> str:
    """A command as a shell takes it."""
    if len(command) == 1 and command[0].isalnum():
        return command[0]
    import shlex

    return shlex.join(command)


def _is_script(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return True


@lru_cache(maxsize=8)  # by the programs and when they were changed
def _asked(command: tuple[str, ...], _programs: tuple[tuple[str, int], ...]) -> Compiler:
    import subprocess

    try:
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, timeout=20, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BackendUnavailable(
            f"the C compiler '{_shown(command)}' does not run: {str(error).rstrip(chr(46))}. {_INSTALL}"
        ) from error
    return Compiler(command, done.stdout.strip().partition("\n")[0][:200] or _shown(command))


def flags_for(machine: str) -> tuple[str, ...]:
    """All flags for this machine, as `platform.machine()` calls it: with all that its processor can do."""
    native = "-mcpu=native" if machine in ("aarch64", "arm64") else "-march=native"
    return (*FLAGS, OPTIMIZATION, native)


def compiled(compiler: Compiler, source: Source, prefix: str, flags: tuple[str, ...], keep: Path) -> bytes:
    """Compile a source to a shared library.

    Args:
        compiler: What with.
        source: The two files.
        prefix: Of their names.
        flags: For the compiler.
        keep: A folder of the user's, where the source and what the compiler said stay if it fails.

    Returns:
        The library.

    Raises:
        CompileFailed: With the first error and the path of the rest.
        BackendUnavailable: If there is no folder to compile in.
    """
    folder: Path | None = None
    try:
        folder = _folder_of_its_own()
        (folder / f"{prefix}.h").write_text(source.header)
        (folder / f"{prefix}.c").write_text(source.source)
        command = [*compiler.command, *flags, f"{prefix}.c", "-o", f"{prefix}.so", "-lm"]
        said, status = _watched(command, folder)
        if status != 0:
            raise _failed(compiler, said, status, folder / f"{prefix}.c", keep)
        return (folder / f"{prefix}.so").read_bytes()
    except OSError as error:
        if error.filename == compiler.command[0]:
            raise BackendUnavailable(
                f"the C compiler '{_shown(compiler.command)}' is there no more: {error.strerror}. {_INSTALL}"
            ) from error
        where = f"'{folder}'" if folder else "the folder for temporary files"
        raise BackendUnavailable(
            f"nothing can be compiled in {where}: {error.strerror or error}. Set TMPDIR to a folder elsewhere"
        ) from error
    finally:
        if folder is not None:
            import shutil

            shutil.rmtree(folder, ignore_errors=True)


def _folder_of_its_own() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="lnn-edge-"))  # 0700


def _watched(command: list[str], folder: Path) -> tuple[str, int]:
    return watched(command, folder, _TIMEOUT_S, _MEMORY_BYTES)


def _failed(compiler: Compiler, said: str, status: int, source: Path, keep: Path) -> CompileFailed:
    first = next((line for line in said.splitlines() if "error" in line), f"it ended with status {status}")
    where = ""
    import shutil

    with suppress(OSError):
        shutil.copyfile(source, keep / "failed.c")
        (keep / "failed.txt").write_text(said)
        where = f" All of it: {keep / 'failed.txt'}"
    return CompileFailed(
        f"the C compiler '{_shown(compiler.command)}' ({compiler.identity}) failed: {first[:_LONGEST]}.{where}"
    )
