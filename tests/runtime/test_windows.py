"""Windows, readouts and labels on the device: what a stream gives is what the trained module gives on each window."""

from __future__ import annotations

import pickle

import msgspec
import numpy as np
import pytest
import torch
from bundles import copied, resign
from cases import BY_NAME, INPUTS
from exports import quick_export
from hypothesis import given, settings
from hypothesis import strategies as st

import lnn_edge
from lnn_edge.bundle.spec import Readout, Window
from lnn_edge.errors import BundleError, NonFiniteError
from lnn_edge.runtime.modes.plain import Plain

PERIOD_S = 0.05
STEPS = 40
LIMIT = 1e-5  # the promise of the proof, absolute; outputs of these models are of order 1
X = np.random.default_rng(3).standard_normal((STEPS, INPUTS)).astype(np.float32)
DT_S = np.random.default_rng(4).uniform(0.02, 0.2, STEPS).astype(np.float32)
LENGTHS = [(10, 5), (10, 3), (10, 10), (10, 1), (7, 2), (1, 1), (40, 7)]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    root = tmp_path_factory.mktemp("windows")
    for name, case, options in (
        ("fixed", "cfc-units", {}),
        ("measured", "ltc-autoncp", {"time": "measured", "period_s": PERIOD_S}),
        ("batch", "cfc-units", {"batch": 2}),
        ("blocks", "cfc-units", {"unroll": 2}),
        ("timed-blocks", "ltc-autoncp", {"time": "measured", "period_s": PERIOD_S, "unroll": 2}),
    ):
        quick_export(BY_NAME[case].build(), root / f"{name}.lnn", **options)
    return root


@pytest.fixture(scope="session")
def models(bundles):
    return {path.stem: lnn_edge.load(path, self_test=False) for path in bundles.iterdir()}


def as_author(case, x, dt_s=None):
    """The last output of the module called on one window, as training calls it."""
    module = BY_NAME[case].build().eval()
    spans = None if dt_s is None else torch.from_numpy(dt_s / PERIOD_S)[None]
    with torch.no_grad():
        return module(torch.from_numpy(x)[None], timespans=spans)[0][0, -1].numpy()


def ends(length, every, steps=STEPS):
    return [end for end in range(length, steps + 1) if (end - length) % every == 0]


def stepped(stream, x=X, **times):
    """What each step returned, and whether it was fresh."""
    results = []
    for k, sample in enumerate(x):
        result = stream.step(sample, **{name: value[k] for name, value in times.items()}).copy()
        results.append((result, stream.fresh))
    return [np.stack(column) for column in zip(*results, strict=True)]


@pytest.mark.parametrize(("length", "every"), LENGTHS)
@pytest.mark.parametrize("name", ["fixed", "measured"])
def test_each_window_is_what_the_author_computes(name, length, every, models):
    dt_s = DT_S if name == "measured" else None
    case = "ltc-autoncp" if dt_s is not None else "cfc-units"
    stream = models[name].stream(window=length, every=every)
    results, fresh = stepped(stream, **({} if dt_s is None else {"dt_s": dt_s.astype(float)}))
    assert np.flatnonzero(fresh).tolist() == [end - 1 for end in ends(length, every)]
    assert np.isnan(results[: length - 1]).all()
    for end in ends(length, every):
        part = slice(end - length, end)
        expected = as_author(case, X[part], None if dt_s is None else dt_s[part])
        for k in range(end - 1, min(end - 1 + every, STEPS)):  # and nothing changes before the next one
            np.testing.assert_allclose(results[k], expected, rtol=0, atol=LIMIT)
    assert stream.steps == STEPS


