"""Streams and time: behaviour through the public doors, for every backend in the table."""

from __future__ import annotations

import copy
import pickle
import threading
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from called_bundles import Bundles
from cases import BY_NAME, INPUTS
from checks import CHECKS, make_ready, sample, timing
from exports import quick_export
from hypothesis import given, settings
from hypothesis import strategies as st

import lnn_edge
from lnn_edge.backends import BACKENDS
from lnn_edge.errors import Gap, LateSample, NonFiniteError
from lnn_edge.runtime.modes.plain import Plain
from lnn_edge.runtime.seen_ranges import RECENT

PERIOD_S = 0.05


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """By name: fixed and measured time, memory cell, batch of two, limits."""
    return Bundles(tmp_path_factory)


@pytest.fixture(scope="module")
def loaded():
    """Models by bundle and backend: a model is immutable, so one serves every check."""
    models = {}
    yield models
    models.clear()


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("bundle", ["fixed", "measured", "batch", "blocks", "timed-blocks", "batch-blocks"])
@pytest.mark.parametrize("backend", [entry.name for entry in BACKENDS])
def test_conformance(check, bundle, backend, bundles, loaded, request):
    if (bundle, backend) not in loaded:
        make_ready(backend, request)  # more of tensorrt in tests/runtime/trt/test_tensorrt.py
        loaded[bundle, backend] = lnn_edge.load(bundles[bundle], backend=backend)
    CHECKS[check](loaded[bundle, backend])


def test_auto_says_what_runs(bundles):
    model = lnn_edge.load(bundles["fixed"])
    assert model.backend in [entry.name for entry in BACKENDS]
    assert "onnxruntime" in model.description
    assert repr(model) == "Model('fixed', backend='onnxruntime')"


def test_step_takes_what_sensors_give(bundles):
    model = lnn_edge.load(bundles["fixed"])
    expected = model.stream().step(np.arange(INPUTS, dtype=np.float32)).copy()
    for x in (list(range(INPUTS)), tuple(range(INPUTS)), np.arange(INPUTS), np.arange(INPUTS, dtype=np.float64)):
        np.testing.assert_array_equal(model.stream().step(x), expected)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            np.zeros(3),
            ValueError,
            r"`input` has shape \(3,\), but model 'fixed' takes shape \(5,\) per sample: input_0",
        ),
        (np.zeros((7, 5)), ValueError, r"If these are several samples, type: stream.run\(x\)"),
        (np.zeros((1, 5)), ValueError, r"has shape \(1, 5\), .* Type: np.reshape\(x, \(5,\)\)$"),
        (np.zeros((2, 7, 5)), ValueError, r"has shape \(2, 7, 5\), but model 'fixed' takes shape \(5,\) .*input_4.$"),
        ("12345", TypeError, "has dtype <U5, but model 'fixed' takes real numbers"),
        (np.zeros(5, complex), TypeError, "has dtype complex128"),
        (np.zeros(5, bool), TypeError, "has dtype bool"),
        (None, TypeError, "`input` is a NoneType, expected shape"),
        ([1.0, [2.0]], ValueError, "`input` is no array"),
        ([0, 0, np.inf, 0, 0], NonFiniteError, r"holds inf at 'input_2' \(index \[2\]\); expected finite numbers"),
        (
            [0, 0, 1e300, 0, 0],
            NonFiniteError,
            r"holds 1e\+300 at 'input_2' \(index \[2\]\); that is more than float32 can hold \(3.4e\+38\): check its",
        ),
        ([0, 0, 0, -1e39, 0], NonFiniteError, r"holds -1e\+39 at 'input_3' .* is more than float32 can hold"),
        ([0, 0, 0, 0, float("nan")], NonFiniteError, r"holds nan at 'input_4' \(index \[4\]\)"),
    ],
)
def test_bad_samples_are_named(x, error, message, bundles):
    with pytest.raises(error, match=message):
        lnn_edge.load(bundles["fixed"]).stream().step(x)


