"""The policies on gaps, pace and bad samples as a robot program uses them, without the command line."""

from __future__ import annotations

import numpy as np
import pytest

import lnn_edge
from lnn_edge.bundle.spec import Time
from lnn_edge.runtime.guard.bad_samples import BadSamplePolicy
from lnn_edge.runtime.guard.dt_policy import GapError, GapPolicy, PaceCheck
from lnn_edge.runtime.guard.held_values import HeldValues
from lnn_edge.runtime.guard.late_samples import TURNED_BACK, LateError, LatePolicy

MEASURED = Time("measured", 0.1, 1.0, (0.005, 2.0))
FIXED = Time("fixed", 0.02)


def test_a_gap_stops():
    policy = GapPolicy("drift", MEASURED)
    assert policy.check(0.2, 0.1) is None
    with pytest.raises(
        GapError, match=r"`t_s` is 9\.0, 8\.8 s after the last sample at 0\.2, but 'drift' was proven for"
    ):
        policy.check(9.0, 0.2)
    assert policy.resets == 0


def test_a_gap_begins_a_new_sequence():
    policy = GapPolicy("drift", MEASURED, "reset")
    gap = policy.check(0.1, 50.0)
    assert str(gap) == (
        "0.1, 49.9 s before the last sample at 50.0, but 'drift' was proven for at most 2 s between samples"
    )
    assert (gap.now_s, gap.last_s, gap.longest_s, policy.resets) == (0.1, 50.0, 2.0, 1)


@pytest.mark.parametrize(
    ("time", "now", "last"),
    [(MEASURED, 2.1, 0.1), (MEASURED, 0.0, 0.1), (MEASURED, 9.0, None), (MEASURED, None, 0.1), (FIXED, 9.0, 0.1)],
    ids=["the longest", "a little back", "the first", "no time", "fixed time"],
)
def test_what_is_no_gap(time, now, last):
    assert GapPolicy("drift", time).check(now, last) is None


def test_pace_off_the_period():
    pace = PaceCheck("gait", FIXED)
    for last, now in ((None, 0.0), (0.0, 0.02), (0.02, 0.041), (0.041, 0.051)):
        pace.take(now, last)
    found = pace.finding()
    assert (found.off, found.count, found.period_s) == (1, 3, 0.02)
    assert str(found).startswith("there are 0.01 to 0.021 s between samples, in 1 of 3 cases more than 10 % off the 0.")


@pytest.mark.parametrize("time", [FIXED, MEASURED, Time("fixed")], ids=["on time", "measured", "no period"])
def test_pace_that_is_right_or_unknown(time):
    pace = PaceCheck("gait", time)
    pace.take(0.02, 0.0)
    assert pace.finding() is None


def test_pace_tells_what_is_no_jitter():
    pace = PaceCheck("gait", FIXED)
    assert [pace.take(now, 1.0) for now in (1.02, 1.029, 1.031, 1.0, 0.9)] == [
        None, None, pytest.approx(0.031), 0.0, pytest.approx(-0.1),
    ]  # fmt: skip
    assert pace.take(1.0, None) is PaceCheck("drift", MEASURED).take(9.0, 1.0) is None


class TestLate:
    def test_it_stops(self):
        policy = LatePolicy()
        assert policy.check(0.2, 0.1) is policy.check(0.2, None) is policy.check(None, 0.1) is None
        with pytest.raises(LateError, match=r"`t_s` is 0\.1, not after the previous sample at 0\.2\. To go on, leave"):
            policy.check(0.1, 0.2)

    def test_it_resets_at_each(self):
        policy = LatePolicy("reset")
        assert [policy.check(now, 0.2) for now in (0.1, 0.3, 0.2)] == ["reset", None, "reset"]
        assert (policy.resets, policy.dropped) == (2, 0)

    def test_it_drops_until_the_clock_must_have_been_set_back(self):
        policy = LatePolicy("drop")
        found = [policy.check(now, 9.0) for now in (1.0, 2.0, 3.0, 9.5, *np.arange(1.0, 1.0 + TURNED_BACK))]
        assert found == ["drop"] * 3 + [None] + ["drop"] * (TURNED_BACK - 1) + ["set back"]
        assert (policy.resets, policy.dropped) == (0, 2 + TURNED_BACK)

    def test_what_is_in_disorder_is_no_clock(self):
        policy = LatePolicy("drop")
        assert {policy.check(now, 9.0) for now in (3.0, 2.0, 1.0, 1.0, 4.0, 2.0, 3.0, 4.0, 4.0, 9.0)} == {"drop"}

    def test_datetimes_that_a_float_cannot_tell_apart(self):
        start = np.datetime64("2024-05-01T12:00:00.000000100", "ns")
        policy = LatePolicy("drop")
        now = [start + np.timedelta64(k, "ns") for k in range(TURNED_BACK)]
        assert policy.check(start + np.timedelta64(1, "ns"), start) is None
        assert [policy.check(own, start + np.timedelta64(50, "ns")) for own in now][-1] == "set back"


