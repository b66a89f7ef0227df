"""`lnn-edge run`: samples from a CSV file or a pipe, streamed through a bundle."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from ...backends import AUTO
from ...bundle.spec import MAX_WINDOW
from ...errors import BackendUnavailable
from ..console import note
from ..exit_codes import OK
from ..feeding.feed import Feed
from ..feeding.handling import Ahead, Handling, Unsuccessful
from ..feeding.kept_run import Keeper
from ..feeding.summary import Summary
from ..keeping.kept_file import is_live
from ..keeping.kept_run import Keeping
from ..looping.choices import Looping, add_loop_arguments, looping
from ..options import BackendChoice, add_backend_arguments, backend_options, positive, whole
from ..os_errors import STANDARD_INPUT
from ..results import Layout, Results, make_writer, open_results
from ..signals import Stop, stoppable

if TYPE_CHECKING:
    from ...runtime.model import Model
    from ...runtime.transport.csv_file import Columns

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "run"
_USUAL = {"on_bad": "stop", "on_gap": "stop"}  # of rows without a loop
_EVERY_S = 1.0  # of snapshots
HELP = "stream a CSV file or standard input through a bundle"
DESCRIPTION = """Step the model once per row, with the state kept between rows, and print one line per row
as it comes. Columns are matched to the model's inputs by name; other columns are ignored. Rows with
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
    add_backend_arguments(parser)
    add_loop_arguments(parser)
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
        Handling(
            source,
            arguments.time_column,
            arguments.on_bad or "stop",
            arguments.on_gap or "stop",
            arguments.window,
            arguments.every,
            _constants(arguments.constant),
            on_late=arguments.on_late,
            hold_for_s=arguments.hold_for,
        ),
        arguments.json,
        _keeping(arguments),
        looping(arguments),
    )


def _keeping(arguments: argparse.Namespace) -> Keeping | None:
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
    return Keeping(arguments.resume, arguments.snapshot_every or _EVERY_S, options, others)


def _as_json(value: Any) -> Any:
    """What was typed, as JSON has it: `--option` is pairs."""
    return ["=".join(own) if isinstance(own, tuple) else own for own in value] if isinstance(value, list) else value


def _constants(given: list[str] | None) -> dict[str, list[float]] | None:
    """What `--constant` says, by name."""
    if given is None:
        return None
    found: dict[str, list[float]] = {}
    for text in given:
        name, _, numbers = text.partition("=")
        if name in found:
            raise ValueError(f"--constant {name} is given twice")
        try:
            found[name] = [float(number) for number in numbers.split(",")]
        except ValueError:
            raise ValueError(f"--constant is '{text}', expected a name and numbers: --constant goal=0.5,-1.2") from None
    return found


def _run(choices: _Choices) -> int:
    from ...runtime.loading import load

    runner = choices.runner
    backend = _backend(runner.name, choices.keeping)
    try:
        model = load(choices.bundle, backend=backend, threads=runner.threads, options=runner.options)
    except BackendUnavailable as error:
        if choices.keeping is None or backend == runner.name:
            raise
        raise BackendUnavailable(f"snapshot '{choices.keeping.path}' is of backend {backend}. {error}") from error
    _check_rows(model)
    if choices.looping is not None:
        return _loop(model, choices, choices.looping)
    _check_model(model, choices.handling, choices.keeping)
    trained = model.manifest.window
    if trained is not None and choices.handling.window is None and choices.handling.every is None:
        note(
            f"remark: '{model.name}' was trained on windows of {trained.length} samples, and its state is kept here. "
            f"To run windows, pass --window {trained.length}"
        )
    summary = Summary(choices.output, choices.json)
    with stoppable() as stop:
        try:
            with _lines(choices.input) as lines:
                summary.keeper = keeper = _keeper(model, choices, lines)
                written = None if keeper is None else keeper.written
                with open_results(choices.output, stop, written) as results:
                    summary.results = results
                    _stream(model, choices, lines, results, summary, stop)
        except KeyboardInterrupt:
            summary.note_beside("interrupted after ")
            return stop.exit_code
        except BrokenPipeError:  # who reads our results has gone, and has what it wanted
            summary.save("reader gone")
            raise
        except Unsuccessful:
            summary.note_beside("")
            raise
        except Exception:
            if summary.feed is not None:  # else nothing has begun, and the error says it all
                summary.note_beside("stopped after ")
            raise
    summary.note("", f" through {model.name} on {model.description}")
    return OK


def _backend(name: str, keeping: Keeping | None) -> str:
    """The backend; that of a snapshot where the user leaves the choice."""
    from ...runtime.record.snapshot import backend_of_snapshot

    if keeping is None or name != AUTO or not Path(keeping.path).exists():
        return name
    return backend_of_snapshot(keeping.path)