def test_limits_are_enforced(bundles):
    stream = lnn_edge.load(bundles["limits"]).stream()
    stream.step(np.full(INPUTS, 3.0))
    with pytest.raises(ValueError, match=r"holds 3.5 at 's1' .* its legal range is \[-3.0, 3.0\]"):
        stream.step([0.0, 3.5, 0.0, 0.0, 0.0])


def test_a_result_that_is_not_finite_is_refused(tmp_path):
    """A finite sample so large that the relu backbone overflows; the state must survive it."""
    module = BY_NAME["cfc-relu"].build()
    with torch.no_grad():
        module.rnn_cell.backbone[0].weight[:, :INPUTS].mul_(8.0)
    quick_export(module, tmp_path / "m.lnn")
    stream, untouched = (lnn_edge.load(tmp_path / "m.lnn").stream() for _ in range(2))
    for one in (stream, untouched):
        one.step(np.ones(INPUTS))
    with pytest.raises(
        NonFiniteError, match=r"the step gave nan in '\w+' at .*; the state is unchanged. .*check its unit"
    ):
        stream.step(np.full(INPUTS, 3e38))
    np.testing.assert_array_equal(stream.step(np.ones(INPUTS)), untouched.step(np.ones(INPUTS)))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), min_size=1, max_size=30))
@settings(max_examples=25, deadline=None)
def test_bad_samples_in_between_change_nothing(bundles, plan):
    """Any mixture of good and bad samples gives what the good ones alone give."""
    model = lnn_edge.load(bundles["fixed"], self_test=False)
    mixed, clean = model.stream(), model.stream()
    for good, seed in plan:
        x = sample(model, seed)
        if good:
            np.testing.assert_array_equal(mixed.step(x), clean.step(x))
        else:
            x[seed % INPUTS] = np.nan
            with pytest.raises(NonFiniteError):
                mixed.step(x)


