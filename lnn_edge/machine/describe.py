"""Facts about this machine that a latency figure is worthless without. Reads files, starts nothing."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from .jetson import read_board

__all__ = ["machine", "package_version", "scaling_governor"]


def machine() -> dict[str, str]:
    """Board, processor, kernel, clock governor, scheduling and versions, as text by name."""
    facts = {
        "board": _read("/proc/device-tree/model").rstrip("\0"),
        "cpu": _cpu(),
        "cpus": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}",
        "governor": scaling_governor(),
        **_jetson(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "scheduler": _scheduler(),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": package_version("numpy") or "",
        "onnxruntime": package_version("onnxruntime") or "",
    }
    return {name: value for name, value in facts.items() if value}


@cache  # milliseconds each, and a process goes on with what it has imported
def package_version(package: str) -> str | None:
    """Version of an installed package, or `None`."""
    from importlib.metadata import PackageNotFoundError, version  # 30 ms that `--help` does not pay

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def scaling_governor() -> str:
    """The CPU frequency governor; "" where the system does not tell."""
    return _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()


def _jetson() -> dict[str, str]:
    board = read_board()
    if board is None:
        return {}
    clock = board.gpu_clock
    return {
        "jetpack": f"{board.jetpack or 'unknown'} (L4T {board.l4t})",
        "power mode": board.power_mode,
        "gpu clock": f"{clock.current_mhz:.0f} MHz{', fixed' if clock.fixed else ''}" if clock else "",
    }


def _cpu() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _scheduler() -> str:
    names = {os.SCHED_OTHER: "SCHED_OTHER", os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR"}
    policy = names.get(os.sched_getscheduler(0), "other policy")
    return f"{policy} priority {os.sched_getparam(0).sched_priority}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
