"""The loop of `run`, from its source to its summary."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from ...files.whole import check_output
from ...progress import READERS
from ...wording import plural
from ..console import emit_json, note
from ..exit_codes import FAILED, MISSED, OK, USAGE
from ..keeping.kept_file import kept_here_alone
from ..os_errors import os_error_text
from ..results import Layout, Results, open_results
from ..signals import stoppable
from .choices import Looping

if TYPE_CHECKING:
    from ...runtime.guard.guarded import Guarded
    from ...runtime.loop.loop import Loop
    from ...runtime.loop.source import Source
    from ...runtime.loop.summary import Summary
    from ...runtime.model import Model
    from ...runtime.record.recorder import Recorder
    from ...runtime.transport.csv_file import Columns
    from ..keeping.kept_run import Keeping
    from .kept_loop import LoopKeeper
    from .lines import ResultSink
    from .rows import LiveRows, Rows, TimeCells

__all__ = ["LoopRun", "run_loop"]

_COUNTS = ("ticks", "steps", "by_status")


@dataclasses.dataclass(frozen=True)
class LoopRun:
    """A run of a loop.

    Args:
        model: The model, loaded.
        looping: What the user chose about the loop.
        layout: How results look; its time column is that of the table.
        source: What is read, for messages.
        output: Where results go, a file or "-".
        constants: Constant inputs by name.
        keeping: How it is kept, to go on from there; `None` if it is not.
        json: Where the summary goes as well.
    """

    model: Model
    looping: Looping
    layout: Layout
    source: str
    output: str
    constants: dict[str, list[float]] | None
    keeping: Keeping | None
    json: str | None


def run_loop(own: LoopRun, lines: IO[str], live: bool) -> int:
    """Run the loop until its rows end, or something ends it.

    Args:
        own: The run.
        lines: The table.
        live: Whether rows come in their own time.

    Returns:
        The exit code.

    Raises:
        TypeError, ValueError, OSError: If something does not fit, before anything runs.
    """
    guarded = own.model.guarded(own.looping.own_guard(own.model), constants=own.constants)
    _check(own, guarded)
    if not live:
        _check_pace(own)
    with kept_here_alone(own.keeping):
        return _run_loop(own, guarded, lines, live)


def _run_loop(own: LoopRun, guarded: Guarded, lines: IO[str], live: bool) -> int:
    loops: list[Loop] = []
    summary: Summary | None = None
    keeper = _keeper(own, guarded, live, lambda: loops[0].counts)
    try:
        with stoppable() as stop, ExitStack() as stack:
            source, layout = _source(own, lines, live, keeper)
            stack.callback(source.close)
            if own.output != "-":
                check_output(Path(own.output))  # before there is a recording of a loop that never ran
            done = keeper is not None and keeper.goes_on and getattr(source, "ended", False)
            recorder = None if done else _recorder(own, guarded, keeper)
            results = stack.enter_context(open_results(own.output, stop, None if keeper is None else keeper.written))
            sink = _sink(own, layout, results, source.times, loops, again=keeper is not None and not live)
            loop = _loop(own, guarded, source, sink, recorder, keeper)
            loops.append(loop)
            summary = loop.run()
            if sink.broken is not None:
                raise sink.broken
    except (OSError, ValueError) as error:
        if summary is not None:
            _tell_beside(own, summary, keeper, error)
        raise
    if done:
        note(f"remark: no row of {own.source} was left to do")
    whole = _whole(summary, keeper)
    return _told(own, summary, whole, recorder, results.in_place, stop.exit_code if stop.came else None)


def _keeper(own: LoopRun, guarded: Guarded, live: bool, counts: Callable[[], Mapping[str, int]]) -> LoopKeeper | None:
    """What keeps the loop, if the user wants that.

    Raises:
        ValueError, OSError: As `LoopKeeper`.
    """
    if own.keeping is None:
        return None
    from .kept_loop import LoopKeeper

    looping, policies = own.looping, own.keeping.policies
    typed = {
        "--rate": looping.rate_hz,
        "--on-fault": looping.on_fault,
        "--fresh": looping.fresh_s,
    }
    guard = {f"`{name}` of the guard": own for name, own in msgspec.to_builtins(guarded.guard).items()}
    guard = msgspec.json.decode(msgspec.json.encode(guard))  # as it comes back from a file
    same = {name: policies.get(name) for name in ("--threads", "--option")}
    keeping = replace(own.keeping, policies=typed | guard | same)
    return LoopKeeper(keeping, guarded, live, own.source, own.output, counts)


def _check(own: LoopRun, guarded: Guarded) -> None:
    """Say in the words of the command line what `Loop` would refuse in those of Python.

    Raises:
        ValueError: If the loop asks for what the model or its guard has not.
    """
    from ...runtime.loop.practice import refuse_gpu

    time, (low, high), looping = own.model.time, guarded.guard.pace, own.looping
    if looping.on_fault == "safe" and not guarded.guard.safe:
        outputs = ", ".join(f'"{t.name}": [{", ".join(["0.0"] * t.shape[-1])}]' for t in own.model.outputs)
        raise ValueError(
            f"--on-fault safe: '{own.model.name}' has no safe output. Put one into a file, --guard FILE: "
            f'{{"safe": {{{outputs}}}}}'
        )
    if looping.wait == "rehearse":
        refuse_gpu(own.model.backend)
    if looping.wait == "spin" and looping.rate_hz is None:
        raise ValueError("--wait spin waits for a tick of a rate: pass --rate HZ, or --wait rehearse")
    period_s = time.period_s
    if looping.rate_hz is None or time.mode != "fixed" or not period_s:
        return
    if not low <= 1 / (looping.rate_hz * period_s) <= high:
        raise ValueError(
            f"--rate {looping.rate_hz:g}: '{own.model.name}' has fixed time and was exported for {1 / period_s:g} "
            f"samples per second. Type: --rate {1 / period_s:g}, or export it with --time measured"
        )


def _sink(
    own: LoopRun, layout: Layout, results: Results, times: TimeCells, loops: list[Loop], *, again: bool
) -> ResultSink:
    from .lines import ResultSink

    return ResultSink(own.model, layout, results, times, lambda: loops[0].stop("reader gone"), again=again)


def _loop(
    own: LoopRun,
    guarded: Guarded,
    source: Source,
    sink: ResultSink,
    recorder: Recorder | None,
    keeper: LoopKeeper | None,
) -> Loop:
    from ...runtime.loop.loop import Loop
    from ...runtime.loop.realtime import Realtime

    looping = own.looping
    realtime = None
    if looping.realtime or looping.cpus is not None:
        realtime = Realtime(
            priority=_PRIORITY if looping.realtime else None, cpus=looping.cpus, lock_memory=looping.realtime
        )
    return Loop(
        guarded,
        source,
        sink,
        rate_hz=looping.rate_hz,
        wait=looping.wait,
        late=looping.late,
        on_fault=looping.on_fault,
        fresh_s=looping.fresh_s,
        recorder=recorder,
        snapshot=None if own.keeping is None else own.keeping.path,
        snapshot_every_s=1.0 if own.keeping is None else own.keeping.every_s,
        extra=None if keeper is None else keeper.kept,
        steps=0 if keeper is None else keeper.steps,
        realtime=realtime,
        report=note,
    )


def _check_pace(own: LoopRun) -> None:
    """Refuse rows of a file at no pace where the time between them counts: that would be how fast they are read."""
    if own.model.time.mode == "measured" and own.layout.time_column is None and own.looping.rate_hz is None:
        raise ValueError(
            f"'{own.model.name}' has measured time, and rows of a file come as fast as they are read: name the column "
            "with the time in seconds, --time-column t, or pass --rate HZ"
        )


_PRIORITY = 80  # above what else runs in real time on a usual Linux, below the kernel's own watchdogs


def _source(own: LoopRun, lines: IO[str], live: bool, keeper: LoopKeeper | None) -> tuple[Rows | LiveRows, Layout]:
    """The table as a source, behind the rows that are done, and the layout with the time column's own name."""
    from ...bundle.columns import InputColumns
    from ...runtime.transport.csv_file import read_columns, reader, rows
    from ...runtime.transport.marked_lines import MarkedLines
    from ...runtime.transport.text_lines import TextLines
    from .rows import LiveLines, LiveRows, Rows

    inputs = InputColumns(own.model.manifest)
    polled = LiveLines(lines) if live and _is_open(lines) else None
    marked = MarkedLines(lines) if keeper is not None and not live else None
    table = reader(marked or TextLines(polled or lines))  # type: ignore[arg-type]
    columns: Columns = read_columns(table, inputs.names, None, own.layout.time_column, own.source)
    columns = dataclasses.replace(columns, holes=True)  # a hole is the guard's
    named = None if columns.time is None else columns.header[columns.time]
    layout = Layout(own.layout.format, None, named)
    if keeper is not None:
        keeper.go_on(table, marked, columns)
    found = rows(table, columns, own.source)
    return Rows(found, inputs, marked) if polled is None else LiveRows(found, inputs, polled), layout


