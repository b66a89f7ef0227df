"""The stream that is stepped in C beside the one in Python, on the same compiled step: equal in all that can be seen.

What a stream must do is tested with those of all backends, in tests/runtime; here the two are given the same calls,
good and bad ones in any order, and must answer bit for bit, and refuse in the same words.
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import inspect
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import textwrap
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from bundles import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interruptions import standing
from old_files import FIXTURES
from properties import examples

import lnn_edge
from lnn_edge.errors import NonFiniteError
from lnn_edge.runtime.compiled.extension import why_no_extension
from lnn_edge.runtime.stream import Stream, uncounted

pytestmark = pytest.mark.usefixtures("compiler", "extension")

SOURCE = ROOT / "lnn_edge" / "runtime" / "compiled" / "step.c"
NAMES = ["gait", "drift", "fixed_2", "two_cores_2", "unroll_2", "float16_2"]


@pytest.fixture(scope="module", autouse=True)
def extension():
    """The extension, which `make test` builds; an installation may go without."""
    problem = why_no_extension()
    if problem and os.environ.get("CI") == "true":
        pytest.fail(f"no extension: {problem}")
    if problem:
        pytest.skip(f"no extension ({problem}). Type: LNN_EDGE_EXTENSION=require make -B .venv/ready")


@pytest.fixture
def model(request, cfc_bundle, ltc_bundle):
    """By the name of its bundle."""
    own = {"gait": cfc_bundle, "drift": ltc_bundle}
    name = request.param
    return lnn_edge.load(own.get(name) or FIXTURES / "bundles" / f"{name}.lnn", backend="native")


def pair(model, *, reuse=False):
    """Two streams of a model, in C and in Python."""
    mode = model._plain()
    in_c, in_python = model.stream(reuse=reuse), Stream(model.manifest, mode, mode.start(None), reuse=reuse)
    assert inspect.ismethoddescriptor(type(in_c).step)
    assert inspect.isfunction(type(in_python).step)
    return in_c, in_python


def shape_of(model):
    shape = model.manifest.sample_inputs()[model.inputs[0].name]
    return shape[1:] if shape[0] == 1 else shape


# ---- what is passed -------------------------------------------------------------------------------------------------


def unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)
    own = raw[1:].view(x.dtype).reshape(x.shape)
    own[...] = x
    return own


def read_only(x):
    own = x.copy()
    own.flags.writeable = False
    return own


def spoilt(value):
    def made(x):
        own = x.copy()
        own.reshape(-1)[-1] = value
        return own

    return made


class Own(np.ndarray):
    """An array of somebody's own."""


