"""Paced runs in turns, and rehearsed ones, on a clock that only sleeps and steps move."""

from __future__ import annotations

import pytest
from fake_timer import FakeTimer

from lnn_edge.runtime.loop.waiting import Sleeping, way_of
from lnn_edge.runtime.measure.timing import paced
from lnn_edge.runtime.measure.turns import Side, in_turns

US = 1000


def quiet(_done):
    """Progress that nobody watches."""


def side(name, step, way, **more):
    return Side(name, step, way, **more)


def test_a_paced_run_on_a_fake_clock_is_exact():
    timer = FakeTimer(late_ns=100 * US)
    run = paced(timer.taking(30 * US), 500.0, 40, progress=quiet, timer=timer)
    assert (run.lateness.min_us, run.lateness.max_us) == (100, 100)
    assert (run.service.min_us, run.response.percentiles_us["p50"], run.misses) == (30, 130, 0)


def test_a_rehearsed_run_responds_as_the_step_alone():
    timer = FakeTimer(late_ns=100 * US)
    run = paced(
        timer.taking(30 * US), 100.0, 40, wait="rehearse", rehearse=timer.taking(30 * US), progress=quiet, timer=timer
    )
    assert (run.lateness.max_us, run.response.max_us, run.wait) == (0, 30, "rehearse")


def test_a_rehearsed_run_needs_a_rehearsal():
    with pytest.raises(ValueError, match="there is nothing to rehearse"):
        paced(lambda: None, 100.0, 4, wait="rehearse", progress=quiet, timer=FakeTimer())


def test_sides_take_turns_and_each_has_all_its_steps():
    timer, order = FakeTimer(late_ns=100 * US), []
    sides = [
        side(name, lambda n=name: order.append(n), way_of(wait, timer, 100, timer.taking(10 * US)))
        for name, wait in (("a", "sleep"), ("b", "rehearse"))
    ]
    done = []
    one, two = in_turns(sides, 100, 25, turn_s=0.1, progress=done.append, timer=timer, cpu_ns=lambda: 0)
    assert "".join(order) == "a" * 10 + "b" * 10 + "a" * 10 + "b" * 10 + "a" * 5 + "b" * 5
    assert (one.run.response.samples, two.run.response.samples) == (25, 25)
    assert (one.run.wait, two.run.wait) == ("a", "b")
    assert (one.run.response.max_us, two.run.response.max_us) == (100, 0)
    assert one.rehearsal is None
    assert two.rehearsal.made == 25
    assert done == [0, 10, 20, 30, 40, 45]


def test_the_share_of_a_core_is_of_the_turns_alone():
    timer, cpu = FakeTimer(), [0]

    def step(share):
        def own():
            cpu[0] += share

        return own

    sides = [side("a", step(1_000_000), Sleeping(timer)), side("b", step(0), Sleeping(timer))]
    one, two = in_turns(sides, 100, 100, progress=quiet, timer=timer, cpu_ns=lambda: cpu[0])
    assert one.core_share == pytest.approx(0.1)
    assert two.core_share == 0


def test_a_turn_runs_within_what_its_side_asks_for():
    from contextlib import contextmanager

    said = []

    @contextmanager
    def around():
        said.append("in")
        yield
        said.append("out")

    timer = FakeTimer()
    sides = [side("a", lambda: said.append("step"), Sleeping(timer), around=around)]
    in_turns(sides, 100, 2, turn_s=0.01, progress=quiet, timer=timer)
    assert said == ["in", "step", "out"] * 2


def interrupted_at(call):
    count = iter(range(1000))

    def step():
        if next(count) == call:
            raise KeyboardInterrupt

    return step


def test_ctrl_c_keeps_what_each_side_measured():
    timer = FakeTimer()
    sides = [side("a", lambda: None, Sleeping(timer)), side("b", interrupted_at(0), Sleeping(timer))]
    (one,) = in_turns(sides, 100, 100, progress=quiet, timer=timer)
    assert (one.run.response.samples, one.run.interrupted, one.run.planned) == (50, True, 100)
    sides = [side("a", interrupted_at(7), Sleeping(timer)), side("b", lambda: None, Sleeping(timer))]
    (one,) = in_turns(sides, 100, 100, progress=quiet, timer=timer)
    assert one.run.response.samples == 7


def test_ctrl_c_before_the_first_call_stays_an_interrupt():
    timer = FakeTimer()
    with pytest.raises(KeyboardInterrupt):
        in_turns([side("a", interrupted_at(0), Sleeping(timer))], 100, 10, progress=quiet, timer=timer)
