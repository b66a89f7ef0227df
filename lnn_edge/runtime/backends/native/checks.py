"""Checks of the `native` backend for `lnn-edge doctor`: whether the compiler compiles, and what it has compiled."""

from __future__ import annotations

import platform
import shlex
import tempfile
from pathlib import Path

from ....backend_protocols import BackendChecks
from ....codegen.form import Source
from ....errors import BackendUnavailable
from ....machine.checks import Finding
from ....machine.cpu import vector_lanes
from ....machine.jetson import Board
from ..cache_check import cache_check
from .backend import LIBRARIES
from .compiler import Compiler, compiled, find_compiler, flags_for

__all__ = ["checks"]

_TRIAL = Source(
    "#include <stddef.h>\n#include <stdint.h>\n",
    '#include "lnn.h"\n#include <math.h>\nfloat lnn_trial(float x) { return sqrtf(x); }\n',
)
_HEADERS = "sudo apt install gcc libc6-dev"


def checks(_board: Board | None) -> BackendChecks:
    """What this backend has to say; nothing where there is no compiler, which its own line says."""
    try:
        compiler = find_compiler()
    except BackendUnavailable:
        return BackendChecks()
    none, build = "none yet: the first load compiles its bundle", "lnn-edge build BUNDLE --backend native"
    kept = cache_check("compiled steps", LIBRARIES, "compiled step", none, build)
    return BackendChecks((_compiler(compiler),), (kept,))


def _compiler(compiler: Compiler) -> Finding:
    """One that is there may still lack its headers or its linker: it is tried."""
    with tempfile.TemporaryDirectory(prefix="lnn-edge-") as folder:
        try:
            compiled(compiler, _TRIAL, "lnn", flags_for(platform.machine()), Path(folder))
        except BackendUnavailable as error:
            said = str(error).partition(" All of it: ")[0]
            return Finding("C compiler", "missing", said, _HEADERS)
    lanes = vector_lanes()
    found = f"{shlex.join(compiler.command)}: {compiler.identity}, registers of {lanes} float32"
    return Finding("C compiler", "ready", found)
