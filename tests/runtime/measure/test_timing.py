"""Latency figures: percentiles by their definition, and a paced run that does not hide what a slow step delays."""

from __future__ import annotations

import time
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import examples

import lnn_edge
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.bundle.golden import golden_from_bundle
from lnn_edge.runtime.closed_loop import golden_steps, rehearsed_steps
from lnn_edge.runtime.figures.durations import PERCENTILES, distribution
from lnn_edge.runtime.measure import timing
from lnn_edge.runtime.measure.timing import back_to_back, first_step, paced


def quiet(_done):
    """Progress that nobody watches."""


def slow_at(calls, seconds):
    """A step that sleeps in some of its calls, counted from 0."""
    count = iter(range(1_000_000))
    return lambda: time.sleep(seconds) if next(count) in calls else None


def interrupted_at(call, error=KeyboardInterrupt):
    count = iter(range(1_000_000))

    def step():
        if next(count) == call:
            raise error

    return step


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=30), st.sampled_from([1, 7, 40, 400]))
def test_percentile_is_the_smallest_value_that_enough_samples_do_not_exceed(values, repeats):
    durations = np.array(values * repeats)
    figures = distribution(durations)
    for p in PERCENTILES:
        share = Fraction(str(p)) / 100
        needed = ceil(share * len(durations))
        expected = min(v for v in values if np.count_nonzero(durations <= v) >= needed) / 1e3
        enough = (1 - share) * len(durations) >= 10
        assert figures.percentiles_us[f"p{p:g}"] == (expected if enough else None)
    assert (figures.min_us, figures.max_us, figures.samples) == (min(values) / 1e3, max(values) / 1e3, len(durations))


@pytest.mark.parametrize(("name", "needed"), [("p50", 20), ("p90", 100), ("p99", 1000), ("p99.9", 10_000)])
def test_percentile_takes_ten_samples_beyond_it(name, needed):
    assert distribution(np.ones(needed - 1)).percentiles_us[name] is None
    assert distribution(np.ones(needed)).percentiles_us[name] == 1e-3


def test_no_sample_is_no_distribution():
    with pytest.raises(ValueError, match="no step was measured, so there is nothing to report"):
        distribution(np.zeros(0))


def test_back_to_back_does_not_count_the_warm_up():
    calls = []
    figures, interrupted = back_to_back(lambda: calls.append(None), 30, 3, quiet)
    assert (len(calls), figures.samples, interrupted) == (33, 30, False)


def test_back_to_back_counts_every_step():
    figures, _ = back_to_back(slow_at({7}, 0.02), 30, 0, quiet)
    assert figures.max_us >= 20_000


def test_interrupt_keeps_what_was_measured_back_to_back():
    figures, interrupted = back_to_back(interrupted_at(15), 100, 5, quiet)
    assert (figures.samples, interrupted) == (10, True)


@pytest.mark.parametrize("call", [2, 5])
def test_interrupt_before_anything_was_measured_stays_an_interrupt(call):
    with pytest.raises(KeyboardInterrupt):
        back_to_back(interrupted_at(call), 100, 5, quiet)
    with pytest.raises(KeyboardInterrupt):
        paced(interrupted_at(0), 1000.0, 10, progress=quiet)


def test_errors_of_the_step_come_through():
    with pytest.raises(ZeroDivisionError):
        back_to_back(interrupted_at(3, ZeroDivisionError), 10, 0, quiet)
    with pytest.raises(ZeroDivisionError):
        paced(interrupted_at(3, ZeroDivisionError), 1000.0, 10, progress=quiet)


@pytest.mark.parametrize("wait", ["sleep", "spin"])
def test_delay_behind_a_slow_step_is_counted(wait):
    """One step of ten periods: it and the steps that were due meanwhile respond late, each one period less."""
    period_us = 10_000
    run = paced(slow_at({5}, 10 * period_us / 1e6), 1e6 / period_us, 30, wait=wait, progress=quiet)
    assert run.response.max_us >= 10 * period_us
    assert run.misses >= 9  # steps 5 to 13 end more than a period after they were due
    assert run.service.max_us >= 10 * period_us
    assert run.lateness.max_us >= 9 * period_us  # step 6 starts nine periods late
    assert (run.response.samples, run.wait, run.interrupted) == (30, wait, False)


