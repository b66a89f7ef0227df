"""A timer that only a fake step and a fake sleep move, for tests of loops: nothing there depends on real time."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["FakeTimer"]


class FakeTimer:
    """A `Timer`.

    Args:
        late_ns: By how much a sleep ends late, nanoseconds; or a function of how many sleeps there were before.

    Attributes:
        now_ns: The monotonic clock.
        wall_from_ns: What the wall clock is ahead of it.
        slept: The times that were slept until.
        spun_ns: How long was spun.
    """

    def __init__(self, late_ns: int | Callable[[int], int] = 0) -> None:
        self.now_ns = 1_000_000_000_000
        self.wall_from_ns = 1_700_000_000_000_000_000
        self.slept: list[int] = []
        self.spun_ns = 0
        self._late_ns = late_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns + self.wall_from_ns

    def sleep_until(self, due_ns: int) -> None:
        if due_ns > self.now_ns:
            late_ns = self._late_ns if isinstance(self._late_ns, int) else self._late_ns(len(self.slept))
            self.slept.append(due_ns)
            self.now_ns = due_ns + late_ns

    def spin_until(self, due_ns: int) -> int:
        self.spun_ns += max(due_ns - self.now_ns, 0)
        self.now_ns = max(self.now_ns, due_ns)
        return self.now_ns

    def taking(self, *durations_ns: int) -> Callable[[], None]:
        """A step that takes these times in turn."""
        calls = iter(range(10**9))

        def step() -> None:
            self.now_ns += durations_ns[next(calls) % len(durations_ns)]

        return step
