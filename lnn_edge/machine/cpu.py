"""This processor's extensions, as the system tells them. Reads a file, starts nothing."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

__all__ = ["cpu_extensions", "vector_lanes"]

_CPU_INFO = "/proc/cpuinfo"


@cache
def cpu_extensions() -> frozenset[str]:
    """Names of the extensions that every processor of this machine has; empty where the system does not tell."""
    try:
        lines = Path(_CPU_INFO).read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = [
        line.partition(":")[2].split() for line in lines if line.partition(":")[0].strip() in ("flags", "Features")
    ]
    return frozenset.intersection(*map(frozenset, found)) if found else frozenset()


def vector_lanes(machine: str = "") -> int:
    """How many float32 numbers a register holds: 16, 8, 4, or 1 where nothing is known.

    Args:
        machine: As `platform.machine()` says it, for tests.
    """
    extensions = cpu_extensions()
    if "avx512f" in extensions:
        return 16
    if {"avx2", "fma"} <= extensions:
        return 8
    return 4 if (machine or platform.machine()) in ("x86_64", "AMD64", "aarch64", "arm64") else 1