FORMS = {
    "float32": lambda x: x,
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "whole": lambda x: (10 * x).astype(np.int64),
    "big-endian": lambda x: x.astype(">f4"),
    "list": lambda x: x.tolist(),
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "strided float64": lambda x: np.repeat(x, 3, axis=-1).astype(np.float64)[..., ::3],
    "backwards": lambda x: x[..., ::-1],
    "fortran": np.asfortranarray,
    "unaligned": unaligned,
    "read-only": read_only,
    "a subclass": lambda x: x.view(Own),
    "masked": np.ma.masked_array,
    "NaN": spoilt(np.nan),
    "infinite": spoilt(-np.inf),
    "beyond float32": lambda x: spoilt(1e39)(x.astype(np.float64)),
    "far outside": spoilt(7.9),
    "beyond limits": spoilt(1e6),
    "largest": spoilt(np.finfo(np.float32).max),
    "denormal": spoilt(1e-45),
    "minus zero": lambda x: -0.0 * x,
    "below float32": lambda x: spoilt(-1e-300)(x.astype(np.float64)),
    "spread over": lambda x: np.broadcast_to(x[..., :1], x.shape),
    "no numbers": lambda x: x[..., :0],
    "no axis": lambda x: np.array(1.0, np.float32),
    "one more axis": lambda x: x[None],
    "too short": lambda x: x[..., :-1],
    "text": lambda x: np.full(x.shape, "a"),
    "complex": lambda x: x.astype(complex),
    "nothing": lambda _: None,
    "a dict": lambda x: {"input": x},
}
TIMES = {
    "dt_s": lambda t: {"dt_s": 0.1},
    "numpy's float": lambda t: {"dt_s": np.float64(0.09)},
    "float32": lambda t: {"dt_s": np.float32(0.11)},
    "an array": lambda t: {"dt_s": np.array([[0.1]])},
    "a span": lambda t: {"dt_s": datetime.timedelta(seconds=0.1)},
    "t_s": lambda t: {"t_s": 0.1 * t},
    "t_s, numpy's float": lambda t: {"t_s": np.float64(0.1 * t)},
    "t_s, a whole number": lambda t: {"t_s": t},
    "a datetime": lambda t: {"t_s": datetime.datetime(2026, 1, 1) + datetime.timedelta(seconds=0.1 * t)},
    "backwards": lambda t: {"t_s": -1.0 * t},
    "NaN": lambda t: {"dt_s": float("nan")},
    "t_s NaN": lambda t: {"t_s": float("nan")},
    "a whole number": lambda t: {"dt_s": 1},
    "beyond float64": lambda t: {"dt_s": 10**400},
    "a denormal number": lambda t: {"dt_s": 5e-324},
    "t_s denormal": lambda t: {"t_s": 5e-324 * t},
    "t_s, minus zero": lambda t: {"t_s": -0.0},
    "t_s beyond float64": lambda t: {"t_s": 10**400},
    "t_s, largest": lambda t: {"t_s": sys.float_info.max},
    "too long": lambda t: {"dt_s": 1e6},
    "zero": lambda t: {"dt_s": 0.0},
    "both": lambda t: {"dt_s": 0.1, "t_s": 0.1 * t},
    "none": lambda t: {},
    "true": lambda t: {"dt_s": True},
}
CALLS = st.one_of(
    st.tuples(st.just("step"), st.sampled_from(list(FORMS)), st.sampled_from(list(TIMES))),
    st.tuples(st.just("step"), st.sampled_from(["float32", "float64"]), st.sampled_from(["dt_s", "t_s"])),
    st.tuples(st.just("run"), st.sampled_from(list(FORMS)), st.sampled_from(list(TIMES))),
    st.tuples(st.sampled_from(["reset", "keep", "go back", "checked"]), st.just("float32"), st.just("none")),
)


def done(call):
    """What a call gives, as it can be compared."""
    try:
        result = call()
    except Exception as error:
        return type(error), str(error), getattr(error, "__notes__", None)
    if isinstance(result, dict):
        return {name: (a.dtype, a.shape, a.tobytes()) for name, a in result.items()}
    return None if result is None else (type(result), result.dtype, result.shape, result.tobytes())


def made(stream, kept, call, model, seed):
    """Make one of the calls on a stream."""
    what, form, time = call
    rows = np.random.default_rng(seed).standard_normal((4, *shape_of(model))).astype(np.float32)
    timing = TIMES[time](seed) if model.time.mode == "measured" or seed % 7 == 0 else {}
    if what == "step":
        return stream.step(FORMS[form](rows[0]), **timing)
    if what == "run":
        unroll = model.manifest.unroll
        rows = rows if unroll == 1 else rows.reshape(-1, *rows.shape[2:])
        times = {"t_s": [0.1 * (seed + k) for k in range(len(rows))]} if "t_s" in timing else timing
        return stream.run(FORMS[form](rows), **times)
    if what == "checked":
        return stream.checked(rows[0])
    if what == "keep":
        kept[0] = stream.snapshot()
    elif what == "go back" and kept[0] is not None:
        stream.restore(kept[0])
    elif what == "reset":
        stream.reset()
    return None


@pytest.mark.parametrize("model", NAMES, indirect=True)
@given(calls=st.lists(CALLS, min_size=1, max_size=25), reuse=st.booleans())
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_calls_give_the_same_in_c_and_in_python(model, calls, reuse):
    streams, kept = pair(model, reuse=reuse), ([None], [None])
    for seed, call in enumerate(calls):
        results = [done(partial(made, *own, call, model, seed)) for own in zip(streams, kept, strict=True)]
        assert results[0] == results[1], (call, seed)
        assert standing(streams[0]) == standing(streams[1]), (call, seed)
        assert streams[0].steps == streams[1].steps
        assert streams[0].outside == streams[1].outside
        assert streams[0].fresh == streams[1].fresh


@pytest.mark.parametrize("model", NAMES, indirect=True)
def test_a_long_recording(model):
    """Whose calls are made in several parts, between which signals are looked for."""
    count = 3000 * model.manifest.unroll
    rows = np.random.default_rng(0).standard_normal((count, *shape_of(model)[-1:])).astype(np.float32)
    timing = {"dt_s": np.linspace(0.05, 0.2, count)} if model.time.mode == "measured" else {}
    in_c, in_python = pair(model)
    assert done(lambda: in_c.run(rows, **timing)) == done(lambda: in_python.run(rows, **timing))
    assert standing(in_c) == standing(in_python)
    assert in_c.outside == in_python.outside


