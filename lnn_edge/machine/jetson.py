"""Facts about a Jetson, read from files only: release, packages, clocks, power mode, the GPU's files.

Every path is taken under a root folder, so that tests can show a board that is not there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["JETPACKS", "ROOT", "Board", "ClosedDevice", "GpuClock", "closed_devices", "read_board", "system_facts"]

ROOT = Path("/")

# JetPack and the TensorRT that comes with it, by the release of Linux for Tegra. A release that is not here is not
# guessed at. The TensorRT of 39.x is that of meta-tegra's recipes, NVIDIA's packages; no page of NVIDIA's names it.
JETPACKS = {
    "35.1.0": ("5.0.2", "8.4"),
    "35.2.1": ("5.1", "8.5"),
    "35.3.1": ("5.1.1", "8.5"),
    "35.4.1": ("5.1.2", "8.5"),
    "35.5.0": ("5.1.3", "8.5"),
    "35.6.0": ("5.1.4", "8.5"),
    "35.6.1": ("5.1.5", "8.5"),
    "35.6.2": ("5.1.5", "8.5"),
    "35.6.4": ("5.1.6", "8.5"),
    "36.2.0": ("6.0 DP", "8.6"),
    "36.3.0": ("6.0", "8.6"),
    "36.4.0": ("6.1", "10.3"),
    "36.4.3": ("6.2", "10.3"),
    "36.4.4": ("6.2.1", "10.3"),
    "36.4.7": ("6.2.1", "10.3"),
    "36.5.0": ("6.2.2", "10.3"),
    "36.5.2": ("6.2.3", "10.3"),
    "38.2.0": ("7.0", "10.13"),
    "38.2.1": ("7.0", "10.13"),
    "38.2.2": ("7.0", "10.13"),
    "38.4.0": ("7.1", "10.13"),
    "39.0.0": ("7.2 EA", "10.16"),
    "39.2.0": ("7.2", "10.16"),
    "39.2.1": ("7.2.1", "10.16"),
}
_FIELDS = re.compile(r"^(Package|Status|Version): (.*)", re.M)
_RELEASE = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*(\d+(?:\.\d+)*)")
_GPUS = ("*.ga10b", "*.gv11b", "*.gpu", "gpu-gpc-0")  # Orin, Xavier, older boards, Thor
_L4T_PACKAGE = "nvidia-l4t-core"
_TENSORRT_PACKAGES = ("tensorrt", "python3-libnvinfer")
# What a program opens to use the GPU: Tegra's memory and its GPU, by two generations of driver; NVIDIA's usual driver.
_DEVICE_FILES = (
    "nvmap",
    "nvhost-ctrl-gpu",
    "nvhost-gpu",
    "nvgpu/*/ctrl",
    "nvgpu/*/channel",
    "nvidiactl",
    "nvidia[0-9]",
    "nvidia-uvm",
)


@dataclass(frozen=True)
class GpuClock:
    """A GPU clock.

    Args:
        current_mhz, lowest_mhz, highest_mhz: Now, and what the governor may choose between.
        governor: Its name.
    """

    current_mhz: float
    lowest_mhz: float
    highest_mhz: float
    governor: str

    @property
    def fixed(self) -> bool:
        """Whether it stays, as after `jetson_clocks`."""
        return self.lowest_mhz == self.highest_mhz or self.governor == "performance"


@dataclass(frozen=True)
class Board:
    """A Jetson; what it does not say is "" or `None`.

    Args:
        model: Board and module, "NVIDIA Jetson Orin Nano Developer Kit" for instance; a container may hide it.
        compatible: Names of board, module and chip, "nvidia,p3768-0000+p3767-0005 ..." for instance.
        l4t: Release of Linux for Tegra, "36.4.3".
        jetpack: "6.2", or "" if this release is not in the table.
        expected_tensorrt: What that JetPack brings, "10.3".
        tensorrt: Version of the installed package.
        system_python: Version that has the module `tensorrt` in its dist-packages, "3.10".
        cuda: Version of the installed toolkit, "12.6.68".
        gpu_clock: The GPU's clock.
        power_mode: Number and name, "2 (25W)".
    """

    model: str
    compatible: str
    l4t: str
    jetpack: str
    expected_tensorrt: str
    tensorrt: str
    system_python: str
    cuda: str
    gpu_clock: GpuClock | None
    power_mode: str


@dataclass(frozen=True)
class ClosedDevice:
    """A file of the GPU's that this user may not open.

    Args:
        path: Where it is.
        group: Name of the group that may, or its number.
    """

    path: str
    group: str


def closed_devices(root: Path | None = None) -> tuple[ClosedDevice, ...]:
    """Files of the GPU's driver that this user may not open: the user of a service is seldom in their group."""
    folder = (root or ROOT) / "dev"
    files = [path for pattern in _DEVICE_FILES for path in sorted(folder.glob(pattern))]
    return tuple(ClosedDevice(str(f), _group(f)) for f in files if not os.access(f, os.R_OK | os.W_OK))


