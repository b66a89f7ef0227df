"""Progress of training: a bar on a terminal, lines in a log, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...progress import now_and_then, tell

__all__ = ["Note", "Record", "training_progress"]


@dataclass(frozen=True)
class Record:
    """One epoch.

    Args:
        loss: Mean training loss, of the weights as they were during the epoch.
        validation_loss: Of the weights after it, on the sequences held out; `None` without any.
        learning_rate: At its end.
    """

    loss: float
    validation_loss: float | None
    learning_rate: float

    @property
    def watched(self) -> float:
        """The loss that decides which weights are best."""
        return self.loss if self.validation_loss is None else self.validation_loss

    def __str__(self) -> str:
        held_out = "" if self.validation_loss is None else f"  validation {self.validation_loss:.4g}"
        return f"loss {self.loss:.4g}{held_out}"


Note = Callable[[int, Record], None]


@contextmanager
def training_progress(verbose: int, epochs: int, done: int) -> Iterator[Note]:
    """Show progress on standard error. Yields a function (epochs done, record).

    Args:
        verbose: 0 shows nothing; 1 draws a bar on terminals and in notebooks, elsewhere a line every 10 s; 2 writes a
            line for each tenth anywhere.
        epochs: Number of epochs.
        done: Epochs done in an earlier run.
    """
    if verbose == 2:
        yield _lines(epochs, done, lambda epoch: epoch * 10 // epochs > (epoch - 1) * 10 // epochs)
        return
    from rich.console import Console

    console = Console(stderr=True)
    if verbose == 0:
        yield lambda _done, _record: None
        return
    if not (console.is_terminal or console.is_jupyter):
        due = now_and_then()
        yield _lines(epochs, done, lambda _epoch: due())
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("training", total=epochs, completed=done)
        yield lambda finished, record: bar.update(task, completed=finished, description=str(record))


def _lines(epochs: int, done: int, is_due: Callable[[int], bool]) -> Note:
    started = time.monotonic()

    def note(finished: int, record: Record) -> None:
        if is_due(finished):
            left = (time.monotonic() - started) / (finished - done) * (epochs - finished)
            tell(f"epoch {finished}/{epochs}  {record}  {left:.0f} s left\n")

    return note
