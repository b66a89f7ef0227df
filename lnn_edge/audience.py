"""The audience of messages: who types a command is told options, who writes Python is told arguments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["chosen", "in_a_shell", "limits_advice", "other_backend_advice", "step_advice", "typed"]

# A context's own, and not one of the process: a program that calls a command in one thread writes Python in the others.
_SHELL: ContextVar[bool] = ContextVar("whether a command of the shell is at work", default=False)


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
