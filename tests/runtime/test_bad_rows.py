"""Rows of many streams that hold no sample: each keeps its state, and the others go on, whatever their data come in."""

from __future__ import annotations

import collections
import decimal
import numbers

import numpy as np
import pandas as pd
import pytest
from checks import make_ready
from exports import proven
from networks import scans_and_speeds, two_inputs

import lnn_edge
from lnn_edge.backends import BACKENDS

ROWS = 5
NAMES = ["acc_x", "acc_y", "gyro_z"]


@pytest.fixture(params=[entry.name for entry in BACKENDS if entry.name in ("onnxruntime", "native")])
def model(request, cfc_bundle):
    make_ready(request.param, request)
    return lnn_edge.load(cfc_bundle, backend=request.param)


def samples():
    return np.random.default_rng(3).uniform(-1, 1, (ROWS, 3)).astype(np.float32)


def masked(x, dtype=np.float32):
    mask = np.zeros(x.shape, bool)
    mask[1, 2] = mask[3] = True
    return np.ma.MaskedArray(x.astype(dtype), mask)


def replaced(x, one, other):
    """As a list of rows, with something else in the place of row 3, and in one of row 1."""
    rows = x.tolist()
    rows[1][2], rows[3] = one, other
    return rows


def columns(x, missing=None):
    """By name and in another order, with nothing in a place of row 1, and in all of row 3."""
    rows = replaced(x, missing, [missing] * 3)
    return {name: [row[k] for row in rows] for k, name in reversed(list(enumerate(NAMES)))}


def raising(error, *methods):
    """A thing of which these methods raise, and that is else a number and a row of three."""

    def fails(*_arguments, **_more):
        raise error

    usual = {
        "__len__": lambda self: 3,
        "__getitem__": lambda self, k: [0.1, 0.2, 0.3][k],
        "__float__": lambda self: 0.1,
    }
    own = type("Sensor", (), {**({} if methods == ("__float__",) else usual), **dict.fromkeys(methods, fails)})
    if methods == ("__float__",):
        numbers.Real.register(own)
    return own()


class Gone(Exception):
    """A driver's own."""


FAILURES = [
    RuntimeError("closed"),
    OSError(5, "no answer"),
    KeyError("x"),
    Gone("away"),
    RecursionError(),
    MemoryError(),
]
ASKED = [("__array__",), ("__len__",), ("__getitem__",), ("__getattr__",), ("__len__", "__array__", "__getitem__")]

BAD = {  # what has a bad second and fourth row
    "masked": masked,
    "masked, float64": lambda x: masked(x, np.float64),
    "a list of masked rows": lambda x: list(masked(x)),
    "masked, structured": lambda x: np.ma.MaskedArray(
        [tuple(row) for row in x.tolist()],
        [tuple(row) for row in masked(x).mask.tolist()],
        [(name, "f4") for name in NAMES],
    ),
    "None": lambda x: replaced(x, None, None),
    "an array of objects": lambda x: np.array(replaced(x, None, [None] * 3), object),
    "a text": lambda x: replaced(x, "1.0", ["no", "such", "row"]),
    "no numbers": lambda x: replaced(x, decimal.Decimal(1), [True, 0.5, 1j]),
    "too large": lambda x: replaced(x, 10**400, [-(10**30), 10**40, 0]),
    "a row that is too short": lambda x: replaced(x, np.nan, [0.1, 0.2]),
    "a row of rows": lambda x: replaced(x, np.nan, [[0.1, 0.2, 0.3]]),
    "nothing in a frame": lambda x: pd.DataFrame(columns(x, np.nan)),
    "None in a frame": lambda x: pd.DataFrame(columns(x), dtype=object),
    "pandas' NA": lambda x: pd.DataFrame(columns(x, pd.NA), dtype=object),
    "pandas' own numbers": lambda x: pd.DataFrame(columns(x, pd.NA), dtype="Float64"),
    "columns": columns,
    "rows by name": lambda x: [dict(zip(NAMES, row or [None] * 3, strict=True)) for row in replaced(x, None, None)],
    "rows by name, of which one lacks a name": lambda x: [
        dict(zip(NAMES[: 2 if k in (1, 3) else 3], row, strict=False)) for k, row in enumerate(x.tolist())
    ],
    "by input": lambda x: {"input": masked(x)},
    "a queue": lambda x: collections.deque(replaced(x, None, None)),
    "tensors": lambda x: [None if k in (1, 3) else pytest.importorskip("torch").tensor(row) for k, row in enumerate(x)],
}


