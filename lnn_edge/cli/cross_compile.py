"""Compilers for other machines: what a step takes there in flash and RAM, and programs for them."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..codegen.targets import Target
from ..errors import BackendUnavailable

__all__ = ["Sizes", "check_compiler", "compiled_for", "compiled_name", "measured"]

_FLAGS = ("-std=gnu99", "-O2", "-ffp-contract=fast", "-fno-math-errno")
_TIMEOUT_S = 120.0
_FIRST_TIMEOUT_S = 900.0  # zig builds what it needs of a C library the first time, which some machines take minutes for
# What a step may use of a C library, for a target that has none: its functions come with the program that is linked.
_MATH = """float atanf(float), cosf(float), fabsf(float), floorf(float), powf(float, float), sinf(float), sqrtf(float);
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
"""
_SIZE = '#include "{prefix}.h"\nconst char model_size[sizeof({prefix}_model)] = {{1}};\n'
_CROSS = "Type: pip install 'lnn-edge[cross]'"
_NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*?(\d+) bytes \((?:static|dynamic,bounded)\)')
_EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')


@dataclass(frozen=True)
class Sizes:
    """What a step takes on its target, bytes; `None` where nothing here can measure it.

    Args:
        flash: Code and weights.
        model: RAM of the struct that the caller owns: state, results and scratch memory.
        stack: RAM that a call needs for the time that it takes, at most.
        why_not: What would measure what is not known.
    """

    flash: int | None
    model: int | None
    stack: int | None
    why_not: str

    def facts(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)

    def text(self) -> str:
        """One line, or two."""
        known = {"flash": self.flash, "RAM": self.model, "stack": self.stack}
        parts = [f"{name} {value:,} bytes" for name, value in known.items() if value is not None]
        return ". ".join(filter(None, [", ".join(parts), self.why_not]))


def check_compiler(triple: str | None) -> None:
    """Refuse `--compile` where the compiler for it is missing, before anything is made.

    Raises:
        BackendUnavailable: If it is.
    """
    if triple is not None and find_spec("ziglang") is None:
        raise BackendUnavailable(
            f"--compile needs the compiler of the package ziglang, which is not installed. {_CROSS}"
        )


def compiled_for(triple: str, files: Mapping[str, str], prefix: str, target: Target) -> tuple[str, bytes]:
    """Compile for another machine.

    Returns:
        Name and bytes: of the program that replays the samples, or of the step's object where a target has no system.

    Raises:
        ValueError: If the compiler refuses the triple or the source.
    """
    alone, name = _is_alone(triple), compiled_name(triple, prefix)
    with _folder({**files, "math.h": _MATH} if alone else files) as folder:
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", triple, *_FLAGS, "-g0"]
        own = [*_zig_flags(target, triple), *(["-I.", "-c"] if alone else ["-s", "main.c", "-lm"])]
        _run([*zig, *own, f"{prefix}.c", "-o", name], folder, triple, _FIRST_TIMEOUT_S)
        return name, (folder / name).read_bytes()


def compiled_name(triple: str, prefix: str) -> str:
    """The name of what `compiled_for` makes."""
    return f"{prefix}-{triple}.o" if _is_alone(triple) else f"replay-{triple}"


def _is_alone(triple: str) -> bool:
    """Whether a target has no operating system."""
    return "freestanding" in triple


def _zig_flags(target: Target, triple: str) -> list[str]:
    """Those that are for the triple; clang's names of processors have an underscore in zig, which knows the rest."""
    if target.triple is None:
        return list(target.flags) if triple.startswith("x86") else []
    flags = [flag.replace("cortex-m4", "cortex_m4") for flag in target.flags if flag.startswith("-mcpu")]
    return flags if _is_alone(triple) else []


def measured(files: Mapping[str, str], prefix: str, target: Target, *more: str) -> Sizes:
    """What the step takes on its target, by a compiler for it that is here, which gets `more` flags."""
    command = _compiler(target)
    if command is None:
        package = "gcc-arm-none-eabi libnewlib-arm-none-eabi" if target.gcc else "gcc"
        return Sizes(None, None, None, f"to measure what it takes there: sudo apt install {package}")
    if find_spec("elftools") is None:
        return Sizes(None, None, None, f"what it takes is measured with the package pyelftools. {_CROSS}")
    try:
        return _sizes(command, files, prefix, target, more)
    except ValueError as error:  # the files are as good as they were
        return Sizes(None, None, None, f"what it takes was not measured: {error}")


def _sizes(command: list[str], files: Mapping[str, str], prefix: str, target: Target, more: tuple[str, ...]) -> Sizes:
    with _folder(files) as folder:
        (folder / "size.c").write_text(_SIZE.format(prefix=prefix))
        graph = ["-fcallgraph-info=su"] if "gcc" in command[0] else []
        quiet = ["-fno-asynchronous-unwind-tables", *graph]
        _run([*command, *_FLAGS, *target.flags, *more, *quiet, "-c", f"{prefix}.c", "size.c"], folder, target.name)
        stack = _stack((folder / f"{prefix}.ci").read_text(), f"{prefix}_step") if graph else None
        return Sizes(_flash(folder / f"{prefix}.o"), _symbol(folder / "size.o", "model_size"), stack, "")


def _compiler(target: Target) -> list[str] | None:
    candidates = (target.gcc,) if target.gcc else ("gcc", "cc", "clang")
    return next(([name] for name in candidates if shutil.which(name)), None)


@contextmanager
def _folder(files: Mapping[str, str]) -> Iterator[Path]:
    """A folder with these files, 0700, for a while."""
    with tempfile.TemporaryDirectory(prefix="lnn-edge-") as name:
        for file, text in files.items():
            (Path(name) / file).write_text(text)
        yield Path(name)


def _run(command: list[str], folder: Path, what: str, timeout_s: float = _TIMEOUT_S) -> None:
    """Run a compiler without a shell.

    Raises:
        ValueError: With its first error.
    """
    from ..runtime.backends.native.watched import watched

    said, status = watched(command, folder, timeout_s)
    if status:
        first = next((line for line in said.splitlines() if "error" in line), f"it ended with {status}")
        raise ValueError(f"the compiler for '{what}' failed: {first[:300]}")


def _flash(path: Path) -> int:
    """Bytes of code and constants."""
    from elftools.elf.constants import SH_FLAGS
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as file:
        kept = (s for s in ELFFile(file).iter_sections() if s["sh_flags"] & SH_FLAGS.SHF_ALLOC)
        return sum(section["sh_size"] for section in kept if section["sh_type"] != "SHT_NOBITS")


def _symbol(path: Path, name: str) -> int:
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as file:
        table: Any = ELFFile(file).get_section_by_name(".symtab")
        (symbol,) = table.get_symbol_by_name(name)
        return int(symbol["st_size"])


def _stack(graph: str, root: str) -> int:
    """Bytes of the deepest chain of calls; a function of the C library counts as none."""
    own = {name: int(size) for name, size in _NODE.findall(graph)}
    calls: dict[str, list[str]] = {}
    for caller, called in _EDGE.findall(graph):
        calls.setdefault(caller, []).append(called)

    def deepest(name: str) -> int:  # no function of a step calls itself
        return own.get(name, 0) + max(map(deepest, calls.get(name, ())), default=0)

    return deepest(root)
