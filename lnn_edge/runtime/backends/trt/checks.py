"""Checks of the `tensorrt` backend for `lnn-edge doctor`: a Jetson's packages, the GPU, the engines built for it."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from msgspec.structs import replace

from ....backend_protocols import BackendChecks
from ....errors import BackendUnavailable
from ....machine.checks import HERE, Finding
from ....machine.describe import package_version
from ....machine.jetson import Board
from ..build_cache import ENGINES
from ..cache_check import cache_check

__all__ = ["checks", "checks_for_rtx"]

_INSTALL_JETPACK = "sudo apt update && sudo apt install nvidia-jetpack"
_OLDEST = (8, 6)
_OF_PIP = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
_DRIVER = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")


def checks(board: Board | None) -> BackendChecks:
    """What this backend has to say; nothing on a computer that is no Jetson and has no TensorRT."""
    if board is None:
        if _module_is_visible():
            return BackendChecks((_of_pip(),), (_gpu(None), _engines()))
        return BackendChecks() if _driver_is_here() else BackendChecks(not_needed="no NVIDIA driver found here")
    return BackendChecks((_tensorrt(board), _module(board), _cuda(board)), (_gpu(board), _engines()))


def checks_for_rtx(board: Board | None) -> BackendChecks:
    """The same of TensorRT for RTX, which is for PCs, and builds where there is no GPU too."""
    if board is not None:
        return BackendChecks(not_needed="a Jetson has the TensorRT of its JetPack")
    if find_spec("tensorrt_rtx_bindings") is None and find_spec("tensorrt_rtx") is None:
        return BackendChecks() if _driver_is_here() else BackendChecks(not_needed="no NVIDIA driver found here")
    if not _driver_is_here():
        return BackendChecks((_for_rtx(),), not_needed="no NVIDIA driver found here: engines are built, and not run")
    return BackendChecks((_for_rtx(),), (_gpu(None), _engines("tensorrt-rtx")))


def _for_rtx() -> Finding:
    from .dialects import FOR_RTX
    from .engines import open_tensorrt

    what = "TensorRT for RTX"
    try:
        trt = open_tensorrt(FOR_RTX)
    except BackendUnavailable as error:
        found, _, fix = str(error).partition(" Type: ")
        return Finding(what, "missing", found, fix)
    return Finding(
        what, "ready", f"{trt.version}: builds here, GPU or not, for {', '.join(trt.targets())}; runs on one of these"
    )


def _of_pip() -> Finding:
    found = next(filter(None, map(package_version, _OF_PIP)), "")
    return Finding("TensorRT", "ready", f"of pip, {found or 'of another make'}: builds and runs on this computer's GPU")


def _tensorrt(board: Board) -> Finding:
    if not board.tensorrt:
        brings = f"; this JetPack brings {board.expected_tensorrt}" if board.expected_tensorrt else ""
        if _module_is_visible():
            return Finding("TensorRT", "ready", f"the Python module is here, though not from a package{brings}")
        return Finding("TensorRT", "missing", f"the package is not installed{brings}", _INSTALL_JETPACK)
    numbers = tuple(int(part) for part in board.tensorrt.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST:
        found = f"{board.tensorrt} is too old: 8.6 is needed, from JetPack 6.0 on"
        return Finding("TensorRT", "missing", found, "lnn-edge run BUNDLE --backend onnxruntime")
    usual = board.tensorrt.startswith(f"{board.expected_tensorrt}.")
    other = (
        "" if usual or not board.expected_tensorrt else f"; this JetPack is known to bring {board.expected_tensorrt}"
    )
    return Finding("TensorRT", "ready", f"package {board.tensorrt}{other}")


def _module_is_visible() -> bool:
    return find_spec("tensorrt") is not None


def _driver_is_here() -> bool:
    """Whether this computer, which is no Jetson, has what every NVIDIA driver brings, in WSL as well."""
    return any(Path(place).exists() for place in _DRIVER) or shutil.which("nvidia-smi") is not None


def _module(board: Board) -> Finding:
    what = "TensorRT in Python"
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    if _module_is_visible():
        return Finding(what, "ready", f"visible in Python {mine}")
    if not board.system_python:
        return Finding(what, "missing", "the module is not installed", "sudo apt install python3-libnvinfer")
    fix = f"python{board.system_python} -m venv --system-site-packages .venv"
    if board.system_python != mine:
        return Finding(what, "missing", f"installed for Python {board.system_python}, this is {mine}", fix)
    return Finding(what, "missing", "installed, but this virtual environment does not see it", fix)


def _cuda(board: Board) -> Finding:
    if not board.cuda:
        return Finding("CUDA", "missing", "no toolkit in /usr/local/cuda", _INSTALL_JETPACK)
    return Finding("CUDA", "ready", board.cuda)


def _gpu(board: Board | None) -> Finding:
    """The GPU that CUDA finds, or why there is none."""
    from .device import open_device

    try:
        device = open_device()
    except BackendUnavailable as error:
        found, _, fix = str(error).partition(" Type: ")
        if fix == HERE:
            fix = _INSTALL_JETPACK if board else "install the NVIDIA driver of this GPU"
        return Finding("GPU", "missing", found, fix)
    facts = device.facts
    memory = "memory shared with the CPU" if facts.integrated else "memory of its own"
    found = (
        f"{facts.name}, compute {facts.compute_capability}, {facts.multiprocessors} multiprocessors, {memory}; CUDA "
        f"driver {facts.driver}, runtime {facts.runtime} ({device.cudart.name})"
    )
    return Finding("GPU", "ready", found)


def _engines(backend: str = ENGINES.folder) -> Finding:
    none, build = (
        "none built yet, and only where it is named a load builds one",
        f"lnn-edge build BUNDLE --backend {backend}",
    )
    return cache_check("engines", replace(ENGINES, folder=backend), "engine and timing file", none, build)