# ---- what it is -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gait"], indirect=True)
def test_it_is_a_stream_with_the_text_of_one(model):
    stream = model.stream()
    assert isinstance(stream, lnn_edge.Stream)
    assert inspect.getdoc(type(stream).step) == inspect.getdoc(Stream.step)
    assert str(inspect.signature(stream.step)) == "(x, *, dt_s=None, t_s=None)"
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        stream.step()
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        stream.step(np.zeros(3, np.float32), y=1)
    np.testing.assert_array_equal(stream.step(x=np.zeros(3, np.float32)), model.stream().step(np.zeros(3, np.float32)))


@pytest.mark.parametrize("model", ["gait"], indirect=True)
def test_a_subclass_steps_in_c_as_well(model):
    kind = type("Own", (type(model.stream()),), {"twice": lambda self, x: (self.step(x), self.step(x))[1]})
    mode = model._plain()
    own, plain, x = kind(model.manifest, mode, mode.start(None)), model.stream(), np.ones(3, np.float32)
    plain.step(x)
    np.testing.assert_array_equal(own.twice(x), plain.step(x))


@pytest.mark.parametrize("model", ["gait"], indirect=True)
def test_results_are_new_arrays_or_its_own(model):
    x = np.ones(3, np.float32)
    fresh, reusing = model.stream(), model.stream(reuse=True)
    assert fresh.step(x).base is None
    one, two, three = reusing.step(x), reusing.step(x), reusing.step(x)
    assert one is three
    assert one is not two


@pytest.mark.parametrize("model", ["gait"], indirect=True)
def test_it_leaves_nothing_behind(model):
    """Not the stream, also where it is part of a circle, and no memory of a step."""
    stream = model.stream()
    stream.step(np.ones(3, np.float32))
    stream.itself = stream
    gone = weakref.ref(stream)
    del stream
    gc.collect()
    assert gone() is None
    stream, x = model.stream(), np.ones(3, np.float32)
    counts = []
    for _ in range(2):
        for _ in range(1000):
            stream.step(x)
            stream._now  # noqa: B018 - makes a tuple
        counts.append(sys.getrefcount(x))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("model", ["gait"], indirect=True)
def test_a_finalizer_resets_the_stream_while_its_moment_is_made(model):
    """The collector may come wherever a tuple is made, and what it finds may be garbage with a `__del__`."""
    x, stream = np.ones(3, np.float32), model.stream()
    first = stream.step(x)
    stream.steps  # noqa: B018 - makes a tuple, which is the stream's own
    stream.step(x)

    class Garbage:
        def __init__(self):
            self.itself = self

        def __del__(self):
            stream.reset()

    taken = [(k, 1, 2, 3, 4, 5) for k in range(3000)]  # so that no tuple is left over, and the next is allocated
    threshold = gc.get_threshold()
    gc.disable()
    try:
        Garbage()
        gc.set_threshold(1, 1, 1)
        gc.enable()
        stream.steps  # noqa: B018
    finally:
        gc.enable()
        gc.set_threshold(*threshold)
        del taken
    gc.collect()
    np.testing.assert_array_equal(stream.step(x), first)


class InUse(ctypes.Structure):
    """What glibc's `mallinfo2` gives."""

    _fields_: ClassVar = [(name, ctypes.c_size_t) for name in ("arena", *"abc", "mapped", *"de", "used", *"fg")]


def in_use():
    """Blocks that Python has given out, and bytes that the C library has, to the byte."""
    gc.collect()
    asked = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if asked is None:  # an older glibc, or another library
        return sys.getallocatedblocks(), 0
    asked.restype = InUse
    found = asked()
    return sys.getallocatedblocks(), found.used + found.mapped


