"""Ways to wait, on a clock that only sleeps and steps move, and the machine's own clock once."""

from __future__ import annotations

import time

import pytest
from fake_timer import FakeTimer

from lnn_edge.runtime.loop.timer import SystemTimer
from lnn_edge.runtime.loop.waiting import Sleeping, Spinning, way_of

US = 1000


def test_sleeping_ends_when_the_timer_lets_it():
    timer = FakeTimer(late_ns=70 * US)
    due = timer.now_ns + 5000 * US
    assert Sleeping(timer).until(due) == due + 70 * US
    assert (timer.slept, timer.spun_ns) == ([due], 0)


def test_a_sleep_that_ends_early_is_spun_to_its_end():
    timer = FakeTimer(late_ns=-3)
    due = timer.now_ns + 5000 * US
    assert Sleeping(timer).until(due) == due


def test_spinning_keeps_the_last_stretch():
    timer = FakeTimer(late_ns=70 * US)
    due = timer.now_ns + 5000 * US
    assert Spinning(timer).until(due) == due
    assert (timer.slept, timer.spun_ns) == ([due - 200 * US], 130 * US)


@pytest.mark.parametrize("wait", ["sleep", "spin"])
def test_what_is_over_is_not_waited_for(wait):
    timer = FakeTimer()
    assert way_of(wait, timer, 100).until(timer.now_ns - 5) == timer.now_ns
    assert (timer.slept, timer.spun_ns) == ([], 0)


def test_unknown_way_is_refused():
    with pytest.raises(ValueError, match=r"`wait` is 'nap'. Valid: sleep, spin, rehearse."):
        way_of("nap", FakeTimer(), 100)  # type: ignore[arg-type]


def test_a_rehearsal_needs_something_to_rehearse():
    with pytest.raises(ValueError, match="'rehearse', but there is nothing to rehearse: pass a step of another stream"):
        way_of("rehearse", FakeTimer(), 100)


def test_the_machines_clocks_go_forward_and_wait():
    timer = SystemTimer()
    began, wall = timer.monotonic_ns(), time.time_ns()
    timer.sleep_until(began + 1000 * US)
    assert timer.monotonic_ns() >= began + 999 * US
    assert timer.spin_until(began + 1100 * US) >= began + 1100 * US
    timer.sleep_until(began)
    assert timer.wall_ns() >= wall or timer.wall_ns() > 10**18  # somebody may set it