@pytest.mark.parametrize("name", ["blocks", "timed-blocks"])
def test_windows_of_blocks(name, models):
    """A window is a whole number of blocks, and a block has one result."""
    dt_s, case = (DT_S, "ltc-autoncp") if name == "timed-blocks" else (None, "cfc-units")
    results = models[name].stream(window=10, every=4).run(X, dt_s=dt_s)
    assert results.shape == (STEPS // 2, models[name].outputs[0].shape[1])
    for end in ends(10, 4):
        part = slice(end - 10, end)
        expected = as_author(case, X[part], None if dt_s is None else dt_s[part])
        np.testing.assert_allclose(results[end // 2 - 1], expected, rtol=0, atol=LIMIT)
    with pytest.raises(ValueError, match="takes blocks of 2 samples: expected multiples of that"):
        models[name].stream(window=9)


def test_windows_of_a_batch(models):
    x = np.stack([X, X[::-1]], axis=1)
    results = models["batch"].stream(window=10, every=3).run(x)
    for row in range(2):
        expected = as_author("cfc-units", np.ascontiguousarray(x[30:40, row]))
        np.testing.assert_allclose(results[-1, row], expected, rtol=0, atol=LIMIT)


def test_times_in_seconds_are_those_between_samples(models):
    """Also for the first sample of a window, which a recording cut in windows keeps; the first of all is a period."""
    times = np.cumsum(DT_S, dtype=float)
    by_time = models["measured"].stream(window=8, every=3).run(X, t_s=times)
    dt_s = np.diff(times, prepend=times[0] - PERIOD_S)
    np.testing.assert_allclose(by_time, models["measured"].stream(window=8, every=3).run(X, dt_s=dt_s), atol=1e-7)


@pytest.mark.parametrize(("length", "every"), [(10, 5), (12, 1), (6, 6)])
def test_side_by_side_or_when_they_end_is_the_same(length, every, models, monkeypatch):
    abreast = models["fixed"].stream(window=length, every=every).run(X)
    monkeypatch.setattr("lnn_edge.runtime.modes.windows._MOST_ROWS", 0)
    np.testing.assert_array_equal(models["fixed"].stream(window=length, every=every).run(X), abreast)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    length=st.integers(1, 12),
    every=st.integers(1, 12),
    at=st.integers(0, STEPS),
    name=st.sampled_from(["fixed", "measured"]),
)
def test_a_snapshot_holds_the_samples(length, every, at, name, models):
    every = min(length, every)
    times = {} if name == "fixed" else {"t_s": np.cumsum(DT_S, dtype=float)}
    whole = models[name].stream(window=length, every=every).run(X, **times)
    first, second = (models[name].stream(window=length, every=every) for _ in range(2))
    before = first.run(X[:at], **{n: t[:at] for n, t in times.items()})
    second.run(X[::-1], **times)  # what it holds is forgotten
    second.restore(pickle.loads(pickle.dumps(first.snapshot())))
    behind = second.run(X[at:], **{n: t[at:] for n, t in times.items()})
    np.testing.assert_array_equal(np.concatenate([before, behind]), whole)


def test_reset_begins_anew(models):
    stream = models["fixed"].stream(window=10, every=5)
    stream.run(X[:17])
    stream.reset()
    assert not stream.fresh
    np.testing.assert_array_equal(stream.run(X), models["fixed"].stream(window=10, every=5).run(X))


def test_a_plain_state_begins_anew(models):
    stream = models["fixed"].stream(window=10, every=5)
    stream.run(X[:17])
    stream.restore(models["fixed"].initial_state())
    np.testing.assert_array_equal(stream.run(X), models["fixed"].stream(window=10, every=5).run(X))


@pytest.mark.parametrize(("length", "every"), [(10, 5), (10, 3)])
def test_a_refused_sample_changes_nothing(length, every, models):
    stream = models["fixed"].stream(window=length, every=every)
    results = []
    for k, sample in enumerate(X):
        if k % 4 == 0:
            with pytest.raises(NonFiniteError):
                stream.step(np.full(INPUTS, np.nan, np.float32))
            with pytest.raises(ValueError, match="shape"):
                stream.step(np.zeros(INPUTS + 1, np.float32))
        results.append(stream.step(sample))
    assert stream.steps == STEPS
    np.testing.assert_array_equal(np.stack(results), models["fixed"].stream(window=length, every=every).run(X))


@pytest.mark.parametrize(("length", "every"), [(10, 5), (10, 3)])
def test_a_step_that_fails_changes_nothing(length, every, models, monkeypatch):
    """Even where some windows have advanced by then."""
    stream, at = models["fixed"].stream(window=length, every=every), ends(length, every)[2] - 1
    first = stream.run(X[:at])
    plain, calls = Plain.advance, []

    def failing(self, now, x, *times):
        calls.append(self)
        if len(calls) == 2:
            raise RuntimeError("the device is gone")
        return plain(self, now, x, *times)

    with monkeypatch.context() as patch:
        patch.setattr(Plain, "advance", failing)
        with pytest.raises(RuntimeError, match="the device is gone"):
            stream.step(X[at])
    results = np.concatenate([first, stream.run(X[at:])])
    np.testing.assert_array_equal(results, models["fixed"].stream(window=length, every=every).run(X))


def test_what_a_stream_of_windows_refuses(models):
    model = models["fixed"]
    for options, error, message in (
        ({"window": 0}, ValueError, "`window` is 0, expected 1 to 65536 samples"),
        ({"window": -3}, ValueError, "`window` is -3"),
        ({"window": 1 << 17}, ValueError, "`window` is 131072, expected 1 to 65536"),
        ({"window": 10, "every": 0}, ValueError, "`every` is 0, expected 1 to 10 samples, the length of a window"),
        ({"window": 10, "every": 11}, ValueError, "`every` is 11, expected 1 to 10"),
        ({"every": 5}, ValueError, "`every` is 5, but it has a meaning only with `window`"),
        ({"window": 2.5}, TypeError, "`window` is 2.5, expected a whole number of samples"),
        ({"window": True}, TypeError, "`window` is True"),
        ({"window": 10, "every": "5"}, TypeError, "`every` is '5'"),
    ):
        with pytest.raises(error, match=message):
            model.stream(**options)
    stream = model.stream(window=10)
    with pytest.raises(ValueError, match="single rows cannot begin anew"):
        stream.reset(rows=[0])
    other = models["fixed"].stream(window=12)
    other.run(X[:11])
    with pytest.raises(ValueError, match="the state comes from another stream: it holds 11 samples of 11, expected"):
        stream.restore(other.snapshot())


def test_a_state_of_another_kind_of_stream_is_refused(models, bundles, tmp_path):
    plain, windowed = models["fixed"].stream(), models["fixed"].stream(window=5)
    running = read_as(bundles, tmp_path, readout=Readout("mean", 3)).stream()
    kept = {}
    for name, stream in (("windows", windowed), ("running", running)):
        stream.run(X[:7])
        kept[name] = stream.snapshot()
    for stream, name in ((plain, "windows"), (plain, "running"), (running, "windows"), (windowed, "running")):
        before = stream.snapshot()
        with pytest.raises(
            ValueError, match=r"the state comes from .* Restore it into a stream that is made in the same"
        ):
            stream.restore(kept[name])
        after = stream.snapshot()
        for key, value in (*before.tensors.items(), *before.kept.items()):
            np.testing.assert_array_equal({**after.tensors, **after.kept}[key], value)
    with pytest.raises(ValueError, match="the state comes from a stream of windows"):
        models["fixed"].step(X[0], kept["windows"])
    forged = {**kept["windows"].kept, "newest.output": np.zeros(3, np.float32)}
    with pytest.raises(ValueError, match="newest result 'output' is none of this model"):
        windowed.restore(msgspec.structs.replace(kept["windows"], kept=forged))


def test_a_refused_run_leaves_the_result_fresh(models):
    stream = models["fixed"].stream(window=5)
    stream.run(X[:5])
    assert stream.fresh
    with pytest.raises(NonFiniteError):
        stream.run(np.full((2, INPUTS), np.nan, np.float32))
    assert stream.fresh


# ---- readouts and labels --------------------------------------------------------------------------------------------


def read_as(bundles, tmp_path, name="fixed", **manifest):
    return lnn_edge.load(resign(copied(bundles / f"{name}.lnn", tmp_path / "m.lnn"), **manifest), self_test=False)


@pytest.mark.parametrize("over", [None, 1, 4, 100])
@pytest.mark.parametrize("kind", ["mean", "vote"])
def test_readout_of_a_sequence_so_far(kind, over, bundles, tmp_path, models):
    model = read_as(bundles, tmp_path, readout=Readout(kind, over))
    outputs = models["fixed"].stream().run(X).astype(np.float64)
    terms = outputs if kind == "mean" else np.eye(outputs.shape[1])[outputs.argmax(axis=1)]
    expected = [terms[max(0, k - (over or k)) : k].mean(axis=0) for k in range(1, STEPS + 1)]
    stream = model.stream()
    results, fresh = stepped(stream)
    np.testing.assert_allclose(results, expected, atol=1e-6)
    assert fresh.all()
    np.testing.assert_array_equal(model.stream(readout=False).run(X), outputs.astype(np.float32))
    again = model.stream()
    again.run(X[:15])
    other = model.stream()
    other.restore(again.snapshot())
    np.testing.assert_array_equal(other.run(X[15:]), results[15:])


@pytest.mark.parametrize(("length", "every"), [(10, 5), (10, 3)])
def test_readout_of_a_window(length, every, bundles, tmp_path, models):
    stream = read_as(bundles, tmp_path, readout=Readout("mean", 4)).stream(window=length, every=every)
    results, _ = stepped(stream)
    for end in ends(length, every):
        outputs = models["fixed"].stream().run(X[end - length : end])
        np.testing.assert_allclose(results[end - 1], outputs[-4:].mean(axis=0, dtype=float), atol=1e-6)


def test_labels(bundles, tmp_path, models):
    names = tuple(f"class {k}" for k in range(8))
    model = read_as(bundles, tmp_path, labels=names)
    stream, windowed = model.stream(), model.stream(window=10)
    assert stream.label is None
    for k, sample in enumerate(X):
        y = stream.step(sample)
        assert stream.label == names[int(y.argmax())]
        windowed.step(sample)
        assert (windowed.label is None) == (k < 9)
    stream.reset()
    assert stream.label is None
    with pytest.raises(ValueError, match=r"this model has no labels. Name its classes when it is exported"):
        _ = models["fixed"].stream().label


def test_labels_of_a_batch(bundles, tmp_path):
    names = tuple(f"class {k}" for k in range(8))
    stream = read_as(bundles, tmp_path, "batch", labels=names).stream()
    y = stream.step(np.stack([X[0], -X[0]]))
    assert stream.label == tuple(names[k] for k in y.argmax(axis=1))


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"window": Window(0, 1)}, "`window` has length 0 every 1, expected 1 <= every <= length"),
        ({"window": Window(5, 6)}, "`window` has length 5 every 6"),
        ({"window": Window(1 << 20, 1)}, "`window` has length 1048576"),
        ({"readout": Readout("mean", 0)}, "`readout.over` is 0, expected 1 to 65536"),
        ({"labels": ("a", "b")}, r"2 `labels` for outputs \[\[1, 8\]\], expected one output with as many columns"),
        ({"labels": ("a",) * 8}, "`labels` are not unique"),
    ],
)
def test_forged_manifest_is_refused(manifest, message, bundles, tmp_path):
    with pytest.raises(BundleError, match=message):
        read_as(bundles, tmp_path, **manifest)


