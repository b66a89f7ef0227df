"""Many streams in one call: each row as a stream of its own would go, whatever lies beside it."""

from __future__ import annotations

import pickle
import signal
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
from called_bundles import Bundles
from checks import make_ready
from exports import proven
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lnn_edge
from lnn_edge.backend_protocols import StepsRows
from lnn_edge.backends import BACKENDS
from lnn_edge.errors import ModelWarning

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


def test_a_row_of_large_numbers_goes_as_a_stream_of_its_own(ltc_bundle, compiler):
    """What is beyond every synapse is limited, in rows by another limit than in a stream."""
    model = load(ltc_bundle, "native")
    x = samples(11)[0] * np.float32(1e4)
    y, _, ok = model.step_many(x, model.initial_state(rows=11), dt_s=0.1)
    assert ok.all()
    np.testing.assert_allclose(y, [model.stream().step(own, dt_s=0.1) for own in x], rtol=0, atol=ALIKE)


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


@pytest.mark.parametrize("count", [0, 1, 7, 40])
@pytest.mark.parametrize("bundle", ["cfc_bundle", "ltc_bundle"])
def test_without_the_extension_the_bits_are_the_same(bundle, compiler, request, count):
    """C is called through ctypes then."""
    model = load(request.getfixturevalue(bundle), "native")
    xs, state, times = samples(count, 3), model.initial_state(rows=count), spans(model, 0, count)
    if count > 2:
        xs[1, 2, 0] = np.nan
        times = {name: np.where(np.arange(count) == 1, -1.0, t) for name, t in times.items()}
    rows, found = model._backend.rows(), []
    for call in (rows._in_c, None):
        rows._in_c, own, results = call, state, []
        for x in xs:
            y, own, ok = model.step_many(x, own, **times)
            results += [y, own.tensors["h_in"], ok]
        found.append(results)
    assert all(map(same, *found))
    assert [array.shape for array in found[0]] == [array.shape for array in found[1]]
    assert [array.dtype for array in found[0]] == [array.dtype for array in found[1]]


