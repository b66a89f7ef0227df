"""A guarded stream as a robot program uses it: what is refused changes nothing, and each policy does what it says."""

from __future__ import annotations

import itertools
import pickle
import threading
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interruptions import bytecodes, interrupt, standing
from properties import examples, some

import lnn_edge
from lnn_edge import Guard
from lnn_edge.errors import BackendError, Gap, LateSample, NonFiniteError, StateError
from lnn_edge.runtime.guard.guarded import Guarded
from lnn_edge.runtime.guard.kept_guard import go_on, kept_guard
from lnn_edge.runtime.guard.late_samples import TURNED_BACK
from lnn_edge.runtime.guard.sample_time import MOST_PARTS
from lnn_edge.runtime.guard.state_health import StateHealth
from lnn_edge.runtime.guard.status import Status

X = np.array([0.3, -0.2, 0.1], np.float32)
PERIOD_S = 0.1  # of the LTC, with measured time, proven for 0.005 to 2 s
NAN = np.array([0.3, np.nan, 0.1], np.float32)


@pytest.fixture(scope="module", params=["onnxruntime", "native"])
def backend(request):
    return request.param


@pytest.fixture
def way(backend, monkeypatch):
    """The backend; with onnxruntime all is done in Python, as where there is no extension."""
    if backend == "onnxruntime":
        monkeypatch.setattr("lnn_edge.runtime.guard.outputs.in_c", lambda: None)
        monkeypatch.setattr("lnn_edge.runtime.guard.state_health.within", lambda: None)
    return backend


@pytest.fixture
def ltc(way, ltc_bundle, loaded):
    return loaded(ltc_bundle, way)


@pytest.fixture
def cfc(way, cfc_bundle, loaded):
    return loaded(cfc_bundle, way)


def replace_stream(monkeypatch, guarded, stream):
    """Put a stream in place of the guard's, one that is not stepped in C."""
    monkeypatch.setattr(guarded, "stream", stream)
    monkeypatch.setattr(guarded, "_ticking", Guarded._tick)


class Unwilling:
    """What is no array, and says so as a tensor of torch does that needs its gradient."""

    def __array__(self, *_arguments, **_keywords):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")


def tensors(stream):
    return {name: array.tobytes() for name, array in stream.snapshot().tensors.items()}


class TestTheUsual:
    def test_a_tick_is_a_step(self, ltc):
        guarded, stream = ltc.guarded(), ltc.stream()
        for k in range(5):
            tick = guarded.tick(X * k, t_s=0.1 * k)
            y = stream.step(X * k, t_s=0.1 * k)
            assert (tick.status, tick.stepped, tick.reset, tick.error, tick.limited) == (
                Status.OK,
                1,
                False,
                None,
                False,
            )
            np.testing.assert_array_equal(tick.y, y)
            np.testing.assert_array_equal(tick.x, X * k)
        assert tensors(guarded) == tensors(stream)
        assert guarded.snapshot().t_s == 0.4
        assert guarded.counts == {"ok": 5}

    def test_spans_and_times_are_alike(self, ltc):
        by_span, by_time = ltc.guarded(), ltc.guarded()
        spans = [0.1, 0.25, 0.0625, 0.125]
        for t_s, span in zip(itertools.accumulate(spans), spans, strict=True):
            by_span.tick(X, dt_s=span)
            by_time.tick(X, t_s=t_s)
        assert tensors(by_span) == tensors(by_time)

    def test_without_a_time_the_clock_says_it(self, ltc):
        now = iter([0, 100_000_000, 350_000_000])
        guarded = ltc.guarded(clock=lambda: next(now))
        assert [guarded.tick(X).dt_s for _ in range(3)] == pytest.approx([PERIOD_S, 0.1, 0.25])

    def test_a_sample_without_a_time_among_others(self, ltc):
        now = iter([10**9, 10**9 + 2 * 10**8, 10**9 + 3 * 10**8])
        guarded = ltc.guarded(clock=lambda: next(now))
        found = [guarded.tick(X, t_s=50.0), guarded.tick(X), guarded.tick(X, t_s=50.3)]
        assert [tick.dt_s for tick in found] == pytest.approx([PERIOD_S, 0.2, 0.1])

    def test_nominal_time(self, ltc):
        guarded = ltc.guarded(Guard(dt_from="nominal"), clock=lambda: pytest.fail("nobody asks"))
        assert [guarded.tick(X, t_s=t).dt_s for t in (5.0, 1.0, 900.0)] == [PERIOD_S] * 3

    def test_the_clock_alone(self, ltc):
        now = iter([0, 10**8, 2 * 10**8])
        guarded = ltc.guarded(Guard(dt_from="clock"), clock=lambda: next(now))
        assert [guarded.tick(X, t_s=t).dt_s for t in (5.0, 1.0, 900.0)] == pytest.approx([PERIOD_S] * 3)

    def test_what_a_sensor_gives_is_kept_as_it_was_stepped(self, cfc):
        tick = cfc.guarded().tick({"acc_x": 1, "gyro_z": 3, "acc_y": 2})
        np.testing.assert_array_equal(tick.x, [1, 2, 3])
        assert tick.x.dtype == np.float32

    def test_step_gives_the_output_alone(self, ltc):
        np.testing.assert_array_equal(ltc.guarded().step(X, dt_s=0.2), ltc.stream().step(X, dt_s=0.2))


