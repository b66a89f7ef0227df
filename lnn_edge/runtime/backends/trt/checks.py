"""What `lnn-edge doctor` says about an NVIDIA GPU and the engines built for it."""

from __future__ import annotations

import shlex

from ....errors import BackendUnavailable
from ....machine.checks import HERE, Finding
from ....machine.jetson import Board
from ....machine.jetson_checks import INSTALL_JETPACK
from ....wording import plural

__all__ = ["engines_check", "gpu_check"]


def gpu_check(board: Board | None) -> Finding:
    """The GPU that CUDA finds, or why there is none."""
    from .device import open_device

    try:
        device = open_device()
    except BackendUnavailable as error:
        found, _, fix = str(error).partition(" Type: ")
        if fix == HERE:
            fix = INSTALL_JETPACK if board else "nvidia-smi"
        return Finding("GPU", "missing", found, fix)
    facts = device.facts
    memory = "memory shared with the CPU" if facts.integrated else "memory of its own"
    found = (
        f"{facts.name}, compute {facts.compute_capability}, {facts.multiprocessors} multiprocessors, {memory}; CUDA "
        f"driver {facts.driver}, runtime {facts.runtime} ({device.cudart.name})"
    )
    return Finding("GPU", "ready", found)


def engines_check() -> Finding:
    """What builds have left behind, and what would refuse the next one."""
    from ..build_cache import cache_contents, cache_folder

    folder = cache_folder()
    try:
        contents = cache_contents(folder)
    except BackendUnavailable as error:
        found, _, fix = str(error).partition(" Type: ")
        return Finding("engines", "missing", found, fix)
    if not contents.files:
        return Finding(
            "engines", "note", "none built yet: the first load does it", "lnn-edge build BUNDLE --backend tensorrt"
        )
    held = f"{plural(contents.files, 'engine and timing file')}, {contents.nbytes / 2**20:.1f} MiB"
    return Finding("engines", "ready", f"{held}; to empty the cache: rm -r {shlex.quote(str(folder))}")
