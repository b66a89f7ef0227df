"""Values outside the range of the example that a bundle was exported with: counted by every stream, refused by none."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest
from bundles import small_cfc
from exports import quick_export
from interruptions import bytecodes, interrupt

import lnn_edge
from lnn_edge import Feature
from lnn_edge.errors import NonFiniteError

XS = np.random.default_rng(0).uniform(-1, 1, (200, 3)).astype(np.float32)
FAR = np.array([1e9, 0.0, 0.0], np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Without limits, on columns a, b and c."""
    place = tmp_path_factory.mktemp("outside") / "m.lnn"
    quick_export(small_cfc(), place, example=XS, inputs=["a", "b", "c"])
    return place


def counts(stream):
    return {name: own.number for name, own in stream.outside.items()}


def test_a_value_far_outside_gets_an_answer_and_is_counted(path):
    stream = lnn_edge.load(path).stream()
    assert stream.outside == {}
    assert np.isfinite(stream.step(FAR)).all()
    stream.run(XS)  # all of it was seen
    stream.step([0.0, -7.0, 1.5])
    assert counts(stream) == {"a": 1, "b": 1, "c": 1}
    stream.reset()
    assert counts(stream) == {"a": 1, "b": 1, "c": 1}  # since the stream was made


def test_the_farthest_value_is_told(path):
    stream = lnn_edge.load(path).stream()
    for value in (2.0, -9.0, 5.0):
        stream.step([value, 0.0, 0.0])
    assert stream.outside == {"a": (3, -9.0)}
    stream.run([[0.0, 3.0, 0.0], [12.0, 0.0, 0.0]])
    assert stream.outside["a"]._asdict() == {"number": 4, "farthest": 12.0}
    assert stream.outside["b"] == (1, 3.0)


def test_the_ends_of_the_range_are_in_it(path):
    model = lnn_edge.load(path)
    stream = model.stream()
    low, high = (np.array([f.range[k] for f in model.inputs[0].features]) for k in range(2))
    for inside in (low, high, low.astype(np.float32), high.astype(np.float32)):
        stream.step(inside)
    assert stream.outside == {}
    stream.step(np.nextafter(high.astype(np.float32), np.float32(9)))
    stream.step(np.nextafter(low.astype(np.float32), np.float32(-9)))
    assert counts(stream) == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize("bad", [[5.0, np.nan, 0.0], [5.0, np.inf, 0.0], [5.0, 1e39, 0.0], [-np.inf, 0.0, 0.0]])
def test_a_sample_that_is_refused_is_not_counted(path, bad):
    stream = lnn_edge.load(path).stream()
    with pytest.raises(NonFiniteError):
        stream.step(bad)
    with pytest.raises(NonFiniteError):
        stream.run([FAR, bad])
    assert stream.outside == {}
    stream.run([FAR, XS[0], FAR])
    assert counts(stream) == {"a": 2}
    stream.step(dict(zip("cab", [0.0, 0.0, 5.0], strict=True)))
    assert counts(stream) == {"a": 2, "b": 1}


@pytest.mark.parametrize(("window", "every"), [(4, 2), (5, 3), (4, 4), (200, 1)])
def test_windows_count_each_sample_once(path, window, every):
    xs = np.concatenate([XS[:9], FAR[None], XS[9:30], FAR[None]])
    stream = lnn_edge.load(path).stream(window=window, every=every)
    stream.run(xs)
    for x in xs:
        stream.step(x)
    assert counts(stream) == {"a": 4}


def test_batches_blocks_and_readouts_count_values(tmp_path):
    quick_export(
        small_cfc(), tmp_path / "m.lnn", example=XS[None], batch=2, unroll=3, readout="mean:3", inputs=list("abc")
    )
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    block = np.zeros((2, 3, 3), np.float32)
    block[0, 1:, 0], block[1, 2, 2] = 4.0, -4.0
    stream.step(block)
    assert counts(stream) == {"a": 2, "c": 1}
    plain = lnn_edge.load(tmp_path / "m.lnn").stream(readout=False)
    plain.step(block)
    assert counts(plain) == {"a": 2, "c": 1}