def test_every_response_is_lateness_plus_service():
    run = paced(slow_at({3}, 0.02), 200.0, 20, progress=quiet)
    assert run.response.max_us <= run.lateness.max_us + run.service.max_us + 1e-3
    assert run.response.min_us >= run.lateness.min_us + run.service.min_us - 1e-3


def test_no_step_starts_before_it_is_due():
    started = time.perf_counter_ns()
    run = paced(lambda: None, 500.0, 20, progress=quiet)
    assert run.lateness.min_us >= 0
    assert time.perf_counter_ns() - started >= 19 * 2_000_000


def test_deadline_is_one_period_unless_given():
    assert paced(lambda: None, 500.0, 3, progress=quiet).deadline_us == pytest.approx(2000.0)
    run = paced(slow_at({0, 1, 2, 3}, 0.003), 100.0, 4, deadline_us=2500.0, progress=quiet)
    assert (run.deadline_us, run.misses) == (2500.0, 4)


def test_interrupt_keeps_what_was_measured_paced():
    run = paced(interrupted_at(5), 1000.0, 100, progress=quiet)
    assert (run.response.samples, run.interrupted) == (5, True)


def test_a_rate_that_cannot_be_kept_ends_the_run(monkeypatch):
    monkeypatch.setattr(timing, "_BEHIND_NS", 20_000_000)
    run = paced(slow_at(range(100_000), 0.01), 1e6, 100_000, progress=quiet)  # due within 0.1 s, done after 1000 s
    assert 1 <= run.response.samples <= 13
    assert (run.planned, run.misses, run.interrupted) == (100_000, run.response.samples, False)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_rate_is_refused(rate):
    with pytest.raises(ValueError, match=rf"the rate is {rate}, expected a number of steps per second above 0"):
        paced(lambda: None, rate, 1, progress=quiet)


def test_unknown_way_of_waiting_is_refused():
    with pytest.raises(ValueError, match=r"`wait` is 'slep'\. Valid: sleep, spin, rehearse\. Did you mean 'sleep'\?"):
        paced(lambda: None, 1.0, 1, wait="slep", progress=quiet)  # type: ignore[arg-type]


def test_progress_is_told_now_and_then():
    told = []
    back_to_back(lambda: None, 2000, 0, told.append)
    assert told == [0, 1024]


def test_first_step_is_timed_on_its_own():
    assert first_step(lambda: time.sleep(0.002)) >= 2000


@pytest.mark.parametrize("name", ["cfc_bundle", "ltc_bundle"])
@pytest.mark.parametrize("backend", ["onnxruntime", "native"])
def test_rehearsals_change_no_step(backend, name, request, compiler):
    bundle = read_bundle(request.getfixturevalue(name))
    model, golden = lnn_edge.load(bundle.path, backend=backend), golden_from_bundle(bundle)
    (step, rehearse), alone = rehearsed_steps(model, golden), golden_steps(model, golden)
    for k in range(20):
        for _ in range(k % 4):
            rehearse()
        np.testing.assert_array_equal(step(), alone())


@pytest.mark.parametrize("name", ["cfc_bundle", "ltc_bundle"])
def test_golden_steps_go_round_the_golden_samples(name, request):
    """What the benchmark steps is the public `stream.step`, from the initial state, sample after sample."""
    bundle = read_bundle(request.getfixturevalue(name))
    model, golden = lnn_edge.load(bundle.path), golden_from_bundle(bundle)
    step, stream = golden_steps(model, golden), model.stream()
    for k in [*range(golden.steps), 0, 1]:
        dt = float(golden.inputs["dt"][k, 0, 0]) if "dt" in golden.inputs else None
        np.testing.assert_array_equal(step(), stream.step(golden.inputs["input"][k, 0], dt_s=dt))
