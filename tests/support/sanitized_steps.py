"""Steps of streams in C for sanitizers: `python tests/support/sanitized_steps.py EXTENSION BUNDLE...`.

EXTENSION is a build of `step.c` that watches its memory, of which all streams here are made. They get good calls and
bad ones, samples of every layout, finalizers that step or reset the stream while it is at work, the collector in the
middle of things, and arrays that another thread writes to; and the type alone what only this package passes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.util
import itertools
import os
import sys
import threading
import weakref

import numpy as np

NAME = "lnn_edge.runtime.compiled._step"


def use(extension):
    """Take this build of the extension from now on."""
    spec = importlib.util.spec_from_file_location(NAME, extension)
    sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- streams of a model ---------------------------------------------------------------------------------------------


def forms(x):
    """A sample in every layout that the C method looks at, and what it leaves to Python."""
    wide = np.repeat(x, 2, axis=-1)
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    raw[...] = x
    bad = [x * np.float32(value) for value in (np.nan, np.inf, -np.inf, 3e38, 1e-45, -0.0)]
    good = [x, x.astype(np.float64), wide[..., ::2], wide.astype(np.float64)[..., ::2], x[..., ::-1], raw]
    more = [x.astype(np.float64) * 1e300, x[..., :-1], x[None], x[..., :0], np.float32(1), x.tolist(), None, {}, "x"]
    return [*good, *bad, *more, np.broadcast_to(x[..., :1], x.shape), {"input": x}, {1: x}]


def times(measured):
    if not measured:
        return itertools.cycle([{}, {}, {"dt_s": 0.1}])
    spans = [0.1, np.float64(0.1), np.float32(0.1), 0.0, -1.0, np.nan, 1e300, 5e-324, True, 10**400, "1", None]
    clock = itertools.count()
    return ({"t_s": 0.1 * next(clock)} if k % 3 else {"dt_s": spans[k // 3 % len(spans)]} for k in itertools.count())


def tried(call, *arguments, **named):
    with contextlib.suppress(Exception):
        return call(*arguments, **named)


def use_stream(model, reuse):
    measured = model.time.mode == "measured"
    shape = model.manifest.sample_inputs()[model.inputs[0].name]
    x = np.random.default_rng(0).uniform(-1, 1, shape[1:] if shape[0] == 1 else shape).astype(np.float32)
    stream, timing, kept = model.stream(reuse=reuse), times(measured), None
    for k in range(6):
        for own in forms(x):
            y = tried(stream.step, own, **next(timing))
            tried(stream.step, y, **next(timing))  # its own result, which may be the memory that is written next
        kept = stream.snapshot() if k % 2 else kept
        tried(stream.restore, kept)
        tried(stream.reset if k % 3 else stream.state_arrays)
        assert isinstance(stream.steps, int)
        assert isinstance(stream.outside, dict)
    for words in ((), (x, x), (x, 1, 2)):
        tried(stream.step, *words)
    tried(stream.step, x, y=1)
    tried(stream.step, **{"x": x, **next(timing)})
    use_recordings(stream, x, measured)
    use_guard(model, x, times(measured))
    assert stream.steps > 1000  # most of it was done


def use_guard(model, x, timing):
    """Ticks as usual and others, with limits, taken back and not."""
    slews = {t.name: (0.5,) * t.shape[-1] for t in model.outputs}
    guarded = model.guarded(sys.modules["lnn_edge"].Guard(slew_per_s=slews, on_gap="clamp", on_late="reset"))
    assert guarded._ticking.__module__.endswith("fast_path")
    for k in range(40):
        for own in forms(x):
            tried(guarded.tick, own, **next(timing))
            guarded.stream._practise(own)
            tried(guarded.stream._back, guarded._now)
        mark = (k,)
        tried(guarded.stream._guarded, mark, x, 0.1 if model.time.mode == "measured" else None)
        guarded.stream._back(mark)
        guarded.sent = guarded.hold if k % 2 else None
        tried(guarded.reset if k % 9 == 0 else guarded.snapshot)
    assert guarded.counts["ok"] > 100


def use_limits(module):
    y, one = np.ones(3, np.float32), np.ones(3)
    places = [y, y * 2, y * np.nan, y[:2], y[::2], np.repeat(y, 2)[::2], one, None, 1.0, 1, y[:0]]
    for places_of in itertools.product(places, repeat=3):
        for most_s in (1.0, np.nan, 1, None):
            tried(module.limited, places_of[0], places_of[1], most_s, places_of[2], places_of[2], one)
            tried(module.limited, places_of[0], y, most_s, None, places_of[1], places_of[2])
    for count in range(8):
        tried(module.limited, *[y] * count)


def use_pack(module):
    y, memory = np.ones(2, np.float32), bytearray(200)
    whole = (0, y, y, 1, False, None, np.ones(3, np.float32), None, False)
    ticks = [whole, (1, *whole[1:6], np.ones(3), None, True), whole[:3], (whole[0], None, *whole[2:]), 5, (None,) * 9]
    layouts = [
        (100, 48, 3, 60, 68, 2),
        (100, 48, 3, 60, 93, 2),
        (100, 0, 3, 0, 0, 2),
        (1 << 70, 48, -1, 60, 2, 2),
        (),
        5,
    ]
    for tick, layout, start in itertools.product(ticks, layouts, (0, 100, 101, -1, 1 << 70, None)):
        for numbers in ((5, 0.5, 6, 7, True), (1 << 70, None, 6, 7, True), (None,) * 5):
            tried(module.pack, memory, start, layout, tick, *numbers)
    tried(module.pack, memory, 0)


def use_rows(model):
    """Many streams: any number of rows, of every layout, bad ones among them, from two threads."""
    measured, shape = model.time.mode == "measured", model.manifest.sample_inputs()[model.inputs[0].name]
    wanted, done = (0.1,) if measured else (), []

    def stepped(count):
        x = np.random.default_rng(count).uniform(-1, 1, (count, *shape[1:])).astype(np.float32)
        state = model.initial_state(rows=count)
        for own in (x, x.astype(np.float64), x[::-1], np.asfortranarray(x), x * np.float32(np.nan), x.tolist(), x[:0]):
            _, state, _ = tried(model.step_many, own, state, *wanted) or (0, state, 0)
        done.append(len(model.step_many(x, state, *wanted)[2]))

    for count in (0, 1, 5, 16, 33):
        threads = [threading.Thread(target=stepped, args=(count,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done[-2:] == [count] * 2


def use_side_by_side(module):
    """What the function of many streams refuses before it calls anything."""
    y, flags = np.ones((3, 2), np.float32), np.ones(3, np.bool_)
    good = (1, 8, None, (y, y), (2, 2), ((2,),), None)
    others = [
        (0, "f", None, 1 << 70),
        (-1, "8", None, 1 << 70),
        (y.tolist(), y.astype(np.float64), y[::2], 5),
        ((), (y,), (y, y[:2]), (y, None), (y, y.T), [y, y], (np.float32(1), y), (y[0], y), (y,) * 65),
        ((2,), (2, 3), (2, -2), (2, "2"), (2, None), [2, 2], (), (2, 1 << 62)),
        (((2,) * 5,), ((-2,),), (("2",),), (None,), [(2,)], ((1 << 40, 1 << 40),)),
        (flags[:2], np.ones(3, np.int8), 1, flags[::-1], True),
    ]
    for place, own in ((place, own) for place, kinds in enumerate(others) for own in kinds):
        try:
            module.side_by_side(*good[:place], own, *good[place + 1 :])
        except (TypeError, ValueError, OverflowError, MemoryError):
            continue
        raise AssertionError(f"{own!r} was taken")
    for count in range(9):
        if count != len(good):
            tried(module.side_by_side, *(good * 2)[:count])


def use_recordings(stream, x, measured):
    for count in (0, 1, 2, 700):
        rows = np.repeat(x[None], count, axis=0)
        spans = {"dt_s": np.full(count, 0.1)} if measured else {}
        for own in (rows, rows.astype(np.float64), rows[::-1], np.asfortranarray(rows)):
            tried(stream.run, own, **spans)
        if count:
            rows[-1] = np.nan
            tried(stream.run, rows, **spans)
    rows = np.repeat(x[None], 20000, axis=0)
    writer = threading.Thread(target=lambda: [rows.fill(v) for v in (0.5, np.nan, 0.1) * 30])
    writer.start()
    tried(stream.run, rows, **({"dt_s": np.full(len(rows), 0.1)} if measured else {}))
    writer.join()


class Finalizer:
    """Garbage in a circle, which calls a stream when the collector finds it."""

    def __init__(self, *calls):
        self.calls, self.itself = calls, self

    def __del__(self):
        for call in self.calls:
            tried(call)


def use_collector(model):
    """The collector at every allocation that may start it, with finalizers that call the stream."""
    measured = model.time.mode == "measured"
    shape = model.manifest.sample_inputs()[model.inputs[0].name]
    x, timing = np.ones(shape[1:] if shape[0] == 1 else shape, np.float32), {"dt_s": 0.1} if measured else {}
    former = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for k in range(16):
            stream = model.stream(reuse=bool(k % 2))
            names = [lambda s=stream: s.step(x, **timing), stream.reset, stream.snapshot, lambda s=stream: s.steps]
            stream.step(x, **timing)
            Finalizer(*names[k % 4 :])
            taken = [(i, 1, 2, 3, 4, 5) for i in range(2100)]  # no tuple is left over, so that the next is allocated
            stream.steps  # noqa: B018 - makes one
            del taken
            stream.step(x, **timing)
            stream.itself, stream.gone = stream, Finalizer(*names)
            gone = weakref.ref(stream, lambda _: None)
            del stream, names
            gc.collect()
            assert gone() is None
    finally:
        gc.set_threshold(*former)


# ---- the type alone -------------------------------------------------------------------------------------------------


def armed(core, inputs=2, outputs=2, reuse=0, done=0):
    """An object of the type whose step copies its samples, all ones long, and what keeps its memory."""
    sample, places = np.zeros((inputs, 3), np.float32), np.zeros((2, outputs, 3), np.float32)
    kind = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)

    def advance(_work, _sample, _from, to):
        ctypes.memset(to, 1, places[0].nbytes)
        return done

    function, limit = kind(advance), np.full(3, 2, np.float32)
    names = tuple(f"own_{k}" for k in range(max(inputs, outputs)))
    rows = tuple((names[k], sample[k], 3, -limit, limit, -limit / 2, limit / 2) for k in range(inputs))
    results = tuple({n: place[k] for k, n in enumerate(names[:outputs])} for place in places)
    shown = [tuple(place[k] for k in range(outputs)) for place in places]
    dt, own = np.zeros(1, np.float32), core()
    own._held, own._now = {}, (0, None, 0, None, False, None)
    addresses = (ctypes.cast(function, ctypes.c_void_p).value, 0, sample.ctypes.data, *(p.ctypes.data for p in places))
    kept = (function, sample, places, dt, rows, limit)
    own._arm(
        addresses, rows, (dt, 0.01, 1.0, 0.1), places[0].nbytes, results, (names[:outputs], *shown), 1, reuse, kept
    )
    return own, names[:inputs]


class Text(str):
    """Whose comparison runs code."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        gc.collect(0)
        return str.__eq__(self, other)


