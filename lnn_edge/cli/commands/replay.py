"""`lnn-edge replay`: recordings through a bundle again, and whether they come out the same."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ...backends import AUTO, BACKENDS
from ..arguments.numbers import whole
from ..console import add_json_argument, emit_json, print_result
from ..exit_codes import NOT_EQUAL, OK

if TYPE_CHECKING:
    from ...runtime.record.replay import ReplayReport, Verdict

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "replay"
HELP = "run recordings through a bundle again, and say whether they come out the same"
DESCRIPTION = """Step every sample of a recording through the bundle that it was recorded with, with the
resets, gaps and refusals of then, and compare outputs and states tick by tick: bit for bit where the
same build runs, within the bundle's tolerance elsewhere. Each file is looked at by itself, also those
of one recording. Needs the extra `record`."""
EPILOG = """examples:
  lnn-edge replay gait.lnn walk.mcap
  lnn-edge replay gait.lnn walk*.mcap --jobs 4 --json verdicts.json
  lnn-edge replay gait.lnn walk.mcap --backend onnxruntime"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", help="the bundle, NAME.lnn")
    parser.add_argument("recordings", nargs="+", metavar="RECORDING", help="a recording, NAME.mcap")
    names = ", ".join(f"{entry.name} ({entry.runs})" for entry in BACKENDS)
    parser.add_argument(
        "--backend",
        default=AUTO,
        help=f"{AUTO} for that of the recording, if it runs here (default), or one of: {names}",
    )
    parser.add_argument(
        "--jobs",
        type=whole(1, 1024),
        help="recordings at once, each in a process of its own (default: one for each core; 1: in this process)",
    )
    add_json_argument(parser)


class _Choices(Struct, frozen=True):
    """What was typed; `jobs` is `None` for the default."""

    bundle: str
    recordings: tuple[str, ...]
    backend: str
    jobs: int | None
    json: str | None


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    jobs = arguments.jobs or min(os.cpu_count() or 1, len(arguments.recordings))
    return _replay(_Choices(arguments.bundle, tuple(arguments.recordings), arguments.backend, jobs, arguments.json))


def _replay(choices: _Choices) -> int:
    report = _report(choices)
    if choices.json is not None:
        emit_json(
            {"bundle": report.bundle, "same": report.same, "recordings": [*map(_row, report.verdicts)]}, choices.json
        )
    print_result(str(report), choices.json)
    return OK if report.same else NOT_EQUAL


def _report(choices: _Choices) -> ReplayReport:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from ...runtime.record.replay import InThisProcess, replay

    if choices.jobs == 1:
        return replay(choices.bundle, choices.recordings, executor=InThisProcess(), backend=choices.backend)
    with ProcessPoolExecutor(choices.jobs, mp_context=get_context("spawn")) as pool:
        return replay(choices.bundle, choices.recordings, executor=pool, backend=choices.backend)


def _row(verdict: Verdict) -> dict[str, Any]:
    found, first = verdict.found, verdict.first
    return {
        "recording": verdict.recording,
        "same": verdict.same,
        "error": verdict.error,
        "backend": verdict.backend,
        "tolerance": verdict.tolerance,
        "compared": found.compared,
        "refused": found.skipped,
        "not compared": found.unknown,
        "why": found.why_unknown,
        "different": found.different,
        "largest": found.largest,
        "cut": found.cut,
        "first": None
        if first is None
        else {
            "tick": first.tick,
            "name": first.name,
            "recorded": first.recorded,
            "replayed": first.replayed,
            "refusal": first.refusal,
        },
    }
