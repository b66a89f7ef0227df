"""The ring of ticks: what the extension writes is what Python writes, byte for byte, and all else is left to Python."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from properties import examples

import lnn_edge
from lnn_edge.runtime.compiled.extension import packer, why_no_extension
from lnn_edge.runtime.guard.status import Status, Tick
from lnn_edge.runtime.record.layout import layout_of
from lnn_edge.runtime.record.ring import Ring

pytestmark = pytest.mark.skipif(why_no_extension() is not None, reason="no extension: all is written in Python")

X, Y = np.float32([1.5, np.nan, -0.0]), np.float32([3.0, 4.0])
XS = [X, X.astype(np.float64), X.astype(np.float16), np.repeat(X, 2)[::2], X[:2], X[None], X.tolist(), None, {}, "x"]
YS = [Y, Y * 2, Y.astype(np.float64), Y[:1], None, {"output": Y}]
TIMES = [1.25, None, float("nan"), 3, np.float64(2.5), 10**400, datetime.datetime(2026, 1, 1), "soon"]
CLOCKS = [5, 0, -1, (1 << 63) - 1, 1 << 63, -(1 << 70), 2.5, None]


@pytest.fixture
def rings(cfc_bundle):
    """One that the extension writes, and one without it."""
    manifest = lnn_edge.load(cfc_bundle, backend="onnxruntime").manifest
    both = Ring(manifest, layout_of(manifest), 8), Ring(manifest, layout_of(manifest), 8)
    both[1]._in_c = None
    assert both[0]._in_c is not None
    return both


ONE = st.builds(
    Tick,
    status=st.sampled_from(Status),
    y=st.sampled_from(YS),
    raw=st.sampled_from(YS),
    stepped=st.sampled_from([1, 1, 0, 3, (1 << 32) - 1]),
    reset=st.booleans(),
    dt_s=st.sampled_from([None, 0.25, np.float32(0.5), 1]),
    x=st.sampled_from(XS),
    error=st.none(),
    limited=st.booleans() | st.just(np.True_),
)
PLAIN = ONE.map(lambda tick: tick._replace(x=X, y=Y, raw=Y * 2, stepped=1, dt_s=0.25, limited=True))


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ticks=st.lists(st.tuples(ONE | PLAIN, st.sampled_from(TIMES), *[st.sampled_from(CLOCKS)] * 2), max_size=9))
def test_it_holds_the_same_bytes(rings, ticks):
    states = {"state": np.zeros(1, np.float32)}  # which is none of the model's
    for ring in rings:
        for k, own in enumerate(ticks):
            assert ring.put(*own, states if k % 3 == 2 else None, None) == (k < 8)
    found, expected = (ring.take().ticks for ring in rings)
    for name in found.dtype.names:  # and not what lies between them
        assert found[name].tobytes() == expected[name].tobytes(), name
    assert rings[0].dropped == rings[1].dropped


def test_plain_ticks_are_written_in_c(rings, monkeypatch):
    ring = rings[0]
    monkeypatch.setattr(ring, "_put", None)
    for x in (X, X.astype(np.float64)):
        assert ring.put(Tick(Status.OK, Y, Y * 2, 1, False, None, x, None, False), None, 5, 6, None, None)
    found = ring.take().ticks
    assert found["input.input"].tobytes() == X.tobytes() * 2
    assert (found["output.output"][0].tolist(), found["raw.output"][1].tolist()) == ([3, 4], [6, 8])
    assert np.isnan(found["t_s"]).all()
    assert (found["mono_ns"][0], found["wall_ns"][0], found["tick"][1]) == (5, 6, 1)


def test_what_is_no_ring_of_it_is_left_alone():
    memory, layout = bytearray(200), (100, 48, 3, 60, 68, 2)
    tick = Tick(Status.OK, Y, Y, 1, False, None, X, None, False)
    pack, numbers = packer(), (0, None, 1, 2, False)
    assert pack(memory, 100, layout, tick, *numbers)
    before = bytes(memory)
    for start, places, own in (
        (101, layout, tick),
        (-1, layout, tick),
        (0, layout[:5], tick),
        (0, (76, 48, 3, 60, 72, 2), tick),
        (0, (100, 40, 3, 60, 68, 2), tick),
        (0, (100, 48, 1 << 40, 60, 68, 2), tick),
        (0, (100, 48, -1, 60, 68, 2), tick),
        (0, layout, tick[:8]),
        (0, layout, None),
    ):
        assert not pack(memory, start, places, own, *numbers)
    assert not pack(bytes(200), 0, layout, tick, *numbers)
    assert not pack(memory)
    assert bytes(memory) == before
