"""Small helpers that messages share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = ["CONTROL", "choices", "listed", "nearest", "plural"]

# Control characters, separators of lines and paragraphs, and marks of direction: what moves a terminal's cursor, breaks
# a line, or lets text read as another.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Join names with commas; beyond `limit` say how many more there are."""
    all_names = list(names)
    shown = ", ".join(all_names[:limit])
    more = len(all_names) - limit
    return f"{shown} and {more} more" if more > 0 else shown or "none"


def nearest(got: object, valid: Iterable[str]) -> str | None:
    """The valid name that `got` is most like; `None` if it is like none."""
    return next(iter(difflib.get_close_matches(str(got), list(valid), n=1, cutoff=0.5)), None)


def choices(got: object, valid: Iterable[str]) -> str:
    """Say what is valid and which valid name is nearest to `got`."""
    names = list(valid)
    near = nearest(got, names)
    hint = f" Did you mean '{near}'?" if near else ""
    return f"Valid: {listed(names)}.{hint}"


def plural(count: int, noun: str) -> str:
    """`plural(1, "step")` is "1 step", `plural(1200, "step")` is "1,200 steps"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