class TestWhatIsRefused:
    """Each of these leaves state and clock as they were, whatever the backend."""

    CASES: ClassVar = [
        ("nan", NAN, {"t_s": 0.3}, Status.NOT_FINITE_INPUT, NonFiniteError),
        ("shape", X[:2], {"t_s": 0.3}, Status.BAD_INPUT, ValueError),
        ("type", "walk", {"t_s": 0.3}, Status.BAD_INPUT, TypeError),
        ("late", X, {"t_s": 0.2}, Status.CLOCK_BACKWARD, LateSample),
        ("negative span", X, {"dt_s": -0.1}, Status.CLOCK_BACKWARD, LateSample),
        ("gap", X, {"t_s": 9.0}, Status.GAP, Gap),
        ("too soon", X, {"t_s": 0.2001}, Status.BAD_INPUT, ValueError),
        ("no time", X, {"t_s": float("nan")}, Status.BAD_INPUT, ValueError),
        ("text", X, {"t_s": "now"}, Status.BAD_INPUT, TypeError),
        ("infinite span", X, {"dt_s": float("inf")}, Status.BAD_INPUT, ValueError),
        ("two times", X, {"dt_s": 0.1, "t_s": 0.3}, Status.BAD_INPUT, ValueError),
        ("no array", Unwilling(), {"t_s": 0.3}, Status.BAD_INPUT, RuntimeError),
        ("no number", X, {"t_s": Unwilling()}, Status.BAD_INPUT, RuntimeError),
        ("too large", [10**400] * 3, {"t_s": 0.3}, Status.BAD_INPUT, Exception),
    ]

    @pytest.mark.parametrize(("x", "time", "status", "kind"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
    def test_it_is_named_and_changes_nothing(self, ltc, x, time, status, kind):
        guarded, stream = ltc.guarded(), ltc.stream()
        for t_s in (0.1, 0.2):
            held = guarded.tick(X, t_s=t_s).y
            stream.step(X, t_s=t_s)
        tick = guarded.tick(x, **time)
        assert (tick.status, tick.stepped, tick.raw) == (status, 0, None)
        assert isinstance(tick.error, kind)
        assert tick.y is held
        assert guarded.counts == {"ok": 2, status.text: 1}
        with pytest.raises(kind):
            guarded.step(x, **time)
        np.testing.assert_array_equal(guarded.step(X * 2, t_s=0.3), stream.step(X * 2, t_s=0.3))
        assert tensors(guarded) == tensors(stream)

    def test_errors_say_what_to_do(self, ltc):
        guarded = ltc.guarded()
        guarded.tick(X, t_s=0.0)
        assert "1000 s after the previous sample" in str(guarded.tick(X, t_s=1000.0).error)
        assert "on_gap='reset', 'clamp' or 'split'" in str(guarded.tick(X, t_s=1000.0).error)
        assert "divide by 1e3" in str(guarded.tick(X, t_s=100.0).error)
        assert "not after the previous sample at 0.0. Leave the sample out" in str(guarded.tick(X, t_s=-1.0).error)
        assert "proven for at least 0.005 s" in str(guarded.tick(X, t_s=0.001).error)

    def test_a_result_that_is_not_finite(self, cfc, monkeypatch):
        guarded = cfc.guarded()
        y = guarded.tick(X).y

        def failing(*_arguments):
            error = NonFiniteError("the step gave nan")
            error.result = True
            raise error

        replace_stream(monkeypatch, guarded, _Failing(guarded.stream, failing))
        tick = guarded.tick(X)
        assert (tick.status, tick.y is y, str(tick.error)) == (Status.NOT_FINITE_OUTPUT, True, "the step gave nan")

    def test_a_backend_that_fails(self, cfc, monkeypatch):
        guarded = cfc.guarded()
        y = guarded.tick(X).y

        def failing(*_arguments):
            raise BackendError("the device is gone")

        replace_stream(monkeypatch, guarded, _Failing(guarded.stream, failing))
        tick = guarded.tick(X)
        assert (tick.status, tick.y is y, str(tick.error)) == (Status.BACKEND_ERROR, True, "the device is gone")

    def test_before_the_first_output_there_is_none(self, ltc):
        assert ltc.guarded().tick(NAN, t_s=0.0).y is None


class _Failing:
    """A stream whose step fails."""

    def __init__(self, stream, failing):
        self._stream, self._failing, self._now, self._mode = stream, failing, stream._now, stream._mode

    def step(self, x, **_time):
        self._failing(None, x, None, None)


class TestLate:
    def test_reset(self, ltc):
        guarded, stream = ltc.guarded(Guard(on_late="reset")), ltc.stream()
        for t_s in (5.0, 5.1, 2.0, 2.1):
            tick = guarded.tick(X, t_s=t_s)
        for t_s in (2.0, 2.1):
            stream.step(X, t_s=t_s)
        assert tensors(guarded) == tensors(stream)
        assert (tick.status, tick.reset) == (Status.OK, False)

    def test_a_clock_that_was_set_back_is_a_gap(self, ltc):
        guarded = ltc.guarded(Guard(on_gap="reset"))
        guarded.tick(X, t_s=5.0)
        found = [guarded.tick(X, t_s=1.0 + 0.1 * k) for k in range(TURNED_BACK + 1)]
        assert [tick.status for tick in found[: TURNED_BACK - 1]] == [Status.CLOCK_BACKWARD] * (TURNED_BACK - 1)
        assert [(tick.status, tick.reset) for tick in found[TURNED_BACK - 1 :]] == [(0, True), (0, False)]

    def test_one_that_was_set_back_is_refused_as_a_gap(self, ltc):
        guarded = ltc.guarded()
        guarded.tick(X, t_s=5.0)
        found = [guarded.tick(X, t_s=1.0 + 0.1 * k) for k in range(TURNED_BACK)]
        assert found[-1].status is Status.GAP
        assert "the clock was set back" in str(found[-1].error)

    def test_a_sample_in_time_ends_the_row(self, ltc):
        guarded = ltc.guarded(Guard(on_gap="reset"))
        guarded.tick(X, t_s=5.0)
        for k in range(3 * TURNED_BACK):
            assert guarded.tick(X, t_s=1.0 + 0.01 * k).status is Status.CLOCK_BACKWARD
            assert guarded.tick(X, t_s=5.1 + 0.1 * k).status is Status.OK

    def test_spans_that_are_none_are_of_no_clock(self, ltc):
        guarded = ltc.guarded(Guard(on_gap="reset"))
        guarded.tick(X, dt_s=0.1)
        assert {guarded.tick(X, dt_s=-0.1).status for _ in range(3 * TURNED_BACK)} == {Status.CLOCK_BACKWARD}

    def test_dates_that_a_float_cannot_tell_apart(self, ltc):
        guarded, start = ltc.guarded(Guard(on_gap="reset")), np.datetime64("2024-05-01T12:00:00.000000100", "ns")
        guarded.tick(X, t_s=start + np.timedelta64(50, "ns"))
        found = [guarded.tick(X, t_s=start + np.timedelta64(k, "ns")) for k in range(TURNED_BACK)]
        assert [tick.reset for tick in found] == [False] * (TURNED_BACK - 1) + [True]

    @pytest.mark.parametrize(
        ("late", "more"),
        [
            ({"in_a_row": 3, "newest_s": 1.2}, 2),
            ({"in_a_row": 3, "newest_s": None}, 2),  # of spans, not of stamps
            ({"in_a_row": 0, "newest_s": 1.2}, 5),
            ({"in_a_row": 0, "newest_s": None}, 5),
            ({"in_a_row": 3, "newest_s": 99.0}, 5),
        ],
    )
    def test_what_a_file_says_of_late_samples_counts(self, ltc, late, more):
        """As every version wrote it."""
        first = ltc.guarded(Guard(on_gap="reset"))
        first.tick(X, t_s=5.0)
        kept = kept_guard(first)
        assert set(kept["late"]) == set(late)
        second = ltc.guarded(Guard(on_gap="reset"))
        second.restore(first.snapshot())
        go_on(second, kept | {"late": late})
        if late["in_a_row"]:
            assert kept_guard(second)["late"] == late
        found = [second.tick(X, t_s=1.5 + 0.1 * k) for k in range(more)]
        assert [tick.reset for tick in found] == [False] * (more - 1) + [True]


class TestGaps:
    def test_reset(self, ltc):
        guarded, stream = ltc.guarded(Guard(on_gap="reset")), ltc.stream()
        guarded.tick(X, t_s=0.0)
        tick = guarded.tick(X * 2, t_s=9.0)
        stream.step(X * 2, t_s=9.0)
        assert (tick.status, tick.reset, tick.dt_s) == (Status.OK, True, PERIOD_S)
        assert tensors(guarded) == tensors(stream)

    def test_a_bad_sample_behind_a_gap_resets_nothing(self, ltc):
        guarded = ltc.guarded(Guard(on_gap="reset", on_late="reset", on_bad="hold"))
        guarded.tick(X, t_s=0.0)
        before = tensors(guarded)
        assert guarded.tick(NAN, t_s=9.0).status is Status.NOT_FINITE_INPUT
        assert guarded.tick(NAN, t_s=-9.0).status is Status.NOT_FINITE_INPUT
        assert tensors(guarded) == before
        assert guarded.tick(NAN, t_s=0.1).status is Status.OK  # with what was held before

    def test_clamp(self, ltc):
        guarded, stream = ltc.guarded(Guard(on_gap="clamp")), ltc.stream()
        found = [guarded.tick(X, t_s=t).dt_s for t in (0.0, 9.0, 9.001, 9.101)]
        assert found == pytest.approx([PERIOD_S, 2.0, 0.005, 0.1])
        for dt_s in found:
            stream.step(X, dt_s=dt_s)
        assert tensors(guarded) == tensors(stream)

    def test_split(self, ltc):
        guarded, stream = ltc.guarded(Guard(on_gap="split")), ltc.stream()
        guarded.tick(X, t_s=0.0)
        tick = guarded.tick(X * 2, t_s=5.0)
        assert (tick.status, tick.stepped) == (Status.OK, 3)
        stream.step(X, t_s=0.0)
        for _ in range(3):
            y = stream.step(X * 2, dt_s=5.0 / 3)
        np.testing.assert_array_equal(tick.y, y)
        assert tensors(guarded) == tensors(stream)
        assert guarded.tick(X, t_s=5.1).dt_s == pytest.approx(0.1)

    def test_a_gap_of_too_many_parts_resets(self, ltc):
        guarded = ltc.guarded(Guard(on_gap="split"))
        guarded.tick(X, t_s=0.0)
        assert guarded.tick(X, t_s=2.0 * MOST_PARTS).stepped == MOST_PARTS
        tick = guarded.tick(X, t_s=4.0 * MOST_PARTS + 1)
        assert (tick.stepped, tick.reset) == (1, True)

    @pytest.mark.parametrize("policy", ["split", "clamp", "reset"])
    def test_a_gap_longer_than_any(self, cfc, ltc, policy):
        for model in (cfc, ltc):
            guarded = model.guarded(Guard(on_gap=policy, gap_s=0.5))
            guarded.tick(X, t_s=-1e308)
            tick = guarded.tick(X, t_s=1e308)
            assert (tick.status, tick.stepped, tick.reset) == (Status.OK, 1, policy != "clamp")

    def test_a_shorter_gap(self, ltc):
        guarded = ltc.guarded(Guard(on_gap="reset", gap_s=0.5))
        assert [guarded.tick(X, t_s=t).reset for t in (0.0, 0.4, 1.0)] == [False, False, True]

    def test_with_fixed_time_a_gap_is_what_the_guard_says(self, cfc):
        guarded = cfc.guarded()
        assert [guarded.tick(X, t_s=t).status for t in (0.0, 9.0)] == [Status.OK, Status.OK]
        guarded = cfc.guarded(Guard(gap_s=0.1))
        assert [guarded.tick(X, t_s=t).status for t in (0.0, 9.0)] == [Status.OK, Status.GAP]
        guarded = cfc.guarded(Guard(gap_s=0.1, on_gap="split"))
        assert [guarded.tick(X, t_s=t).stepped for t in (0.0, 0.02, 0.42)] == [1, 1, 20]
        guarded = cfc.guarded(Guard(gap_s=0.1, on_gap="reset"))
        assert [guarded.tick(X, t_s=t).reset for t in (0.0, 9.0)] == [False, True]
        guarded = cfc.guarded(Guard(gap_s=0.1, on_gap="clamp"))
        assert [guarded.tick(X, t_s=t).stepped for t in (0.0, 9.0)] == [1, 1]

    def test_wait_for_the_second_sample(self, ltc):
        guarded, stream = ltc.guarded(Guard(first="wait")), ltc.stream()
        first, second = guarded.tick(X, t_s=3.0), guarded.tick(X, t_s=3.25)
        assert (first.status, first.stepped, first.y) == (Status.WARMING_UP, 0, None)
        assert (second.status, second.dt_s) == (Status.OK, 0.25)
        stream.step(X, dt_s=0.25)
        assert tensors(guarded) == tensors(stream)
        assert ltc.guarded(Guard(first="wait")).step(X, t_s=0.0) is None


class TestHoles:
    def test_the_last_good_value_stands_in(self, cfc):
        guarded, stream = cfc.guarded(Guard(on_bad="hold", hold_for_s=0.05)), cfc.stream()
        rows = [[1, 2, 3], [4, np.nan, 6], [7, np.nan, np.nan], [7, np.nan, 1]]
        found = [guarded.tick(np.array(row, np.float32), t_s=0.02 * k) for k, row in enumerate(rows)]
        assert [tick.status for tick in found] == [0, 0, 0, Status.NOT_FINITE_INPUT]
        assert "'acc_y' is missing, and its last good value is 0.06 s old" in str(found[3].error)
        for tick, row in zip(found, [[1, 2, 3], [4, 2, 6], [7, 2, 6]], strict=False):
            np.testing.assert_array_equal(tick.x, row)
            stream.step(np.array(row, np.float32))
        assert tensors(guarded) == tensors(stream)
        assert guarded.held == {"acc_y": 2, "gyro_z": 1}

    def test_a_line_through_the_last_two(self, cfc):
        guarded = cfc.guarded(Guard(on_bad="predict"))
        rows = [[1, 1, 7.0], [2, 1, 7.5], [np.nan, np.nan, np.nan], [np.nan, 3, 0]]
        found = [guarded.tick(np.array(row, np.float32), t_s=0.02 * k) for k, row in enumerate(rows)]
        np.testing.assert_allclose(found[2].x, [3, 1, 8.0], rtol=1e-12)
        np.testing.assert_allclose(found[3].x, [4, 3, 0], rtol=1e-12)

    def test_a_line_stops_at_the_legal_range(self, cfc):
        guarded = cfc.guarded(Guard(on_bad="predict"))
        for k, gyro in enumerate([6.0, 7.5, np.nan]):
            tick = guarded.tick(np.array([0, 0, gyro], np.float32), t_s=0.02 * k)
        assert (tick.status, tick.x[2]) == (Status.OK, 8.0)

    def test_none_and_masked_values_are_holes(self, cfc):
        guarded = cfc.guarded(Guard(on_bad="hold"))
        guarded.tick([1, 2, 3], t_s=0.0)
        assert guarded.tick([None, 5, 6], t_s=0.02).x.tolist() == [1, 5, 6]
        assert guarded.tick(np.ma.masked_equal([7, 8, 0], 0), t_s=0.04).x.tolist() == [7, 8, 6]
        assert guarded.tick({"acc_x": float("nan"), "acc_y": 1, "gyro_z": 2}, t_s=0.06).x.tolist() == [7, 1, 2]

    def test_without_times_it_counts_periods(self, cfc):
        guarded = cfc.guarded(Guard(on_bad="hold", hold_for_s=0.05))
        guarded.tick([1, 2, 3])
        assert [guarded.tick(NAN).status for _ in range(4)] == [0, 0, Status.NOT_FINITE_INPUT, Status.NOT_FINITE_INPUT]

    def test_nothing_stands_in_for_what_never_came(self, cfc):
        tick = cfc.guarded(Guard(on_bad="hold")).tick(NAN)
        assert "no good value came before it" in str(tick.error)

    def test_what_was_refused_stands_in_for_nothing(self, cfc):
        guarded = cfc.guarded(Guard(on_bad="hold"))
        guarded.tick([1, 2, 3], t_s=0.0)
        guarded.tick([9, 9, 9], t_s=0.02)  # outside the limits of `gyro_z`
        assert guarded.tick([0, np.nan, 0], t_s=0.04).x.tolist() == [0, 2, 0]


class TestState:
    def test_bounds(self, ltc):
        tight = Guard(state_margin=1e-6)
        guarded, low, high = ltc.guarded(tight), *ltc.states[0].bounds
        state = guarded.snapshot()
        tensors_ = {name: array.copy() for name, array in state.tensors.items()}
        tensors_["h_in"][0, 0] = high[0] + 10 * (max(high) - min(low))
        guarded.restore(lnn_edge.State(tensors_, None, state.kept, state.build))
        before = tensors(guarded)
        tick = guarded.tick(X, dt_s=0.005)
        assert (tick.status, tick.stepped) == (Status.STATE_OUT_OF_BOUNDS, 0)
        assert "state 'h_in' is" in str(tick.error)
        assert "at unit 0, outside the" in str(tick.error)
        assert tensors(guarded) == before
        with pytest.raises(StateError):
            guarded.step(X, dt_s=0.005)

    def test_policies(self, ltc):
        state = ltc.stream().snapshot()
        far = {name: array + 1e3 for name, array in state.tensors.items()}
        astray = lnn_edge.State(far, None, state.kept, state.build)
        guarded = ltc.guarded(Guard(on_state="reset", warm_up=1))
        guarded.restore(astray)
        tick = guarded.tick(X, dt_s=0.005)
        assert (tick.status, tick.reset) == (Status.STATE_OUT_OF_BOUNDS, True)
        assert tensors(guarded) == tensors(ltc.stream())
        assert guarded.warming_up
        guarded = ltc.guarded(Guard(on_state="raise"))
        guarded.restore(astray)
        with pytest.raises(StateError):
            guarded.tick(X, dt_s=0.005)
        guarded = ltc.guarded(Guard(state_margin=None))
        guarded.restore(astray)
        assert guarded.tick(X, dt_s=0.005).status is Status.OK

    @pytest.mark.parametrize("extension", [True, False], ids=["in C", "in NumPy"])
    def test_any_unit_outside_is_found(self, ltc, monkeypatch, extension):
        if not extension:
            monkeypatch.setattr("lnn_edge.runtime.guard.state_health.within", lambda: None)
        (pair,) = ltc.states
        place = {pair.output: np.zeros(pair.shape, np.float32)}
        health = StateHealth(ltc.states, 1.0)
        find, state = health.in_place([place]), place[pair.output]
        low, high = health._bounds[0].low.ravel(), health._bounds[0].high.ravel()
        for k in range(state.size):
            for edge, outwards in ((low[k], -np.inf), (high[k], np.inf)):
                state[0, k] = edge
                assert find(0) is None
                state[0, k] = np.nextafter(edge, np.float32(outwards))
                assert f"at unit {k}, outside" in find(0)
                assert health.problem({pair.input: state}) == find(0)
            state[0, k] = -0.0

    def test_what_the_proof_saw_is_healthy(self, ltc):
        guarded, rng = ltc.guarded(), np.random.default_rng(0)
        for _ in range(300):
            assert guarded.tick(rng.normal(size=3), dt_s=0.1).status is Status.OK


class TestOutputs:
    def test_warm_up(self, cfc):
        guarded, stream = cfc.guarded(Guard(warm_up=2, on_fault="safe", safe={"output": (7.0, 8.0)})), cfc.stream()
        found = [guarded.tick(X) for _ in range(3)]
        assert [tick.status.text for tick in found] == ["warming up", "warming up", "ok"]
        assert [tick.y.tolist() == [7, 8] for tick in found] == [True, True, False]
        for tick in found:
            np.testing.assert_array_equal(tick.raw, stream.step(X))
        guarded.reset()
        assert guarded.tick(X).status is Status.WARMING_UP

    def test_no_limit_changed_what_is_sent_while_it_warms_up(self, cfc):
        guard = Guard(warm_up=2, on_fault="safe", safe={"output": (7.0, 8.0)}, slew_per_s={"output": (1e-3, 1e-3)})
        guarded = cfc.guarded(guard)
        assert [guarded.tick(X).limited for _ in range(3)] == [False, False, True]

    def test_a_refused_sample_warms_nothing_up(self, cfc):
        guarded = cfc.guarded(Guard(warm_up=1))
        guarded.tick(NAN)
        assert guarded.tick(X).status is Status.WARMING_UP
        assert guarded.tick(X).status is Status.OK

    def test_slew(self, cfc):
        guarded, free = cfc.guarded(Guard(slew_per_s={"output": (0.5, 1e9)})), cfc.guarded()
        last = None
        for k in range(20):
            x = X * (-5 if k % 2 else 5)
            tick, y = guarded.tick(x, t_s=0.02 * k), free.tick(x).y
            np.testing.assert_array_equal(tick.raw, y)
            assert tick.y[1] == y[1]
            if last is not None:
                assert abs(tick.y[0] - last[0]) <= 0.5 * 0.02 * (1 + 1e-5)
            assert tick.limited == (tick.y[0] != y[0])
            last = tick.y
        assert tensors(guarded) == tensors(free)

    def test_safe(self, cfc):
        guarded = cfc.guarded(Guard(on_fault="safe", safe={"output": (0.0, -1.0)}))
        guarded.tick(X)
        np.testing.assert_array_equal(guarded.tick(NAN).y, np.float32([0, -1]))

    def test_a_tick_without_a_sample(self, cfc):
        guarded = cfc.guarded(Guard(on_fault="safe", safe={"output": (0.0, -1.0)}, slew_per_s={"output": (5.0, 5.0)}))
        before = tensors(guarded)
        tick = guarded.miss(Status.STALE, TimeoutError("nothing came"))
        assert (tick.status, tick.stepped, tick.y.tolist(), str(tick.error)) == (
            Status.STALE,
            0,
            [0, -1],
            "nothing came",
        )
        assert tensors(guarded) == before
        assert guarded.counts == {"stale": 1}
        assert guarded.tick(X).y.tolist() == pytest.approx([guarded.sent[0], -1 + 5.0 * 0.02])  # from what it had

    def test_what_somebody_else_sent(self, cfc):
        guarded = cfc.guarded(Guard(slew_per_s={"output": (5.0, 5.0)}))
        guarded.tick(X)
        guarded.sent = np.float32([3.0, -3.0])
        assert guarded.tick(X).y.tolist() == pytest.approx([2.9, -2.9])

    @pytest.mark.parametrize(
        "junk", [[0.0], 3.0, "junk", {"other": [0.0, 0.0]}, [np.nan, 0.0], [np.inf, 0.0], object()]
    )
    def test_what_is_no_output_was_not_sent(self, cfc, junk):
        guarded = cfc.guarded(Guard(slew_per_s={"output": (5.0, 5.0)}))
        guarded.tick(X)
        before = guarded.sent
        with pytest.raises((TypeError, ValueError), match=f"`sent` .* model '{cfc.name}'"):
            guarded.sent = junk
        assert guarded.sent is before
        assert guarded.tick(X).status is Status.OK

    def test_what_was_sent_stays_as_it_was_told(self, cfc):
        guarded = cfc.guarded(Guard(slew_per_s={"output": (5.0, 5.0)}))
        guarded.tick(X)
        own = np.float64([3.0, -3.0])
        for sent in ([3.0, -3.0], own, {"output": own}):
            guarded.sent = sent
            own[:] = np.nan
            assert guarded.tick(X).y.tolist() == pytest.approx([2.9, -2.9])
            own[:] = 3.0, -3.0
        for sent in (None, guarded.hold):
            guarded.sent = sent
            assert guarded.sent is sent

    def test_a_reset_is_told_with_the_next_tick(self, cfc):
        guarded = cfc.guarded()
        assert [guarded.tick(X).reset for _ in range(2)] == [False, False]
        guarded.reset()
        assert [guarded.tick(NAN).reset, guarded.tick(X).reset] == [True, False]
        guarded.stop()
        guarded.tick(X)
        guarded.enable()
        assert [guarded.tick(X).reset, guarded.tick(X).reset] == [True, False]
        guarded.reset()
        assert [guarded.miss(Status.STALE).reset, guarded.tick(X).reset] == [True, False]

    def test_nobody_changes_what_the_guard_holds(self, cfc):
        safe = (0.5,) * cfc.outputs[0].shape[-1]
        for guard in (Guard(), Guard(on_fault="safe", safe={cfc.outputs[0].name: safe})):
            guarded = cfc.guarded(guard)
            for x in (X, NAN):
                y = guarded.tick(x).y
                before = y.copy()
                with pytest.raises(ValueError, match="read-only"):
                    y *= 100
                np.testing.assert_array_equal(guarded.tick(NAN).y, before if guard.on_fault == "hold" else safe)

    def test_emergency_stop(self, cfc):
        guarded = cfc.guarded(Guard(safe={"output": (0.0, -1.0)}, warm_up=1))
        for _ in range(3):
            guarded.tick(X)
        before = tensors(guarded)
        tick = guarded.stop()
        assert (tick.status, tick.y.tolist()) == (Status.STOPPED, [0, -1])
        assert guarded.tick(X).status is Status.STOPPED
        with pytest.raises(RuntimeError, match="call enable"):
            guarded.step(X)
        assert tensors(guarded) == before
        guarded.enable()
        assert tensors(guarded) == tensors(cfc.stream())
        assert [guarded.tick(X).status for _ in range(2)] == [Status.WARMING_UP, Status.OK]
        guarded.enable()  # of what runs changes nothing
        assert not guarded.warming_up


class TestPace:
    def test_it_is_reported(self, cfc):
        guarded = cfc.guarded(Guard(pace_window=10))
        found = [guarded.tick(X, t_s=0.02 * k) for k in range(11)]
        assert {tick.status for tick in found} == {Status.OK}
        assert guarded.pace.samples == 10
        assert guarded.pace.bias == pytest.approx(0.0, abs=1e-9)
        found = [guarded.tick(X, t_s=0.2 + 0.0295 * (k + 1)) for k in range(10)]
        assert [tick.status is Status.OFF_PACE for tick in found] == [False] * 4 + [True] * 6
        assert guarded.pace.bias == pytest.approx(0.475)
        assert guarded.pace.jitter == pytest.approx(0.0, abs=1e-9)

    def test_jitter_alone_is_on_pace(self, cfc):
        guarded = cfc.guarded(Guard(pace_window=10))
        for k in range(40):
            assert guarded.tick(X, t_s=0.02 * k + (0.008 if k % 2 else 0)).status is Status.OK
        assert guarded.pace.jitter == pytest.approx(0.4)

    def test_a_reset_begins_a_window(self, cfc):
        guarded = cfc.guarded(Guard(pace_window=5))
        for k in range(5):
            guarded.tick(X, t_s=0.5 * k)
        guarded.reset()
        assert guarded.pace is None
        assert guarded.tick(X, t_s=-3.0).status is Status.OK

    def test_measured_time_has_none(self, ltc):
        guarded = ltc.guarded()
        guarded.tick(X, t_s=0.0)
        guarded.tick(X, t_s=1.0)
        assert guarded.pace is None


class TestASnapshot:
    def test_it_goes_on_exactly(self, ltc):
        whole, first, second = ltc.guarded(), ltc.guarded(), ltc.guarded()
        times = [0.1, 0.25, 0.3, 0.5, 0.6]
        for t_s in times[:3]:
            first.tick(X * t_s, t_s=t_s)
        second.restore(pickle.loads(pickle.dumps(first.snapshot())))
        for t_s in times[3:]:
            second.tick(X * t_s, t_s=t_s)
        for t_s in times:
            whole.tick(X * t_s, t_s=t_s)
        assert tensors(second) == tensors(whole)
        assert second.tick(X, t_s=0.6).status is Status.CLOCK_BACKWARD

    def test_it_has_the_time_where_a_gap_was_clamped(self, ltc):
        guarded = ltc.guarded(Guard(on_gap="clamp"))
        guarded.tick(X, t_s=0.0)
        guarded.tick(X, t_s=50.0)
        assert guarded.snapshot().t_s == 50.0

    def test_the_guarded_stream_itself_is_not_pickled(self, ltc):
        with pytest.raises(TypeError, match=r"guarded\.snapshot\(\)"):
            pickle.dumps(ltc.guarded())


class TestThreads:
    def test_a_second_one_is_refused(self, cfc, monkeypatch):
        guarded, found = cfc.guarded(), []

        def second():
            for call in (lambda: guarded.tick(X), guarded.reset, guarded.snapshot):
                try:
                    call()
                except RuntimeError as error:
                    found.append(str(error))

        class Slow:
            _now, _mode = guarded.stream._now, guarded.stream._mode

            def step(self, x):
                thread = threading.Thread(target=second)
                thread.start()
                thread.join()
                raise BackendError("enough")

        replace_stream(monkeypatch, guarded, Slow())
        assert guarded.tick(X).status is Status.BACKEND_ERROR
        assert len(found) == 3
        assert "stepped by another thread" in found[0]
        monkeypatch.undo()
        assert guarded.tick(X).status is Status.OK

    def test_any_thread_may_stop_it(self, cfc):
        guarded, ready = cfc.guarded(Guard(safe={"output": (0.0, -1.0)})), threading.Event()
        ticks = []

        def robot():
            while not ticks or ticks[-1].status is not Status.STOPPED:
                ticks.append(guarded.tick(X))
                ready.set()

        thread = threading.Thread(target=robot)
        thread.start()
        assert ready.wait(60)
        assert guarded.stop().y.tolist() == [0, -1]
        thread.join(60)
        assert not thread.is_alive()
        assert {tick.status for tick in ticks[:-1]} == {Status.OK}


def known(guarded):
    """What a guard knows beside the state of its stream, its samples' number aside, of which it may be short."""
    return {**kept_guard(guarded), "came": 0}, guarded.counts, [*guarded._held, *guarded.stream._held]


class TestInterrupted:
    """An exception of a signal's handler, before any bytecode: the tick happened, or it did not."""

    # Their clock is `int`, which says 0.
    POLICIES = Guard(on_bad="hold", on_gap="split", warm_up=1, slew_per_s={"output": (5.0, 5.0)})

    @staticmethod
    def interruptions(at_work, tick, all_of=standing, stride=1):
        """A guard behind each interruption of a tick, whether that has happened, and whether the guard is used again.

        It is where it knows no more than before: the last tick then shows that none of them has left anything.
        """
        twin, guarded = at_work(), at_work()
        before, knew, places = all_of(twin), known(guarded), bytecodes(partial(tick, twin))
        after = all_of(twin)
        for place in places[::stride]:
            if interrupt(partial(tick, guarded), place) is None:
                guarded = at_work()
                continue
            found, again = all_of(guarded), known(guarded) == knew
            assert found in (before, after)
            yield guarded, found != before, again
            guarded = guarded if again else at_work()
        tick(guarded)
        assert (all_of(guarded), known(guarded)) == (after, known(twin))

    @pytest.mark.parametrize(
        ("x", "t_s"),
        some(
            [
                pytest.param(X * 2, 0.2, id="good"),
                pytest.param(NAN, 0.2, id="hole"),
                pytest.param(X * 2, 5.0, id="gap"),
                pytest.param(X * 2, 500.0, id="reset"),
                pytest.param(X, 0.0, id="late"),
            ]
        ),
    )
    def test_tick(self, ltc, x, t_s):
        def at_work():
            guarded = ltc.guarded(self.POLICIES, clock=int)
            for k in range(2):
                guarded.tick(X, t_s=0.1 * k)
            return guarded

        for guarded, _, again in self.interruptions(at_work, lambda guarded: guarded.tick(x, t_s=t_s), stride=7):
            assert again or guarded.tick(X, t_s=600.0).stepped

    @pytest.mark.parametrize(("x", "stride"), [(X * 2, 1), (NAN, 7), (X * 1e6, 7)], ids=["good", "hole", "too far"])
    def test_a_tick_as_usual(self, ltc, x, stride):
        """The stream, and what the guard knows, at every bytecode."""

        def at_work():
            guarded = ltc.guarded(Guard(slew_per_s={"output": (1e-3, 1e-3)}), clock=int)
            for k in range(2):
                guarded.tick(X, t_s=0.1 * k)
            return guarded

        def all_of(guarded):
            return standing(guarded), standing(guarded.stream), guarded.sent.tolist(), guarded.hold.tolist()

        def tick(guarded):
            return guarded.tick(x, t_s=0.2)

        seen = {happened for _, happened, _ in self.interruptions(at_work, tick, all_of, stride)}
        assert seen <= ({False} if x is NAN else {False, True})
        assert False in seen

    def test_its_count_is_short_of_it_by_one_at_most(self, ltc):
        """And by none where it did not happen."""

        def at_work():
            guarded = ltc.guarded(clock=int)
            for k in range(2):
                guarded.tick(X, t_s=0.1 * k)
            return guarded

        seen = set()
        for guarded, happened, again in self.interruptions(at_work, lambda guarded: guarded.tick(X * 2, t_s=0.2)):
            counted = guarded.counts["ok"] - 2
            seen.add((happened, counted))
            if not again:
                guarded.tick(X, t_s=0.3)
                assert guarded.counts == {"ok": 3 + counted}
        assert {(False, 0), (True, 1)} <= seen <= {(False, 0), (True, 0), (True, 1)}


class TestAGuard:
    @pytest.mark.parametrize(
        ("options", "kind", "message"),
        [
            ({"on_gap": "rest"}, TypeError, r"Guard\(on_gap='rest'\): .* Expected one of refuse, reset, clamp, split"),
            ({"warm_up": -1}, ValueError, "`warm_up` is -1, expected 0 to"),
            ({"warm_up": 1.5}, TypeError, "warm_up"),
            ({"gap_s": 0.0}, ValueError, "`gap_s` is 0.0, expected a finite number above 0"),
            ({"hold_for_s": float("nan")}, ValueError, "`hold_for_s` is nan"),
            ({"pace": (1.1, 1.2)}, ValueError, "expected 0 < low <= 1 <= high"),
            ({"pace": (0.9,)}, TypeError, "pace"),
            ({"safe": {"output": (float("inf"), 0)}}, ValueError, "`safe` of 'output'"),
            ({"safe": {"output": (1e39, 0)}}, ValueError, "finite numbers of float32"),
            ({"slew_per_s": {"output": (0.0, 1.0)}}, ValueError, "expected numbers above 0"),
            ({"on_fault": "safe"}, ValueError, "there is no safe output"),
        ],
    )
    def test_values_that_it_cannot_have(self, options, kind, message):
        with pytest.raises(kind, match=message):
            Guard(**options)

    @pytest.mark.parametrize(
        ("guard", "message"),
        [
            (Guard(safe={"force": (0.0,)}), "`safe` names 'force', which is no output: output"),
            (Guard(safe={"output": (0.0,)}), "`safe` of 'output' has 1 numbers, expected 2"),
            (Guard(slew_per_s={"output": (1.0,)}), "`slew_per_s` of 'output' has 1 numbers, expected 2"),
            (Guard(gap_s=3.0), "proven for at most 2 s"),
        ],
    )
    def test_what_does_not_fit_the_model(self, ltc, guard, message):
        with pytest.raises(ValueError, match=message):
            ltc.guarded(guard)

    def test_numbers_of_numpy(self):
        guard = Guard(safe={"output": np.zeros(2, np.float32)}, hold_for_s=np.float32(0.5), warm_up=np.int64(3))
        assert (guard.safe, guard.hold_for_s, guard.warm_up) == ({"output": (0.0, 0.0)}, 0.5, 3)

    def test_it_is_no_dict(self, ltc):
        with pytest.raises(TypeError, match=r"`guard` is a dict, expected lnn_edge\.Guard"):
            ltc.guarded({"on_gap": "reset"})


# ---- any order of good and bad samples -------------------------------------------------------------------------------

GOOD, BAD_VALUE, LATE, FAR, SHAPE, SOON = range(6)
EVENTS = st.lists(st.tuples(st.integers(GOOD, SOON), st.floats(0.01, 1.9), st.floats(-3, 3)), max_size=30)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_the_state_is_that_of_the_good_samples_alone(ltc, events):
    guarded, stream, now = ltc.guarded(), ltc.stream(), 0.0
    guarded.tick(X, t_s=0.0)
    stream.step(X, t_s=0.0)
    late = 0
    for kind, span, value in events:
        x = np.array([value, -value, 0.5 * value], np.float32)
        if kind == GOOD:
            now += span
            tick = guarded.tick(x, t_s=now)
            np.testing.assert_array_equal(tick.y, stream.step(x, t_s=now))
            assert tick.status is Status.OK
            late = 0
            continue
        late += kind == LATE
        bad = {BAD_VALUE: x * np.nan, SHAPE: x[:2]}.get(kind, x)
        t_s = now + {LATE: -span, FAR: 2.1 + span, SOON: 0.001}.get(kind, span)
        tick = guarded.tick(bad, t_s=t_s)
        assert not tick.status.trusted
        assert (tick.stepped, tick.reset) == (0, False)
    assert tensors(guarded) == tensors(stream)
    assert sum(guarded.counts.values()) == len(events) + 1


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, policy=st.sampled_from(["reset", "clamp", "split"]))
def test_what_ticks_tell_is_what_the_state_did(ltc, events, policy):
    """Whoever follows the ticks alone (resets, steps, dt, samples as they were stepped) gets the same state."""
    guard = Guard(on_gap=policy, on_late="reset", on_bad="hold", hold_for_s=5.0)
    guarded, stream, now = ltc.guarded(guard), ltc.stream(), 0.0
    for kind, span, value in events:
        x = np.array([value, np.nan if kind == BAD_VALUE else -value, value][: 2 if kind == SHAPE else 3], np.float32)
        t_s = now + {LATE: -span, FAR: 2.1 + 5 * span, SOON: 0.001}.get(kind, span)
        tick = guarded.tick(x, t_s=t_s)
        if tick.reset:
            stream.reset()
        ys = [stream.step(tick.x, dt_s=tick.dt_s) for _ in range(tick.stepped)]
        if ys:
            np.testing.assert_array_equal(ys[-1], tick.raw)
        if tick.stepped:
            now = t_s
    assert tensors(guarded) == tensors(stream)