def read_board(root: Path | None = None) -> Board | None:
    """Read what board this is; `None` if it is no Jetson."""
    root = root or ROOT
    model, compatible = (_device_tree(root, name) for name in ("model", "compatible"))
    packages = dict(_packages(_text(root / "var/lib/dpkg/status"), (_L4T_PACKAGE, *_TENSORRT_PACKAGES)))
    l4t = _l4t(root, packages)
    # A container sees neither the model nor the host's packages, but it runs on the host's kernel.
    if not l4t and "jetson" not in model.lower() and not _kernel(root).endswith("-tegra"):
        return None
    jetpack, expected = JETPACKS.get(l4t, ("", ""))
    return Board(
        model=model,
        compatible=compatible,
        l4t=l4t,
        jetpack=jetpack,
        expected_tensorrt=expected,
        tensorrt=next((packages[name] for name in _TENSORRT_PACKAGES if name in packages), ""),
        system_python=_system_python(root),
        cuda=_cuda(root),
        gpu_clock=_clock(root),
        power_mode=_power_mode(root),
    )


def system_facts(root: Path | None = None) -> dict[str, str]:
    """What an engine depends on that CUDA and TensorRT do not tell: builds of driver and library, and the very board.

    CUDA calls every Orin "Orin", and an Orin Nano and an Orin NX have as many multiprocessors; one image of a system
    with an engine in it may be copied to both.
    """
    root = root or ROOT
    board = read_board(root)
    driver = re.search(r"Kernel Module.*?(\d+(?:\.\d+)+)", _text(root / "proc/driver/nvidia/version"))
    return {
        "kernel driver": driver.group(1) if driver else "unknown",
        "board": " ".join(filter(None, (board.model, board.compatible))) if board else "none",
        "L4T": board.l4t if board else "none",
        "TensorRT package": board.tensorrt if board else "none",
    }


def _group(path: Path) -> str:
    try:
        return path.group()
    except KeyError:  # a container knows the number only
        return str(path.stat().st_gid)


def _device_tree(root: Path, name: str) -> str:
    """A text, or texts one after the other, each with a zero behind it."""
    return _text(root / "proc/device-tree" / name).replace("\0", " ").strip()


def _kernel(root: Path) -> str:
    return _text(root / "proc/sys/kernel/osrelease").strip()


def _l4t(root: Path, packages: dict[str, str]) -> str:
    found = _RELEASE.search(_text(root / "etc/nv_tegra_release"))
    release = f"{found.group(1)}.{found.group(2)}" if found else packages.get(_L4T_PACKAGE, "").split("-")[0]
    return f"{release}.0" if release.count(".") == 1 else release


def _packages(status: str, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Those that are installed, with their versions, of dpkg's file: it has thousands, and each recorder reads it."""
    text = f"\n\n{status}\n\n"
    for name in names:
        place = text.find(f"\nPackage: {name}\n")
        while place >= 0:
            end = text.index("\n\n", place + 1)
            fields = dict(_FIELDS.findall(text[text.rindex("\n\n", 0, place + 1) : end]))
            if fields.get("Status", "").endswith(" installed"):
                yield name, fields.get("Version", "")
            place = text.find(f"\nPackage: {name}\n", end)


def _system_python(root: Path) -> str:
    """Debian shares one dist-packages among all versions of Python 3; the system's own is what it was built for."""
    places = sorted((root / "usr/lib").glob("python3*/dist-packages/tensorrt/tensorrt*.so"))
    places += sorted((root / "usr/lib").glob("python3*/dist-packages/tensorrt_bindings/tensorrt*.so"))
    for place in places:
        named = re.search(r"python3\.(\d+)|cpython-3(\d+)", str(place))
        if named:
            return f"3.{named.group(1) or named.group(2)}"
    versions = sorted((root / "usr/bin").glob("python3.[0-9]*[0-9]"), key=lambda p: int(p.name.split(".")[1]))
    return versions[0].name.removeprefix("python") if places and versions else ""


def _cuda(root: Path) -> str:
    try:
        return str(json.loads(_text(root / "usr/local/cuda/version.json"))["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        return ""


def _clock(root: Path) -> GpuClock | None:
    for pattern in _GPUS:
        for folder in sorted((root / "sys/class/devfreq").glob(pattern)):
            values = [_text(folder / f"{name}_freq").strip() for name in ("cur", "min", "max")]
            if all(value.isdigit() for value in values):
                current, lowest, highest = (int(value) / 1e6 for value in values)
                return GpuClock(current, lowest, highest, _text(folder / "governor").strip())
    return None


def _power_mode(root: Path) -> str:
    mode = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status"))
    if not mode:
        return ""
    number = int(mode.group(1))
    name = re.search(rf"<\s*POWER_MODEL\s+ID={number}\s+NAME=(\S+)\s*>", _text(root / "etc/nvpmodel.conf"))
    return f"{number} ({name.group(1)})" if name else str(number)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
