"""The file that a run is kept in: found, compared with this run, and written."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from ...files.lines import digest_of
from ...files.staging import claimed
from ...files.whole import check_output, real_place
from ...wording import plural
from ..arguments.constants import constants_from_texts
from ..results import Written
from .kept_run import VERSION, Keeping, KeptRun

if TYPE_CHECKING:
    from ...runtime.model import Model
    from ...runtime.record.snapshot import Snapshot
    from ...runtime.transport.csv_file import Columns, Table
    from ...runtime.transport.marked_lines import MarkedLines

__all__ = ["KeptFile", "is_live", "kept_here_alone"]

_R = TypeVar("_R", bound=KeptRun)


def is_live(lines: IO[str]) -> bool:
    """Whether an input is none that can be read from its beginning again, as a file can."""
    try:
        return not stat.S_ISREG(os.fstat(lines.fileno()).st_mode)
    except OSError:  # in memory, as a program passes it
        return True


@contextmanager
def kept_here_alone(keeping: Keeping | None) -> Iterator[None]:
    """A block in which no other command keeps its run in the same file: each would go on from the other's state.

    Raises:
        ValueError: If another one does.
        OSError: If the file cannot be written.
    """
    if keeping is None:
        yield
        return
    place = Path(keeping.path)
    check_output(place)
    with claimed(real_place(place)) as ours:
        if not ours:
            raise ValueError(
                f"'{place}' is being written by another process. Wait until that ends, or name another file: "
                "--resume FILE"
            )
        yield


class KeptFile(Generic[_R]):
    """See the module's text.

    Args:
        kind: What it says of the run.
        keeping: What the user chose.
        model: A loaded model.
        live: See `is_live`.
        source: What is read, for messages.
        output: Where results go; "-" is standard output.

    Attributes:
        place: The file.
        found: The state and the run that are there, `None` where there is no file.

    Raises:
        ValueError: If the file is no snapshot of such a run; with what differs, and the command that begins anew. Or
            if results could not be cut where it goes on.
        OSError: If it cannot be read or written.
    """

    def __init__(self, kind: type[_R], keeping: Keeping, model: Model, live: bool, source: str, output: str) -> None:
        target, place = Path(output), Path(keeping.path)
        check_output(place)
        if not live and (output == "-" or (target.exists() and not target.is_file())):
            raise ValueError("--resume cuts the results where it goes on: name a file for them, --output FILE")
        self.place = place
        self._kind, self._keeping, self._model, self._live = kind, keeping, model, live
        self._source, self._output = source, output
        self.found: tuple[Snapshot, _R] | None = None
        if place.exists():
            self.found = self._read()

    @property
    def written(self) -> Written:
        """The results of the run that goes on."""
        return Written() if self.found is None else Written(self.found[1].results, self.found[1].size)

    def pass_over(self, table: Table, lines: MarkedLines) -> None:
        """Leave out the lines that were taken, which are still the same.

        Args:
            table: The input, behind its header.
            lines: Its lines.

        Raises:
            ValueError: If the input is another.
        """
        lines.mark()
        if self.found is None:
            return
        run = self.found[1]
        while lines.before < run.lines:
            there = table.pass_over(min(lines.before + 1000, run.lines))
            lines.mark()
            if not there:
                raise self.refusal(
                    f"is of a run that took {plural(run.lines, 'line')}, and {self._source} has {lines.before:,}"
                )
        if lines.digest != run.digest:
            raise self.refusal(f"is of a run of another input: the first {run.lines:,} lines of {self._source} differ")

    def behind(self, snapshot: Snapshot, lines: MarkedLines | None) -> str:
        """What the user is told of where a run goes on."""
        if lines is not None:
            return f"line {lines.before:,} of {self._source}"
        return f"{plural(snapshot.steps, 'sample')}, {self.age_s(snapshot):.1f} s later by the clock of this computer"

    def age_s(self, snapshot: Snapshot) -> float:
        """Seconds since it was written, by the clock of this computer; below 0 where that was set back."""
        from datetime import datetime, timezone

        return (datetime.now(timezone.utc) - snapshot.wall_time).total_seconds()

    def about(self, lines: MarkedLines | None, columns: Columns) -> dict[str, Any]:
        """What a file says of this run, as it is now, but for its results and what is of its kind."""
        return {
            "version": VERSION,
            "runner": _library(self._model.description),
            "live": self._live,
            "options": self._keeping.options,
            "policies": self._keeping.policies,
            "lines": 0 if lines is None else lines.before,
            "digest": "" if lines is None else lines.digest,
            "times": columns.times.kept(),
        }

    def refusal(self, text: str) -> ValueError:
        """The error of a file that this run does not go on from."""
        return ValueError(f"snapshot '{self.place}' {text}. To begin anew, type: rm {shlex.quote(str(self.place))}")

    def _read(self) -> tuple[Snapshot, _R]:
        from ...runtime.record.snapshot import load_snapshot

        snapshot = load_snapshot(self.place, self._model)
        self._check_kind(snapshot.extra)
        try:
            run = msgspec.convert(snapshot.extra, self._kind)
        except msgspec.ValidationError as error:
            raise self.refusal(f"holds a state, but no run of this version of lnn-edge: {error}") from error
        self._check(run)
        return snapshot, run

    def _check_kind(self, extra: Mapping[str, Any]) -> None:
        """Refuse a run of the other kind, which has another field of its own."""
        rows = "feed" in extra
        if "runner" not in extra or rows == ("feed" in self._kind.__struct_fields__):
            return
        theirs, ours = ("without", "with one: leave its arguments out") if rows else ("with", "without one")
        raise self.refusal(f"is of a run {theirs} a loop, and this is one {ours}")

    def _check(self, run: KeptRun) -> None:
        """Refuse a run that this one does not go on from."""
        if run.live != self._live:
            kinds = ("a file", "a live input")
            raise self.refusal(f"is of a run of {kinds[run.live]}, and {self._source} is {kinds[self._live]}")
        pairs = [(run.options, self._keeping.options)]
        if not run.live:
            pairs.append((run.policies, self._keeping.policies))
        for theirs, ours in pairs:
            for name in sorted({*theirs, *ours}):
                if _meant(name, theirs.get(name)) != _meant(name, ours.get(name)):
                    was, now = (_shown(name, own.get(name)) for own in (theirs, ours))
                    raise self.refusal(f"is of a run {was}, and this is one {now}")
        was, now = _library(run.runner), _library(self._model.description)
        if not run.live and was != now:
            raise self.refusal(f"is of a run on {was}, and this is one on {now}")
        self._check_output(run)

    def _check_output(self, run: KeptRun) -> None:
        target = Path(self._output)
        if not run.size or self._output == "-" or (target.exists() and not target.is_file()):
            return
        there = f"has {target.stat().st_size:,}" if target.exists() else "is not there"
        if not target.exists() or target.stat().st_size < run.size:
            raise self.refusal(f"is of a run that wrote {run.size:,} bytes of results, and '{target}' {there}")
        if run.results_digest and run.results_digest != digest_of(target, run.size):
            raise self.refusal(f"is of a run with other results than the first {run.size:,} bytes of '{target}'")


def _library(description: str) -> str:
    """A backend's description without how fast `auto` found it, which is another each time."""
    return description.partition(";")[0]


def _meant(name: str, value: Any) -> Any:
    """What is compared of an option: of constants their numbers, which texts have many of."""
    if name == "--constant":
        with suppress(AttributeError, TypeError, ValueError):  # of a file that somebody wrote
            return constants_from_texts(value)
    return value


def _shown(name: str, value: Any) -> str:
    if value in (None, [], {}):
        return f"without {name}"
    text = " ".join(map(str, value)) if isinstance(value, list) else value
    return f"with {name} {text}"
