"""The token of a stream: one call at a time, refused and not waited for, and lost by no interruption.

A call holds the token by `held.setdefault(0, me)`, one operation that two threads cannot both win. An exception of a
signal's handler may arrive anywhere, also between the end of a call and the line that gives the token back, and no
`finally` or `with` closes that window. So whoever finds the token taken looks whether the call that took it is still on
its thread's stack. A token whose call has ended is left where it is: every thread then finds the same successor behind
it, so nobody waits, and there is no lock that could be lost in its turn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol, TypeVar

__all__ = ["Held", "Holder", "alone", "claimed", "is_interrupted"]

_T = TypeVar("_T")

Held = dict[Any, Any]  # 0: the number of the thread that holds it, an object of its own for each call; 1: its successor

_GENERATOR = 0x20 | 0x80 | 0x200  # flags of generators, coroutines and both; `inspect` takes long to import
_TRIES = 100

_SECOND_THREAD = "this stream is being stepped by another thread. Give each thread its own: model.stream()"
_IN_THE_MIDDLE = (
    "this stream is in the middle of a call, which a signal's handler, or reading the samples, has interrupted. There "
    "only snapshot() may be called: it gives the state before that call"
)


class Holder(Protocol):
    """What has a token: a stream, or a guard around one."""

    _held: Held


def alone(own: Holder, call: Callable[..., _T], *arguments: Any) -> _T:
    """Call something while no other call is at work on `own`. What is called for each sample does the same in place.

    Raises:
        RuntimeError: As `claimed`; or what the call raises.
    """
    held, me = own._held, get_ident()
    try:
        if held.setdefault(0, me) is not me:
            own._held = held = claimed(held, me)
        result = call(*arguments)
    except BaseException:
        if held.get(0) is me:
            del held[0]
        raise
    del held[0]
    return result


def claimed(held: Held, me: int) -> Held:
    """The token that is taken for `me` now: `held` itself, or the first successor whose call has not ended.

    Args:
        held: The stream's token.
        me: The caller's `get_ident()`, which it keeps in a local variable `me` until it gives the token back.

    Raises:
        RuntimeError: If another call is at work on the stream.
    """
    while (holder := held.setdefault(0, me)) is not me:
        if _is_at_work(holder):
            raise RuntimeError(_IN_THE_MIDDLE if holder == get_ident() else _SECOND_THREAD)
        if held.get(0) is holder:  # left by a call that has ended; else it was given back while this one looked
            held = held.setdefault(1, {})
    return held


def is_interrupted(held: Held) -> bool:
    """Whether a call of the asking thread is at work: a signal's handler asks, or what reads the samples."""
    holder = held.get(0)
    return holder is not None and holder == get_ident() and _is_at_work(holder)


def _is_at_work(holder: int) -> bool:
    """Whether the call that took a token is still on its thread's stack, or cannot be seen to have left it."""
    for _ in range(_TRIES):
        found = _is_on_stack(holder)
        if found is not None:
            return found
    return True


def _is_on_stack(holder: int) -> bool | None:
    """Look once; `None` if the thread went on meanwhile, and nobody knows what else is on its stack.

    A generator that has given a value, or its last one, has lost the frame that it was called from.
    """
    frame, code = sys._current_frames().get(holder), None
    while frame is not None:
        if "me" in frame.f_code.co_varnames and frame.f_locals.get("me") is holder:
            return True
        code, frame = frame.f_code, frame.f_back
    return None if code is not None and code.co_flags & _GENERATOR else False