@pytest.mark.parametrize("form", BAD)
def test_a_row_that_is_no_sample_is_a_bad_one(model, form):
    x = samples()
    _, state, _ = model.step_many(x, model.initial_state(rows=ROWS))
    expected, after, done = model.step_many(x, state)
    y, then, ok = model.step_many(BAD[form](x), state)
    assert done.all()
    assert ok.tolist() == [True, False, True, False, True]
    assert np.isnan(y[~ok]).all()
    np.testing.assert_allclose(y[ok], expected[ok], rtol=0, atol=1e-6)  # a list is read in float64
    np.testing.assert_array_equal(then.tensors["h_in"][~ok], state.tensors["h_in"][~ok])
    np.testing.assert_allclose(then.tensors["h_in"][ok], after.tensors["h_in"][ok], rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["masked", "None", "an array of objects", "columns"])
def test_rows_of_which_none_is_there(model, form):
    """What a row gets does not depend on the others: without them it is a bad one as well."""
    whole = BAD[form](samples())
    only = {name: column[3:4] for name, column in whole.items()} if isinstance(whole, dict) else whole[3:4]
    y, _, ok = model.step_many(only, model.initial_state(rows=1))
    assert ok.tolist() == [False]
    assert np.isnan(y).all()


def test_masked_whole_numbers(model):
    whole = masked(np.ones((ROWS, 3)), np.int16)
    y, _, ok = model.step_many(whole, model.initial_state(rows=ROWS))
    assert ok.tolist() == [True, False, True, False, True]
    np.testing.assert_array_equal(y[ok], model.step_many(np.ones((3, 3)), model.initial_state(rows=3))[0])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([["a", "b", "c"]] * 2, r"`input` has dtype <U1, expected real numbers"),
        (np.array([["a", "b", "c"]] * 2, object), "`input` has dtype object, expected real numbers"),
        ([[1.0, 2.0], [1.0]], "`input` is no array: its rows have different lengths or shapes"),
        ([[0.1, 0.2], None], "`input` is no array"),
        ({"acc_x": ["a"], "acc_y": [1.0], "gyro_z": [2.0]}, r"`input\['acc_x'\]` has dtype <U1, expected real numbers"),
        ({"acc_x": [1.0, None], "acc_y": [1.0], "gyro_z": [2.0]}, "dtype object, expected real numbers"),
        ({"acc_x": [1.0], "acc_y": [1.0]}, "'gyro_z' is missing"),
        ([{"acc_x": 1.0, "acc_y": 1.0}] * 2, "'gyro_z' is missing"),
        ("text", r"`input` has shape \(\), expected \(rows, 3\)"),
        (None, r"`input` has shape \(\), expected \(rows, 3\)"),
    ],
)
def test_what_no_row_of_a_call_is(model, x, message):
    """Is a mistake of the caller's, and said as such."""
    with pytest.raises((TypeError, ValueError), match=message):
        model.step_many(x, model.initial_state(rows=2))


SPANS = {
    "masked": np.ma.MaskedArray([0.1, 0.1, 0.2], [False, True, False]),
    "None": [0.1, None, 0.2],
    "a text": [0.1, "0.1", 0.2],
    "spans": np.array([100, "NaT", 200], "m8[ms]"),
    "pandas' spans": pd.Series(pd.to_timedelta([0.1, None, 0.2], unit="s")),
    "NaN": [0.1, np.nan, 0.2],
}


@pytest.mark.parametrize("backend", ["onnxruntime", "native"])
@pytest.mark.parametrize("form", SPANS)
def test_a_row_without_a_time_is_a_bad_one(ltc_bundle, backend, form, request):
    make_ready(backend, request)
    model = lnn_edge.load(ltc_bundle, backend=backend)
    state, x = model.initial_state(rows=3), samples()[:3]
    expected, _, _ = model.step_many(x, state, dt_s=[0.1, 0.1, 0.2])
    y, after, ok = model.step_many(x, state, dt_s=SPANS[form])
    assert ok.tolist() == [True, False, True]
    np.testing.assert_array_equal(y[ok], expected[ok])
    assert np.isnan(y[1]).all()
    np.testing.assert_array_equal(after.tensors["h_in"][1], state.tensors["h_in"][1])
    for wrong in (["a", "b", "c"], "0.1"):
        with pytest.raises(TypeError, match="expected seconds"):
            model.step_many(x, state, dt_s=wrong)


def test_states_with_masks_are_none(model):
    with pytest.raises(TypeError, match="state 'h_in' is a MaskedArray, expected a NumPy array of float32"):
        lnn_edge.State({"h_in": masked(samples())})