class TestTime:
    def test_fixed_takes_no_time(self, bundles):
        with pytest.raises(ValueError, match="was exported with time='fixed' and takes no `dt_s`"):
            lnn_edge.load(bundles["fixed"]).stream().step(np.zeros(INPUTS), dt_s=0.1)

    @pytest.mark.parametrize("backend", ["onnxruntime", "native"])
    def test_fixed_checks_the_time_of_a_sample(self, bundles, backend, compiler):
        model = lnn_edge.load(bundles["period"], backend=backend)
        checked, plain, x = model.stream(), model.stream(), np.ones(INPUTS, np.float32)
        for k in range(4):
            np.testing.assert_array_equal(checked.step(x, t_s=7.0 + k * PERIOD_S), plain.step(x))
        for t_s, kind, message in (
            (7.1, LateSample, "not after the previous sample at 7.15"),
            (7.15, LateSample, "not after"),
            (7.25, Gap, r"0\.1 s after the previous sample at 7\.15.* counts every sample as 0\.05 s"),
            (7.15 + 50, Gap, "divide by 1e3"),
            (float("nan"), ValueError, "expected a time in seconds"),
            ("soon", TypeError, "t_s"),
        ):
            with pytest.raises(kind, match=message):
                checked.step(x, t_s=t_s)
        np.testing.assert_array_equal(checked.step(x, t_s=7.2), plain.step(x))
        checked.reset()
        plain.reset()
        xs, ts = np.tile(x, (5, 1)), 1e9 + PERIOD_S * np.arange(5)
        np.testing.assert_array_equal(checked.run(xs, t_s=ts), plain.run(xs))
        with pytest.raises(LateSample) as caught:
            checked.run(xs, t_s=ts + 0.1)
        assert any("in sample 0 of 5" in note for note in getattr(caught.value, "__notes__", ["in sample 0 of 5"]))
        assert checked.snapshot().t_s == ts[-1]

    def test_fixed_checks_the_times_of_a_block(self, bundles):
        stream = lnn_edge.load(bundles["blocks"]).stream()
        x = np.zeros((3, INPUTS), np.float32)
        stream.step(x, t_s=[1.0, 2.0, 3.0])  # nothing says what its period is
        with pytest.raises(LateSample):
            stream.step(x, t_s=[3.5, 3.4, 4.0])
        with pytest.raises(ValueError, match="expected the times in seconds of all 3 samples"):
            stream.step(x, t_s=4.0)

    @pytest.mark.parametrize("backend", ["onnxruntime", "native"])
    def test_late_samples_and_gaps_are_errors_of_their_own(self, bundles, backend, compiler):
        stream = lnn_edge.load(bundles["measured"], backend=backend).stream()
        x = np.zeros(INPUTS, np.float32)
        stream.step(x, t_s=1.0)
        before = stream.snapshot().tensors["h_in"].tobytes()
        for times, kind in (({"t_s": 0.5}, LateSample), ({"dt_s": -0.1}, LateSample), ({"dt_s": 0.0}, LateSample)):
            with pytest.raises(kind):
                stream.step(x, **times)
        for times in ({"t_s": 99.0}, {"dt_s": 50.0}):
            with pytest.raises(Gap):
                stream.step(x, **times)
        for times in ({"dt_s": 1e-9}, {"dt_s": float("inf")}, {"dt_s": float("nan")}, {"t_s": float("inf")}):
            with pytest.raises(ValueError) as caught:  # noqa: PT011 - which one, is what is asked
                stream.step(x, **times)
            assert type(caught.value) is ValueError
        assert stream.snapshot().tensors["h_in"].tobytes() == before

    @pytest.mark.parametrize("times", [{}, {"dt_s": 0.05, "t_s": 1.0}])
    def test_measured_takes_exactly_one(self, times, bundles):
        with pytest.raises(ValueError, match=r"pass either `dt_s` .* or `t_s`"):
            lnn_edge.load(bundles["measured"]).stream().step(np.zeros(INPUTS), **times)

    @pytest.mark.parametrize(
        ("dt_s", "advice"),
        [
            (0, "Samples must come in order of time: leave out one that is not after the previous one"),
            (-0.05, "Samples must come in order of time: leave out one that is not after the previous one"),
            (1e-9, "Leave out samples that come faster, or export with a wider `dt_range_s`"),
            (1e9, "After a longer gap call stream.reset()"),
            (float("nan"), "It must be the finite number of seconds since the previous sample"),
            (float("inf"), "It must be the finite number of seconds since the previous sample"),
        ],
    )
    @pytest.mark.parametrize("shape", [(), (1, 1)])
    def test_illegal_dt_is_refused_with_what_to_do(self, dt_s, advice, shape, bundles):
        stream = lnn_edge.load(bundles["measured"]).stream()
        with pytest.raises(ValueError, match=r"`dt_s` is .*, but model 'measured' was proven for 0.0025 to 1 s") as got:
            stream.step(np.zeros(INPUTS), dt_s=np.full(shape, dt_s) if shape else dt_s)
        assert str(got.value).endswith(f" seconds. {advice}. The state is unchanged")

    @pytest.mark.parametrize(("dt_s", "message"), [("0.1", "dtype <U3"), (1j, "dtype complex"), ([True], "dtype bool")])
    def test_dt_that_is_no_number(self, dt_s, message, bundles):
        with pytest.raises(TypeError, match=message):
            lnn_edge.load(bundles["measured"]).stream().step(np.zeros(INPUTS), dt_s=dt_s)

    def test_ambiguous_dt_shape_is_refused(self, bundles):
        """One dt per row needs two axes; (batch,) is the shape that ncps confuses with a sequence."""
        stream = lnn_edge.load(bundles["batch"]).stream()
        with pytest.raises(ValueError, match=r"`dt_s` has shape \(2,\), expected one number or shape \(2, 1\)"):
            stream.step(np.zeros((2, INPUTS)), dt_s=np.array([0.05, 0.06]))

    def test_timestamps_become_differences(self, bundles):
        model = lnn_edge.load(bundles["measured"])
        by_time, by_dt = model.stream(), model.stream()
        t_s, dt_s = [10.0, 10.25, 10.5, 11.5], [PERIOD_S, 0.25, 0.25, 1.0]
        for k in range(4):
            a = by_time.step(sample(model, k), t_s=t_s[k]).copy()
            np.testing.assert_array_equal(a, by_dt.step(sample(model, k), dt_s=dt_s[k]))

    def test_dt_and_timestamps_mix(self, bundles):
        """A dt moves the clock that timestamps are measured by."""
        model = lnn_edge.load(bundles["measured"])
        mixed, by_dt = model.stream(), model.stream()
        mixed.step(sample(model, 0), t_s=5.0)
        mixed.step(sample(model, 1), dt_s=0.25)
        got = mixed.step(sample(model, 2), t_s=5.75).copy()
        for k, dt_s in enumerate([PERIOD_S, 0.25, 0.5]):
            expected = by_dt.step(sample(model, k), dt_s=dt_s)
        np.testing.assert_array_equal(got, expected)

    @pytest.mark.parametrize("t_s", [1.0, 0.5])
    def test_time_must_go_forward(self, t_s, bundles):
        stream = lnn_edge.load(bundles["measured"]).stream()
        stream.step(np.zeros(INPUTS), t_s=1.0)
        with pytest.raises(ValueError, match=r"not after the previous sample at 1.0. .* stream.reset\(\)"):
            stream.step(np.zeros(INPUTS), t_s=t_s)
        assert stream.snapshot().t_s == 1.0

    def test_time_must_be_finite(self, bundles):
        with pytest.raises(ValueError, match="`t_s` is nan, expected a time in seconds"):
            lnn_edge.load(bundles["measured"]).stream().step(np.zeros(INPUTS), t_s=float("nan"))

    def test_refused_sample_does_not_move_the_clock(self, bundles):
        model = lnn_edge.load(bundles["measured"])
        stream, other = model.stream(), model.stream()
        stream.step(sample(model, 0), t_s=1.0)
        with pytest.raises(NonFiniteError):
            stream.step(sample(model) * np.nan, t_s=1.1)
        got = stream.step(sample(model, 1), t_s=1.25).copy()
        other.step(sample(model, 0), dt_s=PERIOD_S)
        np.testing.assert_array_equal(got, other.step(sample(model, 1), dt_s=0.25))

    def test_reset_forgets_the_clock(self, bundles):
        stream = lnn_edge.load(bundles["measured"]).stream()
        stream.step(np.zeros(INPUTS), t_s=100.0)
        stream.reset()
        stream.step(np.zeros(INPUTS), t_s=1.0)

    def test_time_travels_in_the_state(self, bundles):
        model = lnn_edge.load(bundles["measured"])
        y1, state = model.step(sample(model, 0), model.initial_state(), t_s=3.0)
        assert state.t_s == 3.0
        y2, _ = model.step(sample(model, 1), state, t_s=3.5)
        stream = model.stream()
        np.testing.assert_array_equal(stream.step(sample(model, 0), dt_s=PERIOD_S), y1)
        np.testing.assert_array_equal(stream.step(sample(model, 1), dt_s=0.5), y2)