def _is_open(lines: IO[str]) -> bool:
    """Whether the system knows it, and it is not in memory, as a program passes it."""
    try:
        lines.fileno()
    except OSError:
        return False
    return True


def _recorder(own: LoopRun, guarded: Guarded, keeper: LoopKeeper | None) -> Recorder | None:
    if own.looping.record is None:
        return None
    from ...runtime.record.recorder import Recorder

    path = Path(own.looping.record)
    if path.suffix != ".mcap":
        raise ValueError(f"--record is '{path}', expected a name that ends in .mcap: {path.name}.mcap")
    for name in filter(None, (own.looping.record, own.looping.record_csv)):
        check_output(Path(name))
    size = own.looping.record_mb
    return Recorder(
        path,
        own.model,
        state_every=own.looping.state_every,
        rotate_bytes=None if size is None else round(size * 1e6),
        csv=own.looping.record_csv,
        start=guarded.snapshot() if keeper is not None and keeper.steps else None,
    )


def _whole(summary: Summary, keeper: LoopKeeper | None) -> dict[str, Any]:
    """The counts of the summary of a loop with those of the runs that it goes on from."""
    if keeper is None:
        return {name: getattr(summary, name) for name in _COUNTS}
    by_status = keeper.with_those_before(summary.by_status)
    return {"ticks": sum(by_status.values()), "steps": keeper.steps + summary.steps, "by_status": by_status}