@pytest.mark.parametrize(
    "form", ["float32", "float64", "strided", "reuse", "NaN", "list", "run", "run with NaN", "asked"]
)
@pytest.mark.parametrize("model", ["gait"], indirect=True)
def test_memory_does_not_grow(model, form):
    stream = model.stream(reuse=form == "reuse")
    x = FORMS.get(form, FORMS["float32"])(np.ones(3, np.float32))
    rows = np.full((50, 3), 0.5, np.float32)
    rows[-1, 0] = np.nan if form == "run with NaN" else 0.5

    def asked(x):
        stream.step(x)
        stream.snapshot(), stream.outside, stream.steps

    def refused(x):
        with pytest.raises(NonFiniteError):
            (stream.run if form.startswith("run") else stream.step)(x)

    call = {"asked": asked, "run": stream.run, "NaN": refused, "run with NaN": refused}.get(form, stream.step)
    given = rows if form.startswith("run") else x

    def many(count):
        for _ in range(count):
            call(given)
        return in_use()

    many(500)
    before = many(500)
    # What is done for 256 samples together is done 78 times and more, and malloc's smallest piece has 32 bytes.
    count, few = (500, 200) if call is refused or form == "run" else (20_000, 50)
    after = many(count)
    assert after[0] - before[0] < few
    assert after[1] - before[1] < 2_000