class TestRun:
    def test_no_samples(self, bundles):
        assert lnn_edge.load(bundles["fixed"]).stream().run(np.zeros((0, INPUTS))).shape == (0, 3)

    def test_one_value_is_no_recording(self, bundles):
        with pytest.raises(ValueError, match="`xs` is a single value"):
            lnn_edge.load(bundles["fixed"]).stream().run(3.0)

    def test_what_gives_its_samples_one_by_one_is_no_recording(self, bundles):
        stream = lnn_edge.load(bundles["fixed"]).stream()
        with pytest.raises(TypeError, match=r"`xs` is a generator, .* Type stream.run\(list\(xs\)\), or step each"):
            stream.run(np.zeros(INPUTS) for _ in range(3))
        assert stream.steps == 0

    @pytest.mark.parametrize(
        ("bundle", "shape", "recording", "advice"),
        [
            ("fixed", (5,), "(T, 5)", " For a single sample type: stream.step(x)"),
            ("fixed", (2, 7, 5), "(T, 5)", " For several recordings type: [model.stream().run(x) for x in xs]"),
            ("fixed", (7, 4), "(T, 5)", ""),
            ("fixed", (0, 4), "(T, 5)", ""),
            ("blocks", (2, 3, 5), "(T, 5)", " `run` makes blocks of 3 of them itself"),
            ("blocks", (5,), "(T, 5)", " `run` makes blocks of 3 of them itself"),
            ("batch", (7, 5), "(T, 2, 5)", ""),
            ("batch", (2, 5), "(T, 2, 5)", " For a single sample type: stream.step(x)"),
        ],
    )
    def test_a_recording_has_one_axis_more_than_a_sample(self, bundle, shape, recording, advice, bundles):
        model = lnn_edge.load(bundles[bundle])
        stream = model.stream()
        for xs in (np.zeros(shape), np.zeros(shape).tolist()):
            if len(xs) or isinstance(xs, np.ndarray):  # an empty list has no shape to be wrong
                with pytest.raises(ValueError, match="`xs` has shape") as got:
                    stream.run(xs, **timing(model))
                assert str(got.value) == (
                    f"`xs` has shape {shape}, but model '{bundle}' takes a recording of shape {recording}, "
                    f"T samples one after the other.{advice}"
                )
        assert stream.steps == 0

    def test_rows_of_different_lengths_are_no_recording(self, bundles):
        with pytest.raises(ValueError, match=r"`xs` is no array: .*takes a recording of shape \(T, 5\)"):
            lnn_edge.load(bundles["fixed"]).stream().run([np.zeros(5), np.zeros(4)])

    def test_times_must_fit(self, bundles):
        stream = lnn_edge.load(bundles["measured"]).stream()
        with pytest.raises(ValueError, match="`dt_s` has 2 entries for 3 samples"):
            stream.run(np.zeros((3, INPUTS)), dt_s=[0.1, 0.1])
        with pytest.raises(ValueError, match="expected one time for each of the 3 samples"):
            stream.run(np.zeros((3, INPUTS)), t_s=1.0)

    def test_a_failed_run_counts_nothing(self, bundles):
        """The count and the clock go back with the state, so the same samples can be given again."""
        stream = lnn_edge.load(bundles["measured"]).stream()
        stream.step(np.zeros(INPUTS), t_s=1.0)
        with pytest.raises(ValueError, match=r"not after the previous sample at 1\.2"):
            stream.run(np.zeros((4, INPUTS)), t_s=[1.1, 1.2, 1.2, 1.3])
        assert (stream.steps, stream.snapshot().t_s) == (1, 1.0)
        stream.run(np.zeros((4, INPUTS)), t_s=[1.1, 1.2, 1.3, 1.4])
        assert (stream.steps, stream.snapshot().t_s) == (5, 1.4)

    def test_an_interrupted_run_counts_nothing(self, bundles, monkeypatch):
        model, advance = lnn_edge.load(bundles["fixed"]), Plain.advance

        def interrupted(self, now, *sample):
            if now[2] == 3:
                raise KeyboardInterrupt
            return advance(self, now, *sample)

        monkeypatch.setattr(Plain, "advance", interrupted)
        stream = model.stream()
        stream.step(np.ones(INPUTS))
        before = stream.snapshot()
        with pytest.raises(KeyboardInterrupt):
            stream.run(np.ones((4, INPUTS)))
        assert stream.steps == 1
        for name, array in before.tensors.items():
            np.testing.assert_array_equal(stream.snapshot().tensors[name], array)

    def test_results_are_copies(self, bundles):
        stream = lnn_edge.load(bundles["fixed"]).stream()
        ys = stream.run(np.ones((4, INPUTS)))
        kept = ys.copy()
        stream.run(np.zeros((4, INPUTS)))
        np.testing.assert_array_equal(ys, kept)