def test_limits_stay_limits(tmp_path):
    inputs = [Feature("a", limits=(-2, 2)), Feature("b", range=(-5, 5), limits=(-3, 3)), "c"]
    quick_export(small_cfc(), tmp_path / "m.lnn", example=XS, inputs=inputs)
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    stream.step([1.5, 0, 0])
    with pytest.raises(ValueError, match=r"2.5 at 'a' .*its legal range is \[-2.0, 2.0\].* or a larger `margin`"):
        stream.step([2.5, 0, 0])
    with pytest.raises(ValueError, match=r"4.0 at 'b' .*its legal range is \[-3.0, 3.0\]"):  # in the range that it has
        stream.step([0, 4, 0])
    assert counts(stream) == {"a": 1}


def test_a_bundle_without_ranges_counts_nothing(tmp_path):
    quick_export(small_cfc(), tmp_path / "m.lnn")
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    stream.step(FAR)
    assert stream.outside == {}


@pytest.mark.parametrize("unroll", [1, 3, 8])
def test_long_runs_of_steps_count_all(tmp_path, unroll):
    """Samples are counted some hundred at a time: at no number of them is one lost or counted twice."""
    example = XS if unroll == 1 else np.resize(XS, (4 * unroll, 3))
    quick_export(small_cfc(), tmp_path / "m.lnn", example=example, inputs=list("abc"), unroll=unroll)
    model = lnn_edge.load(tmp_path / "m.lnn")
    xs = np.random.default_rng(1).normal(0, 1, (600, unroll, 3)).astype(np.float32)
    low, high = (np.array([f.range[k] for f in model.inputs[0].features], np.float32) for k in range(2))
    wrong = (xs < low) | (xs > high)
    stream, whole = model.stream(), model.stream()
    for k, x in enumerate(xs):
        stream.step(x[0] if unroll == 1 else x)
        if k % 97 == 0 or k in (254, 255, 256, 257, 511, 512):
            expected = zip("abc", wrong[: k + 1].sum((0, 1)).tolist(), strict=True)
            assert counts(stream) == {name: number for name, number in expected if number}
    whole.run(xs.reshape(-1, 3))
    assert stream.outside == whole.outside
    farthest = [max(xs[..., k][wrong[..., k]], key=lambda v: max(low[k] - v, v - high[k])) for k in range(3)]
    assert [own.farthest for own in whole.outside.values()] == farthest


@pytest.mark.parametrize(("samples", "every"), [(1, 11), (2, 53)], ids=["step", "run"])
def test_an_interrupted_call_is_counted_once_or_not_at_all(path, samples, every):
    """Before many bytecodes of a step that counts those before it, and of a run; the caller goes on after it."""
    model = lnn_edge.load(path)

    def prepared():
        stream = model.stream()
        stream.run(np.tile(FAR, (250, 1)))
        for _ in range(5):
            stream.step(FAR)
        return stream

    def call(stream):
        return stream.step(FAR) if samples == 1 else stream.run([FAR] * samples)

    for place in bytecodes(partial(call, prepared()))[::every]:
        stream = prepared()
        interrupt(partial(call, stream), place)
        assert counts(stream) == {"a": stream.steps}
        assert stream.steps in (255, 255 + samples)
        stream.step(FAR)
        assert counts(stream) == {"a": stream.steps}


def test_another_thread_may_look(path):
    """It gets what was counted at some time, and disturbs no step."""
    stream = lnn_edge.load(path).stream()
    seen, stop = [0], threading.Event()

    def look():
        while not stop.is_set():
            seen.append(counts(stream).get("a", 0))

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(3000):
        stream.step(FAR)
    stop.set()
    watcher.join()
    assert seen == sorted(seen)
    assert counts(stream) == {"a": 3000}
