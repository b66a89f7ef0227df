"""`lnn-edge doctor`: what this machine is ready for, what is missing, and the command that fixes it."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from ... import __version__
from ...backends import BACKENDS, BackendEntry, backend_class, missing_modules, why_not_ready
from ...errors import BackendUnavailable
from ...machine.checks import BELOW, EXTRAS, HERE, Finding, extra_check, governor_check
from ...machine.describe import machine, package_version
from ...machine.jetson import Board, read_board
from ...machine.jetson_checks import board_findings
from ..console import add_json_argument, emit_json, grid, say
from ..exit_codes import NOT_READY, OK

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "doctor"
HELP = "say what is ready on this machine and what is missing"
DESCRIPTION = "Check the backends, the export tools and the clocks. Changes nothing."
EPILOG = """examples:
  lnn-edge doctor
  lnn-edge doctor --json -"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from ...runtime.backends.trt.checks import engines_check, gpu_check

    board = read_board()
    backends = [_backend(entry, board) for entry in BACKENDS]
    device = board_findings(board) if board else []
    if board or find_spec("tensorrt"):
        device += [gpu_check(board), engines_check()]
    findings = [*backends, *device, *map(extra_check, EXTRAS), governor_check()]
    usable = any(f.status == "ready" for f in backends)
    emit_json({"version": __version__, "machine": machine(), "findings": findings, "ready": usable}, arguments)
    say(
        grid(("what", "status", "found", "type this"), [(f.what, f.status, f.found, f.fix) for f in findings]),
        arguments,
    )
    say("machine: " + "; ".join(f"{name} {value}" for name, value in machine().items()), arguments)
    if not usable:
        say(f"lnn-edge {__version__}: no backend is ready; type: {BACKENDS[-1].install}", arguments)
        return NOT_READY
    ready = ", ".join(entry.name for entry, f in zip(BACKENDS, backends, strict=True) if f.status == "ready")
    say(f"lnn-edge {__version__}: ready to run bundles on {ready}", arguments)
    return OK


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
            fix = BELOW if board else "pip install tensorrt 'lnn-edge[tensorrt]'"
        return Finding(what, "missing", found, BELOW if fix == HERE else fix or entry.install)
    versions = ", ".join(f"{m} {package_version(m) or ''}".strip() for m in entry.modules)
    return Finding(what, "ready", f"{versions}: {entry.runs}")
