"""Paced runs in turns: several ways to wait, or several steps, beside each other on a machine whose speed moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from ..closed_loop import Step
from ..loop.rehearsal import Rehearsal, RehearsalCounts
from ..loop.timer import SystemTimer, Timer
from ..loop.waiting import Waiting
from .timing import Paced, PacedPart

__all__ = ["Beside", "Side", "in_turns"]

_TURN_S = 0.5  # long enough for a clock to go to rest, short enough that other work meets all sides alike


@dataclass(frozen=True)
class Side:
    """One of several paced runs.

    Args:
        name: How it waits, or what it steps.
        step: What to time.
        way: How to wait.
        around: Makes what its turns run within: settings of the machine, for instance.
    """

    name: str
    step: Step
    way: Waiting
    around: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class Beside:
    """What one side came to.

    Args:
        run: Its calls; see `Paced`.
        core_share: CPU time of this process per time of its turns: 1.0 is one core.
        rehearsal: What became of its rehearsals, where there were any.
    """

    run: Paced
    core_share: float
    rehearsal: RehearsalCounts | None


def in_turns(
    sides: Sequence[Side],
    rate_hz: float,
    steps: int,
    *,
    turn_s: float = _TURN_S,
    deadline_us: float | None = None,
    progress: Callable[[int], None],
    timer: Timer | None = None,
    cpu_ns: Callable[[], int] = time.process_time_ns,
) -> list[Beside]:
    """Time calls that are due at a fixed rate, of each side in short turns, round and round.

    Args:
        sides: What to compare.
        rate_hz: Calls per second, > 0.
        steps: Calls of each side, >= 1.
        turn_s: Length of a turn, seconds, at least one call.
        deadline_us: Longest response that is no miss, microseconds; default one period.
        progress: Called with the number of calls done, of all sides together, now and then.
        timer: The clock; `None` for the machine's.
        cpu_ns: CPU time of this process, nanoseconds.

    Returns:
        In the order of the sides. After Ctrl-C of those that made a call.

    Raises:
        KeyboardInterrupt: On Ctrl-C before the first call.
    """
    clock = SystemTimer() if timer is None else timer
    parts = [_Part(side, steps) for side in sides]
    turn = max(1, round(turn_s * rate_hz))
    interrupted, done = False, 0
    for first in range(0, steps, turn):
        for part in parts if not interrupted else []:
            count, before = min(turn, steps - first), done
            try:
                interrupted = part.turn(rate_hz, count, clock, cpu_ns, lambda _, n=before: progress(n))  # type: ignore[misc]
            except KeyboardInterrupt:
                if not done:
                    raise
                interrupted = True
            done += count
            if interrupted:
                break
    return [part.result(rate_hz, deadline_us, interrupted) for part in parts if part.times.done]


class _Part:
    """One side with its times."""

    def __init__(self, side: Side, steps: int) -> None:
        self.side, self.times = side, PacedPart(steps)
        self._cpu_ns = self._wall_ns = 0

    def turn(
        self, rate_hz: float, count: int, timer: Timer, cpu_ns: Callable[[], int], progress: Callable[[int], None]
    ) -> bool:
        with self.side.around():
            cpu, wall = cpu_ns(), timer.monotonic_ns()
            interrupted = self.times.run(self.side.step, rate_hz, count, self.side.way, timer, progress)
            self._cpu_ns += cpu_ns() - cpu
            self._wall_ns += timer.monotonic_ns() - wall
        return interrupted

    def result(self, rate_hz: float, deadline_us: float | None, interrupted: bool) -> Beside:
        way = self.side.way
        return Beside(
            self.times.paced(rate_hz, deadline_us, self.side.name, interrupted),
            self._cpu_ns / max(self._wall_ns, 1),
            way.counts if isinstance(way, Rehearsal) else None,
        )