class TestRowsThatRaise:
    """What an object raises when it is asked for its numbers, whatever that is, is a matter of its row."""

    @pytest.mark.parametrize("asked", ASKED, ids="+".join)
    @pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
    def test_a_row(self, model, asked, error):
        x = samples()
        _, state, _ = model.step_many(x, model.initial_state(rows=ROWS))
        expected, after, _ = model.step_many(x.tolist(), state)
        for kind in (list, tuple, collections.deque):
            y, then, ok = model.step_many(kind([*x[:2].tolist(), raising(error, *asked), *x[3:].tolist()]), state)
            assert ok.tolist() == [True, True, False, True, True]
            assert np.isnan(y[2]).all()
            np.testing.assert_array_equal(y[ok], expected[ok])
            np.testing.assert_array_equal(then.tensors["h_in"][2], state.tensors["h_in"][2])
            np.testing.assert_array_equal(then.tensors["h_in"][ok], after.tensors["h_in"][ok])

    @pytest.mark.parametrize("form", ["rows", "objects", "columns", "frame", "rows by name"])
    def test_a_number_of_a_row(self, model, form):
        bad, x = raising(RuntimeError("closed"), "__float__"), samples()
        rows = replaced(x, bad, [bad] * 3)
        by_column = {name: [row[k] for row in rows] for k, name in enumerate(NAMES)}
        given = {
            "rows": rows,
            "objects": np.array(rows, object),
            "columns": by_column,
            "frame": pd.DataFrame(by_column, dtype=object),
            "rows by name": [dict(zip(NAMES, row, strict=True)) for row in rows],
        }[form]
        _, _, ok = model.step_many(given, model.initial_state(rows=ROWS))
        assert ok.tolist() == [True, False, True, False, True]

    def test_a_sequence_that_has_no_such_row(self, model):
        class Queue(collections.UserList):
            def __getitem__(self, k):
                if k == 1:
                    raise OSError("the third sensor is silent")
                return self.data[k]

        _, _, ok = model.step_many(Queue(samples().tolist()), model.initial_state(rows=ROWS))
        assert ok.tolist() == [True, False, True, True, True]

    @pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
    def test_where_no_row_can_be_read(self, model, error):
        with pytest.raises(type(error)) as got:
            model.step_many([raising(error, *ASKED[-1])] * 2, model.initial_state(rows=2))
        assert got.value is error

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
    def test_who_ends_the_program_is_not_kept(self, model, ltc_bundle, error):
        with pytest.raises(type(error)):
            model.step_many([[0.1, 0.2, 0.3], raising(error, "__array__")], model.initial_state(rows=2))
        timed = lnn_edge.load(ltc_bundle, backend=model.backend)
        with pytest.raises(type(error)):
            timed.step_many(samples()[:2], timed.initial_state(rows=2), dt_s=[0.1, raising(error, "__array__")])

    def test_what_a_handler_raises_meanwhile_is_no_matter_of_a_row(self, model):
        """As all rows can be read after it."""

        class Interrupted(list):
            handled = 0

            def __array__(self, *arguments, **more):
                self.handled += 1
                if self.handled == 1:
                    raise Gone("out of time")
                return np.array(list(self), *arguments, **more)

        with pytest.raises(Gone, match="out of time"):
            model.step_many([[0.1, 0.2, 0.3], Interrupted([0.1, 0.2, 0.3])], model.initial_state(rows=2))

    @pytest.mark.parametrize("asked", [*ASKED, ("__float__",)], ids="+".join)
    @pytest.mark.parametrize("kind", [list, tuple, collections.deque, pd.Series])
    def test_a_time(self, ltc_bundle, model, asked, kind):
        timed = lnn_edge.load(ltc_bundle, backend=model.backend)
        state, x = timed.initial_state(rows=3), samples()[:3]
        expected, _, _ = timed.step_many(x, state, dt_s=[0.1, 0.1, 0.2])
        y, _, ok = timed.step_many(x, state, dt_s=kind([0.1, raising(RuntimeError("closed"), *asked), 0.2]))
        assert ok.tolist() == [True, False, True]
        np.testing.assert_array_equal(y[ok], expected[ok])

    @pytest.mark.workstation
    def test_one_of_several_inputs(self, tmp_path_factory, model):
        example = scans_and_speeds()
        own = lnn_edge.load(proven(tmp_path_factory, two_inputs, short=True, example=example), backend=model.backend)
        x = {name: list(value[:, 0]) for name, value in example.items()}
        x["lidar"][1], x["speed"][3] = raising(RuntimeError("closed"), "__array__"), raising(OSError(5), "__array__")
        _, _, ok = own.step_many(x, own.initial_state(rows=4))
        assert ok.tolist() == [True, False, True, False]
