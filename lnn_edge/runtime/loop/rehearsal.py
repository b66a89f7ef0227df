"""Rehearsal: a loop that waits wakes a little early and makes a step for practice, so that the real one is warm.

While a loop sleeps, the CPU's clock and caches go to rest, and a step of 10 us takes ten times as long. So this wakes a
lead before the due time, calls a function that does what the step does with buffers of its own, throws its result away,
and spins until the due time. How long the function takes and how late the timer wakes is measured at the start and
followed, and the lead is what both need. The practice ends before the due time, or does not begin.

What is left of the lead is not only spun: caches are shared with whatever runs beside, and half a millisecond of
spinning cools them again. So the function is called again and again, as long as twice what it takes is left:
beside other work half of the compiled step's response went with that. The lead has room for one more besides the first,
which is slow because it comes from rest: it says little about what another takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ...wording import microseconds, one_line
from .timer import Timer

__all__ = ["Rehearsal", "RehearsalCounts"]

_KEPT = 64  # measurements that the lead comes from
_HIGH = 0.9  # of them are no longer than the lead: one that fits the rest would spin for what happens now and then
_USUAL = 0.75  # of rehearsals are no longer than what must be left for one: where time is short most still fit
_EVERY = 16  # rehearsals from one look at the lead to the next
_MARGIN_NS = 20_000  # for what is called between the two measurements
_FIRST = 8  # rehearsals at the start
_REST_NS = 2_000_000  # asleep before each of these
_START_NS = 100_000_000  # after so long the start is over, but not before three of them
_AGAIN = 2  # times what another usually takes: so much must be left for it
_APART_NS = 5_000  # between two, spun: it keeps that warm as well, and a function that takes nothing is no endless loop
_FAILURES = 3  # in a row that switch it off, of all or of those that follow the first of a wait
_MOST_NS = 1_000_000


@dataclass(frozen=True)
class RehearsalCounts:
    """What became of the rehearsals.

    Args:
        made: Rehearsals that ended before the due time.
        skipped: Waits that were too short for one, or whose timer woke too late.
        overran: Rehearsals that took longer than they had taken until then, and ended after the due time.
        met: Samples that arrived during one, where samples pace the loop: they waited for at most one step.
        failed: Rehearsals that raised.
        lead_us: How long before a due time the loop wakes now, microseconds.
        off: Why there are none any more; `None` where there are.
    """

    made: int
    skipped: int
    overran: int
    met: int
    failed: int
    lead_us: float
    off: str | None


class Rehearsal:
    """A way to wait that rehearses; see the module's text. What it calls at the start takes up to some 0.1 s.

    Args:
        rehearse: What to practise: takes nothing, and what it returns is not used. It must change nothing that the
            real step reads. If it raises three times in a row, all that were made or those that were repeated within
            a wait, the loop goes on without.
        timer: The clock.
        most_ns: Longest lead, nanoseconds: a tenth of the period costs at most a tenth of a core. With a function
            that takes longer than that, the loop goes on without.
    """

    def __init__(self, rehearse: Callable[[], object], timer: Timer, *, most_ns: int = _MOST_NS) -> None:
        self._rehearse, self._timer, self._most_ns = rehearse, timer, most_ns
        self._took: deque[int] = deque(maxlen=_KEPT)
        self._again: deque[int] = deque(maxlen=_KEPT)  # those that follow the first of a wait
        self._woke_late: deque[int] = deque(maxlen=_KEPT)
        self._made = self._skipped = self._overran = self._met = self._failed = 0
        self._failed_in_a_row = self._again_failed_in_a_row = self._skipped_in_a_row = 0
        self._off: str | None = None
        self._error = ""  # of the last that failed
        self._unfit = 0  # leads that a caller had no room for, since the last look
        self._need_ns = self._again_ns = self._last_ns = self._lead_ns = 0
        self._start()

    @property
    def counts(self) -> RehearsalCounts:
        """What became of the rehearsals until now; of those of the start, failures alone."""
        return RehearsalCounts(
            self._made, self._skipped, self._overran, self._met, self._failed, self.lead_ns / 1e3, self._off
        )

    @property
    def lead_ns(self) -> int:
        """How long before a due time the loop wakes, nanoseconds; 0 where there are no rehearsals any more."""
        return self.lead_within(self._most_ns)

    def lead_within(self, most_ns: float) -> int:
        """The lead that is no longer than so many nanoseconds: with another rehearsal, or as much of one as fits.

        0 where the first alone does not fit, or there are none any more.
        """
        most_ns = min(most_ns, self._most_ns)
        return 0 if self._off or self._lead_ns > most_ns else int(min(self._lead_ns + self._again_ns, most_ns))

    def lead_to_look(self, left_ns: int) -> int:
        """The whole lead at each 64th call, for a caller in whose time it does not fit; else 0.

        What took the longest is forgotten with it: a slow spell would else end the rehearsals for ever, as nothing
        would be measured any more.

        Args:
            left_ns: To the due time, nanoseconds: a lead that does not fit there is none.
        """
        self._unfit += 1
        if self._off or self._unfit < _KEPT or self._lead_ns > left_ns:
            return 0
        self._unfit = 0
        for measured in (self._took, self._woke_late):
            if len(measured) > 1:
                measured.remove(max(measured))
        self._follow()
        return self._lead_ns

    def until(self, due_ns: int) -> int:
        """Wait for a time of the monotonic clock, and return what it is when the wait ended: never before."""
        wake_ns = due_ns - self.lead_ns
        if wake_ns > self._timer.monotonic_ns():
            self._timer.sleep_until(wake_ns)
            self.woke(self._timer.monotonic_ns() - wake_ns)
        if self.practise(due_ns):
            while self.again(due_ns):
                pass
        return self._timer.spin_until(due_ns)

    def practise(self, due_ns: int) -> bool:
        """Rehearse now, if that ends before a due time by what it took until now; return whether it did."""
        if self._off:
            return False
        if due_ns - self._timer.monotonic_ns() < self._need_ns:
            self._skip()
            return False
        took_ns = self._try()
        if took_ns is None:
            return False
        self._took.append(took_ns)
        self._count(self._timer.monotonic_ns() > due_ns)
        return True

    def again(self, due_ns: int) -> bool:
        """Rehearse once more behind `practise`, if there is time by what another usually takes; return whether it did.

        All that is counted was counted with the first, but for one that ends after the due time.
        """
        left_ns = due_ns - self._timer.monotonic_ns()
        if left_ns <= min(self._again_ns, _room(self._last_ns)):  # the last one shows what became faster
            return False
        took_ns = self._try_again()
        if took_ns is None:
            return False
        self._again.append(took_ns)
        now_ns = self._timer.monotonic_ns()
        if now_ns > due_ns:
            self._made, self._overran = self._made - 1, self._overran + 1
            return False
        self._timer.spin_until(min(now_ns + _APART_NS, due_ns))
        return True

    def woke(self, late_ns: int) -> None:
        """Take how late somebody woke who waited for the beginning of the lead, nanoseconds."""
        self._woke_late.append(late_ns)

    def met(self) -> None:
        """Count a sample that arrived during a rehearsal."""
        self._met += 1

    def _start(self) -> None:
        began = self._timer.monotonic_ns()
        for k in range(_FIRST):
            now = self._timer.monotonic_ns()
            if self._off or (k >= 3 and now - began > _START_NS):
                break
            self._timer.sleep_until(now + _REST_NS)
            self.woke(self._timer.monotonic_ns() - now - _REST_NS)
            took_ns = self._try()
            if took_ns is None:
                continue
            self._took.append(took_ns)
            again_ns = self._try_again() if took_ns <= self._most_ns else None
            if again_ns is not None:
                self._again.append(again_ns)
        self._follow()

    def _try(self) -> int | None:
        """Call the function, and return how long it took, nanoseconds; `None` if it raised."""
        begin = self._timer.monotonic_ns()
        try:
            self._rehearse()
        except Exception as error:
            self._failed += 1
            self._failed_in_a_row += 1
            self._error = f"last with {type(error).__name__}: {one_line(error)}"
            if self._failed_in_a_row == _FAILURES:
                self._off = f"it failed {_FAILURES} times in a row, {self._error}"
            return None
        self._failed_in_a_row = 0
        self._last_ns = self._timer.monotonic_ns() - begin
        return self._last_ns

    def _try_again(self) -> int | None:
        """The same, once more: the first of a wait may work each time, and nothing that follows it."""
        took_ns = self._try()
        self._again_failed_in_a_row = 0 if took_ns is not None else self._again_failed_in_a_row + 1
        if self._again_failed_in_a_row == _FAILURES:
            self._off = self._off or f"it failed {_FAILURES} times in a row when repeated, {self._error}"
        return took_ns

    def _count(self, late: bool) -> None:
        if late:
            self._overran += 1
        else:
            self._made += 1
        self._skipped_in_a_row = 0
        if (self._made + self._overran) % _EVERY == 0:
            self._follow()

    def _skip(self) -> None:
        self._skipped += 1
        self._skipped_in_a_row += 1
        if (
            self._skipped_in_a_row > _EVERY and self._took
        ):  # what some slow ones took would keep it from ever being measured again
            longest = max(self._took)
            self._took.remove(longest)
            self._took.append(longest - longest // 16)
        self._follow()

    def _follow(self) -> None:
        """Find the lead from what was measured."""
        if not self._took or self._off:
            return
        self._need_ns = _share(self._took, _USUAL)
        self._again_ns = _room(_share(self._again, _USUAL))
        wanted = _share(self._took, _HIGH) + _share(self._woke_late, _HIGH) + _MARGIN_NS
        self._lead_ns = min(wanted, self._most_ns)
        shortest = min(self._took)
        if shortest > self._most_ns:
            longest = microseconds(self._most_ns / 1e3)
            self._off = f"a step takes {microseconds(shortest / 1e3)}, and the longest lead is {longest}"


def _room(took_ns: int) -> int:
    """What must be left for another rehearsal, nanoseconds, if it takes so long."""
    return _AGAIN * took_ns + _APART_NS


def _share(durations: deque[int], share: float) -> int:
    """The duration that such a share of them does not exceed; 0 where there is none."""
    ordered = sorted(durations)
    return ordered[int(share * (len(ordered) - 1))] if ordered else 0
