"""`lnn-edge run`: stream samples from a CSV file or a pipe through a bundle."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import IO, Any

from .console import output_file, tell
from .options import add_backend_arguments, backend_options

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "run"
HELP = "stream a CSV file or standard input through a bundle"
DESCRIPTION = """Step the model once per row, with the state kept between rows, and print one line per row
as it comes. Columns are matched to the model's inputs by name; other columns are ignored. Rows with
another value in the reset column start a new recording."""
EPILOG = """examples:
  lnn-edge run gait.lnn --input walk.csv --output gait.csv
  lnn-edge run gait.lnn --input walk.csv --reset-column recording --format jsonl
  sensor | lnn-edge run gait.lnn --time-column t | controller"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", help="the bundle, NAME.lnn")
    parser.add_argument("--input", metavar="FILE", default="-", help="CSV file with a header, or - (default)")
    parser.add_argument("--output", metavar="FILE", default="-", help="where the results go, or - (default)")
    parser.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="format of the results (default csv)")
    parser.add_argument("--reset-column", metavar="NAME", help="column whose change starts a new recording")
    parser.add_argument("--time-column", metavar="NAME", help="column with each sample's time in seconds")
    parser.add_argument(
        "--on-bad", choices=("stop", "skip"), default="stop", help="what to do with a row that cannot be used"
    )
    add_backend_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from ..runtime.loading import load
    from ..runtime.table import open_table

    model = load(
        arguments.bundle,
        backend=arguments.backend,
        threads=arguments.threads,
        options=backend_options(arguments),
    )
    _check_model(model, arguments)
    source = "standard input" if arguments.input == "-" else f"'{arguments.input}'"
    with ExitStack() as stack:
        lines = _standard_input() if arguments.input == "-" else stack.enter_context(open_table(arguments.input))
        results = stack.enter_context(output_file(arguments.output))
        counts = _Counts()
        try:
            _stream(model, arguments, lines, results, source, counts)
        except KeyboardInterrupt:
            if arguments.output != "-":
                raise
            tell(f"interrupted after {counts}")
            return 130
    saved = "" if arguments.output == "-" else f", saved {arguments.output}"
    tell(f"{counts} through {model.name} on {model.description}{saved}")
    return 0


def _standard_input() -> IO[str]:
    """Standard input, decoded as `open_table` decodes a file, whatever the locale says."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(newline="", encoding="utf-8-sig", errors="replace")
    return sys.stdin


class _Counts:
    """How many rows came, were refused, and started a recording."""

    def __init__(self) -> None:
        self.steps = self.bad = self.recordings = 0

    def __str__(self) -> str:
        refused = f", {self.bad:,} bad rows skipped" if self.bad else ""
        return f"{self.steps:,} samples in {self.recordings:,} recordings{refused}"


def _check_model(model: Any, arguments: argparse.Namespace) -> None:
    if model.manifest.batch != 1 or len(model.inputs) != 1 or not model.inputs[0].features:
        raise ValueError(
            f"`run` takes models with one row of named features per sample; '{model.name}' takes "
            f"{[list(t.shape) for t in model.inputs]}. Use lnn_edge.load in Python"
        )
    if model.time.mode == "measured" and arguments.time_column is None:
        raise ValueError(f"'{model.name}' has measured time: name the column with the time in seconds, --time-column")


def _stream(
    model: Any, arguments: argparse.Namespace, lines: IO[str], results: IO[str], source: str, counts: _Counts
) -> None:
    from ..runtime.table import read_columns, reader, rows

    names = [f.name for f in model.inputs[0].features]
    table = reader(lines)
    columns = read_columns(table, names, arguments.reset_column, arguments.time_column, source)
    write = _writer(model, arguments, results)
    stream, measured = model.stream(), model.time.mode == "measured"
    for row in rows(table, columns, source):
        try:
            y = _step(stream, row, measured, source, counts)
        except ValueError as error:
            if arguments.on_bad == "stop":
                raise ValueError(f"{error}. To go on with the next row, pass --on-bad skip") from error
            counts.bad += 1
            tell(str(error))
            continue
        write(row, y)
        counts.steps += 1


def _step(stream: Any, row: Any, measured: bool, source: str, counts: _Counts) -> Any:
    """Step one row; every error is a ValueError that names the line."""
    if isinstance(row, ValueError):
        raise row
    if row.reset:
        stream.reset()
        counts.recordings += 1
    try:
        return stream.step(row.values, t_s=row.t_s if measured else None)
    except ValueError as error:
        raise ValueError(f"{source}, line {row.line}: {error}") from error


def _writer(model: Any, arguments: argparse.Namespace, results: IO[str]) -> Callable[[Any, Any], None]:
    """A function that writes one result. Every line is flushed: the next program in the pipe acts on it."""
    import csv

    keys = [c for c in (arguments.reset_column, arguments.time_column) if c is not None]
    heads = {t.name: [f.name for f in t.features] for t in model.outputs}
    header = [*keys, *(name for names in heads.values() for name in names)]

    def values(row: Any, y: Any) -> Iterator[Any]:
        if arguments.reset_column is not None:
            yield row.recording
        if arguments.time_column is not None:
            yield row.t_s
        for head in heads:
            # repr of a float32 as the shortest decimal that gives the same float32 back
            yield from (float(str(v)) for v in (y[head] if isinstance(y, dict) else y))

    if arguments.format == "jsonl":

        def write_json(row: Any, y: Any) -> None:
            results.write(json.dumps(dict(zip(header, values(row, y), strict=True))) + "\n")
            results.flush()

        return write_json
    lines = csv.writer(results, lineterminator="\n")
    lines.writerow(header)

    def write_csv(row: Any, y: Any) -> None:
        lines.writerow(values(row, y))
        results.flush()

    return write_csv