def use_type(core):
    class Slow(core):
        def _slow_step(self, *_arguments, **_named):
            return None

    for reuse, outputs, done in itertools.product((0, 1), (1, 2, 8), (0, 1)):
        own, names = armed(Slow, 2, outputs, reuse, done)
        x = np.ones(3, np.float32)
        samples = [
            dict.fromkeys(names, x),
            {"".join(list(n)): x * 1.5 for n in names},
            {Text(n): x for n in names},
            {names[0]: x},
            {names[0]: x, 1: x},
            {names[0]: x, names[1]: x[:2]},
            {names[0]: x * 9, names[1]: x},
        ]
        for given in samples * 2:
            own.step(given, dt_s=0.1)
            own.step(given, t_s=float(own._now[2] + 1))
            own.step(given, **{Text("dt_s"): 0.1})
            own._counted()
        own._run_rows((np.ones((5, 3), np.float32),) * 2, np.full(5, 0.1), 1.0, np.zeros((5, 3 * outputs), np.float32))
        own._commit((1, 0.5, 3, None, True, None), [(x.tobytes(),) * 2] * 3)
        sides = [np.full(3, own, np.float32) for own in (-1, 1)]
        own._bound(((np.zeros(3, np.float32), np.ones(3, np.float32), *sides),) * 8)
        for mark in (own, (1,), (2,)):
            own._guarded(mark, samples[0], 0.1)
            own._practise(samples[1])
            own._back(mark if outputs > 1 else None)
            own._back(mark)
        own.step(samples[0], dt_s=0.1)
        for name in ("_held", "_now"):
            tried(delattr, own, name)
            tried(own.step, samples[0], dt_s=0.1)
    use_type_badly(core)