def test_sanitizers_find_nothing(tmp_path, python, environment, compiler):
    """Addresses and undefined behaviour, of streams and of the type alone; see `sanitized_steps`."""
    library = Path(said("gcc", "-print-file-name=libasan.so").strip()) if shutil.which("gcc") else Path()
    if not library.is_absolute():
        pytest.skip("no gcc with sanitizers")
    watched = "-O0 -g -fPIC -shared -fsanitize=address,undefined -fno-sanitize-recover=undefined"
    includes = [f"-I{own}" for own in (sysconfig.get_paths()["include"], np.get_include())]
    said("gcc", *watched.split(), *includes, SOURCE, "-o", tmp_path / "_step.abi3.so")
    more = {"LD_PRELOAD": str(library), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    bundles = [FIXTURES / "bundles" / f"{name}.lnn" for name in ("measured_2", "two_cores_2")]
    script = [ROOT / "tests" / "support" / "sanitized_steps.py", tmp_path / "_step.abi3.so", *bundles]
    done = python(*script, env={k: v for k, v in environment.items() if k != "CC"} | more, timeout=200)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def said(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=100, check=True).stdout


@pytest.mark.parametrize("model", ["gait"], indirect=True)
def test_a_signal_ends_a_recording_and_it_has_not_happened(model):
    stream, rows = model.stream(), np.zeros((3_000_000, 3), np.float32)
    rows[:10] = 5.0  # beyond the ranges of the export, if it has any
    stream.step(np.ones(3, np.float32))
    before, outside = standing(stream), stream.outside
    seen = []

    def handler(_number, _frame):
        seen.append(standing(stream) == before)  # what an interrupted call has not changed yet
        with pytest.raises(RuntimeError, match="in the middle of a call"):
            stream.step(np.ones(3, np.float32))
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            stream.run(rows)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert seen == [True]
    assert standing(stream) == before
    assert stream.outside == outside
    assert stream.steps == 1


@pytest.mark.parametrize("model", ["gait"], indirect=True)
def test_other_threads_go_on_during_a_recording_and_are_refused_the_stream(model):
    stream, rows, at_work = model.stream(), np.zeros((1_000_000, 3), np.float32), threading.Event()

    def run():
        at_work.set()
        stream.run(rows)

    thread, refused = threading.Thread(target=run), False
    thread.start()
    at_work.wait()
    while thread.is_alive() and not refused:
        try:
            stream.step(rows[0])
        except RuntimeError as error:
            refused = "another thread" in str(error)
    thread.join()
    assert refused
    assert stream.steps >= len(rows)


@pytest.mark.parametrize("model", ["gait"], indirect=True)
def test_a_step_that_is_refused_in_c_says_why(model):
    stream = model.stream()
    with pytest.raises(NonFiniteError, match="holds nan at 'gyro_z'"):
        stream.step(np.array([0.0, 0.0, np.nan], np.float32))
    with pytest.raises(ValueError, match="its legal range is"):
        stream.step(np.array([0.0, 0.0, 9.0], np.float32))
    with pytest.raises(ValueError, match="its legal range is") as got:
        stream.run(np.array([[0, 0, 0], [0, 0, 9.0]], np.float32))
    if hasattr(got.value, "__notes__"):  # Python 3.11
        assert "in sample 1 of 2" in got.value.__notes__[0]
    assert stream.steps == 0


@pytest.mark.workstation
def test_several_inputs(tmp_path_factory):
    from exports import proven
    from networks import scans_and_speeds, two_inputs

    rng = np.random.default_rng(0)
    path = proven(tmp_path_factory, two_inputs, short=True, example=scans_and_speeds())
    own = lnn_edge.load(path, backend="native")
    for reuse in (False, True):
        in_c, in_python = pair(own, reuse=reuse)
        lidar, speed = rng.standard_normal((40, 12)).astype(np.float32), rng.standard_normal((40, 2))
        for k in range(40):
            sample = {"lidar": lidar[k], "speed": speed[k]}
            others = [
                dict(reversed(sample.items())),
                {"".join(["li", "dar"]): lidar[k].tolist(), "speed": speed[k]},
                {"lidar": lidar[k]},
                {"lidar": lidar[k], "speed": lidar[k]},
                {"lidar": lidar[k], "speed": speed[k], "more": 1},
                {"lidar": lidar[k] * np.float32(np.nan), "speed": speed[k]},
                lidar[k],
            ]
            for x in (sample, others[k % len(others)]):
                assert done(partial(in_c.step, x)) == done(partial(in_python.step, x))
                assert standing(in_c) == standing(in_python)
        assert in_c.outside == in_python.outside
        assert in_c.outside
        recording = {"lidar": lidar, "speed": speed.astype(np.float32)}
        assert done(partial(in_c.run, recording)) == done(partial(in_python.run, recording))
        assert standing(in_c) == standing(in_python)


NOT_NEEDED = [
    *("onnxruntime", "onnx", "torch", "lnn_edge.codegen.c_source"),
    *("lnn_edge.runtime.modes.windows", "lnn_edge.runtime.modes.many", "numpy.typing"),
    *("dataclasses", "logging", "shutil", "signal", "subprocess", "tempfile"),  # milliseconds each, or what they make
]


def test_a_start_brings_in_nothing_that_the_first_step_does_not_need(cfc_bundle, python):
    """Nor a generator of C, once the step is compiled; but for what NumPy and the others need by themselves."""
    code = f"""
        import sys, ctypes, hashlib, hmac, pathlib, platform, threading, msgspec, numpy as np, safetensors.numpy
        others = set(sys.modules)
        import lnn_edge
        stream = lnn_edge.load({str(cfc_bundle)!r}, backend="native", options={{"tune": "off"}}).stream()
        stream.step(np.zeros(3, np.float32))
        print([name for name in {NOT_NEEDED} if name in set(sys.modules) - others])
    """
    for _ in range(2):  # the first compiles
        done = python("-c", textwrap.dedent(code), env=dict(os.environ))
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("reuse", [False, True], ids=["new", "reuse"])
@pytest.mark.parametrize("model", NAMES[:4], indirect=True)
def test_a_step_that_does_not_count_changes_nothing(model, reuse):
    rehearsed, plain = model.stream(reuse=reuse), model.stream(reuse=reuse)
    practise, rng = uncounted(rehearsed), np.random.default_rng(0)
    names = [t.name for t in model.inputs]
    shapes = model.manifest.sample_inputs()
    measured = {"dt_s": 0.05} if model.time.mode == "measured" else {}
    for k in range(40):
        xs = [{n: rng.uniform(-1, 1, shapes[n][1:]).astype(np.float32) for n in names} for _ in range(2)]
        x, other = xs if len(names) > 1 else [own[names[0]] for own in xs]
        y = rehearsed.step(x, **measured)
        kept = standing(rehearsed), rehearsed.steps, rehearsed.outside, np.copy(y) if len(model.outputs) == 1 else None
        for own in (other, x, None, "x", [1.0], other):
            practise(own)
        assert (standing(rehearsed), rehearsed.steps, rehearsed.outside) == kept[:3]
        if kept[3] is not None:
            np.testing.assert_array_equal(y, kept[3])
        plain.step(x, **measured)
        if k % 9 == 8:
            rehearsed.reset()
            plain.reset()
            practise(other)  # there is no place that it could be made in
    assert standing(rehearsed) == standing(plain)
    assert rehearsed.steps == plain.steps


@pytest.mark.parametrize("model", ["gait"], indirect=True)
def test_a_step_that_does_not_count_leaves_none_to_take_back(model):
    stream, x, mark = model.stream(), np.ones(3, np.float32), (1,)
    stream.step(x)
    assert stream._guarded(mark, x * 2, None) is not None
    before = standing(stream)
    uncounted(stream)(x * 3)
    stream._back(mark)
    assert standing(stream) == before
