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
another value in the reset column start a new recording. A bundle exported with --unroll is stepped
once per block of rows; rows at the end of a recording that fill no block are counted and left out."""
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
    """How many rows came, were refused, filled no block, and started a recording."""

    def __init__(self) -> None:
        self.steps = self.bad = self.left = self.recordings = 0

    def __str__(self) -> str:
        refused = f", {self.bad:,} bad rows skipped" if self.bad else ""
        left = f", {self.left:,} at the ends of recordings filled no block" if self.left else ""
        return f"{self.steps:,} samples in {self.recordings:,} recordings{refused}{left}"


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
    unroll, block = model.manifest.unroll, list[Any]()
    for row in rows(table, columns, source):
        try:
            if isinstance(row, ValueError):
                raise row
            if row.reset:
                counts.recordings += 1
                counts.left += len(block)
                block = []
            block.append(row)
            if len(block) < unroll:
                continue
            ready, block = block, []
            ys = _step(stream, ready, measured, source)
        except ValueError as error:
            if arguments.on_bad == "stop":
                raise ValueError(f"{error}. To go on with the next row, pass --on-bad skip") from error
            counts.bad += 1 if isinstance(row, ValueError) else unroll
            tell(str(error))
            continue
        for k, done in enumerate(ready):
            write(done, ys if unroll == 1 else _sample(ys, k))
        counts.steps += unroll
    counts.left += len(block)


def _step(stream: Any, block: list[Any], measured: bool, source: str) -> Any:
    """Step one row, or a block of them; every error is a ValueError that names the line."""
    import numpy as np

    first, last = block[0], block[-1]
    if first.reset:
        stream.reset()
    x = first.values if first is last else np.stack([row.values for row in block])
    times = first.t_s if first is last else [row.t_s for row in block]
    try:
        return stream.step(x, t_s=times if measured else None)
    except ValueError as error:
        lines = f"line {first.line}" if first is last else f"lines {first.line} to {last.line}"
        raise ValueError(f"{source}, {lines}: {error}") from error


def _sample(ys: Any, k: int) -> Any:
    """One sample's outputs out of a block's."""
    return {name: y[k] for name, y in ys.items()} if isinstance(ys, dict) else ys[k]


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
