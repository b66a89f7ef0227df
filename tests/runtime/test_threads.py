"""A stream is for one call at a time: that of a second thread is refused before it touches anything."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from called_bundles import Bundles
from checks import recording, sample
from interruptions import bytecodes, interrupt, same, standing

import lnn_edge
from lnn_edge.runtime import call_token

CALLS = {
    "step": lambda stream, model: stream.step(sample(model, 9)),
    "run": lambda stream, model: stream.run(recording(model, 3)[0]),
    "reset": lambda stream, _: stream.reset(),
    "restore": lambda stream, model: stream.restore(model.initial_state()),
    "snapshot": lambda stream, _: stream.snapshot(),
    "label": lambda stream, _: stream.label,
    "checked": lambda stream, model: stream.checked(sample(model, 9)),
}
STREAMS = {"plain": {}, "windows": {"window": 4, "every": 2}}
REFUSED = r"this stream is being stepped by another thread. Give each thread its own: model.stream\(\)"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return lnn_edge.load(Bundles(tmp_path_factory)["fixed"], backend="onnxruntime")


class Slow:
    """A sample that is being read while something else happens."""

    def __init__(self, values, meanwhile):
        self._values, self._meanwhile = values, meanwhile

    def __array__(self, dtype=None, copy=None):
        self._meanwhile()
        return self._values


def prepared(model, options):
    stream = model.stream(**options)
    for k in range(3):
        stream.step(sample(model, k))
    return stream


@pytest.mark.parametrize("second", CALLS)
@pytest.mark.parametrize("options", STREAMS.values(), ids=STREAMS)
def test_no_call_of_a_second_thread_touches_a_step(second, options, model):
    stream, twin = prepared(model, options), prepared(model, options)
    with ThreadPoolExecutor(1) as another:

        def meanwhile():
            with pytest.raises(RuntimeError, match=REFUSED):
                another.submit(CALLS[second], stream, model).result()

        result = stream.step(Slow(sample(model, 5), meanwhile))
    assert same(result, twin.step(sample(model, 5)))
    assert standing(stream) == standing(twin)
    assert same(stream.step(sample(model, 6)), twin.step(sample(model, 6)))


@pytest.mark.parametrize("second", CALLS)
@pytest.mark.parametrize("options", STREAMS.values(), ids=STREAMS)
def test_no_call_of_a_second_thread_touches_a_run(second, options, model):
    stream, twin = prepared(model, options), prepared(model, options)
    xs, _ = recording(model, 4)
    with ThreadPoolExecutor(1) as another:

        def meanwhile():
            with pytest.raises(RuntimeError, match=REFUSED):
                another.submit(CALLS[second], stream, model).result()

        class Rows(list):
            """Rows that are read one by one; NumPy sees what they are made of."""

            def __getitem__(self, k):
                return Slow(xs[k], meanwhile) if k == 2 else xs[k]

        result = stream.run(Rows(list(xs)))
    assert same(result, twin.run(xs))
    assert standing(stream) == standing(twin)


def test_a_stack_that_moves_while_it_is_read(model, monkeypatch):
    """The second thread sees the frame of a generator, which has given its value before it is asked who called it."""
    stream, read = prepared(model, {}), []
    before = standing(stream)

    def given():
        yield

    generator = given()
    next(generator)

    class Frames:
        """What `call_token` knows of `sys`: the first look comes too late."""

        @staticmethod
        def _current_frames():
            read.append(1)
            frames = sys._current_frames()
            return dict.fromkeys(frames, generator.gi_frame) if len(read) == 1 else frames

    with ThreadPoolExecutor(1) as another:

        def meanwhile():
            monkeypatch.setattr(call_token, "sys", Frames)
            with pytest.raises(RuntimeError, match=REFUSED):
                another.submit(stream.reset).result()
            monkeypatch.undo()
            assert standing(stream) == before

        stream.step(Slow(sample(model, 5), meanwhile))
    assert len(read) > 1
    assert stream.steps == 4


@pytest.mark.parametrize("backend", ["onnxruntime", "native"])
def test_a_storm_of_calls_loses_no_step(backend, model, compiler):
    """Threads that switch as often as they can: all that was done was done alone."""
    own = lnn_edge.load(model.path, backend=backend)
    stream, rows, steps, ended = own.stream(), recording(own, 5)[0], [0] * 4, time.monotonic() + 1.5
    calls = [
        lambda: stream.step(rows[0]),
        lambda: stream.step(rows[0].tolist()),
        lambda: stream.run(rows),
        lambda: (stream.steps, stream.outside, stream.fresh),
        stream.snapshot,
    ]
    count = [1, 1, len(rows), 0, 0]

    def work(number):
        dice = random.Random(number)
        while time.monotonic() < ended:
            k = dice.randrange(len(calls))
            with contextlib.suppress(RuntimeError):
                calls[k]()
                steps[number] += count[k]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(work, number) for number in range(4)]:
                done.result()
    finally:
        sys.setswitchinterval(interval)
    assert stream.steps == sum(steps) > 100
    assert not stream._held


@pytest.mark.parametrize("options", STREAMS.values(), ids=STREAMS)
def test_threads_that_do_all_at_once(options, model):
    """Each call happens alone or is refused; a snapshot is one of a moment between two samples."""
    stream, twin, x = model.stream(**options), model.stream(**options), sample(model)
    trajectory, taken, steps, refused = [], [], [], []
    start = threading.Barrier(4)

    def work(kind):
        start.wait()
        for _ in range(150):
            try:
                if kind == "run":
                    stream.run(np.stack([x] * 3))
                    steps.append(3)
                elif kind == "step":
                    stream.step(x)
                    steps.append(1)
                else:
                    taken.append(standing(stream))
            except RuntimeError as error:
                refused.append(str(error))

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, kind) for kind in ("run", "step", "step", "snapshot")]:
            done.result()
    for _ in range(sum(steps) + 1):
        trajectory.append(standing(twin))
        twin.step(x)
    assert stream.steps == sum(steps)
    assert standing(stream) == trajectory[-1]
    assert all(one in trajectory for one in taken)
    assert all("another thread" in message for message in refused)


@pytest.mark.parametrize("options", STREAMS.values(), ids=STREAMS)
def test_a_thread_that_ended_in_the_middle_of_a_call_locks_nothing(options, model):
    stream, twin = prepared(model, options), prepared(model, options)
    for place in bytecodes(lambda: twin.snapshot()):
        thread = threading.Thread(target=interrupt, args=(stream.snapshot, place))
        thread.start()
        thread.join()
        assert standing(stream) == standing(twin), place
    assert same(stream.step(sample(model, 6)), twin.step(sample(model, 6)))


def test_a_token_that_is_given_back_while_another_looks_is_the_one_that_it_takes(monkeypatch):
    """Its successor would be a second token beside it, and two calls at work at once."""
    first, second = object(), object()
    held = {0: first}

    def ended_just_now(holder):
        assert holder is first
        del held[0]
        return False

    monkeypatch.setattr(call_token, "_is_at_work", ended_just_now)
    assert call_token.claimed(held, second) is held
    assert held == {0: second}
