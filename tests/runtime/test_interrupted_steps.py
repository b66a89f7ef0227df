"""Exceptions out of a signal's handler: a call of a stream has happened or it has not, wherever they come."""

from __future__ import annotations

import gc
import signal
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType

import numpy as np
import pytest
from called_bundles import Bundles
from checks import make_ready, recording, sample, timing
from interrupted_steps import hammer
from interruptions import bytecodes, interrupt, same, standing

import lnn_edge
from lnn_edge.backends import BACKENDS
from lnn_edge.errors import BackendError

CALLS = {
    "step": lambda stream, model: stream.step(sample(model, 9), **timing(model)),
    "step-of-whole-numbers": lambda stream, model: stream.step(sample(model, 9).astype(int), **timing(model)),
    "run": lambda stream, model: stream.run(recording(model, 2)[0], **timing(model)),
    "reset": lambda stream, _: stream.reset(),
    "restore": lambda stream, model: stream.restore(model.initial_state()),
    "snapshot": lambda stream, _: stream.snapshot(),
    "checked": lambda stream, model: stream.checked(sample(model, 9)),
}
STREAMS = {
    "fixed": {},
    "measured": {},
    "blocks": {},
    "windows": {"window": 4, "every": 2},
    "windows-at-their-ends": {"window": 3, "every": 2},
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    return Bundles(tmp_path_factory)


@pytest.fixture
def load(request, bundles):
    """Load a bundle on a backend."""
    make_ready(request.param, request)
    return lambda name: lnn_edge.load(bundles[name], backend=request.param)


def prepare(stream, model, samples=None):
    """Step a stream, so that the backend's buffers hold its state."""
    stream.reset()
    for x in samples or [sample(model, k) for k in range(3)]:
        stream.step(x, **timing(model))


def each_interruption(model, options, call, stride=1):
    """What is left after an exception before a bytecode of a call, bit for bit, and how the stream goes on.

    Yields:
        Whether the call has happened.
    """
    twin, stream, x = model.stream(**options), model.stream(**options), sample(model, 5)
    earlier = [sample(model, k) for k in range(3)]
    prepare(twin, model)
    before, steps = standing(twin), twin.steps
    call(twin, model)
    after, more = standing(twin), twin.steps - steps
    following = {True: twin.step(x, **timing(model))}
    prepare(twin, model)
    following[False] = twin.step(x, **timing(model))
    prepare(stream, model)
    places = bytecodes(lambda: call(stream, model))
    assert len(places) > 20
    with ThreadPoolExecutor(1) as another:
        for number, place in [*enumerate(places)][::stride]:
            prepare(stream, model, earlier)
            steps = stream.steps
            error = interrupt(lambda: call(stream, model), place)  # its traceback keeps the frames of the call
            assert error is not None
            found = standing(stream)
            assert found in (before, after), f"bytecode {number} of {len(places)}: the call was done in part"
            moved = found == after
            assert stream.steps - steps in ({more, 0} if before == after else {more if moved else 0})
            step = another.submit(stream.step, x, **timing(model)).result if number % 8 == 0 else None
            result = step() if step else stream.step(x, **timing(model))
            assert same(result, following[moved]), f"bytecode {number} of {len(places)}: it goes on otherwise"
            yield moved


# One in so many bytecodes where others run the same: a window's samples run its own again, and a simulated GPU steps
# each of them as `fixed` does, where all are interrupted.
STRIDES = {"windows": 3, "windows-tensorrt": 8}
# That for RTX steps by the same code as `tensorrt`: of its own it has what makes an engine ready.
EACH = [(own.name, name) for own in BACKENDS for name in (STREAMS if own.name != "tensorrt-rtx" else ["measured"])]


@pytest.mark.parametrize(("load", "name"), EACH, indirect=["load"])
def test_step(load, name):
    model = load("fixed" if name.startswith("windows") else name)
    stride = STRIDES.get(f"{name}-{model.backend}", STRIDES.get(name, 1))
    seen = set(each_interruption(model, STREAMS[name], CALLS["step"], stride))
    in_c = not isinstance(type(model.stream(**STREAMS[name])).step, FunctionType)
    assert seen == ({False} if in_c else {False, True})  # also in the last bytecodes, after the step, if it has any


@pytest.mark.parametrize("name", ["fixed", "measured"])
def test_step_that_is_not_made_in_c(name, bundles, request):
    make_ready("native", request)
    model = lnn_edge.load(bundles[name], backend="native")
    assert set(each_interruption(model, {}, CALLS["step-of-whole-numbers"], stride=2)) == {False, True}


@pytest.mark.parametrize("call", [name for name in CALLS if not name.startswith("step")])
@pytest.mark.parametrize("name", ["measured", "windows"])
def test_other_calls(call, name, bundles):
    model = lnn_edge.load(bundles["fixed" if name == "windows" else name], backend="onnxruntime")
    stride = 7 if call == "run" else 2  # `run` has thousands of bytecodes, each sample the same ones
    assert set(each_interruption(model, STREAMS[name], CALLS[call], stride))


def test_model_step(bundles):
    """It keeps nothing, so that what was interrupted cannot show in what comes next."""
    model = lnn_edge.load(bundles["measured"], backend="onnxruntime")
    x, start = sample(model, 1), model.initial_state()
    expected, _ = model.step(x, start, **timing(model))
    for place in bytecodes(lambda: model.step(x, start, **timing(model)))[::3]:
        assert interrupt(lambda: model.step(x, start, **timing(model)), place)
        np.testing.assert_array_equal(model.step(x, start, **timing(model))[0], expected)


@pytest.mark.parametrize("backend", ["onnxruntime", "native"])
@pytest.mark.parametrize("name", ["fixed", "measured", "windows", "windows-at-their-ends"])
def test_real_signals(name, backend, bundles, request):
    make_ready(backend, request)
    model = lnn_edge.load(bundles[name if name in ("fixed", "measured") else "fixed"], backend=backend)
    seen = hammer(model, 700, **STREAMS[name])
    assert seen["before"] > 70


def test_no_real_signal_comes_while_garbage_is_collected(bundles):
    """What its handler raises within a callback of the collector is lost, and a warning of pytest."""
    model = lnn_edge.load(bundles["fixed"], backend="onnxruntime")
    handler, thresholds, found = signal.getsignal(signal.SIGALRM), gc.get_threshold(), []

    def collecting(*_):
        found.append(signal.getsignal(signal.SIGALRM) is handler)

    gc.callbacks.append(collecting)
    gc.set_threshold(10)
    try:
        hammer(model, 50, **STREAMS["windows"])
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(collecting)
    assert set(found) == {True}  # before and after
    assert gc.isenabled()


def test_what_a_handler_raises_is_not_the_backend_s(bundles):
    """A handler runs as soon as onnxruntime returns, inside the same `try`."""
    model = lnn_edge.load(bundles["fixed"], backend="onnxruntime")
    stream = model.stream()
    session = model._backend.session
    whole = session.run_with_iobinding

    def handler(_number, _frame):
        raise RuntimeError("the handler's own")

    def run(binding):
        signal.raise_signal(signal.SIGALRM)
        whole(binding)

    former = signal.signal(signal.SIGALRM, handler)
    session.run_with_iobinding = run
    try:
        with pytest.raises(RuntimeError, match="the handler's own") as got:
            stream.step(sample(model))
    finally:
        signal.signal(signal.SIGALRM, former)
        del session.run_with_iobinding
    assert not isinstance(got.value, BackendError)
    assert stream.steps == 0


def test_what_onnxruntime_raises_is_the_backend_s(bundles):
    model = lnn_edge.load(bundles["fixed"], backend="onnxruntime")
    stream = model.stream()
    stepper = stream._mode.stepper
    binding, _ = stepper._runs[0]
    binding.clear_binding_inputs()
    with pytest.raises(BackendError, match="onnxruntime failed during the step, the state is untouched"):
        stream.step(sample(model))
    assert stream.steps == 0


class TestAHandler:
    """What it may do with a stream whose call it interrupts."""

    @pytest.fixture
    def within(self, bundles):
        """Do something in the middle of a step."""
        model = lnn_edge.load(bundles["fixed"], backend="onnxruntime")
        stream = model.stream()
        prepare(stream, model)

        def during(act):
            class Sample:
                def __array__(self, dtype=None, copy=None):
                    act(stream)
                    return sample(model, 9)

            return stream.step(Sample())

        return during, stream, model

    def test_takes_a_snapshot(self, within):
        during, stream, _ = within
        before, taken = standing(stream), []
        during(lambda own: taken.append(standing(own)))
        assert taken == [before]

    @pytest.mark.parametrize("call", [name for name in CALLS if name != "snapshot"])
    def test_is_refused_the_rest(self, call, within):
        during, stream, model = within
        twin = model.stream()
        prepare(twin, model)

        def act(own):
            with pytest.raises(RuntimeError, match=r"in the middle of a call.* only snapshot\(\) may be called"):
                CALLS[call](own, model)

        result = during(act)
        np.testing.assert_array_equal(result, twin.step(sample(model, 9)))
        assert standing(stream) == standing(twin)

    def test_steps_the_model(self, within):
        """`Model.step` keeps nothing, so it may be called anywhere, in the middle of itself as well."""
        _, _, model = within
        start = model.initial_state()
        expected = [model.step(sample(model, k), start)[0] for k in (1, 2)]
        found = []

        class Sample:
            def __array__(self, dtype=None, copy=None):
                found.append(model.step(sample(model, 2), start)[0])
                return sample(model, 1)

        y, _ = model.step(Sample(), start)
        np.testing.assert_array_equal(y, expected[0])
        np.testing.assert_array_equal(found[0], expected[1])
