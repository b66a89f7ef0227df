"""Small helpers that messages share, and whether their advice is for a shell or for Python."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = [
    "CONTROL",
    "choices",
    "chosen",
    "in_a_shell",
    "limits_advice",
    "listed",
    "microseconds",
    "nearest",
    "one_line",
    "other_backend_advice",
    "plural",
    "step_advice",
    "typed",
]

# Control characters, separators of lines and paragraphs, and marks of direction: what moves a terminal's cursor, breaks
# a line, or lets text read as another.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

# A context's own, and not one of the process: a program that calls a command in one thread writes Python in the others.
_SHELL: ContextVar[bool] = ContextVar("whether a command of the shell is at work", default=False)


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Join names with commas; beyond `limit` say how many more there are."""
    all_names = list(names)
    shown = ", ".join(all_names[:limit])
    more = len(all_names) - limit
    return f"{shown} and {more} more" if more > 0 else shown or "none"


def nearest(got: object, valid: Iterable[str]) -> str | None:
    """The valid name that `got` is most like, small letters or capitals; `None` if it is like none.

    A suffix that all have, as files of one kind do, makes none of them more like it.
    """
    names, asked = list(valid), str(got)
    suffix = os.path.splitext(asked)[1]
    shared = len(suffix) if suffix and all(name.endswith(suffix) for name in names) else 0
    by_small = {name[: len(name) - shared].lower(): name for name in reversed(names)}  # the first of those alike
    import difflib  # few programs make such a mistake

    found = difflib.get_close_matches(asked[: len(asked) - shared].lower(), by_small, n=1, cutoff=0.5)
    return by_small[found[0]] if found else None


def choices(got: object, valid: Iterable[str]) -> str:
    """Say what is valid and which valid name is nearest to `got`."""
    names = list(valid)
    near = nearest(got, names)
    hint = f" Did you mean '{near}'?" if near else ""
    return f"Valid: {listed(names)}.{hint}"


def plural(count: int, noun: str) -> str:
    """`plural(1, "step")` is "1 step", `plural(1200, "step")` is "1,200 steps"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def typed(python: str, shell: str) -> str:
    """What to type, in the words of whoever reads it: `typed("window=30", "--window 30")`."""
    return shell if _SHELL.get() else python


def chosen(argument: str, value: object) -> str:
    """An argument with a value: `time='measured'`, or `--time measured`."""
    return typed(f"{argument}={value!r}", f"--{argument.replace('_', '-')} {value}")


@contextmanager
def in_a_shell() -> Iterator[None]:
    """Within a `with`, messages are for somebody who typed a command."""
    usual = _SHELL.set(True)
    try:
        yield
    finally:
        _SHELL.reset(usual)


def step_advice() -> str:
    """How an export is told what one turn of the user's own loop is."""
    called = "step(model, x, state) -> (output, state)"
    return typed(f"step=function, called as {called}", f"--step NAME, of a function or method {called}")


def limits_advice() -> str:
    """How an export is told what is legal in a column."""
    return typed("inputs=['NAME:unit:low:high', ...]", "--inputs NAME:unit:low:high,...")


def other_backend_advice(name: str) -> str:
    """How another backend is named."""
    return f"Type: {chosen('backend', name)}"


def one_line(text: object, most: int = 300) -> str:
    """Words of a library, or of a file of unknown origin, as part of a sentence: on one line, a long one cut."""
    try:
        words = str(text)
    except Exception as error:  # of an error of the user's, whose text fails as well
        words = f"{type(text).__name__} without a text, as that raises {type(error).__name__}"
    line = " ".join(CONTROL.sub(" ", words).split())
    return line if len(line) <= most else f"{line[:most]}..."


def microseconds(us: float) -> str:
    """A duration, with tenths below 10 us: a compiled step takes less than one."""
    return f"{us:.0f} us" if round(us, 1) >= 10 else f"{us:.1f} us"
