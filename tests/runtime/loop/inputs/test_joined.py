"""Several sources: freshness, holding and predicting, on a clock that the test moves."""

from __future__ import annotations

import numpy as np
import pytest
from fake_timer import FakeTimer
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import examples

from lnn_edge.runtime.loop.inputs.joined import Joined
from lnn_edge.runtime.loop.inputs.newest import Newest
from lnn_edge.runtime.loop.source import Sample

MS = 1_000_000


class Queue:
    """A source that a test fills."""

    def __init__(self):
        self.samples = []

    def read(self, timeout_s):
        return self.samples.pop(0) if self.samples else None

    def close(self):
        pass


class Sensors:
    """Two sensors, and what joins them."""

    def __init__(self, *names, **settings):
        self.timer = FakeTimer()
        self.readers = {name: Newest(Queue(), self.timer, start=False) for name in names}
        self.joined = Joined(self.readers, self.timer, **settings)

    def bring(self, name, x, t_s=None):
        self.readers[name]._source.samples.append(Sample(x, t_s))
        assert self.readers[name].pump(0)

    def after(self, ms):
        self.timer.now_ns += round(ms * MS)
        return self.joined.look()


def test_a_sample_needs_all_inputs():
    own = Sensors("imu", "camera")
    own.bring("imu", [1.0])
    assert own.after(0) == (None, None, ("'camera' has never come",), ())
    own.bring("camera", [[2.0]])
    assert own.after(1) == ({"imu": [1.0], "camera": [[2.0]]}, None, (), ("imu",))


def test_two_rates_hold_the_slower_one():
    own = Sensors("fast", "slow", fresh_s={"fast": 0.015, "slow": 0.25})
    own.bring("slow", [7.0])
    for k in range(20):
        own.bring("fast", [float(k)])
        moment = own.after(10)
        assert moment.x == {"fast": [float(k)], "slow": [7.0]}
        assert (moment.stale, moment.held) == ((), () if k == 0 else ("slow",))


def test_what_is_too_old_is_stale_by_name_and_comes_back():
    own = Sensors("fast", "slow", fresh_s={"slow": 0.02})
    own.bring("fast", [1.0])
    own.bring("slow", [2.0])
    assert own.after(20).stale == ()
    assert own.after(0.001).stale == ("'slow' is 0.02 s old, fresh for 0.02 s",)
    assert own.after(1000).stale == ("'slow' is 1.02 s old, fresh for 0.02 s",)
    own.bring("slow", [3.0])
    assert own.after(0).stale == ()


def test_a_late_input_is_predicted_by_the_line_through_the_last_two():
    own = Sensors("a", on_late_input="predict", single=True)
    own.bring("a", np.array([1.0, 5.0]))
    own.timer.now_ns += 10 * MS
    own.bring("a", np.array([2.0, 3.0]))
    np.testing.assert_array_equal(own.after(0).x, [2.0, 3.0])  # new: as it is
    np.testing.assert_allclose(own.after(5).x, [2.5, 2.0])
    np.testing.assert_allclose(own.after(5).x, [3.0, 1.0])


@pytest.mark.parametrize("last", ["text", np.zeros(3), {"a": 1}])
def test_what_no_line_leads_through_is_held(last):
    own = Sensors("a", on_late_input="predict", single=True)
    own.bring("a", [1.0])
    own.timer.now_ns += MS
    own.bring("a", last)
    own.after(1)
    assert own.after(1).x is last


@pytest.mark.parametrize("last", [True, [True, False], np.array([True, False])])
def test_what_is_true_or_false_is_held(last):
    own = Sensors("a", on_late_input="predict", single=True)
    own.bring("a", np.logical_not(last))
    own.timer.now_ns += MS
    own.bring("a", last)
    own.after(1)
    assert own.after(1).x is last


def test_one_sample_alone_is_held():
    own = Sensors("a", on_late_input="predict", single=True)
    own.bring("a", [1.0])
    own.after(1)
    assert own.after(1).x == [1.0]


def test_a_single_source_keeps_its_own_time_while_it_is_new():
    own = Sensors("a", single=True)
    assert own.after(0) == (None, None, ("'a' has never come",), ())
    own.bring("a", [1.0], 5.0)
    assert own.after(0) == ([1.0], 5.0, (), ())
    assert own.after(1) == ([1.0], None, (), ("a",))


def test_the_end_comes_behind_the_last_sample():
    own = Sensors("a", single=True)
    own.bring("a", [1.0])
    own.readers["a"].ended = True
    assert not own.joined.ended
    own.after(0)
    assert own.joined.ended


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"fresh_s": {"b": 1}}, ValueError, "`fresh_s` has 'b', but the sources are 'a'"),
        ({"fresh_s": 0}, ValueError, "`fresh_s` is 0, expected a number above 0, in seconds"),
        ({"fresh_s": "1"}, TypeError, "`fresh_s` is '1'"),
        (
            {"on_late_input": "holt"},
            ValueError,
            r"`on_late_input` is 'holt'. Valid: hold, predict. Did you mean 'hold'\?",
        ),
        ({"on_late_input": {"b": "hold"}}, ValueError, "`on_late_input` has 'b'"),
    ],
)
def test_wrong_settings_are_refused(settings, error, text):
    with pytest.raises(error, match=text):
        Sensors("a", **settings)


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from("abn"), st.integers(0, 60)), max_size=60), st.integers(1, 100))
def test_no_sample_older_than_its_limit_is_ever_fresh(events, fresh_ms):
    own = Sensors("a", "b", fresh_s=fresh_ms / 1000)
    came, number = {}, 0
    for name, ms in events:
        own.timer.now_ns += ms * MS
        if name != "n":
            number += 1
            own.bring(name, [float(number)])
            came[name] = (own.timer.now_ns, number)
        moment = own.joined.look()
        old = {n for n in "ab" if n not in came or own.timer.now_ns - came[n][0] > fresh_ms * MS}
        assert len(moment.stale) == len(old)
        if len(came) == 2:
            assert moment.x == {n: [float(k)] for n, (_, k) in came.items()}
