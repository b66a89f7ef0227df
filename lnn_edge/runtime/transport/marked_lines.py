"""Lines of a file with a mark: those before it are known again by their digest, in a later run as well."""

from __future__ import annotations

import hashlib
from typing import IO

from .text_lines import TextLines

__all__ = ["MarkedLines"]


class MarkedLines(TextLines):
    """See `TextLines`.

    Attributes:
        before: How many lines stand before the mark.
    """

    def __init__(self, file: IO[str], name: str | None = None) -> None:
        super().__init__(file, name)
        self.before = 0
        self._digest = hashlib.sha256()
        self._behind: list[str] = []

    def __next__(self) -> str:
        line = super().__next__()
        self._behind.append(line)
        return line

    def mark(self) -> None:
        """Put the mark behind the newest line."""
        for line in self._behind:
            self._digest.update(f"{line}\n".encode())
        self.before += len(self._behind)
        self._behind.clear()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the lines before the mark, each with a line feed."""
        return self._digest.hexdigest()
