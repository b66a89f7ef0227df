"""Checks of a Jetson for `lnn-edge doctor`: its release and its clocks, each with the command that mends it."""

from __future__ import annotations

from .checks import Finding
from .jetson import Board

__all__ = ["clock_checks", "release_check"]


def release_check(board: Board) -> Finding:
    """Which JetPack it runs."""
    where = f"on {board.model}" if board.model else "in a container that hides the board"
    if board.jetpack:
        return Finding("JetPack", "ready", f"{board.jetpack} (L4T {board.l4t}) {where}")
    known = f"L4T {board.l4t}" if board.l4t else "no L4T release found"
    return Finding("JetPack", "note", f"{known} {where}: not in our table", "sudo apt install nvidia-jetpack")


def clock_checks(board: Board) -> list[Finding]:
    """What its latencies depend on: power mode and GPU clock."""
    return [_power(board), _gpu_clock(board)]


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
