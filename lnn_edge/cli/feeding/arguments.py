"""Arguments of `run` about rows, and what was chosen with them."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ...bundle.spec import MAX_WINDOW
from ..arguments.constants import constants_from_texts
from ..arguments.numbers import positive, whole
from ..keeping.kept_run import Keeping
from .handling import Handling

__all__ = ["EVERY_S", "add_keeping_arguments", "add_row_arguments", "handling", "keeping"]

EVERY_S = 1.0  # of snapshots
_USUAL = {"on_bad": "stop", "on_gap": "stop"}  # of rows without a loop


def add_row_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what there is to choose about rows."""
    parser.add_argument(
        "--reset-column", type=_column, metavar="NAME", help="column whose change starts a new recording"
    )
    parser.add_argument(
        "--time-column",
        type=_column,
        metavar="NAME",
        help="column with each sample's time: seconds, or another unit by its name (t_ms, 't [us]') or behind a colon "
        "(t:ms, t:us, t:ns), or dates and times (2024-05-01T12:00:00.02). A bundle with measured time steps by it; "
        "with fixed time it is only copied to the results, and compared with the bundle's period",
    )
    parser.add_argument(
        "--on-bad",
        choices=("stop", "skip", "hold"),
        help="what to do with a row that cannot be used: stop (default); skip; or hold, which lets the last good value "
        "of a column stand in where its cell is empty, nan or null, for as long as --hold-for says, and skips the rest",
    )
    parser.add_argument(
        "--hold-for",
        type=positive,
        metavar="SECONDS",
        help="with --on-bad hold, how old a value may be that stands in, as in --hold-for 0.2 (default: ten periods of "
        "the bundle)",
    )
    parser.add_argument(
        "--on-late",
        choices=("drop", "stop", "reset"),
        help="what to do with a row whose time is not after that of the row before: drop leaves it out (five in a row, "
        "each after the one before, are a clock that was set back, and --on-gap decides), stop, or reset the state and "
        "begin anew with it (default: drop where --on-gap or --on-bad says how to go on, else stop; a bundle with "
        "fixed time steps rows as they come)",
    )
    parser.add_argument(
        "--on-gap",
        choices=("stop", "reset", "clamp", "split"),
        help="with measured time, what to do where the time jumps by more than the bundle was proven for, and with "
        "--resume behind a long pause with fixed time as well: stop (default), or reset the state and begin a new "
        "sequence with that row; in a loop also clamp, which tells the "
        "model the longest legal time, or split, which steps the row several times",
    )
    parser.add_argument(
        "--window",
        type=whole(1, MAX_WINDOW),
        metavar="N",
        help="step windows of N rows, each from the initial state, as a model that was trained on windows is "
        "evaluated, and print one line per window",
    )
    parser.add_argument(
        "--every",
        type=whole(1, MAX_WINDOW),
        metavar="K",
        help="with --window, rows from the beginning of one window to that of the next (default: as exported, else N)",
    )
    parser.add_argument(
        "--constant",
        action="append",
        metavar="NAME=VALUES",
        help="a constant input of the model, the same for all recordings, as in --constant goal=0.5,-1.2; once for "
        "each of them",
    )


def add_keeping_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how a run is kept, to go on from there."""
    parser.add_argument(
        "--resume",
        metavar="FILE",
        help="keep in FILE where the run stands, and go on from there if FILE exists: behind the rows that were taken, "
        "in the file of results that was begun, which in the end is as if nothing had ended the command",
    )
    parser.add_argument(
        "--snapshot-every",
        type=positive,
        metavar="SECONDS",
        help="with --resume, how often FILE is written (default 1), beside the end and Ctrl-C",
    )


def handling(arguments: argparse.Namespace, source: str) -> Handling:
    """What was typed about rows; `source` is where they come from, for messages.

    Raises:
        ValueError: If a constant is none.
    """
    return Handling(
        source,
        arguments.time_column,
        arguments.on_bad or "stop",
        arguments.on_gap or "stop",
        arguments.window,
        arguments.every,
        None if arguments.constant is None else constants_from_texts(arguments.constant),
        on_late=arguments.on_late,
        hold_for_s=arguments.hold_for,
    )


def keeping(arguments: argparse.Namespace) -> Keeping | None:
    """What was typed about how the run is kept.

    Raises:
        ValueError: If it does not belong together.
    """
    if arguments.resume is None:
        if arguments.snapshot_every is not None:
            raise ValueError("--snapshot-every says how often --resume FILE is written: pass both")
        return None
    looks = ("format", "reset_column", "time_column", "window", "every", "constant")
    policies = ("on_bad", "hold_for", "on_late", "on_gap", "threads", "option")
    options, others = (
        {f"--{name.replace('_', '-')}": _as_json(getattr(arguments, name) or _USUAL.get(name)) for name in names}
        for names in (looks, policies)
    )
    return Keeping(arguments.resume, arguments.snapshot_every or EVERY_S, options, others)


def _as_json(value: Any) -> Any:
    """What was typed, as JSON has it: `--option` is pairs."""
    return ["=".join(own) if isinstance(own, tuple) else own for own in value] if isinstance(value, list) else value


def _column(name: str) -> str:
    """A column's name as the table has it, in UTF-8; in a locale without UTF-8 Python hands over undecoded bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode(errors="replace")
    return name
