"""`lnn-edge run`: samples from a CSV file or a pipe, streamed through a bundle."""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

from msgspec import Struct

from ...backends import AUTO
from ...errors import BackendUnavailable
from ..arguments.backend import BackendChoice, add_backend_arguments, backend_options
from ..feeding.arguments import add_keeping_arguments, add_row_arguments, handling, keeping
from ..feeding.handling import Handling
from ..feeding.row_run import RowRun, run_rows
from ..keeping.kept_file import is_live
from ..keeping.kept_run import Keeping
from ..looping.choices import Looping, add_loop_arguments, looping
from ..results import Layout

if TYPE_CHECKING:
    from ...runtime.model import Model

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "run"
HELP = "stream a CSV file or standard input through a bundle"
DESCRIPTION = """Step the model once per row, with the state kept between rows, and print one line per row
as it comes. Columns are matched to the model's inputs by name, those of several inputs in one table (INPUT.NAME
where two have one of that name); other columns are ignored. Rows with
another value in the reset column start a new recording. A bundle exported with --unroll is stepped
once per block of rows; rows at the end of a recording that fill no block are counted and left out.
One that makes a single result of several outputs (a readout) prints that, and one with labels the label.
Values outside the range of the example that the bundle was exported with are counted, and told at the end.

Whatever ends the command before the input does (Ctrl-C, a signal, a row that cannot be used, a full
disk), the --output file then holds the results of all rows before that.

The file appears at the end, whole: until then its rows stand in .FILE.*.lnn-edge.partial beside it, where
kill -9 leaves them until the next command writes to that folder. To watch results as they come, or to
lose none, send them to standard output (lnn-edge run ... | tee live.csv) or to a named pipe (mkfifo).
With --resume the file grows in its place, and a run that was killed goes on where the last snapshot was
taken, in a loop as well. From standard input, whose rows do not come again, it goes on with the state if the
time since then is one that the bundle was proven for, or that its pace allows, else as --on-gap says."""
EPILOG = """examples:
  lnn-edge run gait.lnn --input walk.csv --output gait.csv
  lnn-edge run gait.lnn --input walk.csv --reset-column recording --format jsonl
  lnn-edge run gait.lnn --input walk.csv --output gait.csv --resume gait.snapshot
  lnn-edge run gait.lnn --input walk.csv --window 30 --every 5
  lnn-edge run reach.lnn --input walk.csv --constant goal=0.5,-1.2
  sensor | lnn-edge run gait.lnn --time-column t | controller
  lnn-edge run gait.lnn --input walk.csv --time-column stamp:ns
  sensor | lnn-edge run gait.lnn --time-column t --on-bad skip --on-gap reset | tee live.csv
  sensor | lnn-edge run gait.lnn --time-column t --on-late drop --on-bad hold --hold-for 0.2
  lnn-edge run gait.lnn --input walk.csv --on-fault hold --record walk.mcap
  sensor | lnn-edge run gait.lnn --rate 50 --wait rehearse --on-fault hold --record walk.mcap | controller"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", help="the bundle, NAME.lnn")
    parser.add_argument("--input", metavar="FILE", default="-", help="CSV file with a header, or - (default)")
    parser.add_argument("--output", metavar="FILE", default="-", help="where the results go, or - (default)")
    parser.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="format of the results (default csv)")
    add_row_arguments(parser)
    add_backend_arguments(parser)
    add_loop_arguments(parser)
    add_keeping_arguments(parser)
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the summary as JSON to FILE: what came, was skipped, and lay outside the range of the example; "
        "with - to standard output, if the results go elsewhere",
    )


class _Choices(Struct, frozen=True):
    """What was typed. `input` and `output` name files, or are "-"."""

    bundle: str
    runner: BackendChoice
    input: str
    output: str
    layout: Layout
    handling: Handling
    json: str | None
    keeping: Keeping | None
    looping: Looping | None


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    return _run(_choices(arguments))


def _choices(arguments: argparse.Namespace) -> _Choices:
    if arguments.json == "-" and arguments.output == "-":
        raise ValueError("--json - and the results would both go to standard output: name a file, --output FILE")
    source = "standard input" if arguments.input == "-" else f"'{arguments.input}'"
    return _Choices(
        arguments.bundle,
        BackendChoice(arguments.backend, arguments.threads, backend_options(arguments.option)),
        arguments.input,
        arguments.output,
        Layout(arguments.format, arguments.reset_column, arguments.time_column),
        handling(arguments, source),
        arguments.json,
        keeping(arguments),
        looping(arguments),
    )


def _run(choices: _Choices) -> int:
    from ...bundle.columns import InputColumns
    from ...runtime.loading import load

    runner = choices.runner
    backend = _backend(runner.name, choices.keeping)
    try:
        model = load(choices.bundle, backend=backend, threads=runner.threads, options=runner.options)
    except BackendUnavailable as error:
        if choices.keeping is None or backend == runner.name:
            raise
        raise BackendUnavailable(f"snapshot '{choices.keeping.path}' is of backend {backend}. {error}") from error
    InputColumns(model.manifest)  # refuses what takes no rows
    if choices.looping is not None:
        return _loop(model, choices, choices.looping)
    own = RowRun(model, choices.input, choices.output, choices.layout, choices.handling, choices.keeping, choices.json)
    return run_rows(own, lambda: _lines(choices.input))


def _backend(name: str, keeping: Keeping | None) -> str:
    """The backend; that of a snapshot where the user leaves the choice."""
    from ...runtime.record.snapshot import backend_of_snapshot

    if keeping is None or name != AUTO or not Path(keeping.path).exists():
        return name
    return backend_of_snapshot(keeping.path)


def _lines(name: str) -> AbstractContextManager[IO[str]]:
    """What `--input` names."""
    from ...runtime.transport.csv_file import open_table

    if name != "-":
        return open_table(name)
    if sys.stdin is None:
        raise ValueError("standard input is closed. Name a file: --input FILE, or pipe the rows in")
    return nullcontext(sys.stdin)


def _loop(model: Model, choices: _Choices, looping: Looping) -> int:
    from ..looping.loop_run import LoopRun, run_loop

    handling = choices.handling
    run = LoopRun(
        model=model,
        looping=looping,
        layout=choices.layout,
        source=handling.source,
        output=choices.output,
        constants=handling.constants,
        keeping=choices.keeping,
        json=choices.json,
    )
    with _lines(choices.input) as lines:
        return run_loop(run, lines, is_live(lines))
