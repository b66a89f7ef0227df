"""Keeping of ticks: each goes to reports, sink, recorder and snapshots, and to who watches that the loop turns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ....given_numbers import number_text
from ...guard.guarded import Guarded
from ...guard.status import Status, Tick
from ...state import State
from ..report import Reports
from ..sink import Awaited, Behind, Entry, Records
from ..state_saver import StateSaver
from ..timer import Timer

if TYPE_CHECKING:
    from ...model import Model
    from ..systemd import Systemd
    from ..watchdog import Watchdog

__all__ = ["Keeping", "check_parts"]

_REST_NS = 1_000_000
_ABLE = {  # an array has `put` as well
    "recorder": ("put", "close"),
    "watchdog": ("beat", "end"),
    "systemd": ("alive", "close"),
    "realtime": ("__enter__", "__exit__"),
}
_MADE = {
    "recorder": "lnn_edge.Recorder('NAME.mcap', model)",
    "watchdog": "lnn_edge.Watchdog(1.0, bark)",
    "systemd": "lnn_edge.Systemd()",
    "realtime": "lnn_edge.Realtime()",
}


def check_parts(model: Model, **parts: Any) -> None:
    """Refuse what a loop of a model could not use, by the names of its arguments.

    Raises:
        TypeError, ValueError: If one is something else, or of another model.
    """
    for name, part in parts.items():
        if part is not None and not all(hasattr(part, own) for own in _ABLE[name]):
            raise TypeError(f"`{name}` is {number_text(part)}, expected {_MADE[name]}")
    bundle = getattr(parts["recorder"], "bundle", None)
    if bundle is not None and bundle != model.manifest.digest:
        raise ValueError(f"`recorder` was made for another model than '{model.name}': Recorder('NAME.mcap', model)")


class Keeping:
    """Hands ticks on, behind what the robot waits for.

    Args:
        guarded: What ticks.
        reports: Told of what is not usual.
        timer: The clock.
        sink: Gets the ticks, as the next ones; each may be `None`.
        recorder: As `Loop`.
        saver: Saves the state now and then.
        watchdog: As `Loop`.
        systemd: As `Loop`.
    """

    def __init__(
        self,
        guarded: Guarded,
        reports: Reports,
        timer: Timer,
        *,
        sink: Behind | None,
        recorder: Records | None,
        saver: StateSaver | None,
        watchdog: Watchdog | None,
        systemd: Systemd | None,
    ) -> None:
        self.guarded, self.sink, self.recorder, self.saver = guarded, sink, recorder, saver
        self.watchdog, self.systemd = watchdog, systemd
        if saver is not None:
            saver.sink = sink
        self._reports, self._timer = reports, timer
        self._awaited = [own for own in (sink, recorder) if isinstance(own, Awaited)]
        self._beat_ns = self._barked = 0
        self._left = False  # the state, as it is

    def take(self, number: int, steps: int, tick: Tick, t_s: Any, start_ns: int, wall_ns: int) -> None:
        """Keep a tick: its number, the steps until after it, its sample's time, and when it began, by both clocks."""
        status = tick.status
        if status is not Status.OK and status is not Status.WARMING_UP:
            self._reports.note(status.text, tick.error)
        if self.sink is not None:
            self.sink.put(Entry(number, tick, t_s, start_ns, wall_ns))
        if self.recorder is not None:
            state = self._state() if self.recorder.wants_state else None
            self.recorder.put(tick, t_s=t_s, mono_ns=start_ns, wall_ns=wall_ns, state=state)
        if self.saver is not None and not self._left:
            self.saver.offer(self.guarded, steps, start_ns)
        self.beat()

    @property
    def full(self) -> bool:
        """Whether a tick would be dropped now, where sink and recorder say so."""
        return any(own.full for own in self._awaited)

    def rest(self) -> None:
        """Let the disk take something."""
        self.beat()
        self._timer.sleep_until(self._timer.monotonic_ns() + _REST_NS)

    def finish(self) -> bool:
        """Let sink and recorder write what they have, as no tick comes any more; whether they have."""
        done = [own.finish() for own in self._awaited]  # of each, whatever the others say
        return all(done)

    @property
    def jobs(self) -> list[Callable[[], None]]:
        """What is for the thread beside the loop."""
        return [self.save, self.look_at_watchdogs]

    def beat(self) -> None:
        """Say that the loop turns."""
        self._beat_ns = self._timer.monotonic_ns()
        if self.watchdog is not None:
            self.watchdog.beat(self._beat_ns)

    def save(self) -> None:
        """Write the state that is due; for the thread beside the loop."""
        if self.saver is not None:
            self.saver.save()
            if self.saver.lost.error is not None:
                self._reports.note("snapshot", self.saver.lost.error)

    def look_at_watchdogs(self) -> None:
        """Tell systemd that the loop turns: by its own time, as the thread beside it turns where the loop stands."""
        if self.systemd is not None:
            self.systemd.alive(self._beat_ns)
        if self.watchdog is not None and self.watchdog.barked > self._barked:
            self._barked = self.watchdog.barked
            self._reports.note("the loop stands", f"no turn for more than {self.watchdog.limit_s:g} s")

    def leave_state(self) -> None:
        """Save no state from here on but those that were taken."""
        self._left = True

    def last_state(self, steps: int) -> None:
        """Offer the state at the end to be saved, whatever it raises."""
        if self.saver is not None and not self._left:
            with suppress(Exception, SystemExit, KeyboardInterrupt):
                self.saver.offer(self.guarded, steps, None)

    def _state(self) -> State | None:
        """The state, `None` where another thread is using the stream: the next tick has it."""
        with suppress(RuntimeError):
            return self.guarded.snapshot()
        return None
