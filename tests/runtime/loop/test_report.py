"""Reports: the first of a kind at once, others counted, and a thread beside the loop that tells them."""

from __future__ import annotations

import threading

import pytest
from fake_timer import FakeTimer

from lnn_edge.runtime.loop.report import Aside, Reports

S = 1_000_000_000


def reports():
    timer, said = FakeTimer(), []
    return Reports(said.append, timer), timer, said


def test_the_first_is_told_at_once_and_others_a_minute_later():
    own, timer, said = reports()
    own.note("stale", "'imu' is old")
    own.flush()
    for k in range(5):
        timer.now_ns += S
        own.note("stale", f"number {k}")
        own.flush()
    timer.now_ns += 60 * S
    own.flush()
    assert said == [
        "stale: 'imu' is old",
        "5 more of 'stale' in the last 65 s, 6 in all; the newest: number 4",
    ]


def test_kinds_are_told_apart():
    own, _, said = reports()
    own.note("late")
    own.note("stale", "x")
    own.flush()
    assert said == ["late", "stale: x"]


def test_what_somebody_else_counts_is_told_likewise():
    own, timer, said = reports()
    for count in (3, 3, 7):
        own.total("a read failed", count, f"the {count}th")
        own.flush()
        timer.now_ns += 60 * S
    assert said == [
        "a read failed: the 3th",
        "4 more of 'a read failed' in the last 120 s, 7 in all; the newest: the 7th",
    ]


def test_nothing_new_is_nothing_told():
    own, timer, said = reports()
    own.note("late")
    own.flush()
    timer.now_ns += 1000 * S
    own.flush()
    assert said == ["late"]


def test_noting_tells_nothing():
    """It is called by the loop, which must not print."""
    own, _, said = reports()
    own.note("late")
    assert said == []


def test_who_listens_badly_stops_nothing():
    def broken(_text):
        raise OSError("no terminal")

    own = Reports(broken, FakeTimer())
    own.note("late")
    own.flush()


def test_a_detail_of_many_lines_is_one_line():
    own, _, said = reports()
    own.note("bad input", ValueError("a\nb"))
    own.flush()
    assert said == ["bad input: a b"]


def test_a_job_that_raises_keeps_no_other_from_its_turn():
    done = []

    def broken():
        done.append("broken")
        raise ValueError("no")

    own = Aside([broken, lambda: done.append("other")], start=False)
    own.turn()
    assert own.close()
    assert done == ["broken", "other"] * 2


@pytest.mark.timeout(30)
def test_the_thread_does_its_jobs_and_one_that_blocks_is_left_behind():
    entered, go = threading.Event(), threading.Event()

    def job():
        entered.set()
        go.wait()

    own = Aside([job], poll_s=0.001)
    entered.wait()
    assert not own.close(timeout_s=0.05)
    go.set()
    own._thread.join()