def test_window_of_the_manifest_says_how_often(bundles, tmp_path):
    model = read_as(bundles, tmp_path, window=Window(10, 3))
    np.testing.assert_array_equal(model.stream(window=10).run(X), model.stream(window=10, every=3).run(X))
    np.testing.assert_array_equal(model.stream(window=8).run(X), model.stream(window=8, every=8).run(X))


# ---- rows of a batch ------------------------------------------------------------------------------------------------


def test_reset_of_single_rows(models):
    x = np.stack([X, X[::-1]], axis=1)
    stream = models["batch"].stream()
    stream.run(x[:10])
    stream.reset(rows=[1])
    results = stream.run(x[10:])
    np.testing.assert_array_equal(results[:, 0], models["batch"].stream().run(x)[10:, 0])
    fresh = models["batch"].stream().run(x[10:])
    np.testing.assert_array_equal(results[:, 1], fresh[:, 1])


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([2], ValueError, "holds 2, but the model has the rows 0 to 1"),
        ([-1], ValueError, "holds -1"),
        (1, TypeError, "`rows` is 1, expected a list"),
        ([0.5], TypeError, "`rows` holds 0.5"),
        ("0", TypeError, "`rows` is '0'"),
        ([True], TypeError, "`rows` holds True"),
    ],
)
def test_rows_that_are_not_there(rows, error, message, models):
    stream = models["batch"].stream()
    stream.run(np.stack([X, X], axis=1)[:5])
    with pytest.raises(error, match=message):
        stream.reset(rows=rows)
    np.testing.assert_array_equal(
        stream.run(np.stack([X, X], axis=1)[5:]), models["batch"].stream().run(np.stack([X, X], axis=1))[5:]
    )
