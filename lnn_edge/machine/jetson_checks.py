"""What `lnn-edge doctor` says about a Jetson: what is there, what is missing, and the exact command."""

from __future__ import annotations

import sys

from .checks import Finding
from .jetson import Board

__all__ = ["INSTALL_JETPACK", "board_findings"]

INSTALL_JETPACK = "sudo apt update && sudo apt install nvidia-jetpack"
_OLDEST = (8, 6)


def board_findings(board: Board) -> list[Finding]:
    """The lines about a Jetson."""
    return [_release(board), _tensorrt(board), _module(board), _cuda(board), _power(board), _gpu_clock(board)]


def _release(board: Board) -> Finding:
    where = f"on {board.model}" if board.model else "in a container that hides the board"
    if board.jetpack:
        return Finding("JetPack", "ready", f"{board.jetpack} (L4T {board.l4t}) {where}")
    known = f"L4T {board.l4t}" if board.l4t else "no L4T release found"
    return Finding("JetPack", "note", f"{known} {where}: not in our table", "cat /etc/nv_tegra_release")


def _tensorrt(board: Board) -> Finding:
    if not board.tensorrt:
        brings = f"; this JetPack brings {board.expected_tensorrt}" if board.expected_tensorrt else ""
        if _module_is_visible():
            return Finding("TensorRT", "ready", f"the Python module is here, though not from a package{brings}")
        return Finding("TensorRT", "missing", f"the package is not installed{brings}", INSTALL_JETPACK)
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
    from importlib.util import find_spec

    return find_spec("tensorrt") is not None


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
        return Finding("CUDA", "missing", "no toolkit in /usr/local/cuda", INSTALL_JETPACK)
    return Finding("CUDA", "ready", board.cuda)


def _power(board: Board) -> Finding:
    if not board.power_mode:
        return Finding("power mode", "note", "this user cannot read it", "sudo nvpmodel -q")
    fix = "sudo nvpmodel -p --verbose; sudo nvpmodel -m ID"
    return Finding("power mode", "note", f"{board.power_mode}; another mode gives other latencies", fix)


def _gpu_clock(board: Board) -> Finding:
    clock = board.gpu_clock
    if clock is None:
        return Finding("GPU clock", "note", "not visible here", "sudo jetson_clocks --show")
    now = f"{clock.current_mhz:.0f} MHz, governor {clock.governor or 'unknown'}"
    if clock.fixed:
        return Finding("GPU clock", "ready", f"fixed at {now}")
    span = f"may change between {clock.lowest_mhz:.0f} and {clock.highest_mhz:.0f} MHz, so latencies vary"
    return Finding("GPU clock", "note", f"{now}; {span}", "sudo jetson_clocks")
