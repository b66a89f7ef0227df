"""The usual tick, a good sample in time, beside the same guard that takes every sample step by step: equal in all."""

from __future__ import annotations

import gc
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interruptions import standing
from properties import examples

from lnn_edge import Guard
from lnn_edge.bundle.spec import Feature, Tensor
from lnn_edge.runtime.compiled.extension import limited, why_no_extension
from lnn_edge.runtime.guard.guarded import Guarded
from lnn_edge.runtime.guard.outputs import OutputLimits
from lnn_edge.runtime.guard.status import Status

X = np.array([0.3, -0.2, 0.1], np.float32)
GUARDS = [
    Guard(),
    Guard(on_gap="split", on_late="reset", warm_up=2),
    Guard(on_gap="reset", first="wait", on_state="reset", state_margin=1e-3),
    Guard(slew_per_s={"output": (0.3, 40.0)}, on_fault="safe", safe={"output": (0.5, -0.5)}),
    Guard(dt_from="clock", on_gap="clamp", pace_window=3),
    Guard(dt_from="nominal", pace=(0.9, 1.1), pace_window=2),
    Guard(on_bad="hold", hold_for_s=5.0),
]

pytestmark = pytest.mark.skipif(why_no_extension() is not None, reason="no extension: every tick is step by step")


@pytest.fixture
def ltc(ltc_bundle, loaded):
    return loaded(ltc_bundle, "native")


@pytest.fixture
def cfc(cfc_bundle, loaded):
    return loaded(cfc_bundle, "native")


class StepByStep(Guarded):
    """A guard that takes every sample like one that is unusual."""

    def _way(self):
        return Guarded._tick


def pair(model, guard):
    """Two guards, the clock that both read, in a list, and how often each asked it."""
    now, asked = [0.0], [0, 0]

    def clock(k):
        asked[k] += 1
        return round(now[0] * 1e9)

    both = [kind(model, model.stream(), guard, lambda k=k: clock(k)) for k, kind in enumerate((Guarded, StepByStep))]
    return both, now, asked


def told(tick):
    """All that a tick tells."""
    arrays = [None if a is None else np.asarray(a).tobytes() for a in (tick.y, tick.raw)]
    x = tick.x.tobytes() if isinstance(tick.x, np.ndarray) else tick.x
    frozen = [a is None or not a.flags.writeable for a in (tick.y, tick.raw)]
    rest = tick.status, tick.stepped, tick.reset, tick.dt_s, tick.limited
    return arrays, x, frozen, rest, None if tick.error is None else (type(tick.error), str(tick.error))


def all_of(guarded):
    known = guarded._now[:3], told_array(guarded.sent), told_array(guarded.hold), str(guarded.pace), guarded.counts
    return known, standing(guarded), standing(guarded.stream), guarded.stream.steps


def told_array(y):
    return None if y is None else y.tobytes()


GOOD, BAD_VALUE, LATE, FAR, SHAPE, LIST, WIDE = range(7)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([GOOD] * 5 + [BAD_VALUE, LATE, FAR, SHAPE, LIST, WIDE]),
        st.sampled_from(["t_s", "dt_s", "clock", "both"]),
        st.floats(0.01, 0.3),
        st.floats(-3, 3),
        st.sampled_from([None] * 9 + ["reset", "restore", "sent", "stop"]),
    ),
    max_size=25,
)


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, guard=st.sampled_from(GUARDS), fixed=st.booleans(), real=st.booleans(), time=st.booleans())
def test_it_is_that_of_all_others(ltc, cfc, events, guard, fixed, real, time):
    both, now, asked = pair(cfc if fixed else ltc, guard)
    assert (both[0]._ticking is not Guarded._tick) == (guard.on_bad == "refuse")
    if real:
        for own in both:
            own.in_real_time()
    stamp_s = 0.0
    for kind, by, span_s, value, act in events:
        now[0] += span_s
        stamp_s += span_s + {LATE: -2 * span_s, FAR: 5.0}.get(kind, 0.0)
        x = np.array([value, np.nan if kind == BAD_VALUE else -value, value][: 2 if kind == SHAPE else 3], np.float32)
        x = x.tolist() if kind == LIST else x.astype(np.float64) if kind == WIDE else x
        given = {"t_s": {"t_s": stamp_s}, "dt_s": {"dt_s": span_s}, "clock": {}}.get(by, {"t_s": stamp_s, "dt_s": 0.1})
        found = [own.tick(x, **({"t_s": stamp_s} if time else given)) for own in both]
        assert told(found[0]) == told(found[1])
        assert asked[0] == asked[1]
        for own in both if act else ():
            kept = both[1].snapshot()
            {
                "reset": own.reset,
                "restore": lambda own=own, kept=kept: own.restore(kept),
                "sent": lambda own=own: setattr(own, "sent", np.zeros(2, np.float32)),
                "stop": own.enable if own.stopped else own.stop,
            }[act]()
        assert all_of(both[0]) == all_of(both[1])


