"""Durations counted in fixed memory: percentiles beside the exact ones, at any number of samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import examples

from lnn_edge.runtime.figures.durations import distribution
from lnn_edge.runtime.figures.histogram import Histogram


def filled(durations) -> Histogram:
    own = Histogram()
    for duration in durations:
        own.add(duration)
    return own


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=30), st.sampled_from([1, 7, 40]))
def test_percentiles_are_those_of_the_durations_within_a_bucket(values, repeats):
    own, exact = filled(values * repeats).distribution(), distribution(np.array(values * repeats))
    assert (own.samples, own.min_us, own.max_us) == (exact.samples, exact.min_us, exact.max_us)
    for name, expected in exact.percentiles_us.items():
        found = own.percentiles_us[name]
        assert (found is None) == (expected is None)
        if expected is not None:  # a bucket is a 128th of its value wide
            assert expected <= found <= expected * (1 + 1 / 128) + 1e-9


def test_short_durations_are_exact():
    assert filled([*range(256)] * 4).distribution().percentiles_us["p90"] == 0.230


@pytest.mark.parametrize(("duration", "counted_us"), [(-5, 0.0), (1 << 60, ((1 << 50) - 1) / 1e3)])
def test_what_no_duration_is_counts_as_the_nearest_one(duration, counted_us):
    assert filled([duration]).distribution().max_us == counted_us


def test_nothing_counted_is_no_distribution():
    assert Histogram().distribution() is None


def test_memory_is_that_of_the_beginning():
    own = Histogram()
    before = len(own._counts)
    for k in range(10_000):
        own.add(k * k * 977)
    assert (len(own._counts), own.samples) == (before, 10_000)
