"""Rehearsals: where they fit into a wait, what becomes of those that do not, and what switches them off."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from fake_timer import FakeTimer
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import examples

from lnn_edge.runtime.loop.pacing import Schedule
from lnn_edge.runtime.loop.rehearsal import Rehearsal
from lnn_edge.runtime.loop.waiting import way_of

US = 1000
MS = 1_000_000


def waits(own, timer, count, *, step_ns=0, period_ns=10 * MS):
    """Wait for so many ticks, each followed by a step; how late each wait ended."""
    schedule, late = Schedule(1e9 / period_ns, timer.now_ns + period_ns), []
    for k in range(count):
        due = schedule.due(k)
        late.append(own.until(due) - due)
        timer.now_ns += step_ns
    return late


def test_the_lead_is_what_the_step_and_the_timer_take():
    timer = FakeTimer(late_ns=60 * US)
    own = Rehearsal(timer.taking(200 * US), timer)
    assert own.counts.lead_us == 200 + 60 + 20 + (2 * 200 + 5)  # and another, with as much again to be sure
    due = timer.now_ns + 10 * MS
    assert own.until(due) == due
    assert timer.slept[-1] == due - own.lead_ns
    assert timer.spun_ns == (5 + 220) * US


def test_a_lead_that_may_not_be_so_long_has_room_for_one():
    timer = FakeTimer(late_ns=60 * US)
    own = Rehearsal(timer.taking(200 * US), timer, most_ns=300 * US)
    assert own.lead_ns == 300 * US
    assert own.lead_within(290 * US) == 290 * US
    assert own.lead_within(280 * US) == 280 * US
    assert own.lead_within(279 * US) == 0
    assert own.lead_within(1000 * US) == 300 * US
    due = timer.now_ns + 10 * MS
    assert own.until(due) == due
    assert (own.counts.made, timer.spun_ns) == (1, 40 * US)


def test_a_wait_ends_at_its_due_time_with_every_rehearsal_made():
    timer = FakeTimer(late_ns=60 * US)
    own = Rehearsal(timer.taking(200 * US), timer)
    assert waits(own, timer, 100, step_ns=200 * US) == [0] * 100
    assert astuple(own.counts)[:5] == (100, 0, 0, 0, 0)


def test_a_warm_step_is_rehearsed_again_where_there_is_time():
    timer = FakeTimer()
    calls = []
    took, due = [200 * US], timer.now_ns + 50 * MS

    def step():
        calls.append(timer.now_ns - due)
        timer.now_ns += took[0]

    own = Rehearsal(step, timer)
    took[0], before = 4 * US, len(calls)  # awake 625 us before
    assert own.until(due) == due
    made = [at // US for at in calls[before:]]
    assert made[:3] == [-625, -621, -612]  # with some rest between those that follow
    assert made[-1] == -18  # then another would have less than twice what it takes, and the rest
    assert own.counts.made == 1


def test_a_further_one_that_takes_too_long_is_counted():
    timer = FakeTimer()
    took = iter([200 * US] * 16 + [4 * US] * 3 + [900 * US] + [4 * US] * 99)
    own = Rehearsal(lambda: setattr(timer, "now_ns", timer.now_ns + next(took)), timer)
    due = timer.now_ns + 10 * MS
    assert own.until(due) - due == (4 + 4 + 5 + 4 + 5 + 900 - 625) * US
    assert astuple(own.counts)[:3] == (0, 0, 1)
    assert own.until(due + 10 * MS) == due + 10 * MS
    assert astuple(own.counts)[:3] == (1, 0, 1)


def test_the_lead_follows_a_step_that_becomes_slower_and_faster():
    timer = FakeTimer(late_ns=60 * US)
    took = [200 * US]
    own = Rehearsal(lambda: setattr(timer, "now_ns", timer.now_ns + took[0]), timer)
    took[0] = 900 * US
    late = waits(own, timer, 200)
    assert late[0] == 900 * US - 625 * US  # it could not know
    assert set(late[100:]) == {0}
    assert own.counts.lead_us == 1000  # the longest: 980 for one
    took[0] = 100 * US
    assert set(waits(own, timer, 200)) == {0}
    assert own.counts.lead_us == 100 + 60 + 20 + (2 * 100 + 5)


def test_too_little_time_is_no_time_for_a_rehearsal():
    """The timer wakes so late that a rehearsal would end after the due time."""
    timer = FakeTimer(lambda sleeps: 60 * US if sleeps < 8 else 500 * US)
    calls = []
    step = timer.taking(200 * US)
    own = Rehearsal(lambda: calls.append(step()), timer)
    before = len(calls)
    assert waits(own, timer, 1) == [0]
    assert (len(calls) - before, own.counts.skipped, own.counts.made) == (0, 1, 0)
    waits(own, timer, 40)
    assert own.counts.made > 20  # the lead has learned how late the timer is


def test_one_slow_time_does_not_end_the_rehearsals():
    timer = FakeTimer()
    took = [900 * US]
    own = Rehearsal(lambda: setattr(timer, "now_ns", timer.now_ns + took[0]), timer)
    took[0] = 100 * US
    timer._late_ns = 200 * US  # 900 us do not fit any more, and nothing shows that 100 us would be enough
    assert set(waits(own, timer, 160)) == {0}
    assert own.counts.made > 100


def test_a_tick_that_is_late_already_is_not_made_later():
    timer = FakeTimer()
    own = Rehearsal(timer.taking(100 * US), timer)
    now = timer.now_ns
    assert own.until(now - 5 * MS) == now
    assert own.counts.skipped == 1


def test_failures_are_counted_and_switch_it_off():
    timer, calls = FakeTimer(), []

    def broken():
        calls.append(None)
        if len(calls) > 8:
            raise RuntimeError("no such\ngraph")

    own = Rehearsal(broken, timer)
    assert waits(own, timer, 10) == [0] * 10
    assert (own.counts.failed, len(calls), own.lead_ns) == (3, 11, 0)
    assert own.counts.off == "it failed 3 times in a row, last with RuntimeError: no such graph"


def test_one_that_works_and_always_fails_when_repeated_is_switched_off():
    timer, waiting = FakeTimer(), [False]

    def once():
        if waiting[0]:
            raise RuntimeError("one step a wait")
        timer.now_ns += 100 * US
        waiting[0] = started[0]

    started = [False]
    own, started[0] = Rehearsal(once, timer), True
    for _ in range(10):
        waiting[0] = False
        assert set(waits(own, timer, 1)) == {0}
    assert (own.counts.made, own.counts.failed, own.lead_ns) == (3, 3, 0)
    assert own.counts.off == "it failed 3 times in a row when repeated, last with RuntimeError: one step a wait"


def test_a_failure_now_and_then_does_not_switch_it_off():
    timer = FakeTimer()
    calls = iter(range(10**6))

    def sometimes():
        timer.now_ns += 100 * US
        if next(calls) % 3 == 2:
            raise ValueError("now and then")

    own = Rehearsal(sometimes, timer)
    waits(own, timer, 60)
    assert own.counts.off is None
    assert own.counts.failed > 8
    assert own.counts.made > 25


def test_one_that_fails_at_the_start_is_off_before_the_first_tick():
    def broken():
        raise ValueError("it wants constants")

    own = Rehearsal(broken, FakeTimer())
    assert (own.counts.failed, own.lead_ns) == (3, 0)
    assert "it wants constants" in own.counts.off


def test_ctrl_c_comes_through():
    def pressed():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Rehearsal(pressed, FakeTimer())


def test_a_step_that_is_longer_than_the_lead_may_be_is_not_rehearsed():
    timer = FakeTimer()
    own = way_of("rehearse", timer, 100, timer.taking(1500 * US))
    assert own.counts.off == "a step takes 1500 us, and the longest lead is 1000 us"
    assert waits(own, timer, 5) == [0] * 5
    assert own.counts.made == 0


def test_a_slow_start_is_short():
    """Three rehearsals of a slow step are enough to know it."""
    timer = FakeTimer()
    began = timer.now_ns
    Rehearsal(timer.taking(400 * MS), timer)
    assert timer.now_ns - began < 2000 * MS


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 3 * MS), min_size=1, max_size=20),
    st.lists(st.integers(0, 12 * MS), min_size=1, max_size=20),
    st.lists(st.integers(-1000, 2 * MS), min_size=1, max_size=20),
    st.booleans(),
)
def test_no_wait_ends_early_and_rehearsals_are_counted(rehearsed, stepped, sleeps, failing):
    """Whatever rehearsals, steps and sleeps take: never before the due time, and late only by what took longer."""
    timer = FakeTimer(lambda k: sleeps[k % len(sleeps)])
    practise, step = timer.taking(*rehearsed), timer.taking(*stepped)

    def practised():
        practise()
        if failing and timer.now_ns % 3 == 0:
            raise ValueError("failed")

    own = Rehearsal(practised, timer)
    schedule = Schedule(100, timer.now_ns + 10 * MS)
    for k in range(60):
        before, due, counted = timer.now_ns, schedule.due(k), own.counts
        ended = own.until(due)
        assert ended == timer.now_ns >= due
        after = own.counts
        made = after.made - counted.made + after.overran - counted.overran + after.skipped - counted.skipped
        assert made + after.failed - counted.failed >= 1 or own.lead_ns == 0 or after.off
        if after.overran == counted.overran and after.failed == counted.failed and before <= due:
            assert ended - due <= max(0, *sleeps)
        step()
