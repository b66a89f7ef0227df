"""Due times without drift, and ticks whose time is over."""

from __future__ import annotations

from fractions import Fraction

import pytest
from fake_timer import FakeTimer
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import examples

from lnn_edge.runtime.loop.pacing import Pacing, Schedule, check_rate

MS = 1_000_000


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(
    st.floats(1e-3, 1e9) | st.fractions(Fraction(1, 1000), 10**6),
    st.integers(0, 2**62),
    st.integers(0, 10**8),
)
def test_a_due_time_is_exact_at_any_tick(rate_hz, origin, tick):
    due = Schedule(rate_hz, origin).due(tick)
    exact = origin + tick * Fraction(10**9) / Fraction(rate_hz)
    assert 0 <= exact - due < 1


@pytest.mark.parametrize("rate_hz", [500, 100.0, 30, Fraction(1000, 7)])
def test_ten_million_ticks_do_not_drift(rate_hz):
    schedule = Schedule(rate_hz, 0)
    assert schedule.due(10**7) == 10**16 / Fraction(rate_hz) // 1
    assert schedule.due(500 * 60) - schedule.due(0) == Fraction(30_000 * 10**9) / Fraction(rate_hz) // 1


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(st.floats(1e-2, 1e9), st.integers(0, 10**15), st.integers(0, 10**15))
def test_the_newest_due_tick(rate_hz, origin, later):
    schedule, now = Schedule(rate_hz, origin), origin + later
    newest = schedule.newest(now)
    assert schedule.due(newest) <= now < schedule.due(newest + 1)


def test_before_the_first_tick_none_is_due():
    assert Schedule(100, 10**12).newest(10**12 - 1) == -1


@pytest.mark.parametrize(
    ("rate", "error", "text"),
    [
        (0, ValueError, "`rate_hz` is 0, expected a number above 0"),
        (float("nan"), ValueError, "`rate_hz` is nan"),
        ("100", TypeError, "`rate_hz` is '100', expected a number above 0. Type: rate_hz=100"),
        (2e9, ValueError, "`rate_hz` is 2000000000.0, expected at most 1,000,000,000 ticks per second"),
    ],
)
def test_what_is_no_rate(rate, error, text):
    with pytest.raises(error, match=text):
        Schedule(rate, 0)


def test_unknown_policy_is_refused():
    with pytest.raises(ValueError, match=r"`late` is 'skipp'. Valid: skip, catch up, at once. Did you mean 'skip'\?"):
        Pacing(Schedule(1, 0), "skipp")  # type: ignore[arg-type]


def ticks(late, durations_ms, count):
    """Numbers of the ticks that ran, when each began in ms, and how many were left out: 10 ms apart, from 0 on."""
    pacing, now, ran = Pacing(Schedule(100, 0), late), 0, []
    for k in range(count):
        due = pacing.next(now)
        now = max(now, due)
        ran.append((pacing.tick, now / MS))
        now += int(durations_ms.get(k, 1) * MS)
    return ran, pacing.dropped


def test_skip_waits_for_the_next_tick_that_is_not_over():
    assert ticks("skip", {1: 25}, 4) == ([(0, 0), (1, 10), (4, 40), (5, 50)], 2)


def test_catch_up_runs_all_of_them():
    assert ticks("catch up", {1: 25}, 6) == ([(0, 0), (1, 10), (2, 35), (3, 36), (4, 40), (5, 50)], 0)


def test_at_once_runs_the_newest_and_returns_to_the_schedule():
    assert ticks("at once", {1: 25}, 4) == ([(0, 0), (1, 10), (3, 35), (4, 40)], 1)


@pytest.mark.parametrize("late", ["skip", "catch up", "at once"])
def test_a_step_of_exactly_one_period_loses_nothing(late):
    assert ticks(late, dict.fromkeys(range(9), 10), 4) == ([(0, 0), (1, 10), (2, 20), (3, 30)], 0)


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(
    st.sampled_from(["skip", "catch up", "at once"]),
    st.floats(1, 1000),
    st.lists(st.integers(0, 5 * 10**9), max_size=40),
    st.integers(0, 10**9),
)
def test_each_tick_runs_once_or_is_counted(late, rate_hz, durations, sleeps_late):
    """Whatever steps and sleeps take: ticks are in order, none begins before it is due, and none is lost uncounted."""
    timer = FakeTimer(sleeps_late)
    schedule = Schedule(rate_hz, timer.now_ns + 10**6)
    pacing, ran = Pacing(schedule, late), []
    for duration in durations:
        due = pacing.next(timer.now_ns)
        assert due == schedule.due(pacing.tick)
        assert late != "skip" or due >= timer.now_ns
        timer.sleep_until(due)
        assert timer.now_ns >= due
        ran.append(pacing.tick)
        timer.now_ns += duration
    assert ran == sorted(set(ran))
    assert not ran or ran[-1] + 1 == len(ran) + pacing.dropped
    assert late != "catch up" or pacing.dropped == 0


@pytest.mark.parametrize(
    ("rate_hz", "fits"), [(50, True), (45, True), (60, True), (40, False), (70, False), (100, False)]
)
def test_a_rate_beside_the_models_period(rate_hz, fits):
    if fits:
        check_rate(rate_hz, 0.02, (0.8, 1.2), "gait")
    else:
        with pytest.raises(ValueError, match=f"`rate_hz` is {rate_hz}, but 'gait' was exported for 50 samples per sec"):
            check_rate(rate_hz, 0.02, (0.8, 1.2), "gait")


def test_without_a_period_any_rate_fits():
    check_rate(1e6, None, (0.8, 1.2), "gait")
