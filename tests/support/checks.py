"""The conformance suite: small named checks that every backend must pass, each given a loaded model.

They say nothing about numbers (tests/test_streaming_equals_offline.py does), only about behaviour.
"""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from functools import cache

import numpy as np
import pytest

from lnn_edge.errors import NonFiniteError


def make_ready(backend, request):
    """Give a test what a backend of the table needs and a machine may lack, or tests go without."""
    fixture = {"tensorrt": "gpu", "tensorrt-rtx": "gpu", "native": "compiler"}.get(backend)
    if fixture is not None:
        given = request.getfixturevalue(fixture)
        if backend == "tensorrt-rtx":
            given("rtx-1.7", name="RTX 4090", capability=(8, 9), integrated=False)
        elif given is not None:
            given()


def sample(model, seed=0):
    """What one call takes: a sample, or a block of them."""
    shape = model.manifest.sample_inputs()[model.inputs[0].name]
    x = _numbers(tuple(shape), seed).copy()
    return x[0] if shape[0] == 1 else x


@cache  # to seed takes longer than a step
def _numbers(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def recording(model, calls):
    """Samples one after the other, as `run` takes them, and the calls that they make."""
    blocks = np.stack([sample(model, k) for k in range(calls)])
    if model.manifest.unroll == 1:
        return blocks, blocks
    if model.manifest.batch > 1:
        return np.swapaxes(blocks, 1, 2).reshape(-1, *model.inputs[0].shape), blocks
    return blocks.reshape(-1, *model.inputs[0].shape[1:]), blocks


def timing(model, dt_s=None):
    return {"dt_s": dt_s or model.time.period_s} if model.time.mode == "measured" else {}


def check_state_is_kept_between_steps(model):
    stream, x = model.stream(), sample(model)
    first = stream.step(x, **timing(model)).copy()
    assert not np.array_equal(first, stream.step(x, **timing(model)))


def check_reset_starts_over(model):
    stream, x = model.stream(), sample(model)
    first = stream.step(x, **timing(model)).copy()
    stream.step(x, **timing(model))
    stream.reset()
    np.testing.assert_array_equal(first, stream.step(x, **timing(model)))


def check_streams_do_not_touch_each_other(model):
    lone, a, b = model.stream(), model.stream(), model.stream()
    for k in range(5):
        expected = lone.step(sample(model, k), **timing(model)).copy()
        got = a.step(sample(model, k), **timing(model)).copy()
        b.step(sample(model, 100 + k), **timing(model))
        np.testing.assert_array_equal(got, expected)


def check_snapshot_goes_into_another_stream(model):
    a, b = model.stream(), model.stream()
    a.step(sample(model, 1), **timing(model))
    kept = a.snapshot()
    expected = a.step(sample(model, 2), **timing(model)).copy()
    b.restore(kept)
    np.testing.assert_array_equal(b.step(sample(model, 2), **timing(model)), expected)


def check_snapshot_is_a_copy(model):
    stream = model.stream()
    stream.step(sample(model, 1), **timing(model))
    kept = stream.snapshot()
    before = {name: array.copy() for name, array in kept.tensors.items()}
    for _ in range(3):  # a backend may take turns with its buffers
        stream.step(sample(model), **timing(model))
    for name, array in before.items():
        np.testing.assert_array_equal(kept.tensors[name], array)
        with pytest.raises(ValueError, match="read-only"):
            kept.tensors[name][...] = 1.0


def check_model_step_keeps_nothing(model):
    state, x = model.initial_state(), sample(model)
    y1, after = model.step(x, state, **timing(model))
    y2, _ = model.step(x, state, **timing(model))
    np.testing.assert_array_equal(y1, y2)
    y3, _ = model.step(x, after, **timing(model))
    assert not np.array_equal(y1, y3)


def check_model_step_equals_stream_step(model):
    state, stream = model.initial_state(), model.stream()
    for k in range(20):
        y, state = model.step(sample(model, k), state, **timing(model))
        np.testing.assert_array_equal(y, stream.step(sample(model, k), **timing(model)))


def check_output_is_a_new_array(model):
    """A list of results holds them all; with `reuse` each lasts until the next step, a refused one aside."""
    stream, reusing = model.stream(), model.stream(reuse=True)
    calls = [sample(model, k) for k in range(5)]
    results = [stream.step(x, **timing(model)) for x in calls]
    for x, y in zip(calls, results, strict=True):
        np.testing.assert_array_equal(reusing.step(x, **timing(model)), y)
    y = reusing.step(calls[0], **timing(model))
    copy = y.copy()
    with pytest.raises(NonFiniteError):
        reusing.step(calls[0] * np.float32("nan"), **timing(model))
    np.testing.assert_array_equal(y, copy)
    assert any(reusing.step(x, **timing(model)) is y for x in calls[:2])


def check_bad_sample_leaves_the_state(model):
    stream = model.stream()
    stream.step(sample(model, 1), **timing(model))
    before = stream.snapshot()
    for bad in (np.nan, np.inf, -np.inf):
        x = sample(model, 2)
        x[..., -1] = bad
        with pytest.raises(NonFiniteError, match="refused and the state is unchanged"):
            stream.step(x, **timing(model))
    with pytest.raises(ValueError, match="has shape"):
        stream.step(sample(model)[..., :-1], **timing(model))
    after = stream.snapshot()
    assert after.t_s == before.t_s
    for name in before.tensors:
        np.testing.assert_array_equal(after.tensors[name], before.tensors[name])


def check_run_equals_steps(model):
    a, b = model.stream(), model.stream()
    xs, calls = recording(model, 12)
    ys = a.run(xs, **timing(model))
    assert ys.shape[0] == len(xs)
    for k, x in enumerate(calls):
        part = ys[k * model.manifest.unroll :][: model.manifest.unroll]
        y = b.step(x, **timing(model))
        expected = np.swapaxes(y, 0, 1) if model.manifest.batch > 1 and model.manifest.unroll > 1 else y
        np.testing.assert_array_equal(expected, part if model.manifest.unroll > 1 else part[0])


def check_run_is_all_or_nothing(model):
    stream = model.stream()
    stream.step(sample(model), **timing(model))
    before = stream.snapshot()
    xs, _ = recording(model, 6)
    xs[len(xs) - 2, ..., 0] = np.nan
    with pytest.raises(NonFiniteError):
        stream.run(xs, **timing(model))
    for name, array in stream.snapshot().tensors.items():
        np.testing.assert_array_equal(array, before.tensors[name])
    assert stream.steps == model.manifest.unroll  # those of the one call before


def check_snapshot_survives_a_restart(model):
    """What `pickle` or `copy` gives is read-only as well, and goes on where the snapshot was taken."""
    stream = model.stream()
    stream.step(sample(model, 1), **timing(model))
    kept = stream.snapshot()
    expected = stream.step(sample(model, 2), **timing(model)).copy()
    for copied in (pickle.loads(pickle.dumps(kept)), copy.deepcopy(kept), copy.copy(kept)):
        assert copied.t_s == kept.t_s
        assert_immutable(copied)
        fresh = model.stream()
        fresh.restore(copied)
        np.testing.assert_array_equal(fresh.step(sample(model, 2), **timing(model)), expected)


def assert_immutable(state):
    name = next(iter(state.tensors))
    with pytest.raises(ValueError, match="read-only"):
        state.tensors[name][...] = 0
    with pytest.raises(TypeError, match="does not support item assignment"):
        state.tensors[name] = 0
    with pytest.raises(AttributeError, match="immutable type"):
        state.t_s = 0.0


def check_second_thread_is_refused(model):
    """Several threads hammer one stream: each call either succeeds alone or is refused; the state never tears."""
    stream, x, refused, steps = model.stream(), sample(model), [], []
    start = threading.Barrier(4)

    def work():
        start.wait()
        for _ in range(100):
            try:
                stream.step(x, **timing(model))
                steps.append(1)
            except RuntimeError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # else one thread makes many of its calls before another has a turn
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)
    assert stream.steps == len(steps) * model.manifest.unroll
    assert all("another thread" in message for message in refused)
    alone = model.stream()
    for _ in steps:
        alone.step(x, **timing(model))
    for name, array in alone.snapshot().tensors.items():
        np.testing.assert_array_equal(stream.snapshot().tensors[name], array)


