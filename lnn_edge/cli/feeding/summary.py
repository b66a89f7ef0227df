"""The last line of `run`, and the same for `--json`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...wording import plural
from ..console import emit_json, note
from ..os_errors import os_error_text

if TYPE_CHECKING:
    from ..results import Results
    from .feed import Feed
    from .keeper import Keeper

__all__ = ["Summary"]


class Summary:
    """The last line: how much was done, and whether it is saved. `results` and `feed` are there once they exist."""

    def __init__(self, output: str, json: str | None) -> None:
        self._output, self._json = output, json
        self.results: Results | None = None
        self.feed: Feed | None = None
        self.keeper: Keeper | None = None

    def note(self, before: str, behind: str = "") -> None:
        """Print it, below what the user should know about the samples."""
        steps = 0 if self.results is None else self.results.rows
        tally = None if self.feed is None else self.feed.tally
        counts = f"{plural(steps, 'sample')} in 0 recordings" if tally is None else tally.text(steps)
        for warning in () if tally is None else tally.warnings():
            note(warning)
        try:
            self.save(before.removesuffix(" after ") or "done")
        finally:  # what was done is told though that cannot be written
            kept = "" if self.keeper is None else self.keeper.text
            note(f"{before}{counts}{behind}{self._saved()}{kept}")

    def note_beside(self, before: str) -> None:
        """Print it where something else ended the command, which stays the reason, whatever fails now."""
        try:
            self.note(before)
        except OSError as error:
            note(f"warning: {os_error_text(error)}")

    def save(self, ended: str) -> None:
        """Write it as JSON, where the user wants that; `ended` says what ended the command."""
        if self.feed is not None:
            steps = 0 if self.results is None else self.results.rows
            emit_json({"ended": ended, **self.feed.tally.facts(steps)}, self._json)

    def _saved(self) -> str:
        if self.results is None or self.results.in_place is None:
            return ""
        if self.results.in_place:
            return f", saved {self._output}"
        if self.results.kept is not None:
            return f"; they are in {self.results.kept}, as nothing may take the place of {self._output}"
        return f"; {self._output} {'is left as it was' if Path(self._output).exists() else 'is not written'}"
