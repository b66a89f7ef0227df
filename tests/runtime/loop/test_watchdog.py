"""The watchdog beside a loop: it barks once for each time that the loop stands."""

from __future__ import annotations

import threading

import pytest
from fake_timer import FakeTimer

from lnn_edge.runtime.loop.loop import Loop
from lnn_edge.runtime.loop.watchdog import Watchdog

MS = 1_000_000


def watched(limit_s=0.1):
    timer, heard = FakeTimer(), []
    return Watchdog(limit_s, heard.append, timer, start=False), timer, heard


def test_a_loop_that_turns_is_left_alone():
    own, timer, heard = watched()
    own.begin()
    for _ in range(10):
        timer.now_ns += 100 * MS
        assert not own.look()
        own.beat(timer.now_ns)
    assert heard == []


def test_a_loop_that_stands_is_told_once_until_it_turns_again():
    own, timer, heard = watched()
    own.begin()
    timer.now_ns += 150 * MS
    assert own.look()
    timer.now_ns += 500 * MS
    assert own.look()
    assert heard == [0.15]
    own.beat(timer.now_ns)
    assert not own.look()
    timer.now_ns += 200 * MS
    assert own.look()
    assert (heard, own.barked) == ([0.15, 0.2], 2)


def test_before_the_begin_and_after_the_end_nothing_stands():
    own, timer, heard = watched()
    timer.now_ns += 1000 * MS
    assert not own.look()
    own.begin()
    own.end()
    timer.now_ns += 1000 * MS
    assert not own.look()
    assert heard == []


def test_a_bark_that_raises_does_not_end_it():
    def broken(_stood):
        raise ValueError("no relay")

    timer = FakeTimer()
    own = Watchdog(0.1, broken, timer, start=False)
    own.begin()
    timer.now_ns += 200 * MS
    assert own.look()
    assert own.barked == 1


def test_a_loop_beats_and_ends_it(cfc_bundle):
    import lnn_edge

    timer, heard, said = FakeTimer(), [], []
    own = Watchdog(0.05, heard.append, timer, start=False)
    calls = iter(range(100))

    def after(_tick):
        own.look()
        timer.now_ns += 60 * MS if next(calls) == 5 else 0
        own.look()

    model = lnn_edge.load(cfc_bundle)
    loop = Loop(
        model, lambda: [0.0] * 3, rate_hz=50, after=after, watchdog=own, timer=timer, signals=False, threads=False,
        report=said.append, function_limit_s=1,
    )  # fmt: skip
    loop.run(10)
    assert heard == [0.08]  # a period, and the function
    assert "the loop stands: no turn for more than 0.05 s" in said
    assert not own.look()


@pytest.mark.timeout(30)
def test_its_thread_barks():
    heard = threading.Event()
    own = Watchdog(0.02, lambda _stood: heard.set())
    own.begin()
    heard.wait()
    own.end()
    assert own.barked == 1


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_what_is_no_limit(limit):
    with pytest.raises(ValueError, match=r"`limit_s` is .*, expected a number above 0, in seconds"):
        Watchdog(limit, print)


def test_a_bark_is_a_function():
    with pytest.raises(TypeError, match="`bark` is 5, expected a function"):
        Watchdog(1.0, 5)
