"""Timespans as data comes with them: spans of pandas in any unit, and times that are no spans."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from lnn_edge import LiquidNeuralRegressor

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 2))
Y = X.sum(axis=1)
SECONDS = RNG.uniform(0.01, 0.03, 40).round(3)


def fitted(timespans, x=X, y=Y) -> LiquidNeuralRegressor:
    model = LiquidNeuralRegressor(8, "CfC", epochs=1, n_jobs=1, verbose=0, random_state=0)
    return model.fit(x, y, timespans=timespans)


def index(unit="ns") -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.Timestamp("2024-05-01") + pd.to_timedelta(np.cumsum(SECONDS), "s")).as_unit(unit)


SPANS = {
    "diff of an index": lambda: index().to_series().diff().fillna(pd.Timedelta(seconds=SECONDS[0])),
    "in microseconds": lambda: index("us").to_series().diff().fillna(pd.Timedelta(seconds=SECONDS[0])),
    "in milliseconds": lambda: index("ms").to_series().diff().fillna(pd.Timedelta(seconds=SECONDS[0])),
    "array": lambda: (SECONDS * 1e9).round().astype("m8[ns]"),
    "timedelta": lambda: np.array([datetime.timedelta(seconds=s) for s in SECONDS]),
    "Timedelta": lambda: pd.Series([pd.Timedelta(seconds=s) for s in SECONDS], dtype=object),
}


@pytest.mark.parametrize("spans", SPANS.values(), ids=SPANS)
def test_spans_of_time_count_in_seconds(spans):
    model, plain = fitted(spans()), fitted(SECONDS)
    assert model.time_unit_ == pytest.approx(float(np.median(SECONDS)))
    np.testing.assert_allclose(model.predict(X, spans()), plain.predict(X, SECONDS), atol=1e-6)


def test_of_several_sequences():
    x, y, spans = X.reshape(4, 10, 2), Y.reshape(4, 10), SECONDS.reshape(4, 10)
    model = fitted((spans * 1e9).round().astype("m8[ns]"), x, y)
    assert model.time_unit_ == pytest.approx(float(np.median(SECONDS)))
    listed = fitted([pd.Series(pd.to_timedelta(own, "s")) for own in spans], list(x), list(y))
    assert listed.time_unit_ == pytest.approx(model.time_unit_)


def test_one_span():
    model = fitted(SECONDS)
    expected = model.predict_step(X[0], timespan=0.02)[0]
    for span in (pd.Timedelta("20ms"), np.timedelta64(20, "ms"), datetime.timedelta(seconds=0.02)):
        np.testing.assert_array_equal(model.predict_step(X[0], timespan=span)[0], expected)


REFUSED = {
    "first of a diff": (lambda: index().to_series().diff(), ValueError, "`timespans` holds NaT.*give it the period"),
    "first of a diff of numbers": (
        lambda: pd.Series(SECONDS).diff(),
        ValueError,
        "holds nan .* a diff.. has none for the",
    ),
    "datetimes": (index, TypeError, r"`timespans` holds times .*, expected the time since the sample before"),
    "texts": (lambda: index().astype(str).to_numpy(), TypeError, "`timespans` is the text '2024-05-01"),
    "growing": (lambda: np.cumsum(SECONDS), ValueError, r"`timespans` grows from .*, as times .* np.diff\(t, prepend="),
    "since 1970": (lambda: 1.7e9 + np.cumsum(SECONDS), ValueError, "`timespans` grows from"),
    "counted": (lambda: np.arange(1, 41), ValueError, "`timespans` grows from 1 to 40"),
}


@pytest.mark.parametrize(("spans", "error", "expected"), REFUSED.values(), ids=REFUSED)
def test_times_are_no_spans(spans, error, expected):
    with pytest.raises(error, match=expected):
        fitted(spans())


def test_growing_in_each_of_several_sequences():
    x, y = X.reshape(4, 10, 2), Y.reshape(4, 10)
    with pytest.raises(ValueError, match="`timespans` grows"):
        fitted(np.cumsum(SECONDS.reshape(4, 10), axis=1), x, y)


@pytest.mark.parametrize(
    "spans",
    [0.01 * 1.2 ** np.arange(40), np.sort(SECONDS)[::-1], np.full(40, 0.02)],
    ids=["by a factor", "falling", "equal"],
)
def test_spans_that_may_be_meant(spans):
    assert fitted(spans).time_unit_ == pytest.approx(float(np.median(spans)))
