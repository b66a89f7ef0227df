"""Recordings of guarded streams on any samples, which come out the same when they are replayed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import examples, some
from ticks import bundle, model_of

import lnn_edge
from lnn_edge import Guard, Recorder

PERIOD_NS = 100_000_000
GUARDS = [
    Guard(on_gap="split", on_late="reset", on_bad="hold", hold_for_s=1.0),
    Guard(on_gap="reset", warm_up=2, on_state="reset", state_margin=1e-6),
    Guard(on_gap="clamp", on_bad="predict"),
    Guard(),
]
SAMPLES = {
    "good": np.array([0.1, -0.2, 0.3]),
    "list": [0.3, 0.2, -0.1],
    "large": np.array([30.0, -30.0, 30.0], np.float32),
    "hole": np.array([0.2, np.nan, 0.1]),
    "none": None,
    "short": np.zeros(2),
}
WHAT = st.sampled_from([*SAMPLES, "good", "good", "stop", "enable"])


@pytest.mark.parametrize("guard", some(range(len(GUARDS))))
@pytest.mark.parametrize("name", ["measured_2", "fixed_2"])
@given(turns=st.lists(st.tuples(WHAT, st.sampled_from([1, 1, 1, 2, 5, 40, -1])), min_size=1, max_size=25))
@settings(max_examples=examples(25), deadline=None)
def test_a_guarded_run_replays(name, guard, turns, tmp_path_factory):
    model, path = model_of(name), tmp_path_factory.mktemp("guarded") / "walk.mcap"
    period_s = model.time.period_s
    try:
        guarded = model.guarded(GUARDS[guard])
    except ValueError:
        return  # a policy on time that this model has no use for
    t_s, count = 0.0, 0
    with Recorder(path, model, state_every=3) as recorder:
        for what, periods in turns:
            if what in ("stop", "enable"):
                getattr(guarded, what)()
                if what == "enable":
                    recorder.begin(guarded.snapshot())
                continue
            t_s += periods * period_s
            tick = guarded.tick(SAMPLES[what], t_s=t_s)
            state = guarded.snapshot() if recorder.wants_state else None
            recorder.put(tick, t_s=t_s, mono_ns=count * PERIOD_NS, wall_ns=count * PERIOD_NS, state=state)
            count += 1
    assert (recorder.written, recorder.error) == (count, None)
    if count:
        (verdict,) = lnn_edge.replay(bundle(name), path, backend="onnxruntime").verdicts
        assert verdict.first is None, str(verdict)
        assert verdict.found.unknown == 0
        assert verdict.tolerance == 0.0