def test_threads_beside_each_other_get_the_bits_that_each_gets_alone(cfc_bundle, compiler):
    model = load(cfc_bundle, "native")
    starts = [(samples(count, 1, count)[0], model.initial_state(rows=count)) for count in (1, 30, 300)]

    def stepped(x, state):
        results = []
        for _ in range(50):
            y, state, ok = model.step_many(x, state)
            results += [y, state.tensors["h_in"], ok]
        return results

    alone, found = [stepped(*own) for own in starts], {}
    threads = [threading.Thread(target=lambda k=k: found.update({k: stepped(*starts[k % 3])})) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(6):
        assert all(map(same, found[k], alone[k % 3]))


KINDS = ["measured", "half-ltc", "mixed", "pure", "gelu"]


@pytest.fixture
def rows_of_all_kinds(tmp_path_factory, monkeypatch):
    """Give a model on `native` its part of one library for all cells, and for one feature: to compile each takes long.

    What the backend compiles for a bundle of its own is in most tests here.
    """

    def give(model, name, most=None):
        from generated import rows_in_one

        if most is not None:
            monkeypatch.setattr("lnn_edge.codegen.rows._LARGE", most)

        paths = {kind: Bundles(tmp_path_factory)[kind] for kind in KINDS}
        paths["one"] = proven(tmp_path_factory, one_feature, short=True)
        library, prefixes = rows_in_one("rows" if most is None else f"rows-above-{most}", paths)
        monkeypatch.setattr(model._backend._made, "rows", lambda: library)
        monkeypatch.setattr("lnn_edge.runtime.backends.native.backend._PREFIX", prefixes[name])
        assert model._backend.rows() is not None

    return give


@pytest.mark.workstation
@pytest.mark.parametrize(("rows", "large"), [(5, None), (21, 0)], ids=["a tile", "two tiles of each"])
@pytest.mark.parametrize("name", KINDS)
def test_cells_of_all_kinds_side_by_side(name, rows, large, tmp_path_factory, compiler, rows_of_all_kinds):
    """As large networks are, all are computed two tiles at a time as well, of which the last ones are not full."""
    model = load(Bundles(tmp_path_factory)[name], "native")
    rows_of_all_kinds(model, name, large)
    xs = np.random.default_rng(0).standard_normal((40, rows, model.inputs[0].shape[-1])).astype(np.float32)
    times = {} if model.time.mode == "fixed" else {"dt_s": 0.12}
    state, streams = model.initial_state(rows=rows), [model.stream() for _ in range(rows)]
    for x in xs:
        y, state, ok = model.step_many(x, state, **times)
        assert ok.all()
        np.testing.assert_allclose(y, [s.step(x[r], **times) for r, s in enumerate(streams)], rtol=0, atol=5 * ALIKE)


@pytest.mark.workstation
def test_what_cannot_go_side_by_side_goes_one_by_one(tmp_path_factory, compiler):
    """A batch and blocks: each row is what a call of the stream takes."""
    model = load(Bundles(tmp_path_factory)["batch-blocks"], "native")
    assert model._backend.rows() is None
    x = np.random.default_rng(0).standard_normal((4, 3, 2, model.inputs[0].shape[-1])).astype(np.float32)
    y, state, ok = model.step_many(x, model.initial_state(rows=4), dt_s=0.1)
    assert ok.all()
    for r in range(4):
        stream = model.stream()
        assert same(y[r], stream.step(x[r], dt_s=0.1))
        for name, value in stream.snapshot().tensors.items():
            assert same(state.tensors[name][r], value)


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


def test_states_of_other_calls(cfc_bundle, backend):
    """Of a single stream, of many, and of windows: what does not fit says where it belongs."""
    model, x = load(cfc_bundle, backend), samples(4)[0]
    with pytest.raises(ValueError, match=r"expected \(4, 10\) for 4 rows. Begin with model.initial_state\(rows=4\)"):
        model.step_many(x, model.initial_state())
    many = model.initial_state(rows=4)
    for call in (model.stream().restore, lambda state: model.step(x[0], state)):
        with pytest.raises(ValueError, match=r"takes \(1, 10\). It is a state of many rows, which model.step_many"):
            call(many)
    windows = model.stream(window=4, every=2)
    windows.step(x[0])
    with pytest.raises(ValueError, match=r"comes from a stream of windows .*Begin with model.initial_state"):
        model.step_many(x[:1], windows.snapshot())
    one, _, _ = model.step_many(x, pickle.loads(pickle.dumps(many)))
    assert same(one, model.step_many(x, many)[0])


def test_infinities_in_the_states_of_rows(ltc_bundle, backend):
    model = load(ltc_bundle, backend)
    _, state, _ = model.step_many(samples(7)[0], model.initial_state(rows=7), 0.1)
    good, after, _ = model.step_many(samples(7)[0], state, 0.1)
    spoilt = state.tensors["h_in"].copy()
    spoilt[2, 1], spoilt[5, 0] = np.inf, np.nan
    y, then, ok = model.step_many(samples(7)[0], lnn_edge.State({"h_in": spoilt}), 0.1)
    assert np.flatnonzero(~ok).tolist() == [2, 5]
    assert np.isnan(y[~ok]).all()
    assert same(y[ok], good[ok])
    assert same(then.tensors["h_in"][~ok], spoilt[~ok])
    assert same(then.tensors["h_in"][ok], after.tensors["h_in"][ok])


@pytest.mark.parametrize(
    "form",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: x.astype(np.float64),
        lambda x: x.astype(">f4"),
        lambda x: x.tolist(),
        lambda x: {"input": x},
    ],
)
def test_samples_of_any_layout(cfc_bundle, backend, form):
    model, x = load(cfc_bundle, backend), samples(6)[0]
    state = model.initial_state(rows=6)
    assert same(model.step_many(form(x), state)[0], model.step_many(x, state)[0])