class TestLoad:
    def test_unknown_backend(self, bundles):
        with pytest.raises(ValueError, match=r"unknown backend 'onnxruntim'. .*Did you mean 'onnxruntime'"):
            lnn_edge.load(bundles["fixed"], backend="onnxruntim")

    @pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", 9999, 10**400])
    def test_threads(self, threads, bundles):
        with pytest.raises(ValueError, match=r"`threads` is .*, expected a whole number from 1 to \d+, the cores"):
            lnn_edge.load(bundles["fixed"], threads=threads)

    def test_two_threads_give_the_same(self, bundles):
        x = np.ones((20, INPUTS))
        one, two = (lnn_edge.load(bundles["fixed"], threads=k).stream().run(x) for k in (1, 2))
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)


def test_copies_and_pickles_say_what_to_do(bundles):
    model = lnn_edge.load(bundles["fixed"])
    assert copy.copy(model) is model
    assert copy.deepcopy({"model": model})["model"] is model
    with pytest.raises(TypeError, match=r"Load it in each process: lnn_edge.load\('.*fixed.lnn'\)"):
        pickle.dumps(model)
    for options in ({}, {"window": 4}):
        stream = model.stream(**options)
        for act in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=r"model.stream\(\), and then other.restore\(stream.snapshot\(\)\)"):
                act(stream)


