"""NVIDIA's own parser and builder, TensorRT for RTX: they need neither a GPU nor a driver.

Every graph goes through the adapter that runs on a Jetson. What was built is counted by all processes of a run, in one
file, and said at its end.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # every process of a run imports this file, also where there is no onnx
    import onnx

    from lnn_edge.runtime.backends.trt.engines import Built, TensorRT

__all__ = ["INSTALL", "TARGET", "build", "build_file", "count_into", "is_here", "need_rtx", "refused", "summary"]

PACKAGES = ("tensorrt_rtx_bindings", "tensorrt_rtx_libs")
INSTALL = "pip install --no-deps tensorrt-rtx-cu13-bindings==1.7.1.116 tensorrt-rtx-cu13-libs==1.7.1.116"
OLDEST_GLIBC = {"x86_64": (2, 28), "aarch64": (2, 35)}  # of the wheels
TARGET = "sm_86"
FLOAT16 = 10  # TensorProto.DataType

_file: list[Path] = []  # to which this process writes


def is_here() -> bool:
    """Whether the wheels are installed."""
    return all(find_spec(name) is not None for name in PACKAGES)


def need_rtx() -> None:
    """Skip the test where NVIDIA's wheels are missing; fail it in CI, unless they cannot be installed there."""
    if is_here():
        return
    oldest = OLDEST_GLIBC.get(platform.machine(), (99, 0))
    name, version = platform.libc_ver()
    fits = name == "glibc" and tuple(map(int, version.split(".")[:2])) >= oldest
    say = pytest.fail if fits and os.environ.get("CI") == "true" else pytest.skip
    say(f"TensorRT for RTX is not installed. Type: {INSTALL}" if fits else "no wheel of TensorRT for RTX fits here")


def build(graph: onnx.ModelProto, targets: tuple[str, ...] = (TARGET,)) -> Built:
    """Parse and build a graph for GPUs that are not here."""
    half = any(constant.data_type == FLOAT16 for constant in graph.graph.initializer)
    return build_file(graph.SerializeToString(), half, targets)


def build_file(data: bytes, half: bool, targets: tuple[str, ...] = (TARGET,)) -> Built:
    """Parse and build what a file holds."""
    from lnn_edge.runtime.backends.trt.build_watch import Watch

    built = _library().build(
        data, half=half, tf32=False, optimization_level=3, timings=b"", watch=Watch(), targets=targets
    )
    _count(f"built {built.nodes}")
    return built


def refused(who: str) -> None:
    """Count a graph that the guard, the parser or the builder refused."""
    _count(f"refused {who}")


def count_into(folder: Path) -> None:
    """Count in a file of this folder, which all workers share."""
    _file[:] = [folder / "rtx.txt"]


def summary(folder: Path) -> str:
    """What a run has built: graphs, nodes of each engine, refusals."""
    try:
        lines = (folder / "rtx.txt").read_text().splitlines()
    except FileNotFoundError:
        return ""
    nodes = Counter(int(line.split()[1]) for line in lines if line.startswith("built"))
    refusals = Counter(line.split(" ", 1)[1] for line in lines if line.startswith("refused"))
    engines_of = ", ".join(f"{count} of {size} node{'s' * (size != 1)}" for size, count in sorted(nodes.items()))
    by = "".join(f", {count} by the {who}" for who, count in sorted(refusals.items()))
    return f"TensorRT for RTX: {sum(nodes.values())} graphs built, {engines_of}; {sum(refusals.values())} refused{by}"


@cache
def _library() -> TensorRT:
    from lnn_edge.runtime.backends.trt.dialects import FOR_RTX
    from lnn_edge.runtime.backends.trt.engines import open_tensorrt

    return open_tensorrt(FOR_RTX)


def _count(what: str) -> None:
    for path in _file:
        with path.open("a") as file:
            file.write(f"{what}\n")
