"""Rows of `run` without a loop, from their first to their summary."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from ..console import note
from ..exit_codes import OK
from ..keeping.kept_file import is_live, kept_here_alone
from ..keeping.kept_run import Keeping
from ..os_errors import STANDARD_INPUT
from ..results import Layout, Results, make_writer, open_results
from ..signals import Stop, stoppable
from .feed import Feed
from .handling import Ahead, Handling, Unsuccessful
from .keeper import Keeper
from .summary import Summary

if TYPE_CHECKING:
    from ...runtime.model import Model
    from ...runtime.transport.csv_file import Columns

__all__ = ["RowRun", "run_rows"]


class RowRun(Struct, frozen=True):
    """A run of rows.

    Args:
        model: The model, loaded.
        input, output: Files, or "-".
        layout: How results look.
        handling: What the user chose about the rows.
        keeping: How it is kept, to go on from there; `None` if it is not.
        json: Where the summary goes as well.
    """

    model: Model
    input: str
    output: str
    layout: Layout
    handling: Handling
    keeping: Keeping | None
    json: str | None


def run_rows(own: RowRun, open_lines: Callable[[], AbstractContextManager[IO[str]]]) -> int:
    """Step all rows, and print the last line, whatever ends that.

    Args:
        own: The run.
        open_lines: Opens the table.

    Returns:
        The exit code.

    Raises:
        TypeError, ValueError, OSError: If something does not fit, or a row cannot be used.
    """
    model = own.model
    _check_model(model, own.handling, own.keeping)
    trained = model.manifest.window
    if trained is not None and own.handling.window is None and own.handling.every is None:
        note(
            f"remark: '{model.name}' was trained on windows of {trained.length} samples, and its state is kept here. "
            f"To run windows, pass --window {trained.length}"
        )
    summary = Summary(own.output, own.json)
    with stoppable() as stop:
        try:
            with kept_here_alone(own.keeping), open_lines() as lines:
                summary.keeper = keeper = _keeper(own, lines)
                written = None if keeper is None else keeper.written
                with open_results(own.output, stop, written) as results:
                    summary.results = results
                    _stream(own, lines, results, summary, stop)
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


def _keeper(own: RowRun, lines: IO[str]) -> Keeper | None:
    """What keeps the run, if the user wants that.

    Raises:
        ValueError: If nothing could be kept.
    """
    if own.keeping is None:
        return None
    return Keeper(own.keeping, own.model, is_live(lines), own.handling.source, own.output)


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


def _stream(own: RowRun, lines: IO[str], results: Results, summary: Summary, stop: Stop) -> None:
    from ...bundle.columns import InputColumns
    from ...runtime.transport.csv_file import read_columns, reader, rows, rows_ahead
    from ...runtime.transport.marked_lines import MarkedLines
    from ...runtime.transport.text_lines import TextLines

    source, keeper = own.handling.source, summary.keeper
    names = InputColumns(own.model.manifest).names
    shown = STANDARD_INPUT if own.input == "-" else own.input
    marked = None if keeper is None or is_live(lines) else MarkedLines(lines, shown)
    text = marked or TextLines(lines, shown)
    if own.keeping is not None and keeper is not None:
        text.when_silent(own.keeping.every_s, keeper.keep_in_silence)
    table = reader(text)
    columns = read_columns(table, names, own.layout.reset_column, own.layout.time_column, source)
    columns = dataclasses.replace(columns, holes=own.handling.on_bad == "hold")
    layout, handling = _with_time(own, columns)

    def ahead() -> Ahead:
        return Ahead(list(rows_ahead(table, columns, source)), table.ended)

    summary.feed = feed = Feed(own.model, handling, make_writer(own.model, layout, results), ahead)
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


def _with_time(own: RowRun, columns: Columns) -> tuple[Layout, Handling]:
    """What was chosen, with the time column's own name and unit."""
    if columns.time is None:
        return own.layout, own.handling
    name, unit = columns.header[columns.time], columns.times.unit
    if unit not in (None, "s") and own.layout.time_column == name:
        note(f"remark: '{name}' is taken in {unit}, by its name. For seconds type: --time-column '{name}:s'")
    return replace(own.layout, time_column=name), replace(own.handling, time_column=name, unit=unit)