class TestHeld:
    def test_a_missing_value_is_the_last_good_one(self):
        held = HeldValues(["a", "b"], 0.3)
        held.keep(held.fill(np.array([1.0, 2.0]), 0.0), 0.0)
        filled = held.fill(np.array([np.nan, 3.0]), 0.1)
        held.keep(filled, 0.1)
        np.testing.assert_array_equal(filled.values, [1.0, 3.0])
        assert (filled.columns, held.held) == (("a",), 1)
        np.testing.assert_array_equal(held.fill(np.array([np.inf, np.nan]), 0.2).values, [1.0, 3.0])

    def test_never_before_a_good_one(self):
        held = HeldValues(["a", "b"], 9.0)
        with pytest.raises(ValueError, match="'b' is missing, and no good value came before it that could be held"):
            held.fill(np.array([1.0, np.nan]), 0.0)
        held.fill(np.array([1.0, 2.0]), 0.1)  # and refused: it was not kept
        with pytest.raises(ValueError, match="no good value came before it"):
            held.fill(np.array([1.0, np.nan]), 0.2)

    def test_a_value_ages_though_it_is_held_again_and_again(self):
        held = HeldValues(["a"], 0.3)
        held.keep(held.fill(np.array([1.0]), 0.0), 0.0)
        for at_s in (0.1, 0.2, 0.3):
            held.keep(held.fill(np.array([np.nan]), at_s), at_s)
        with pytest.raises(ValueError, match=r"its last good value is 0\.4 s old: values are held for 0\.3 s"):
            held.fill(np.array([np.nan]), 0.4)
        assert held.held == 3

    def test_a_clock_that_was_set_back_makes_no_value_young(self):
        held = HeldValues(["a"], 9.0)
        held.keep(held.fill(np.array([1.0]), 50.0), 50.0)
        with pytest.raises(ValueError, match="its last good value is of a time after this sample's"):
            held.fill(np.array([np.nan]), 0.1)

    def test_lines_lead_through_the_columns_that_have_some(self):
        held = HeldValues(["speed", "gear"], 9.0, predict=np.array([True, False]))
        for at_s, row in ((0.0, [1.0, 2.0]), (1.0, [2.0, 4.0])):
            held.keep(held.fill(np.array(row), at_s), at_s)
        assert held.fill(np.array([np.nan, np.nan]), 2.0).values.tolist() == [3.0, 4.0]
        kept = held.kept()
        assert kept["columns"]["gear"] == [4.0, 1.0, 0.0]
        kept["columns"]["gear"][2] = 2.0  # as of a version that drew one
        again = HeldValues(["speed", "gear"], 9.0, predict=np.array([True, False]))
        again.go_on(kept)
        assert again.fill(np.array([np.nan, np.nan]), 2.0).values.tolist() == [3.0, 4.0]

    def test_behind_one_good_value_a_line_is_level(self):
        held = HeldValues(["speed"], 9.0, predict=True)
        held.keep(held.fill(np.array([5.0]), 0.0), 0.0)
        assert held.fill(np.array([np.nan]), 2.0).values.tolist() == [5.0]

    def test_a_new_sequence_begins_with_nothing(self):
        held = HeldValues(["a"], 9.0)
        held.keep(held.fill(np.array([1.0]), 0.0), 0.0)
        held.forget()
        with pytest.raises(ValueError, match="no good value came before it"):
            held.fill(np.array([np.nan]), 0.1)


def test_bad_samples():
    error = ValueError("no number")
    with pytest.raises(ValueError, match="no number") as raised:
        BadSamplePolicy().refuse(error)
    assert raised.value is error
    policy = BadSamplePolicy("skip")
    policy.refuse(error)
    policy.refuse(error, samples=4)
    assert policy.skipped == 5
    BadSamplePolicy("hold").refuse(error)  # what could not be held


def test_in_a_loop_of_ones_own(ltc_bundle):
    """Bad values are skipped, the state is reset behind a gap: what is left equals two streams of their own."""
    model = lnn_edge.load(ltc_bundle)
    stream, last_s, outputs = model.stream(), None, []
    gaps, bad = GapPolicy(model.name, model.time, "reset"), BadSamplePolicy("skip")
    xs = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    xs[1, 0] = np.nan
    times = [0.1, 0.2, 0.3, 9.0, 9.1, 9.2]
    for x, t_s in zip(xs, times, strict=True):
        if gaps.check(t_s, last_s):
            stream.reset()
        try:
            outputs.append(stream.step(x, t_s=t_s).copy())
        except ValueError as error:
            bad.refuse(error)
        else:
            last_s = t_s
    expected = [model.stream().run(xs[k], t_s=np.array(times)[k]) for k in ([0, 2], [3, 4, 5])]
    np.testing.assert_array_equal(outputs, np.concatenate(expected))
    assert (gaps.resets, bad.skipped) == (1, 1)


def test_without_the_command_line(python):
    code = "import sys, lnn_edge.runtime.guard.dt_policy, lnn_edge.runtime.guard.bad_samples; print(*sys.modules)"
    loaded = python("-c", code).stdout.split()
    assert "lnn_edge.runtime.guard.dt_policy" in loaded
    assert not [name for name in loaded if name.startswith("lnn_edge.cli")]
