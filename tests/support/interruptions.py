"""What a signal's handler does to a call of a stream: an exception before any one of its bytecodes."""

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
    """How many bytecodes of lnn_edge a call runs."""
    return _traced(call, None)


def interrupt(call, place):
    """Run a call and raise before its bytecode number `place`.

    Returns:
        The exception, whose traceback holds the frames of the call; `None` if the call has no such bytecode.
    """
    try:
        _traced(call, place)
    except Interrupted as error:
        return error
    return None


def _traced(call, place):
    done = 0

    def enter(frame, _event, _value):
        frame.f_trace_opcodes = frame.f_code.co_filename.startswith(OURS)
        return each if frame.f_trace_opcodes else None

    def each(frame, event, _value):
        nonlocal done
        if event == "opcode" and (_IN_DISORDER is None or frame.f_code.co_code[frame.f_lasti] != _IN_DISORDER):
            done += 1
            if done - 1 == place:
                raise Interrupted
        return each

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(before)
    return done


def standing(stream):
    """All that a stream stands at, the number of its samples aside, as it can be compared."""
    state = stream.snapshot()
    arrays = {**state.tensors, **state.kept}
    return {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}, state.t_s


def same(result, expected):
    if isinstance(result, dict):
        return all(np.array_equal(result[name], expected[name], equal_nan=True) for name in expected)
    return np.array_equal(result, expected, equal_nan=True)
