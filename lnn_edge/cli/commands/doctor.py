"""`lnn-edge doctor`: what this machine is ready for, what is missing, and the command that fixes it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ... import __version__
from ...backend_protocols import BackendChecks
from ...backends import (
    BACKENDS,
    BackendEntry,
    backend_checks,
    backend_class,
    base_install,
    missing_modules,
    why_not_ready,
)
from ...errors import BackendUnavailable
from ...machine.checks import EXTRAS, HERE, NOT_NEEDED, Finding, extra_check, governor_check
from ...machine.describe import machine, package_version
from ...machine.jetson import Board, read_board
from ...machine.jetson_checks import clock_checks, release_check
from ..console import add_json_argument, emit_json, grid, print_result
from ..exit_codes import NOT_READY, OK

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "doctor"
HELP = "say what is ready on this machine and what is missing"
DESCRIPTION = "Check the backends, the export tools and the clocks. Changes nothing."
EPILOG = """examples:
  lnn-edge doctor
  lnn-edge doctor --json -"""

_BELOW = "see below"  # where a backend's own lines say more


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    return _doctor(arguments.json)


def _doctor(json: str | None) -> int:
    board = read_board()
    checks = [backend_checks(entry, board) for entry in BACKENDS]
    backends = [_backend(entry, found) for entry, found in zip(BACKENDS, checks, strict=True)]
    findings = [*backends, *_device(board, checks), *map(extra_check, EXTRAS), governor_check()]
    pairs = list(zip(BACKENDS, backends, strict=True))
    usable = any(finding.status == "ready" for finding in backends)
    emit_json({"version": __version__, "machine": machine(), "findings": findings, "ready": usable}, json)
    rows = [(f.what, _shown(f), f.found, f.fix or "-") for f in findings]
    print_result(grid(("what", "status", "found", "type this"), rows, left=range(4)), json)
    print_result("machine: " + "; ".join(f"{name} {value}" for name, value in machine().items()), json)
    if not usable:
        print_result(f"lnn-edge {__version__}: no backend is ready; type: {base_install()}", json)
        return NOT_READY
    ready = ", ".join(entry.name for entry, f in pairs if f.status == "ready")
    print_result(f"lnn-edge {__version__}: ready to run bundles on {ready}", json)
    return OK


def _shown(finding: Finding) -> str:
    return "not needed here" if finding.status == NOT_NEEDED else finding.status


def _device(board: Board | None, checks: Sequence[BackendChecks]) -> list[Finding]:
    """The board, what backends need on it, its clocks, and what backends find: as one would look at a new machine."""
    software = [finding for found in checks for finding in found.software]
    device = [finding for found in checks for finding in found.device]
    if board is None:
        return [*software, *device]
    return [release_check(board), *software, *clock_checks(board), *device]


def _backend(entry: BackendEntry, checks: BackendChecks) -> Finding:
    what = f"backend {entry.name}"
    try:
        reason = why_not_ready(entry)
        if reason is None:
            backend_class(entry)
    except BackendUnavailable as error:
        reason = str(error)
    if reason is not None:
        return _not_ready(entry, reason, checks)
    lacking = next((finding for finding in checks.software if finding.status == "missing"), None)
    if lacking is not None:
        return Finding(what, "missing", f"no {lacking.what} that works", _BELOW)
    versions = ", ".join(f"{m} {package_version(m) or ''}".strip() for m in entry.modules)
    return Finding(what, "ready", f"{versions}: {entry.runs}" if versions else entry.runs)


def _not_ready(entry: BackendEntry, reason: str, checks: BackendChecks) -> Finding:
    if checks.not_needed:
        return Finding(f"backend {entry.name}", NOT_NEEDED, f"{checks.not_needed}; it is for {entry.needs}")
    found, _, fix = reason.partition(" Type: ")
    if missing_modules(entry):
        fix = entry.install_all if checks == BackendChecks() else _BELOW
    elif fix == HERE:
        fix = _BELOW
    return Finding(f"backend {entry.name}", "missing", found, fix or entry.install)