def _keeper(model: Model, choices: _Choices, lines: IO[str]) -> Keeper | None:
    """What keeps the run, if the user wants that.

    Raises:
        ValueError: If nothing could be kept.
    """
    if choices.keeping is None:
        return None
    return Keeper(choices.keeping, model, is_live(lines), choices.handling.source, choices.output)


def _column(name: str) -> str:
    """A column's name as the table has it, in UTF-8; in a locale without UTF-8 Python hands over undecoded bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode(errors="replace")
    return name


def _lines(name: str) -> AbstractContextManager[IO[str]]:
    """What `--input` names."""
    from ...runtime.transport.csv_file import open_table

    if name != "-":
        return open_table(name)
    if sys.stdin is None:
        raise ValueError("standard input is closed. Name a file: --input FILE, or pipe the rows in")
    return nullcontext(sys.stdin)


def _loop(model: Model, choices: _Choices, looping: Looping) -> int:
    from ..looping.looped import LoopRun, run_loop

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


def _check_rows(model: Model) -> None:
    streamed = model.manifest.streamed
    if model.manifest.batch != 1 or len(streamed) != 1 or not streamed[0].features:
        raise ValueError(
            f"`run` takes models with one row of named features per sample; '{model.name}' takes "
            f"{[list(t.shape) for t in streamed]}. Use lnn_edge.load in Python"
        )


def _check_model(model: Model, handling: Handling, keeping: Keeping | None) -> None:
    if model.manifest.constants and handling.constants is None:
        numbers = {t.name: ",".join("0" for _ in t.features) for t in model.manifest.constants}
        typed = " ".join(f"--constant {name}={values}" for name, values in numbers.items())
        raise ValueError(
            f"'{model.name}' has constant inputs, which each recording needs. Type, with their values: {typed}"
        )
    handling.stream(model)  # what it refuses is told before anything is written
    _check_policies(handling)
    handling.holding(model)
    if model.time.mode == "measured" and handling.time_column is None:
        raise ValueError(
            f"'{model.name}' has measured time: name the column with the time in seconds, --time-column t, or in "
            "another unit, --time-column t:ms"
        )
    if model.time.mode == "fixed" and handling.on_gap == "reset" and keeping is None:
        raise ValueError(
            f"--on-gap reset belongs to bundles with measured time; '{model.name}' has fixed time and knows no gaps "
            "but those behind a restart, with --resume. Leave it out, or mark new recordings with --reset-column"
        )


def _check_policies(handling: Handling) -> None:
    if handling.hold_for_s is not None and handling.on_bad != "hold":
        raise ValueError("--hold-for says how long --on-bad hold may hold a value: pass both")
    if handling.on_late is not None and handling.time_column is None:
        raise ValueError("--on-late compares the times of rows: name the column with the time, --time-column t")


def _stream(model: Model, choices: _Choices, lines: IO[str], results: Results, summary: Summary, stop: Stop) -> None:
    from ...runtime.transport.csv_file import read_columns, reader, rows, rows_ahead
    from ...runtime.transport.marked_lines import MarkedLines
    from ...runtime.transport.text_lines import TextLines

    source, keeper = choices.handling.source, summary.keeper
    names = [f.name for f in model.manifest.streamed[0].features]
    shown = STANDARD_INPUT if choices.input == "-" else choices.input
    marked = None if keeper is None or is_live(lines) else MarkedLines(lines, shown)
    text = marked or TextLines(lines, shown)
    if choices.keeping is not None and keeper is not None:
        text.when_silent(choices.keeping.every_s, keeper.keep_in_silence)
    table = reader(text)
    columns = read_columns(table, names, choices.layout.reset_column, choices.layout.time_column, source)
    columns = dataclasses.replace(columns, holes=choices.handling.on_bad == "hold")
    layout, handling = _with_time(choices, columns)

    def ahead() -> Ahead:
        return Ahead(list(rows_ahead(table, columns, source)), table.ended)

    summary.feed = feed = Feed(model, handling, make_writer(model, layout, results), ahead)
    if keeper is None:
        for row in rows(table, columns, source):
            feed.take(row)
    else:
        keeper.go_on(table, marked, columns, feed)
        keeper.take_all(rows(table, columns, source, keeper.before), feed, results, (marked, columns), stop)
        keeper.finish()
    if table.cut:
        note(
            f"warning: {source} ends within line {table.line_num}, which has no line end: its last number may be cut "
            "off"
        )
    feed.tally.conclude(results.rows)


def _with_time(choices: _Choices, columns: Columns) -> tuple[Layout, Handling]:
    """What was chosen, with the time column's own name and unit."""
    if columns.time is None:
        return choices.layout, choices.handling
    name, unit = columns.header[columns.time], columns.times.unit
    if unit not in (None, "s") and choices.layout.time_column == name:
        note(f"remark: '{name}' is taken in {unit}, by its name. For seconds type: --time-column '{name}:s'")
    return replace(choices.layout, time_column=name), replace(choices.handling, time_column=name, unit=unit)
