"""Fast path of a guarded stream: the usual tick, a good sample in time, in one function and one call of C.

A loop ticks nothing else as long as nothing is wrong, so this does at once what `Guarded` does step by step, where the
stream is stepped in C. Whatever is unusual goes to those: they look at the sample anew, and nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..stream import Stream
from .status import Status, Tick

if TYPE_CHECKING:
    from .outputs import OutputLimits
    from .pace import PaceWindow
    from .sample_time import SampleTimes

__all__ = ["Now", "Ticked", "Ticking", "usual_tick"]

# What a guard knows besides its stream, replaced as a whole, once per tick: when the last sample that was stepped was,
# by its own stamp and by the monotonic clock, as `At`; how many steps there are until the output can be trusted; what
# the robot got; and the last output that could be trusted. A plain tuple, as each tick makes one.
Now = tuple[float | None, float | None, int, Any, Any]


class Ticked(Protocol):
    """What is ticked: a guard, whose token the caller has. Its `_tick` takes any sample, step by step."""

    _now: Now
    _pace: PaceWindow | None

    def _tick(self, x: Any, t_s: Any, dt_s: Any, now_s: float | None = None) -> Tick: ...


# Called as `call(guard, x, t_s, dt_s)`.
Ticking = Callable[[Any, Any, Any, Any], Tick]

_OK, _OFF_PACE = Status.OK, Status.OFF_PACE  # an attribute of an enumeration is slow to look up
_new = tuple.__new__  # of a named tuple, whose own `__new__` takes twice as long


def usual_tick(
    stream: Stream, times: SampleTimes, bounds: tuple[Any, ...] | None, limits: OutputLimits | None, period_s: float
) -> Ticking | None:
    """The usual tick of one guard; `None` where its stream is not stepped in C.

    Args:
        stream: The guard's own.
        times: What plans its samples, as it is now.
        bounds: Of its states, as `_bound` of the extension takes them; `None` where they cannot be looked at there.
        limits: Of its outputs, where there are any.
        period_s: Of the model, seconds, 0 where it has none.
    """
    step, back, bound = (getattr(stream, name, None) for name in ("_guarded", "_back", "_bound"))
    if step is None or back is None or bound is None or bounds is None:
        return None
    bound(bounds)
    limited = None if limits is None else limits.limited
    clock, shortest_s, longest_s = times.clock, times.shortest_s, times.longest_s
    measured, stamped, nominal_s, late = times.measured, times.from_sample, times.nominal_s, times.late

    def tick(own: Ticked, x: Any, t_s: Any, dt_s: Any) -> Tick:
        now = own._now
        stamp_s, monotonic_s, to_warm, sent, trusted = now
        if to_warm or x.__class__ is not np.ndarray:
            return own._tick(x, t_s, dt_s)
        now_s = between_s = None
        if clock is not None:
            try:
                now_s = clock() * 1e-9
            except Exception:
                return own._tick(x, t_s, dt_s)
        at_s = None
        if stamped and t_s is not None:
            if dt_s is not None or not t_s.__class__ is stamp_s.__class__ is float:
                return own._tick(x, t_s, dt_s, now_s)
            at_s, between_s = t_s, t_s - stamp_s
        else:
            if stamped and dt_s is not None:
                if not measured or dt_s.__class__ is not float:
                    return own._tick(x, t_s, dt_s, now_s)
                between_s = dt_s
            elif now_s is not None:
                if monotonic_s is None:
                    return own._tick(x, t_s, dt_s, now_s)
                between_s = now_s - monotonic_s
            if between_s is not None and stamp_s is not None:
                at_s = stamp_s + between_s
        told_s = nominal_s
        if between_s is not None:
            if not shortest_s <= between_s <= longest_s:
                return own._tick(x, t_s, dt_s, now_s)
            told_s = between_s if measured else None
            if late.in_a_row:
                late.in_time()
        changed = False
        try:
            raw = step(now, x, told_s)
            if raw is not None:
                y = raw
                if limited is not None:
                    # Since another output was sent in place of one, one period at most is known to be over.
                    since_s = between_s if between_s is not None and sent is trusted else period_s
                    y, changed = limited(raw, sent, since_s)
                own._now = (at_s, now_s, 0, y, y)
        except BaseException:  # of a signal's handler
            own._now = now
            back(now)
            raise
        if raw is None:
            return own._tick(x, t_s, dt_s, now_s)
        pace = own._pace
        status = _OFF_PACE if pace is not None and between_s is not None and pace.take(between_s) else _OK
        return _new(Tick, (status, y, raw, 1, False, told_s, x, None, changed))

    return tick