def _facts(summary: Summary, whole: dict[str, Any]) -> dict[str, Any]:
    """What `--json` says: counts of the whole as if nothing had ended it, and all else of this run."""
    here = {field.name: getattr(summary, field.name) for field in dataclasses.fields(summary)}
    return here | whole | {"this_run": {name: here[name] for name in _COUNTS}}


def _tell_beside(own: LoopRun, summary: Summary, keeper: LoopKeeper | None, error: Exception) -> None:
    """Leave the summary of a loop whose results have no place any more, which stays the reason, whatever fails now."""
    if not isinstance(error, BrokenPipeError):  # who reads our results has gone, and has what it wanted
        for line in str(summary).splitlines():
            note(line)
    try:
        emit_json(_facts(summary, _whole(summary, keeper)), own.json)
    except OSError as failed:
        note(f"warning: {os_error_text(failed)}")


def _told(
    own: LoopRun,
    summary: Summary,
    whole: dict[str, Any],
    recorder: Recorder | None,
    in_place: bool | None,
    signalled: int | None,
) -> int:
    """Print the summary, and return the exit code."""
    if summary.ended.startswith("SIG"):
        READERS.hasten()
    for line in str(summary).splitlines():
        note(line)
    emit_json(_facts(summary, whole), own.json)
    saved = [own.output] if in_place else []
    saved += [str(path) for path in recorder.paths] if recorder is not None else []
    saved += [own.looping.record_csv] if own.looping.record_csv is not None else []
    saved += [own.keeping.path] if own.keeping is not None and summary.snapshots and summary.snapshots.written else []
    behind = f", saved {', '.join(saved)}" if saved else ""
    lost = [f"{kept.dropped:,} of the {name}" for name, kept in _kept(summary).items() if kept and kept.dropped]
    part = f" ({summary.ticks:,} in this run)" if whole["ticks"] > summary.ticks else ""
    ticks = f"{plural(whole['ticks'], 'tick')}{part} through {own.model.name}"
    if lost:
        note(f"MISSED: {', '.join(lost)} are lost, of {ticks}{behind}")
        return MISSED
    if summary.error is not None:
        note(f"stopped after {ticks}: {summary.error}{behind}")
        return FAILED if summary.error.startswith(_of_the_machine()) else USAGE
    ended = getattr(signal, summary.ended, None) if summary.ended.startswith("SIG") else None
    code = 128 + ended if ended is not None else signalled or OK
    note(f"{'interrupted after ' if code else ''}{ticks} on {own.model.description}{behind}")
    return code


def _of_the_machine() -> tuple[str, ...]:
    """How faults begin that another try may be without; all others are of the rows, which would be the same."""
    from ...runtime.guard.status import Status

    return tuple(f"{status.text}: " for status in (Status.STALE, Status.BACKEND_ERROR))


def _kept(summary: Summary) -> dict[str, Any]:
    kept = {"results": summary.sink, "recording": summary.recorder, "CSV": summary.csv}
    return kept | {"snapshots": summary.snapshots}
