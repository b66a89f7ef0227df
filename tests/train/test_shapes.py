"""Arrays of a wrong shape, refused by it before anything that may be large is converted."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest

from lnn_edge import LiquidNeuralRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 10, 3)).astype(np.float32)
Y = X[..., :2]
N = 2_000_000
_MOST = 4_000_000  # bytes: the list of a view's rows, and no copy of the view


def view(*shape, dtype=np.int64) -> np.ndarray:
    """As large as a recording of gigabytes, in no memory; of a dtype that has to be converted."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def quick(**options):
    return LiquidNeuralRegressor(8, "CfC", epochs=1, n_jobs=1, verbose=0, random_state=0, **options)


@pytest.fixture(scope="module")
def plain():
    return quick().fit(X, Y)


@pytest.fixture(scope="module")
def timed():
    return quick().fit(X, Y, timespans=np.full((6, 10), 0.1))


@pytest.fixture(scope="module")
def forecasting():
    return quick().fit(X[0], X[0, :, :2])


USES = {
    "columns": ("plain", lambda m: m.predict(view(N, 4)), "X has 4 features, but LiquidNeuralRegressor is expecting 3"),
    "columns of sequences": ("plain", lambda m: m.predict(view(N, 10, 4)), "X has 4 features, but LiquidNeuralRegre"),
    "columns of a list": ("plain", lambda m: m.predict([X[0], view(N, 4)]), "sequence 1 of X: X has 4 features, but"),
    "one axis": ("plain", lambda m: m.predict(view(N)), "Expected 2D array, got 1D array instead"),
    "history": ("plain", lambda m: m.warm_up(view(N, 4)), "X has 4 features, but LiquidNeuralRegressor is expecting"),
    "score's count": ("plain", lambda m: m.score(X, view(N, 10)), "inconsistent numbers of samples: [6, 2000000]"),
    "one sample": ("plain", lambda m: m.predict_step(view(N, 3)), "`x` has shape (2000000, 3), expected one sample"),
    "state's units": ("plain", lambda m: m.predict(X, state=(view(6, N),)), "of shapes [(6, 2000000)], expected [(6,"),
    "state's parts": ("plain", lambda m: m.predict(X, state=view(N, 8)), "[(8,), (8,), (8,), ...], expected 1 of (6,"),
    "a state that is none": ("plain", lambda m: m.predict(X, state=3), "`state` is a int, expected 1 arrays of (6, "),
    "timespans": ("timed", lambda m: m.predict(X, timespans=view(6, N)), "`timespans` has 6 of shape (2000000,), "),
    "timespans' count": ("timed", lambda m: m.predict(X, timespans=view(N, 10)), "has 2000000 of shape (10,), expecte"),
    "spans": ("timed", lambda m: m.predict(X, timespans=view(6, N, dtype="m8[ms]")), "`timespans` has 6 of shape (20"),
    "future": (
        "forecasting",
        lambda m: m.forecast(3, X[0], columns=[0, 1], future=view(N, 2)),
        "`future` has shape (2000000, 2), expected (2 or more, 1)",
    ),
}  # fmt: skip
FITS = {
    "y's count": (lambda: quick().fit(X, view(N, 10)), "inconsistent numbers of samples: [6, 2000000]"),
    "X's count": (lambda: quick().fit(view(N, 10, 3), Y), "inconsistent numbers of samples: [2000000, 6]"),
    "X's rows": (lambda: quick().fit(view(N, 3), Y[0]), "inconsistent numbers of samples: [2000000, 10]"),
    "y of one sequence": (lambda: quick().fit(X[0], view(10, 2, N)), "y has shape (10, 2, 2000000), expected (rows of"),
    "weights": (lambda: quick().fit(X, Y, sample_weight=view(6, N)), "sample_weight has 6 entries of shape [(2000000"),
    "weights' count": (lambda: quick().fit(X, Y, sample_weight=view(N)), "sample_weight has 2000000 entries of shape"),
    "timespans": (lambda: quick().fit(X, Y, timespans=view(6, N)), "`timespans` has 6 of shape (2000000,), expected 6"),
    "validation": (lambda: quick().fit(X, Y, validation=(view(N, 4), Y)), "`validation`: X has 4 features, but"),
}  # fmt: skip


def refused(call, message):
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, TypeError), match=re.escape(message)):
            call()
        assert tracemalloc.get_traced_memory()[1] < _MOST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", USES)
def test_use(request, name):
    fixture, call, message = USES[name]
    model = request.getfixturevalue(fixture)
    refused(lambda: call(model), message)


@pytest.mark.parametrize("name", FITS)
def test_fit(name):
    refused(*FITS[name])


def test_a_state_of_numbers_alone(plain):
    with pytest.raises(TypeError, match="`state` has a part of dtype <U1, expected real numbers"):
        plain.predict(X, state=(np.full((6, 8), "1"),))
