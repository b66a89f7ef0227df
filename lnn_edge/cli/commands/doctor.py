"""`lnn-edge doctor`: what this machine is ready for, what is missing, and the command that fixes it."""

from __future__ import annotations

import argparse
import shlex
from importlib.util import find_spec

from ... import __version__
from ...backends import BACKENDS, BackendEntry, backend_class, missing_modules, why_not_ready
from ...errors import BackendUnavailable
from ...machine.checks import Finding
from ...machine.describe import machine, package_version, scaling_governor
from ...machine.jetson import Board, read_board
from ...machine.jetson_checks import INSTALL_JETPACK, board_findings
from ...wording import plural
from ..console import add_json_argument, emit_json, grid, say

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "doctor"
HELP = "say what is ready on this machine and what is missing"
DESCRIPTION = "Check the backends, the export tools and the clocks. Changes nothing."
EPILOG = """examples:
  lnn-edge doctor
  lnn-edge doctor --json -"""

_HERE, _BELOW = "lnn-edge doctor", "see below"  # what errors advise leads here, where the line about the GPU says more
_EXTRAS = {  # module and package of each; on a device all of these may be missing
    "export": (("torch", "torch"), ("ncps", "ncps"), ("onnx", "onnx")),
    "train": (("sklearn", "scikit-learn"), ("torch", "torch"), ("ncps", "ncps"), ("onnx", "onnx")),
    "plot": (("matplotlib", "matplotlib"),),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    board = read_board()
    backends = [_backend(entry, board) for entry in BACKENDS]
    device = board_findings(board) if board else []
    if board or find_spec("tensorrt"):
        device += [_gpu(board), _engines()]
    findings = [*backends, *device, *map(_extra, _EXTRAS), _governor()]
    usable = any(f.status == "ready" for f in backends)
    emit_json({"version": __version__, "machine": machine(), "findings": findings, "ready": usable}, arguments)
    say(
        grid(("what", "status", "found", "type this"), [(f.what, f.status, f.found, f.fix) for f in findings]),
        arguments,
    )
    say("machine: " + "; ".join(f"{name} {value}" for name, value in machine().items()), arguments)
    if not usable:
        say(f"lnn-edge {__version__}: no backend is ready; type: {BACKENDS[-1].install}", arguments)
        return 5
    ready = ", ".join(entry.name for entry, f in zip(BACKENDS, backends, strict=True) if f.status == "ready")
    say(f"lnn-edge {__version__}: ready to run bundles on {ready}", arguments)
    return 0


def _backend(entry: BackendEntry, board: Board | None) -> Finding:
    what = f"backend {entry.name}"
    try:
        reason = why_not_ready(entry)
        if reason is None:
            backend_class(entry)
    except BackendUnavailable as error:
        reason = str(error)
    if reason is not None:
        found, _, fix = reason.partition(" Type: ")
        if missing_modules(entry) and entry.extra == "tensorrt":  # no extra brings the library itself
            fix = _BELOW if board else "pip install tensorrt 'lnn-edge[tensorrt]'"
        return Finding(what, "missing", found, _BELOW if fix == _HERE else fix or entry.install)
    versions = ", ".join(f"{m} {package_version(m) or ''}".strip() for m in entry.modules)
    return Finding(what, "ready", f"{versions}: {entry.runs}")


def _gpu(board: Board | None) -> Finding:
    from ...runtime.backends.trt.device import open_device

    try:
        device = open_device()
    except BackendUnavailable as error:
        found, _, fix = str(error).partition(" Type: ")
        if fix == _HERE:
            fix = INSTALL_JETPACK if board else "nvidia-smi"
        return Finding("GPU", "missing", found, fix)
    facts = device.facts
    memory = "memory shared with the CPU" if facts.integrated else "memory of its own"
    found = (
        f"{facts.name}, compute {facts.compute_capability}, {facts.multiprocessors} multiprocessors, {memory}; CUDA "
        f"driver {facts.driver}, runtime {facts.runtime} ({device.cudart.name})"
    )
    return Finding("GPU", "ready", found)


def _engines() -> Finding:
    """What builds have left behind, and what would refuse the next one."""
    from ...runtime.backends.build_cache import cache_contents, cache_folder

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


def _extra(name: str) -> Finding:
    missing = [package for module, package in _EXTRAS[name] if find_spec(module) is None]
    if missing:
        fix = f"pip install 'lnn-edge[{name}]'"
        return Finding(name, "missing", f"no {', '.join(missing)}; only the workstation needs them", fix)
    return Finding(name, "ready", ", ".join(f"{package} {package_version(package)}" for _, package in _EXTRAS[name]))


def _governor() -> Finding:
    governor = scaling_governor()
    if governor == "performance":
        return Finding("CPU clock", "ready", governor)
    if not governor:
        return Finding("CPU clock", "note", "no frequency governor visible here", "lscpu")
    fix = "sudo cpupower frequency-set -g performance"
    return Finding("CPU clock", "note", f"governor '{governor}' changes the clock, so latencies vary", fix)
