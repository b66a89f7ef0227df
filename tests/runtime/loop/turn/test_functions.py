"""Functions of the user's: what they return, raise and take."""

from __future__ import annotations

from asyncio import CancelledError
from dataclasses import astuple

import pytest
from fake_timer import FakeTimer

from lnn_edge.runtime.loop.turn.functions import UserFunction

US = 1000


def test_a_good_call():
    timer = FakeTimer()
    own = UserFunction("before", lambda x: x + 1, 100 * US, timer, None)
    assert (own(1), own.fault) == (2, None)
    assert astuple(own.counts) == (1, 0, 0, 0)


@pytest.mark.parametrize("error", [ValueError("no"), RecursionError(), CancelledError(), GeneratorExit()])
def test_what_it_raises_is_a_fault_by_name(error):
    def call(_x):
        raise error

    own = UserFunction("after", call, 100 * US, FakeTimer(), None)
    assert own(1) is None
    assert str(own.fault) == f"the function `after` raised {type(error).__name__}: {error}"
    assert own.fault.__cause__ is error


def test_an_error_without_a_text_is_one_as_well():
    class Mute(Exception):
        def __str__(self):
            raise ValueError("no words")

    def call(_x):
        raise Mute

    own = UserFunction("after", call, 100 * US, FakeTimer(), None)
    assert own(1) is None
    assert str(own.fault) == "the function `after` raised Mute: Mute without a text, as that raises ValueError"


def test_who_leaves_the_program_is_told_of_it_and_goes_on():
    def call(_x):
        raise error

    error, left = SystemExit(3), []
    own = UserFunction("after", call, 100 * US, FakeTimer(), left.append)
    assert (own(1), left) == (None, [error])
    assert str(own.fault) == "the function `after` raised SystemExit: 3"


def test_ctrl_c_comes_through():
    def call(_x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        UserFunction("after", call, 100 * US, FakeTimer(), None)(1)


def test_what_it_takes_too_long_for_is_a_fault_and_its_result_stays():
    timer = FakeTimer()
    step = timer.taking(100 * US, 101 * US)

    def call(x):
        step()
        return x

    own = UserFunction("before", call, 100 * US, timer, None)
    assert (own(1), own.fault) == (1, None)
    assert own(2) == 2
    assert str(own.fault) == "the function `before` took 101 us, and its limit is 100 us"
    assert astuple(own.counts) == (2, 0, 1, 101)


def test_a_fault_is_of_the_last_call():
    answers = iter([ValueError("no"), None])

    def call(_x):
        error = next(answers)
        if error:
            raise error

    own = UserFunction("before", call, 100 * US, FakeTimer(), None)
    own(1)
    own(1)
    assert own.fault is None
    assert own.counts.failed == 1


def test_a_slow_call_that_raises_is_told_by_what_it_raised():
    timer = FakeTimer()

    def call(_x):
        timer.now_ns += 200 * US
        raise OSError("no motor")

    own = UserFunction("after", call, 100 * US, timer, None)
    own(1)
    assert "raised OSError: no motor" in str(own.fault)
    assert (own.counts.failed, own.counts.slow) == (1, 1)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="`before` is 3, expected a function"):
        UserFunction("before", 3, 1, FakeTimer(), None)  # type: ignore[arg-type]
