"""Interruptions of a stream's call as by a signal's handler: an exception before any one of its bytecodes."""

from __future__ import annotations

import dis
import sys
from pathlib import Path

import numpy as np

import lnn_edge

# Before this one Python 3.10 may have a result among what it restores of the exception that is being handled. It looks
# for no signal there; a tracer that raises makes it restore something else, with which it crashes later.
_IN_DISORDER = dis.opmap["POP_EXCEPT"] if sys.version_info < (3, 11) else None

OURS = str(Path(lnn_edge.__file__).parent)


class Interrupted(BaseException):
    """Of no class that anything but `except BaseException` catches, like KeyboardInterrupt."""


def bytecodes(call):
    """The places of a call where `interrupt` may raise: each of its bytecodes that are of lnn_edge, in order.

    A place is which of the functions that are entered it is in, and how many bytecodes that one has run before, so that
    no other function has to be followed on the way there.
    """
    places, entered = [], -1

    def enter(frame, _event, _value):
        nonlocal entered
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        entered += 1
        own, done = entered, 0

        def each(frame, event, _value):
            nonlocal done
            if event == "opcode" and not _in_disorder(frame):
                places.append((own, done))
                done += 1
            return each

        frame.f_trace_opcodes = True
        return each

    _traced(call, enter)
    return places


def interrupt(call, place):
    """Run a call and raise before the bytecode at `place`, one of its `bytecodes`.

    Returns:
        The exception, whose traceback holds the frames of the call; `None` if the call has no such bytecode.
    """
    where, left = place
    entered = -1

    def enter(frame, _event, _value):
        nonlocal entered
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        entered += 1
        frame.f_trace_opcodes = entered == where
        return each if entered == where else None

    def each(frame, event, _value):
        nonlocal left
        if event == "opcode" and not _in_disorder(frame):
            if not left:
                raise Interrupted
            left -= 1
        return each

    try:
        _traced(call, enter)
    except Interrupted as error:
        return error
    return None


def _in_disorder(frame):
    return _IN_DISORDER is not None and frame.f_code.co_code[frame.f_lasti] == _IN_DISORDER


def _traced(call, enter):
    before = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(before)


def standing(stream):
    """All that a stream stands at, the number of its samples aside, as it can be compared."""
    state = stream.snapshot()
    arrays = {**state.tensors, **state.kept}
    return {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}, state.t_s


def same(result, expected):
    if isinstance(result, dict):
        return all(np.array_equal(result[name], expected[name], equal_nan=True) for name in expected)
    return np.array_equal(result, expected, equal_nan=True)
