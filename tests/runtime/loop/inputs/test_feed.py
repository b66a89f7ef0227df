"""Feeds: what a loop steps at a tick, from one source and from several at rates of their own."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from fake_timer import FakeTimer

import lnn_edge
from lnn_edge.runtime.guard.status import Status
from lnn_edge.runtime.loop.inputs.feed import SampleFeed, TickFeed, make_feed, sources_of
from lnn_edge.runtime.loop.loop import Loop
from lnn_edge.runtime.loop.source import Sample, as_source

MS = 1_000_000


def model_of(*names):
    tensors = tuple(SimpleNamespace(name=name, features=()) for name in names)
    return SimpleNamespace(name="two", manifest=SimpleNamespace(streamed=tensors))


def test_one_source_goes_by_the_input():
    (name,) = sources_of(np.zeros((3, 2)), model_of("imu"))
    assert name == "imu"


def test_a_dict_of_arrays_is_one_source():
    (source,) = sources_of({"imu": np.zeros((3, 2)), "camera": np.ones((3, 4))}, model_of("imu", "camera")).values()
    assert set(source.read(0.0).x) == {"imu", "camera"}


def test_a_dict_of_sources_is_several():
    found = sources_of({"imu": lambda: [1.0], "camera": iter([[2.0]])}, model_of("imu", "camera"))
    assert [own.read(0.0) for own in found.values()] == [Sample([1.0]), Sample([2.0])]


def test_sources_that_are_no_inputs_are_refused():
    with pytest.raises(ValueError, match="the sources are named imu, gps, and the inputs of 'two' imu, camera"):
        sources_of({"imu": lambda: 1, "gps": lambda: 2}, model_of("imu", "camera"))


def every(period, values):
    """A source that has a new sample at each of so many reads."""
    reads, left = iter(range(10**6)), iter(values)
    return as_source(lambda: next(left) if next(reads) % period == 0 else None)


def test_two_rates_at_the_ticks_of_a_timer():
    """Every fifth tick there is a frame; until the next one it is held, and no sample of the faster one is dropped."""
    timer = FakeTimer()
    imu, camera = every(1, [[float(k)] for k in range(20)]), every(5, [[100.0 + k] for k in range(9)])
    feed, found = TickFeed({"imu": imu, "camera": camera}, timer, 0.1, "hold"), []
    for _ in range(20):
        timer.now_ns += 10 * MS
        taken = feed.take()
        assert taken.status is None
        found.append((taken.x["imu"][0], taken.x["camera"][0]))
    assert found == [(k, 100 + k // 5) for k in range(20)]
    with pytest.raises(EOFError):
        feed.take()


@pytest.mark.parametrize("kinds", ["predict", {"speed": "predict", "gear": "predict"}, {"speed": "predict"}])
def test_late_whole_numbers_are_held_where_others_are_predicted(kinds):
    tensors = [SimpleNamespace(name="speed", dtype="float32"), SimpleNamespace(name="gear", dtype="int32")]
    model = SimpleNamespace(name="two", manifest=SimpleNamespace(streamed=tensors))
    sources = {"speed": every(1, [[1.0], [2.0], None, None]), "gear": every(1, [[1], [2], None, None])}
    timer = FakeTimer()
    feed, found = make_feed(sources, model, timer, 10.0 * MS, None, kinds), []
    for _ in range(4):
        taken = feed.take()
        found.append((taken.x["speed"][0], taken.x["gear"][0]))
        timer.now_ns += 10 * MS
    assert found == [(1, 1), (2, 2), (3, 2), (4, 2)]


def test_the_slower_one_goes_stale_by_name():
    timer = FakeTimer()
    feed = TickFeed({"imu": every(1, [[0.0]] * 20), "camera": every(5, [[1.0]])}, timer, {"camera": 0.03}, "hold")
    words = []
    for _ in range(5):
        taken = feed.take()
        words.append(None if taken.status is None else str(taken.error))
        timer.now_ns += 10 * MS
    assert words == [None] * 4 + ["'camera' is 0.04 s old, fresh for 0.03 s"]


class Waiting:
    """A device that has one sample and then waits, as a driver does."""

    def __init__(self, x):
        self.x, self.open = x, threading.Event()

    def read(self, timeout_s):
        if self.x is None:
            self.open.wait(min(timeout_s, 0.01))
            return None
        x, self.x = self.x, None
        return Sample(x, 5.0)

    def close(self):
        self.open.set()


def arrived(reader):
    while reader.look()[0] is None:
        time.sleep(0.001)


@pytest.mark.timeout(30)
def test_samples_of_one_source_with_the_newest_of_another():
    timer = FakeTimer()
    feed = SampleFeed({"imu": as_source([(0.1, [1.0]), (0.2, [2.0])]), "camera": Waiting([7.0])}, timer, None, "hold")
    arrived(feed.readers["camera"])
    assert [feed.take(0.1)[:2] for _ in range(2)] == [
        ({"imu": [1.0], "camera": [7.0]}, 0.1),
        ({"imu": [2.0], "camera": [7.0]}, 0.2),
    ]
    with pytest.raises(EOFError):
        feed.take(0.1)
    feed.close()


@pytest.mark.timeout(30)
def test_without_the_other_the_sample_is_stale():
    feed = SampleFeed({"imu": as_source([[1.0]]), "camera": Waiting(None)}, FakeTimer(), None, "hold")
    taken = feed.take(0.1)
    assert (taken.status, str(taken.error)) == (Status.STALE, "'camera' has never come")
    feed.close()


def test_reads_that_fail_are_spaced():
    timer = FakeTimer()

    def gone():
        raise OSError("unplugged")

    feed = SampleFeed({"imu": as_source(gone)}, timer, None, "hold")
    began, waits = timer.now_ns, []
    for _ in range(12):
        assert feed.take(0.1).status is Status.BAD_INPUT
        waits.append((timer.now_ns - began) // MS)
        began = timer.now_ns
    assert waits == [0, 1, 2, 4, 8, 16, 32, 64, 100, 100, 100, 100]
    assert feed.failed == 12


@pytest.mark.timeout(60)
def test_a_source_that_never_waits_keeps_no_core_busy():
    timer = FakeTimer()
    feed = SampleFeed({"imu": as_source(lambda: None)}, timer, None, "hold")
    began = timer.now_ns
    assert [feed.take(0.1) for _ in range(10)] == [None] * 10
    assert timer.now_ns - began >= 5 * MS


def test_a_device_that_waits_does_not_hold_up_a_loop_at_a_rate(cfc_bundle):
    """Read by a thread: the loop steps its newest sample until that is too old."""
    model = lnn_edge.load(cfc_bundle)
    got = []
    device = Waiting(np.zeros(model.inputs[0].shape[-1], np.float32))
    loop = Loop(model, device, rate_hz=50, after=got.append, fresh_s=1e6, signals=False, report=[].append)
    summary = loop.run(5)
    assert [tick.status.trusted for tick in got] == [True] * 5
    assert (summary.ended, device.open.is_set()) == ("all ticks", True)


@pytest.mark.workstation
def test_a_model_of_two_inputs(tmp_path):
    torch = pytest.importorskip("torch")
    from exports import quick_export
    from ncps.torch import CfC

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = CfC(4, 3)

        def forward(self, a, b, h=None):
            return self.rnn(torch.cat([a, b], -1), h)

    torch.manual_seed(0)
    example = {"a": torch.randn(1, 20, 1), "b": torch.randn(1, 20, 3)}
    quick_export(Both().eval(), tmp_path / "m.lnn", example=example, period_s=0.02)
    model, timer, got = lnn_edge.load(tmp_path / "m.lnn"), FakeTimer(), []
    a, b = (np.random.default_rng(0).standard_normal((12, n)).astype(np.float32) for n in (1, 3))
    sources = {"a": iter(a), "b": every(3, b[::3])}
    Loop(model, sources, rate_hz=50, after=got.append, timer=timer, signals=False, threads=False).run()
    expected = model.stream().run({"a": a, "b": np.repeat(b[::3], 3, axis=0)})
    np.testing.assert_array_equal([tick.y for tick in got], expected)


def test_a_device_that_paces_the_loop_may_give_what_a_function_may(cfc_bundle):
    class Device:
        given: ClassVar = [[0.1, 0.2, 0.3], (0.5, [0.1, 0.2, 0.3]), "no sample", SystemExit(3)]

        def read(self, _timeout_s):
            if not self.given:
                raise EOFError
            own = self.given.pop(0)
            if isinstance(own, BaseException):
                raise own
            return own

        def close(self):
            raise OSError("gone")

    said = []
    loop = Loop(lnn_edge.load(cfc_bundle), Device(), report=said.append, signals=False, threads=False)
    assert loop.run().by_status == {"ok": 2, "bad input": 2}
    assert "end: OSError: gone" in said


def test_all_sources_are_closed_though_one_cannot_be():
    class Device:
        def __init__(self):
            self.closed = 0

        def read(self, _timeout_s):
            return None

        def close(self):
            self.closed += 1
            raise OSError("gone")

    devices = {"a": Device(), "b": Device(), "c": Device()}
    for feed in (SampleFeed, TickFeed):
        made = feed(devices, FakeTimer(), None, "hold")
        with pytest.raises(OSError, match="gone"):
            made.close()
    assert [own.closed for own in devices.values()] == [2, 2, 2]
