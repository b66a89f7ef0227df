"""Practice of a second stream: the real one is never touched, and a GPU is refused."""

from __future__ import annotations

import numpy as np
import pytest
from fake_timer import FakeTimer

import lnn_edge
from lnn_edge.runtime.loop.loop import Loop
from lnn_edge.runtime.loop.practice import Practice, guarded_twin, plain_sample, refuse_gpu
from lnn_edge.runtime.loop.waiting import way_of


@pytest.mark.parametrize("name", ["cfc_bundle", "ltc_bundle"])
def test_a_rehearsed_stream_gives_what_one_alone_gives(name, request):
    """Rehearsals before each step, on the sample before: every bit of outputs and state is the same."""
    model = lnn_edge.load(request.getfixturevalue(name))
    xs = np.random.default_rng(0).uniform(-0.5, 0.5, (40, model.inputs[0].shape[-1])).astype(np.float32)
    dt = model.time.period_s if model.time.mode == "measured" else None
    alone = model.stream()
    expected = [alone.step(x, dt_s=dt) for x in xs]
    timer, stream, practice = FakeTimer(), model.stream(), Practice(model.stream().step, *plain_sample(model))
    way = way_of("rehearse", timer, 100, practice)
    for x, y in zip(xs, expected, strict=True):
        way.until(timer.now_ns + 10_000_000)
        np.testing.assert_array_equal(stream.step(x, dt_s=dt), y)
        practice.see(x, dt)
    assert way.counts.failed == 0
    assert way.counts.made == 40
    for own, other in zip(stream.state_arrays().values(), alone.state_arrays().values(), strict=True):
        np.testing.assert_array_equal(own, other)


def test_it_steps_what_it_saw_last():
    calls = []
    practice = Practice(lambda *x, **more: calls.append((*x, more)), 1)
    practice()
    practice.see(2)
    practice()
    practice.see(3, 0.5)
    practice()
    assert calls == [(1, {}), (2, {}), (3, {"dt_s": 0.5})]


def test_the_first_sample_is_legal(ltc_bundle, cfc_bundle):
    for bundle in (ltc_bundle, cfc_bundle):
        model = lnn_edge.load(bundle)
        x, dt_s = plain_sample(model)
        assert np.isfinite(model.stream().step(x, dt_s=dt_s)).all()


@pytest.mark.workstation
def test_the_first_sample_keeps_to_limits_and_blocks(tmp_path):
    ncps = pytest.importorskip("ncps.torch")
    from exports import quick_export

    quick_export(
        ncps.CfC(2, 4), tmp_path / "a.lnn", unroll=3, batch=2, inputs=[lnn_edge.Feature("a", "m", 2.0, 3.0), "b"]
    )
    model = lnn_edge.load(tmp_path / "a.lnn")
    x, _ = plain_sample(model)
    np.testing.assert_array_equal(x, np.full((2, 3, 2), [2.0, 0.0], np.float32))
    Practice(model.stream().step, x)()


def test_a_guarded_twin_leaves_the_real_one_alone(ltc_bundle):
    model = lnn_edge.load(ltc_bundle)
    guarded = model.guarded(lnn_edge.Guard(warm_up=5, on_gap="reset"))
    x, dt_s = plain_sample(model)
    guarded.tick(x, dt_s=dt_s)
    before, counts = guarded.snapshot(), guarded.counts
    twin = guarded_twin(guarded, lambda: 0)
    for _ in range(10):
        assert twin.tick(x).error is None
    assert twin.guard.on_gap == "reset"
    for name, value in guarded.snapshot().tensors.items():
        np.testing.assert_array_equal(value, before.tensors[name])
    assert guarded.counts == counts


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_a_gpu_is_refused(backend):
    with pytest.raises(ValueError, match=f"'{backend}' steps on a GPU, where rehearsals have not been measured. Wait"):
        refuse_gpu(backend)


@pytest.mark.parametrize("backend", ["onnxruntime", "native"])
def test_a_cpu_is_not(backend):
    refuse_gpu(backend)


@pytest.mark.workstation
def test_a_twin_has_the_constants_of_the_real_one(tmp_path):
    torch = pytest.importorskip("torch")
    from exports import quick_export
    from networks import Reaching

    torch.manual_seed(0)
    rng = np.random.default_rng(3)
    xs, goal = rng.normal(size=(1, 40, 3)).astype(np.float32), rng.normal(size=(1, 2)).astype(np.float32)
    quick_export(Reaching().eval(), tmp_path / "m.lnn", example={"x": xs, "goal": goal}, period_s=0.02)
    model, got, timer = lnn_edge.load(tmp_path / "m.lnn"), [], FakeTimer()
    guarded = model.guarded(constants={"goal": goal[0]})
    rows = list(xs[0])
    loop = Loop(
        guarded, iter(rows), rate_hz=50, wait="rehearse", after=got.append, timer=timer, signals=False, threads=False
    )
    assert loop.run().rehearsal.failed == 0
    expected = model.stream(constants={"goal": goal[0]}).run(np.array(rows))
    np.testing.assert_array_equal([tick.y for tick in got], expected)