def use_type_badly(core):
    """As nothing here does; it may refuse, and no more."""
    bare, x = core(), np.zeros(3, np.float32)
    own, _ = armed(core)
    moments = [
        None,
        (),
        (1,) * 5,
        (0, None, "3", None, 0, None),
        (2**80, 0.0, 1, None, 0, None),
        (0, 1.0, 2**70, 0, 0, 0),
    ]
    for one in (bare, own):
        for moment in moments:
            tried(setattr, one, "_now", moment)
            tried(one._commit, moment, [])
            tried(one._back, moment)
            tried(one._bound, moment)
            tried(one._bound, (moment,) * 9)
            tried(one._bound, ((x, x, x, moment), (x, x, x[:2], x), (x,) * 4))
            tried(one._guarded, moment, x, 0.1)
            tried(one._guarded, moment)
            tried(one._practise, moment)
        for call in (one.step, one._run_rows, one._commit, one._arm):
            for arguments in ((), (x,), ((x, x), x, None, x), (None, []), ((1, 2, 3, 4, 5),) * 7):
                tried(call, *arguments)
        tried(one._commit, (0, None, 0, None, 0, None), [(b"",), (b"1", b"2"), 3])
        one._held = 5
        tried(one.step, x)
        tried(getattr, one, "_now")
        tried(one._counted)
        one._held = {0: one}  # a circle
    del bare, own, one
    gc.collect()


def main(extension, bundles):
    os.environ.pop("LD_PRELOAD", None)  # compilers have less memory than sanitizers want
    module = use(extension)
    import lnn_edge
    from lnn_edge.runtime.backends.native import compiler

    compiler.OPTIMIZATION = "-O1"  # as in other tests: what is looked at is the extension
    gc.freeze()  # else each collection looks at all that was imported, in memory that is watched
    use_type(module.make_core("step(x)\n--\n\nA step."))
    use_limits(module)
    use_pack(module)
    use_side_by_side(module)
    for path in bundles:
        model = lnn_edge.load(path, backend="native", options={"tune": "off"})
        assert type(model.stream()).step.__class__.__name__ == "method_descriptor"
        for reuse in (False, True):
            use_stream(model, reuse)
        use_rows(model)
        use_collector(model)
    gc.collect()
    print("done")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
