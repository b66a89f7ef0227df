"""Ticks as lines of CSV or JSON, for `--output`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...files.lines import LinesInPlace, csv_line
from ..results import CellText, Layout, Results, free_name, json_line

if TYPE_CHECKING:
    from ...runtime.loop.sink import Entry
    from ...runtime.model import Model
    from .rows import TimeCells

__all__ = ["ResultSink"]


class ResultSink:
    """A sink of a loop: a line for each tick, its time where the table has a column for it, outputs and status.

    Args:
        model: Whose ticks they are.
        layout: How they look.
        results: Where they go.
        times: Cells of the time column, by the ticks' times.
        gone: Called when nobody takes them any more.
        again: Whether rows can be read again, so that no state is kept behind a result that was lost: the next run
            steps its row once more, and writes it.

    Attributes:
        broken: The error of the pipe, if it broke, or of a file that is another's.
    """

    def __init__(
        self,
        model: Model,
        layout: Layout,
        results: Results,
        times: TimeCells,
        gone: Callable[[], object],
        *,
        again: bool,
    ) -> None:
        from ...runtime.readouts import label_of

        self._label_of = label_of
        self.broken: BrokenPipeError | ValueError | None = None
        self._model, self._layout, self._results, self._times, self._gone = model, layout, results, times, gone
        self._again, self._next, self._lost = again, 0, False
        self._outputs = [(t.name, [f.name for f in t.features]) for t in model.outputs]
        columns = [name for _, names in self._outputs for name in names]
        keys = [] if layout.time_column is None else [layout.time_column]
        self._labels = model.manifest.labels if len(model.outputs) == 1 else ()
        header = [*keys, *columns]
        header += [free_name("label", header)] if self._labels else []
        self._header = [*header, free_name("status", header)]
        self._empty = len(columns)
        if layout.format == "csv":
            results.write(csv_line(self._header), heading=True)

    def write(self, entry: Entry) -> None:
        """See `Sink`."""
        self._lost = self._lost or entry.number != self._next
        self._next = entry.number + 1
        values = list(self._values(entry))
        if self._layout.format == "csv":
            line = csv_line(["" if value is None else value for value in values])
        else:
            line = json_line(self._header, values)
        try:
            self._results.write(line)
        except (BrokenPipeError, ValueError) as error:
            self.broken = error
            self._gone()
            raise
        except OSError:
            self._lost = True
            raise

    def results_mark(self) -> Callable[[], dict[str, Any]]:
        """See `Marked`."""
        if isinstance(self.broken, ValueError):
            raise self.broken  # the snapshot is that of who writes there
        if self._lost and self._again:
            raise OSError("results were lost, so no state behind them is kept: the same command writes them again")
        results, rows = self._results, self._results.rows
        if not isinstance(results, LinesInPlace):
            return lambda: {"results": rows, "size": 0}
        size, digest = results.size, results.digest

        def synced() -> dict[str, Any]:
            results.sync()
            return {"results": rows, "size": size, "results_digest": digest}

        return synced

    def close(self) -> None:
        """The file is not this one's."""

    def _values(self, entry: Entry) -> Iterator[object]:
        y = entry.tick.y
        if self._layout.time_column is not None:
            cell = None if entry.t_s is None else self._times.of(entry.t_s)
            yield entry.t_s if cell is None else CellText(cell)
        if y is None:
            yield from [None] * self._empty
        else:
            for name, _ in self._outputs:
                # repr of a float32 as the shortest decimal that gives the same float32 back
                yield from (float(str(v)) for v in (y[name] if isinstance(y, dict) else y))
        if self._labels:
            yield None if y is None else self._label_of(self._labels, y)
        yield entry.tick.status.text