@pytest.mark.workstation
def test_constants_of_each_row(tmp_path_factory, backend):
    from networks import Reaching

    rng = np.random.default_rng(0)
    x, goals = (rng.standard_normal((4, 30, width)).astype(np.float32) for width in (3, 2))
    example = {"x": x, "goal": goals[:, 0]}
    model = load(proven(tmp_path_factory, Reaching, short=True, example=example), backend)
    begin = model.initial_state(rows=4, constants={"goal": goals[0, 0]})
    own = {"constant.goal": goals[:, 0].copy()}
    y, state, ok = model.step_many(x[:, 0], lnn_edge.State(begin.tensors, None, own, begin.build))
    again, _, _ = model.step_many({"x": x[:, 1]}, state)
    for r, goal in enumerate(goals[:, 0]):
        stream = model.stream(constants={"goal": goal})
        np.testing.assert_allclose([y[r], again[r]], [stream.step(x[r, 0]), stream.step(x[r, 1])], rtol=0, atol=ALIKE)
    assert ok.all()
    for kept in ({}, {"constant.goal": goals[:3, 0]}, {"constant.goal": goals[:, 0, :1].copy()}):
        with pytest.raises(ValueError, match="no constant 'goal' for 4 rows"):
            model.step_many(x[:, 0], lnn_edge.State(begin.tensors, None, kept))
    spoilt = {"constant.goal": np.array([[0.1, None]] * 4, object)}
    with pytest.raises(TypeError, match="the state's constant 'goal' has dtype object, expected real numbers"):
        model.step_many(x[:, 1], lnn_edge.State(begin.tensors, None, spoilt))
    with pytest.raises(ValueError, match="`goal` is constant: it is given when a sequence begins"):
        model.step_many({"x": x[:, 0], "goal": goals[:, 0]}, state)


@pytest.mark.workstation
def test_the_axis_of_one_feature_may_be_left_out(tmp_path_factory, backend, rows_of_all_kinds):
    model = load(proven(tmp_path_factory, one_feature, short=True), backend)
    if backend == "native":
        rows_of_all_kinds(model, "one")
    x, state = samples(3)[0, :, 0], model.initial_state(rows=3)
    assert same(model.step_many(x, state)[0], model.step_many(x[:, None], state)[0])


def one_feature():
    from ncps.torch import CfC

    return CfC(1, 4)


class TestCompiling:
    """At the first call of `step_many`."""

    @pytest.fixture
    def model(self, cfc_bundle, compiler, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return lnn_edge.load(cfc_bundle, backend="native", options={"tune": "off"})

    def test_without_a_compiler_any_more(self, model, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        x, state = samples(3)[0], model.initial_state(rows=3)
        with pytest.warns(ModelWarning, match="one by one, which is slow: the C compiler 'cc' is there no more") as got:
            y, _, ok = model.step_many(x, state)
        assert got[0].filename == __file__
        assert ok.all()
        assert same(y, [model.stream().step(one) for one in x])
        monkeypatch.undo()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert same(model.step_many(x, state)[0], y)  # nothing changes on the way

    def test_where_registers_hold_one_number(self, cfc_bundle, compiler, monkeypatch):
        monkeypatch.setattr("lnn_edge.runtime.backends.native.backend.vector_lanes", lambda: 1)
        own, x = lnn_edge.load(cfc_bundle, backend="native"), samples(3)[0]
        y, _, ok = own.step_many(x, own.initial_state(rows=3))
        assert own._backend.rows() is None
        assert ok.all()
        assert same(y, [own.stream().step(one) for one in x])

    def test_a_spoilt_copy_is_made_again(self, model, cfc_bundle, tmp_path):
        x, state = samples(3)[0], model.initial_state(rows=3)
        before, (y, _, _) = set((tmp_path / "cache").rglob("*.so")), model.step_many(x, state)
        (own,) = set((tmp_path / "cache").rglob("*.so")) - before
        own.write_bytes(own.read_bytes()[:-1] + b"x")
        again = lnn_edge.load(cfc_bundle, backend="native", options={"tune": "off"})
        assert same(again.step_many(x, state)[0], y)

    def test_several_threads_at_once(self, model, monkeypatch):
        made, whole = [], model._backend._made.rows
        monkeypatch.setattr(model._backend._made, "rows", lambda: made.append(1) or whole())
        state, results, start = model.initial_state(rows=5), [], threading.Barrier(4)

        def work():
            start.wait()
            results.append(model.step_many(samples(5)[0], state)[0])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1
        assert all(same(y, results[0]) for y in results)

    def test_a_handler_that_interrupts_it(self, model, monkeypatch):
        """Waits for nobody: its own rows go one by one."""
        x, state, found, whole = samples(3)[0], model.initial_state(rows=3), [], model._backend._made.rows

        def rows():
            signal.raise_signal(signal.SIGALRM)
            return whole()

        monkeypatch.setattr(model._backend._made, "rows", rows)
        former = signal.signal(signal.SIGALRM, lambda *_: found.append(model.step_many(x, state)[0]))
        try:
            y, _, _ = model.step_many(x, state)
        finally:
            signal.signal(signal.SIGALRM, former)
        np.testing.assert_allclose(found[0], y, rtol=0, atol=ALIKE)
        assert model._backend.rows() is not None


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