@pytest.mark.parametrize("path", [None, 3, b"fixed.lnn", ["fixed.lnn"]])
def test_what_is_no_path_is_told(path):
    with pytest.raises(TypeError, match=r"`path` is .*, expected the path of a bundle"):
        lnn_edge.load(path)


def test_a_second_thread_is_refused_while_the_first_steps(bundles):
    """The first is inside `step`, which asks its sample for the values."""
    stream, refused = lnn_edge.load(bundles["fixed"]).stream(), []

    def second():
        with pytest.raises(RuntimeError, match="is being stepped by another thread") as got:
            stream.step(np.zeros(INPUTS))
        refused.append(got.value)

    class Sample:
        def __array__(self, dtype=None, copy=None):
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()
            return np.zeros(INPUTS)

    stream.step(Sample())
    assert (len(refused), stream.steps) == (1, 1)


def test_a_step_allocates_nothing_that_grows(bundles):
    """A hundred thousand steps later, Python holds no more memory than after a thousand."""
    stream = lnn_edge.load(bundles["fixed"]).stream()
    x = np.ones(INPUTS, np.float32)
    for _ in range(1000):
        stream.step(x)
    tracemalloc.start()
    try:
        for _ in range(RECENT):  # which a stream keeps
            stream.step(x)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20_000):
            stream.step(x)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 2048  # counters that become larger integers, nothing per step


def test_several_inputs_are_named():
    from lnn_edge.bundle.spec import Tensor
    from lnn_edge.runtime.input_port import InputPort, by_name

    ports = {n: InputPort(Tensor(n, (1, 2)), np.zeros((1, 2), np.float32), "m") for n in ("camera", "imu")}
    with pytest.raises(TypeError, match="this model has the inputs camera, imu; pass a dict"):
        by_name(np.zeros(2), ports)
    with pytest.raises(ValueError, match=r"unknown input 'imo'. .*Did you mean 'imu'"):
        by_name({"imo": 0}, ports)
    with pytest.raises(ValueError, match="input camera is missing"):
        by_name({"imu": 0}, ports)


def test_recordings_of_several_inputs_are_named():
    from lnn_edge.bundle.spec import Tensor
    from lnn_edge.runtime.sequence import check_recording

    model = SimpleNamespace(name="m", batch=1, unroll=1, streamed=(Tensor("camera", (1, 4, 4)), Tensor("imu", (1, 2))))
    check_recording(model, {"camera": np.zeros((7, 4, 4)), "imu": np.zeros((7, 2))})
    with pytest.raises(ValueError, match=r"`xs\['imu'\]` has shape \(7, 3\), but model 'm' takes .* shape \(T, 2\)"):
        check_recording(model, {"camera": np.zeros((7, 4, 4)), "imu": np.zeros((7, 3))})


def test_timing_helper_uses_the_period(bundles):
    assert timing(lnn_edge.load(bundles["measured"])) == {"dt_s": PERIOD_S}