@pytest.mark.parametrize("guard", [GUARDS[0], GUARDS[3]], ids=["plain", "limits"])
@pytest.mark.parametrize("by", ["t_s", "dt_s", None])
def test_good_samples_in_time_take_no_other_way(ltc, guard, by, monkeypatch):
    (own, _), now, _ = pair(ltc, guard)
    for k in range(20):
        now[0] = 0.1 * k
        assert own.tick(X * k, **({} if by is None else {by: 0.1 * (k if by == "t_s" else 1)})).status is Status.OK
        monkeypatch.setattr(Guarded, "_tick", None)


def test_a_state_out_of_bounds_is_refused_as_by_all_others(ltc):
    both, _, _ = pair(ltc, Guard(state_margin=1e-3))
    rng, refused = np.random.default_rng(0), 0
    for _ in range(200):
        x = rng.normal(scale=3.0, size=3).astype(np.float32)
        found = [own.tick(x, dt_s=0.1) for own in both]
        assert told(found[0]) == told(found[1])
        refused += found[0].status is Status.STATE_OUT_OF_BOUNDS
    assert 0 < refused < 200
    assert all_of(both[0]) == all_of(both[1])


def test_the_first_sample_behind_another_step_of_the_stream_goes_on_from_it(cfc):
    both, _, _ = pair(cfc, Guard())
    for own in both:
        own.tick(X)
        own.stream.step(X * 2)
        own.tick(X * 3)
    assert all_of(both[0]) == all_of(both[1])


class TestLimits:
    """Of outputs, in C beside NumPy."""

    NUMBERS = st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3)
    SLEWS = st.lists(st.floats(0.01, 50), min_size=3, max_size=3)

    @settings(max_examples=examples(300), deadline=None)
    @given(
        raw=NUMBERS, sent=st.none() | NUMBERS, slews=st.none() | SLEWS, ends=st.none() | NUMBERS, dt_s=st.floats(0, 1)
    )
    def test_alike(self, raw, sent, slews, ends, dt_s):
        limits = [None] * 3 if ends is None else [(min(-end, end), abs(end)) for end in ends]
        features = tuple(Feature(f"own_{k}", limits=pair) for k, pair in enumerate(limits))
        manifest = SimpleNamespace(outputs=[Tensor("output", (1, 3), features)], batch=1)
        in_c = OutputLimits(manifest, Guard(slew_per_s={} if slews is None else {"output": tuple(slews)}))
        in_numpy = OutputLimits(manifest, Guard(slew_per_s={} if slews is None else {"output": tuple(slews)}))
        in_numpy._in_c = None
        given = np.array(raw, np.float32), None if sent is None else np.array(sent, np.float32), dt_s
        (y, changed), (expected, numpys) = in_c.limited(*given), in_numpy.limited(*given)
        np.testing.assert_array_equal(y, expected)
        assert changed == numpys == (y is not given[0])
        assert not changed or not y.flags.writeable
        assert given[0].tolist() == raw

    def test_what_is_no_plain_array_is_left_to_numpy(self):
        call, y, one = limited(), np.ones(3, np.float32), np.ones(3)
        assert call(y, y * 2, 1.0, -y, y, one) is y
        assert call(y * 3, None, 1.0, -y, y, None).tolist() == [1, 1, 1]
        for others in (
            (y.astype(np.float64), y, 1.0, None, None, one),
            (y, y[:2], 1.0, None, None, one),
            (y, [1.0], 1.0, None, None, one),
            (y, y * np.nan, 1.0, None, None, one),
            (y, y, 1, None, None, one),
            (y, y, 1.0, y, None, None),
            (y, y, 1.0, None, None, y),
            (y[::2], y[::2], 1.0, None, None, one[:2]),
            (None, y, 1.0, None, None, None),
            (y,),
        ):
            assert call(*others) is None


@pytest.mark.parametrize(
    "x", [X, X * np.float32(np.nan), X[:2], X * np.float32(1e9)], ids=["good", "NaN", "short", "far"]
)
def test_memory_does_not_grow(ltc, x):
    guarded = ltc.guarded(Guard(slew_per_s={"output": (0.1, 0.1)}))

    def many(count):
        for _ in range(count):
            guarded.tick(x, dt_s=0.1)
        gc.collect()
        return sys.getallocatedblocks()

    many(300)
    before = many(300)
    assert many(3_000) - before < 200