def check_streams_in_threads(model):
    """One model, a stream per thread: each gives what it gives alone."""
    xs, _ = recording(model, 50)
    expected = model.stream().run(xs, **timing(model))
    results = [None] * 4

    def work(k):
        results[k] = model.stream().run(xs, **timing(model))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        np.testing.assert_array_equal(result, expected)


def check_foreign_state_is_refused(model):
    from lnn_edge import State

    stream = model.stream()
    with pytest.raises(TypeError, match=r"expected a State from `initial_state\(\)`"):
        stream.restore({"h_in": 0})
    with pytest.raises(ValueError, match="comes from another model"):
        stream.restore(State({"other": np.zeros((1, 2), np.float32)}))
    wrong = {name: array[..., :-1].copy() for name, array in model.initial_state().tensors.items()}
    with pytest.raises(ValueError, match=r"has shape .* but the model takes"):
        stream.restore(State(wrong))
    bad = {name: np.full_like(array, np.nan) for name, array in model.initial_state().tensors.items()}
    with pytest.raises(NonFiniteError, match="the stream keeps the state it had"):
        stream.restore(State(bad))
    with pytest.raises(TypeError, match="state 'h_in' is a list, expected a NumPy array"):
        State({"h_in": [0.0]})
    wide = {name: array.astype(np.float64) for name, array in model.initial_state().tensors.items()}
    with pytest.raises(TypeError, match="has dtype float64, expected float32"):
        stream.restore(State(wide))  # a finite 1e300 of it would become infinity
    for t_s in ("now", True, np.array([1.0])):
        with pytest.raises(TypeError, match=r"the state's `t_s` is .*, expected seconds or None"):
            stream.restore(State(model.initial_state().tensors, t_s))
    with pytest.raises(NonFiniteError, match=r"the state's `t_s` is nan; the stream keeps the state it had"):
        stream.restore(State(model.initial_state().tensors, float("nan")))


CHECKS = {name: check for name, check in list(globals().items()) if name.startswith("check_")}
