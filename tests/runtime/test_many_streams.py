"""Many streams in one call: each row as a stream of its own would go, whatever lies beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from cases import BY_NAME
from checks import make_ready
from exports import quick_export
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lnn_edge
from lnn_edge.backends import BACKENDS, StepsRows

ALIKE = 2e-6  # of outputs near 1: other orders of sums, in closed loop


@pytest.fixture(params=[entry.name for entry in BACKENDS])
def backend(request):
    make_ready(request.param, request)
    return request.param


def load(bundle, backend):
    return lnn_edge.load(bundle, backend=backend)


def samples(count, steps=1, seed=0):
    return np.random.default_rng(seed).standard_normal((steps, count, 3)).astype(np.float32)


def spans(model, seed=0, count=None):
    if model.time.mode == "fixed":
        return {}
    low, high = model.time.dt_range_s
    return {"dt_s": np.random.default_rng(seed).uniform(low, min(high, 0.3), count)}


def same(one, other):
    return np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize("bundle", ["cfc_bundle", "ltc_bundle"])
def test_each_row_goes_as_a_stream_of_its_own(bundle, backend, request):
    model = load(request.getfixturevalue(bundle), backend)
    xs, count = samples(11, 30), 11
    streams, state, ended = [model.stream() for _ in range(count)], model.initial_state(rows=count), []
    for k, x in enumerate(xs):
        times = spans(model, k, count)
        y, state, ok = model.step_many(x, state, **times)
        alone = [s.step(x[r], **{name: float(t[r]) for name, t in times.items()}) for r, s in enumerate(streams)]
        np.testing.assert_allclose(y, alone, rtol=0, atol=ALIKE)
        assert ok.all()
        ended.append(y)
    assert y.shape == (count, 2)
    assert not same(ended[0], ended[-1])
    after = [s.snapshot() for s in streams]
    for name, value in state.tensors.items():
        np.testing.assert_allclose(value, np.concatenate([s.tensors[name] for s in after]), rtol=0, atol=ALIKE)


@pytest.mark.parametrize("bundle", ["cfc_bundle", "ltc_bundle"])
def test_a_bad_row_keeps_its_state_and_the_others_go_on(bundle, backend, request):
    model = load(request.getfixturevalue(bundle), backend)
    _, state, _ = model.step_many(samples(9)[0], model.initial_state(rows=9), **spans(model))
    x = samples(9, seed=1)[0].astype(np.float64)
    good, good_state, _ = model.step_many(x, state, **spans(model))
    x[1, 2], x[3, 0], x[4, 1], bad = np.nan, -np.inf, 1e39, [1, 3, 4]
    if any(f.limits for f in model.inputs[0].features):
        x[7, 2], bad = 8.5, [*bad, 7]
    y, after, ok = model.step_many(x, state, **spans(model))
    assert np.flatnonzero(~ok).tolist() == bad
    assert np.isnan(y[bad]).all()
    for name, value in after.tensors.items():
        assert same(value[bad], state.tensors[name][bad])
        assert same(value[ok], good_state.tensors[name][ok])
    assert same(y[ok], good[ok])


def test_a_row_whose_time_is_illegal_is_a_bad_one(ltc_bundle, backend):
    model = load(ltc_bundle, backend)
    state = model.initial_state(rows=5)
    y, after, ok = model.step_many(samples(5)[0], state, dt_s=[0.1, 1e6, 0.1, np.nan, -0.1])
    assert ok.tolist() == [True, False, True, False, False]
    assert np.isnan(y).all(axis=1).tolist() == [False, True, False, True, True]
    assert same(after.tensors["h_in"][1], state.tensors["h_in"][1])


@given(rows=st.lists(st.integers(0, 39), min_size=1, max_size=70), seed=st.integers(0, 5))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("bundle", ["cfc_bundle", "ltc_bundle"])
def test_a_row_gets_the_same_bits_whatever_lies_beside_it(bundle, compiler, request, rows, seed):
    model = load(request.getfixturevalue(bundle), "native")
    assert isinstance(model._backend, StepsRows)
    assert model._backend.rows() is not None
    x, times = (samples(40, seed=seed)[0] * 10).clip(-7.9, 7.9), spans(model, seed, 40)
    _, state, _ = model.step_many(x, model.initial_state(rows=40), **times)
    y, after, _ = model.step_many(x, state, **times)
    own = lnn_edge.State({name: value[rows] for name, value in state.tensors.items()}, None, {}, state.build)
    part, then, ok = model.step_many(x[rows], own, **{name: t[rows] for name, t in times.items()})
    assert ok.all()
    assert same(part, y[rows])
    assert same(then.tensors["h_in"], after.tensors["h_in"][rows])


@pytest.mark.workstation
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ltc-mixed", {}),
        ("ltc-own-wiring", {"precision": "float16"}),
        ("cfc-mixed-autoncp", {"time": "measured", "period_s": 0.1}),
        ("cfc-pure-autoncp", {}),
        ("cfc-gelu", {}),
    ],
)
def test_cells_of_all_kinds_side_by_side(name, options, tmp_path, compiler):
    quick_export(BY_NAME[name].build(), tmp_path / "m.lnn", **options)
    model = load(tmp_path / "m.lnn", "native")
    assert model._backend.rows() is not None
    xs = np.random.default_rng(0).standard_normal((40, 5, model.inputs[0].shape[-1])).astype(np.float32)
    times = {} if model.time.mode == "fixed" else {"dt_s": 0.12}
    state, streams = model.initial_state(rows=5), [model.stream() for _ in range(5)]
    for x in xs:
        y, state, ok = model.step_many(x, state, **times)
        assert ok.all()
        np.testing.assert_allclose(y, [s.step(x[r], **times) for r, s in enumerate(streams)], rtol=0, atol=5 * ALIKE)


@pytest.mark.workstation
def test_what_cannot_go_side_by_side_goes_one_by_one(tmp_path, compiler):
    """A batch and blocks: each row is what a call of the stream takes."""
    quick_export(BY_NAME["cfc-autoncp"].build(), tmp_path / "m.lnn", batch=2, unroll=3)
    model = load(tmp_path / "m.lnn", "native")
    assert model._backend.rows() is None
    x = np.random.default_rng(0).standard_normal((4, 2, 3, model.inputs[0].shape[-1])).astype(np.float32)
    y, state, ok = model.step_many(x, model.initial_state(rows=4))
    assert ok.all()
    for r in range(4):
        stream = model.stream()
        assert same(y[r], stream.step(x[r]))
        assert same(state.tensors["h_in"][r], stream.snapshot().tensors["h_in"])


@pytest.mark.parametrize("count", [0, 1, 64])
def test_any_number_of_rows(cfc_bundle, backend, count):
    y, state, ok = (model := load(cfc_bundle, backend)).step_many(samples(count)[0], model.initial_state(rows=count))
    assert (y.shape, y.dtype, ok.shape, ok.dtype) == ((count, 2), np.float32, (count,), np.bool_)
    assert state.tensors["h_in"].shape[0] == count


def test_columns_by_name(cfc_bundle, backend):
    model = load(cfc_bundle, backend)
    frame = pd.DataFrame(samples(4)[0], columns=["acc_x", "acc_y", "gyro_z"])
    state = model.initial_state(rows=4)
    expected = model.step_many(frame.to_numpy(), state)[0]
    assert same(model.step_many(frame[["gyro_z", "acc_x", "acc_y"]], state)[0], expected)


def test_the_state_that_was_passed_stays_as_it_was(cfc_bundle, backend):
    model = load(cfc_bundle, backend)
    state = model.initial_state(rows=3)
    before = state.tensors["h_in"].copy()
    one, two = (model.step_many(samples(3)[0], state) for _ in range(2))
    assert same(one[0], two[0])
    assert same(state.tensors["h_in"], before)
    with pytest.raises(ValueError, match="read-only"):
        one[1].tensors["h_in"][0] = 1


@pytest.mark.parametrize(
    ("x", "rows", "more", "message"),
    [
        (np.zeros((4, 2)), 4, {}, r"`input` has shape \(4, 2\), expected \(rows, 3\): a sample for each row"),
        (np.zeros(3), 1, {}, r"has shape \(3,\), expected \(rows, 3\)"),
        (np.zeros((4, 3)), 3, {}, r"state 'h_in' has shape .* for 4 rows. Begin with model.initial_state\(rows=4\)"),
        (np.zeros((4, 3)), 4, {"dt_s": 0.1}, "takes no `dt_s`"),
        (np.zeros((4, 3), complex), 4, {}, "dtype complex128, expected real numbers"),
    ],
)
def test_what_is_wrong_for_all_rows(cfc_bundle, backend, x, rows, more, message):
    model = load(cfc_bundle, backend)
    with pytest.raises((ValueError, TypeError), match=message):
        model.step_many(x, model.initial_state(rows=rows), **more)


def test_times_that_are_wrong_for_all_rows(ltc_bundle, backend):
    model = load(ltc_bundle, backend)
    state = model.initial_state(rows=2)
    with pytest.raises(ValueError, match="pass either `dt_s`"):
        model.step_many(np.zeros((2, 3)), state)
    with pytest.raises(ValueError, match=r"`dt_s` has shape \(3,\), expected one number or shape \(2,\)"):
        model.step_many(np.zeros((2, 3)), state, dt_s=[0.1] * 3)
    with pytest.raises(TypeError, match="expected a State of `initial_state"):
        model.step_many(np.zeros((2, 3)), {"h_in": np.zeros((2, 8))}, dt_s=0.1)
    for rows in (-1, 1.5, True):
        with pytest.raises(ValueError, match="expected how many streams there are"):
            model.initial_state(rows=rows)
