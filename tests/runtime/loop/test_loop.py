"""The loop around a guarded stream, on a clock that only its own sleeps and the test's functions move."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial

import numpy as np
import pytest
from fake_timer import FakeTimer
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import examples

import lnn_edge
from lnn_edge import Guard
from lnn_edge.runtime.call_token import alone
from lnn_edge.runtime.guard.status import Status
from lnn_edge.runtime.loop.loop import Loop
from lnn_edge.runtime.loop.source import Sample
from lnn_edge.runtime.record.snapshot import load_snapshot

US, MS = 1000, 1_000_000
HZ = 50  # of the bundle


@pytest.fixture(scope="module")
def model(cfc_bundle):
    return lnn_edge.load(cfc_bundle)


@pytest.fixture(scope="module")
def measured(ltc_bundle):
    return lnn_edge.load(ltc_bundle)


def samples(model, count, seed=0):
    shape = (count, model.inputs[0].shape[-1])
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


class Ran:
    """A loop that ran on a fake clock, with what it said and what the robot got."""

    def __init__(self, model, source, ticks=None, timer=None, **options):
        self.timer = FakeTimer(late_ns=50 * US) if timer is None else timer
        self.said, self.got = [], []
        usual = {"after": self.got.append, "report": self.said.append, "signals": False, "threads": False}
        self.loop = Loop(model, source, timer=self.timer, **(usual | options))
        self.summary = self.loop.run(ticks)
        self.statuses = [tick.status for tick in self.got]


def test_outputs_are_those_of_the_stream(model):
    xs = samples(model, 30)
    own = Ran(model, xs, rate_hz=HZ)
    np.testing.assert_array_equal([tick.y for tick in own.got], model.stream().run(xs))
    assert (own.summary.ticks, own.summary.steps, own.summary.by_status) == (30, 30, {"ok": 30})
    assert (own.summary.ended, own.summary.complete, own.said) == ("source ended", True, [])


@pytest.mark.parametrize("rate_hz", [HZ, None])
def test_bad_samples_are_left_out_of_the_state_and_told_once(model, rate_hz):
    xs = samples(model, 30).astype(np.float64)
    bad = [3, 9, 10, 20]
    xs[bad, 0] = np.nan
    own = Ran(model, xs, rate_hz=rate_hz)
    good = np.delete(xs, bad, axis=0)
    expected = model.stream()
    expected.run(good)
    np.testing.assert_array_equal(own.loop.guarded.snapshot().tensors["h_in"], expected.snapshot().tensors["h_in"])
    assert own.summary.by_status == {"ok": 26, "non-finite input": 4}
    assert len(own.said) == 1
    assert own.said[0].startswith("non-finite input: ")


def test_ticks_lie_on_the_schedule(model):
    own = Ran(model, samples(model, 40), rate_hz=HZ, wait="spin")
    assert own.summary.lateness.max_us == 0
    assert own.timer.now_ns - 1_000_000_000_000 == 41 * 20 * MS  # the end of the source is seen at the next tick


def slow_at(timer, slow, took_ns):
    """An `after` that takes long at some ticks."""
    count = iter(range(10**6))

    def after(_tick):
        timer.now_ns += took_ns if next(count) in slow else 0

    return after


@pytest.mark.parametrize(("late", "left_out", "lates"), [("skip", 2, 0), ("catch up", 0, 1), ("at once", 1, 0)])
def test_what_a_slow_tick_costs_the_others(model, late, left_out, lates):
    """A function of 2.25 periods: the ticks that were due meanwhile run late, or are left out and counted."""
    timer = FakeTimer()
    after = slow_at(timer, {5}, 45 * MS)
    own = Ran(model, lambda: [0.0] * 3, 20, timer, rate_hz=HZ, late=late, after=after, function_limit_s=1)
    assert (own.summary.ticks, own.summary.left_out) == (20, left_out)
    assert own.summary.by_status.get("late", 0) == lates
    assert own.summary.misses >= 1
    assert own.summary.complete is (left_out == 0)


def test_a_tick_that_begins_late_is_late_and_stepped(model):
    timer = FakeTimer(lambda sleeps: 15 * MS if sleeps == 4 else 0)
    own = Ran(model, samples(model, 10), timer=timer, rate_hz=HZ)
    assert own.summary.by_status == {"ok": 9, "late": 1}
    assert own.summary.steps == 10


# ---- what the robot gets at a fault


def with_a_hole(model, at=4, count=8):
    xs = samples(model, count).astype(np.float64)
    xs[at, 0] = np.nan
    return xs


def test_hold_is_the_last_output(model):
    own = Ran(model, with_a_hole(model), rate_hz=HZ, on_fault="hold")
    np.testing.assert_array_equal(own.got[4].y, own.got[3].y)


def safe_guard(model, **more):
    outputs = model.outputs[0]
    return model.guarded(lnn_edge.Guard(safe={outputs.name: (7.0,) * outputs.shape[-1]}, **more))


def test_safe_is_the_guards(model):
    own = Ran(safe_guard(model), with_a_hole(model), rate_hz=HZ, on_fault="safe")
    assert set(own.got[4].y) == {7.0}
    assert set(own.got[5].y) != {7.0}


def test_the_guards_own_choice_is_the_default(model):
    own = Ran(safe_guard(model, on_fault="safe"), with_a_hole(model), rate_hz=HZ)
    assert set(own.got[4].y) == {7.0}


def test_stop_ends_behind_the_fault(model):
    own = Ran(model, with_a_hole(model), rate_hz=HZ, on_fault="stop")
    assert (own.summary.ended, own.summary.ticks) == ("fault", 5)
    assert own.summary.error.startswith("non-finite input: ")


def test_a_function_answers(model):
    own = Ran(model, with_a_hole(model), rate_hz=HZ, on_fault=lambda tick: [float(tick.status), 0])
    assert own.got[4].y.tolist() == [4.0, 0.0]
    assert own.summary.functions["on_fault"].calls == 1


def test_limits_of_slew_go_on_from_what_the_robot_got(model):
    xs = with_a_hole(model)
    given = np.float32([3.0, -3.0])
    timer = FakeTimer()
    guarded = model.guarded(lnn_edge.Guard(slew_per_s={"output": (5.0, 5.0)}), clock=timer.monotonic_ns)
    own = Ran(guarded, xs, timer=timer, rate_hz=HZ, on_fault=lambda _tick: given)
    at = own.statuses.index(Status.NOT_FINITE_INPUT)
    np.testing.assert_array_equal(own.got[at].y, given)
    assert own.got[at + 1].y.tolist() == pytest.approx([2.9, -2.9])


def test_a_function_that_fails_to_answer_holds(model):
    def broken(_tick):
        raise ZeroDivisionError("oh")

    own = Ran(model, with_a_hole(model), rate_hz=HZ, on_fault=broken)
    np.testing.assert_array_equal(own.got[4].y, own.got[3].y)
    assert own.statuses[4] is Status.NOT_FINITE_INPUT
    assert "function `on_fault`: the function `on_fault` raised ZeroDivisionError: oh" in own.said


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("brake", "could not convert string"),
        ([0.0], "it has the shape (1,), expected (2,)"),
        ([np.nan, 0.0], "not finite"),
        ({"motor": [0.0, 0.0]}, "its keys are 'motor', expected 'output'"),
        (object(), "float"),
    ],
    ids=["text", "short", "not finite", "another name", "an object"],
)
def test_what_is_no_output_is_no_answer(model, given, why):
    xs = samples(model, 4).astype(np.float64)
    xs[2] = np.nan
    own = Ran(model.guarded(Guard(slew_per_s={"output": [9.0, 9.0]})), xs, rate_hz=HZ, on_fault=lambda _tick: given)
    assert own.statuses == [Status.OK, Status.OK, Status.NOT_FINITE_INPUT, Status.OK]
    assert own.got[2].y is own.got[1].y
    assert own.summary.functions["on_fault"].failed == 1
    assert any("the function `on_fault` returned no output: " in line and why in line for line in own.said)


def _always(answer, _tick):
    return answer


def test_an_answer_is_an_output(model):
    xs = np.full((1, 3), np.nan)
    for answer in ([1, 2], {"output": (1.0, 2.0)}, np.array([1, 2])):
        own = Ran(model, xs, rate_hz=HZ, on_fault=partial(_always, answer))
        np.testing.assert_array_equal(own.got[0].y, np.float32([1, 2]))
        assert own.got[0].y.dtype == np.float32


def test_an_after_that_scales_the_output_in_place_is_told_and_changes_nothing(model):
    got = []

    def after(tick):
        got.append(tick.y.copy())
        tick.y *= 100

    xs = samples(model, 6).astype(np.float64)
    xs[3:5] = np.nan
    own = Ran(model, xs, rate_hz=HZ, after=after)
    np.testing.assert_array_equal(got[4], got[2])
    assert own.summary.functions["after"].failed == 6
    assert "read-only" in own.said[0]


def test_another_thread_that_uses_the_stream_costs_a_tick_by_name(model):
    guarded = model.guarded()
    at_work, go = threading.Event(), threading.Event()

    def hold():
        alone(guarded, lambda: (at_work.set(), go.wait()))

    other = threading.Thread(target=hold)

    def before(_x):
        if own_ticks[0] == 3:
            other.start()
            at_work.wait()
        own_ticks[0] += 1

    def after(_tick):
        if own_ticks[0] == 4:
            go.set()
            other.join()

    own_ticks, xs = [0], samples(model, 8)
    own = Ran(guarded, xs, rate_hz=HZ, before=before, after=after, function_limit_s=60)
    expected = model.stream()
    expected.run(np.delete(xs, 3, axis=0))
    assert own.summary.by_status == {"ok": 7, "user function failed": 1}
    assert any("being stepped by another thread" in line for line in own.said)
    np.testing.assert_array_equal(guarded.snapshot().tensors["h_in"], expected.snapshot().tensors["h_in"])


def test_a_bad_source_costs_no_file_of_results(model, tmp_path):
    (tmp_path / "results.csv").write_text("the last run's\n")
    with pytest.raises(FileNotFoundError):
        Loop(model, tmp_path / "none.csv", tmp_path / "results.csv")
    with pytest.raises(ValueError, match="fresh_s"):
        Loop(model, samples(model, 3), tmp_path / "results.csv", rate_hz=HZ, fresh_s=-1.0)
    assert (tmp_path / "results.csv").read_text() == "the last run's\n"


# ---- functions of the user's


def at(numbers, do):
    count = iter(range(10**6))

    def call(argument):
        return do(argument) if next(count) in numbers else None

    return call


def raising(error):
    def call(_argument):
        raise error

    return call


def test_before_may_change_the_sample(model):
    xs = samples(model, 10)
    own = Ran(model, xs, rate_hz=HZ, before=lambda x: x / 2)
    np.testing.assert_array_equal([tick.y for tick in own.got], model.stream().run(xs / 2))


@pytest.mark.parametrize("error", [ValueError("no"), GeneratorExit()])
def test_before_that_raises_costs_the_sample_and_no_more(model, error):
    xs = samples(model, 10)
    own = Ran(model, xs, rate_hz=HZ, before=at({4}, raising(error)))
    assert own.summary.by_status == {"ok": 9, "user function failed": 1}
    np.testing.assert_array_equal(own.got[4].y, own.got[3].y)
    np.testing.assert_array_equal(own.got[-1].y, model.stream().run(np.delete(xs, 4, axis=0))[-1])
    assert type(own.got[4].error.__cause__) is type(error)


def test_after_that_raises_is_a_fault_by_name(model):
    sink = []
    own = Ran(model, samples(model, 10), rate_hz=HZ, after=at({4}, raising(OSError("no motor"))), sink=sink.append)
    assert own.summary.by_status == {"ok": 9, "user function failed": 1}
    assert sink[4].tick.status is Status.FUNCTION_FAILED
    assert sink[4].tick.stepped == 1
    assert own.summary.functions["after"].failed == 1
    assert own.said == [
        "function `after`: the function `after` raised OSError: no motor",
        "user function failed: the function `after` raised OSError: no motor",
    ]


def test_functions_that_take_too_long_are_measured(model):
    timer = FakeTimer()
    own = Ran(model, samples(model, 10), timer=timer, rate_hz=HZ, after=slow_at(timer, {4}, 11 * MS))
    assert own.summary.by_status == {"ok": 9, "user function failed": 1}
    assert own.summary.functions["after"].slow == 1
    assert own.summary.functions["after"].longest_us == 11_000
    assert own.said[0].endswith("took 11000 us, and its limit is 10000 us")


def test_a_slow_before_does_not_cost_the_sample(model):
    timer = FakeTimer()
    own = Ran(model, samples(model, 10), timer=timer, rate_hz=HZ, before=slow_at(timer, {4}, 11 * MS))
    assert (own.summary.steps, own.statuses[4]) == (10, Status.FUNCTION_FAILED)
    assert own.got[4].raw is own.got[4].y


def test_no_function_ends_a_loop_that_stops_at_faults(model):
    own = Ran(model, samples(model, 10), rate_hz=HZ, on_fault="stop", before=at({4}, raising(ValueError("no"))))
    assert (own.summary.ended, own.summary.ticks) == ("source ended", 10)


# ---- sources


def source_of(*given):
    """A function that gives these in turn; an exception is raised."""
    left = list(given)

    def read():
        if not left:
            raise EOFError
        own = left.pop(0)
        if isinstance(own, Exception):
            raise own
        return own

    return read


@pytest.mark.parametrize("rate_hz", [HZ, None])
def test_a_source_that_raises_is_a_fault_and_no_end(model, rate_hz):
    x = samples(model, 1)[0]
    own = Ran(model, source_of(x, OSError("no bus"), ValueError("bad row"), x), rate_hz=rate_hz)
    assert own.statuses == [Status.OK, Status.BAD_INPUT, Status.BAD_INPUT, Status.OK]
    assert own.summary.source_failed == 2
    assert own.said == ["bad input: bad row"]  # the newest of the two


@pytest.mark.timeout(60)
def test_a_device_whose_reads_fail_is_told_by_name(model):
    """No tick tells it: what the device gave last is held until it is stale."""
    failed = threading.Event()

    class Device:
        def read(self, timeout_s):
            if failed.is_set():
                loop.stop()
            failed.set()
            raise OSError("no such bus")

        def close(self):
            pass

    said = []
    loop = Loop(model, Device(), rate_hz=HZ, signals=False, report=said.append, threads=False)
    summary = loop.run()
    assert summary.source_failed > 0
    assert f"sources: {summary.source_failed} read" in str(summary)
    assert "a read of 'input' failed: OSError: no such bus" in said


def test_a_late_sample_is_held_and_then_stale(model):
    x = samples(model, 1)[0]
    own = Ran(model, source_of(x, *[None] * 6, x), rate_hz=HZ, fresh_s=0.05)
    words = [status.text for status in own.statuses]
    assert words == ["ok"] * 3 + ["stale"] * 4 + ["ok"]
    assert own.summary.steps == 4
    np.testing.assert_array_equal(own.got[4].y, own.got[2].y)
    assert "s old, fresh for 0.05 s" in own.said[0]


def test_without_a_limit_a_sample_is_held_for_ten_periods(model):
    x = samples(model, 1)[0]
    own = Ran(model, source_of(x, *[None] * 15), rate_hz=HZ)
    assert own.summary.by_status == {"ok": 10, "stale": 6} or own.summary.by_status == {"ok": 11, "stale": 5}


def test_a_silent_source_that_paces_the_loop_is_stale_again_and_again(model):
    timer = FakeTimer()
    x = samples(model, 1)[0]
    left = [x, *[None] * 10, x]

    class Device:
        def read(self, timeout_s):
            if not left:
                raise EOFError
            own = left.pop(0)
            timer.now_ns += round(timeout_s * 1e9) if own is None else MS
            return None if own is None else Sample(own)

        def close(self):
            left.clear()

    own = Ran(model, Device(), timer=timer, fresh_s=0.25)
    assert own.statuses == [Status.OK] + [Status.STALE] * 3 + [Status.OK]
    assert own.said == ["stale: 'input' has brought nothing for 0.25 s"]


def test_measured_time_is_that_of_the_samples(measured):
    low, high = measured.time.dt_range_s
    steps = np.random.default_rng(1).uniform(low, high, 20)
    xs, ts = samples(measured, 20), np.cumsum(steps)
    own = Ran(measured, zip(ts, xs, strict=True))
    np.testing.assert_array_equal([tick.y for tick in own.got], measured.stream().run(xs, t_s=ts))


def test_measured_time_is_that_of_the_clock_where_samples_have_none(measured):
    period = measured.time.period_s
    own = Ran(measured, samples(measured, 20), timer=FakeTimer(), rate_hz=1 / period)
    assert own.summary.by_status == {"ok": 20}
    np.testing.assert_allclose([tick.dt_s for tick in own.got], period, rtol=1e-6)


def test_a_jump_of_the_wall_clock_changes_no_dt(measured):
    """Both clocks go into what is written; the model is told the monotonic one."""
    timer, entries = FakeTimer(), []

    def after(tick):
        if len(entries) % 3 == 0:
            timer.wall_from_ns += 3600 * 10**9

    period = measured.time.period_s
    own = Ran(measured, samples(measured, 20), timer=timer, rate_hz=1 / period, after=after, sink=entries.append)
    np.testing.assert_allclose([entry.tick.dt_s for entry in entries], period, rtol=1e-6)
    walls, monos = np.diff([entry.wall_ns for entry in entries]), np.diff([entry.mono_ns for entry in entries])
    assert own.summary.by_status == {"ok": 20}
    assert set(monos) == {round(period * 1e9)}
    assert max(walls) > 3600 * 10**9


# ---- end


class Live:
    """A device that has a sample every so often."""

    def __init__(self, model, timer, every_ns, count):
        self._xs, self._timer, self._every_ns = iter(samples(model, count)), timer, every_ns

    def read(self, timeout_s):
        self._timer.now_ns += self._every_ns
        x = next(self._xs, None)
        if x is None:
            raise EOFError
        return Sample(x)

    def close(self):
        pass


@pytest.mark.parametrize(("every_ms", "off"), [(20, 0), (23, 0), (30, 200), (10, 200)])
def test_the_pace_of_a_model_with_fixed_time_is_that_of_the_clock(model, every_ms, off):
    """Over a window of a hundred samples; the model counts each as 20 ms."""
    timer = FakeTimer()
    own = Ran(model, Live(model, timer, every_ms * MS, 300), timer=timer)
    assert own.summary.by_status.get("off pace", 0) == off
    assert own.summary.pace.bias == pytest.approx(every_ms / 20 - 1, abs=1e-3)
    assert ("time between them than the period" in str(own.summary)) == bool(off)


def test_a_recording_has_no_pace(model):
    own = Ran(model, samples(model, 300))
    assert (own.summary.by_status, own.summary.pace) == ({"ok": 300}, None)


def test_so_many_ticks(model):
    own = Ran(model, samples(model, 100), 7, rate_hz=HZ)
    assert (own.summary.ended, own.summary.ticks) == ("all ticks", 7)


@pytest.mark.parametrize("rate_hz", [HZ, None])
def test_stop_ends_behind_the_tick(model, rate_hz):
    timer, got = FakeTimer(), []

    def after(tick):
        got.append(tick)
        if len(got) == 4:
            loop.stop()

    loop = Loop(model, lambda: [0.0] * 3, rate_hz=rate_hz, after=after, timer=timer, signals=False, threads=False)
    assert (loop.run().ended, len(got)) == ("stopped", 4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(model, number, tmp_path):
    """Sink written, snapshot saved, the handler put back."""
    usual = signal.getsignal(number)
    after = at({4}, lambda _tick: os.kill(os.getpid(), number))
    own = Ran(
        model, lambda: [0.1] * 3, rate_hz=HZ, signals=True, after=after,
        sink=tmp_path / "a.csv", snapshot=tmp_path / "a.snapshot",
    )  # fmt: skip
    assert (own.summary.ended, own.summary.ticks) == (signal.Signals(number).name, 5)
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 6
    assert load_snapshot(tmp_path / "a.snapshot", model).steps == 5
    assert signal.getsignal(number) is usual


def test_a_second_signal_interrupts_and_still_puts_all_away(model, tmp_path):
    def after(_tick):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    own = Ran(model, lambda: [0.1] * 3, rate_hz=HZ, signals=True, after=after, sink=tmp_path / "a.csv")
    assert own.summary.ended == "SIGINT"
    assert (tmp_path / "a.csv").read_text().startswith("tick,")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_signals_while_it_ends_still_leave_all_put_away(model, tmp_path, count):
    """The first of them is the second of a user who pressed twice; more end what hangs, and nothing else."""

    class Device:
        pulled = True

        def read(self, _timeout_s):
            return Sample([0.1] * 3)

        def close(self):
            for _ in range(count):
                os.kill(os.getpid(), signal.SIGINT)
            closed.append(True)

    closed = []
    own = Ran(
        model, Device(), rate_hz=HZ, signals=True, after=lambda _tick: os.kill(os.getpid(), signal.SIGTERM),
        sink=tmp_path / "a.csv", snapshot=tmp_path / "s",
    )  # fmt: skip
    assert (own.summary.ended, own.summary.sink.written, own.summary.snapshots.written) == ("SIGTERM", 1, 1)
    assert closed == [True] * (count == 1)
    assert load_snapshot(tmp_path / "s", model).steps == 1


def test_a_long_wait_is_slept_in_slices(measured):
    timer = FakeTimer()
    loop = Loop(measured, lambda: [0.0] * 3, rate_hz=0.5, timer=timer, signals=False, threads=False)
    sleep = timer.sleep_until

    def stopping(due_ns):
        sleep(due_ns)
        loop.stop("enough")

    timer.sleep_until = stopping
    summary = loop.run()
    assert (summary.ended, summary.ticks) == ("enough", 0)
    assert summary.seconds == pytest.approx(0.1)


def test_it_runs_once(model):
    own = Ran(model, samples(model, 3), rate_hz=HZ)
    with pytest.raises(RuntimeError, match="a loop runs once: make another one, with the same guarded stream"):
        own.loop.run()


def test_another_loop_goes_on_with_the_same_guarded_stream(model):
    xs = samples(model, 20)
    guarded = model.guarded()
    first, second = Ran(guarded, xs[:7], rate_hz=HZ), Ran(guarded, xs[7:], rate_hz=HZ)
    np.testing.assert_array_equal([tick.y for tick in first.got + second.got], model.stream().run(xs))


def test_the_source_is_closed_whatever_ends_it(model):
    closed = []

    class Broken:
        pulled = True

        def read(self, timeout_s):
            raise KeyboardInterrupt

        def close(self):
            closed.append(True)
            raise OSError("and it does not close")

    own = Ran(model, Broken(), rate_hz=HZ)
    assert (own.summary.ended, closed) == ("interrupted", [True])
    assert "end: OSError: and it does not close" in own.said


# ---- a disk that blocks


class Blocked:
    """A sink that takes nothing until the loop has rested so often, or for ever."""

    def __init__(self, timer, rests=20):
        self.numbers, self.go, usual, count = [], threading.Event(), timer.sleep_until, iter(range(10**9))

        def sleep(due_ns):
            usual(due_ns)
            if next(count) == rests:
                self.go.set()

        timer.sleep_until = sleep

    def write(self, own):
        self.go.wait(20)
        self.numbers.append(own.number)

    def close(self):
        pass


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["array", "dict", "list", "json lines"])
@pytest.mark.parametrize("count", [100, 10], ids=["more than there is room for", "few"])
def test_samples_that_are_there_wait_for_the_disk(model, tmp_path, monkeypatch, kind, count):
    """And its end, however long that takes: `close` alone would leave what it has not taken within its time."""
    monkeypatch.setattr("lnn_edge.runtime.loop.sink.Behind.__init__.__defaults__", (64,))
    monkeypatch.setattr("lnn_edge.runtime.loop.sink.Behind.close.__defaults__", (0.05,))
    xs = samples(model, count)
    (tmp_path / "x.jsonl").write_text("".join(f'{{"x": {x}}}\n' for x in xs.tolist()))
    name = model.inputs[0].name
    source = {"array": xs, "dict": {name: xs}, "list": xs.tolist(), "json lines": tmp_path / "x.jsonl"}[kind]
    timer = FakeTimer()
    sink = Blocked(timer)
    own = Ran(model, source, timer=timer, sink=sink, threads=True)
    assert own.timer.slept
    assert (sink.numbers, own.summary.sink.dropped, own.summary.ended) == ([*range(count)], 0, "source ended")


@pytest.mark.timeout(60)
def test_samples_that_are_there_wait_for_a_recorder_that_says_that_it_is_full(model):
    class Recorded:
        wants_state, written, dropped, error, taken = False, 0, 0, None, 0

        @property
        def full(self):
            return self.taken == 9 and len(timer.slept) < 5

        def put(self, tick, **_more):
            assert not self.full
            self.taken += 1

        def finish(self):
            return len(timer.slept) >= 8

        def close(self):
            assert self.finish()

    timer, recorder = FakeTimer(), Recorded()
    own = Ran(model, samples(model, 25), timer=timer, recorder=recorder)
    assert (recorder.taken, own.summary.ended, own.said, len(timer.slept)) == (25, "source ended", [], 8)


@pytest.mark.timeout(60)
def test_a_fault_that_stops_waits_as_well_and_a_signal_ends_the_waiting(model, monkeypatch):
    monkeypatch.setattr("lnn_edge.runtime.loop.sink.Behind.close.__defaults__", (0.05,))
    timer = FakeTimer()
    sink = Blocked(timer)
    own = Ran(model, with_a_hole(model), timer=timer, sink=sink, on_fault="stop", threads=True)
    assert (sink.numbers, own.summary.ended, own.summary.sink.dropped) == ([*range(5)], "fault", 0)
    timer = FakeTimer()
    sink, usual = Blocked(timer, 10**9), timer.sleep_until

    def interrupted(due_ns):
        usual(due_ns)
        os.kill(os.getpid(), signal.SIGTERM)

    timer.sleep_until = interrupted
    own = Ran(model, samples(model, 20), timer=timer, sink=sink, threads=True, signals=True)
    assert (own.summary.ended, own.summary.ticks, own.summary.sink.dropped) == ("SIGTERM", 20, 20)
    sink.go.set()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("rate_hz", [HZ, None])
def test_what_comes_by_itself_waits_for_no_disk(model, rate_hz, monkeypatch):
    """A function may ask a device, and a rate is a promise: whole ticks are dropped, and counted."""
    monkeypatch.setattr("lnn_edge.runtime.loop.sink.Behind.__init__.__defaults__", (64,))
    monkeypatch.setattr("lnn_edge.runtime.loop.sink.Behind.close.__defaults__", (0.05,))
    xs = samples(model, 100)
    source = xs if rate_hz else iter(xs)
    timer = FakeTimer()
    sink = Blocked(timer, 10**9)
    own = Ran(model, source, timer=timer, rate_hz=rate_hz, sink=sink, threads=True)
    sink.go.set()
    assert (own.summary.ticks, own.summary.sink.written, own.summary.sink.dropped) == (100, 0, 100)


# ---- state


def test_snapshots_are_written_now_and_then_and_at_the_end(model, tmp_path):
    xs = samples(model, 30)
    path = tmp_path / "a.snapshot"
    own = Ran(model, xs, rate_hz=HZ, snapshot=path, snapshot_every_s=0.1, extra=lambda: {"row": 5}, steps=100)
    found = load_snapshot(path, model)
    assert (found.steps, found.extra) == (130, {"row": 5})
    guarded = model.guarded()
    guarded.restore(found.state)
    after = model.stream()
    after.run(xs)
    np.testing.assert_array_equal(guarded.snapshot().tensors["h_in"], after.snapshot().tensors["h_in"])
    assert own.summary.snapshots.error is None


@pytest.mark.parametrize("live", [False, True], ids=["file", "sensor"])
def test_no_state_is_saved_behind_a_sample_that_is_come_to_again(model, tmp_path, live):
    """One that stopped the loop: a sensor's never comes again."""
    path, count = tmp_path / "a.snapshot", iter(range(100))
    xs = with_a_hole(model)
    Ran(
        model, iter(xs) if live else xs, rate_hz=HZ, on_fault="stop", snapshot=path, snapshot_every_s=1e-9,
        extra=lambda: {"ticks": next(count) + 1},
    )  # fmt: skip
    found = load_snapshot(path, model)
    assert (found.steps, found.extra["ticks"] > 4) == (4, live)


def test_a_snapshot_that_can_never_be_written_is_refused(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none' does not exist. Type: mkdir -p"):
        Loop(model, samples(model, 5), snapshot=tmp_path / "none" / "a.snapshot")


def test_a_snapshot_that_cannot_be_written_ends_nothing(model, tmp_path):
    folder = tmp_path / "stick"
    folder.mkdir()
    after = at({0}, lambda _tick: folder.rmdir())
    own = Ran(model, samples(model, 5), rate_hz=HZ, snapshot=folder / "a.snapshot", after=after)
    assert own.summary.ticks == 5
    assert own.summary.snapshots.dropped == 1
    assert not own.summary.complete
    assert any(said.startswith("snapshot: ") for said in own.said)


@pytest.mark.timeout(60)
def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_its_end(model, tmp_path, monkeypatch):
    entered, go = threading.Event(), threading.Event()

    def hangs(*_arguments, **_options):
        entered.set()
        go.wait()

    monkeypatch.setattr("lnn_edge.runtime.record.snapshot.save_snapshot", hangs)
    monkeypatch.setattr("lnn_edge.runtime.loop.report.Aside.close.__defaults__", (0.05,))
    after = at({4}, lambda _tick: entered.wait())  # the thread beside the loop is at it
    own = Ran(model, samples(model, 10), rate_hz=HZ, snapshot=tmp_path / "a", threads=True, after=after)
    go.set()
    assert own.summary.ticks == 10
    assert (own.summary.snapshots.written, own.summary.snapshots.dropped) == (0, 1)
    assert own.summary.snapshots.error == "TimeoutError: the disk did not take the last one in time"


def test_emergency_stop_and_enable(model):
    guarded = safe_guard(model)
    xs = samples(model, 12)
    after = at({3, 7}, lambda tick: guarded.enable() if tick.status is Status.STOPPED else guarded.stop())
    sink = []
    Ran(guarded, xs, rate_hz=HZ, after=after, sink=sink.append)
    assert [entry.tick.status for entry in sink] == [Status.OK] * 4 + [Status.STOPPED] * 4 + [Status.OK] * 4
    assert set(sink[5].tick.y) == {7.0}
    np.testing.assert_array_equal(sink[-1].tick.y, model.stream().run(xs[8:])[-1])


@pytest.mark.parametrize("rate_hz", [HZ, None])
def test_every_tick_is_recorded_and_replays_bit_for_bit(model, rate_hz, tmp_path):
    """With its bad samples, on both clocks, and the ticks that had none."""
    pytest.importorskip("mcap", reason="the extra `record`")
    from lnn_edge.runtime.record.replay import InThisProcess

    xs = samples(model, 40).astype(np.float64)
    xs[[5, 6, 20], 0] = np.nan
    guarded = model.guarded()
    recorder = lnn_edge.Recorder(tmp_path / "a.mcap", model, state_every=7)
    own = Ran(guarded, xs, rate_hz=rate_hz, recorder=recorder)
    assert own.summary.recorder.written == 40
    assert own.summary.recorder.dropped == 0
    report = lnn_edge.replay(model.path, tmp_path / "a.mcap", executor=InThisProcess())
    assert report.same, str(report)


def test_a_recording_of_a_stream_that_goes_on_replays(model, tmp_path):
    pytest.importorskip("mcap", reason="the extra `record`")
    guarded, xs = model.guarded(), samples(model, 20)
    for k, part in enumerate((xs[:9], xs[9:])):
        Ran(guarded, part, rate_hz=HZ, recorder=lnn_edge.Recorder(tmp_path / f"{k}.mcap", model))
        report = lnn_edge.replay(model.path, tmp_path / f"{k}.mcap")
        assert report.same, str(report)


def test_a_recorder_of_another_model_is_refused(model, measured, tmp_path):
    pytest.importorskip("mcap", reason="the extra `record`")
    text = "`recorder` was made for another model than 'gait'"
    with lnn_edge.Recorder(tmp_path / "a.mcap", measured) as recorder, pytest.raises(ValueError, match=text):
        Loop(model, samples(model, 1), recorder=recorder)


# ---- rehearsal


@pytest.mark.parametrize("rate_hz", [HZ, None])
def test_a_rehearsed_loop_gives_the_same_bit_for_bit(model, rate_hz):
    xs = samples(model, 60).astype(np.float64)
    xs[[7, 30], 1] = np.inf
    plain, own = (Ran(model, xs, rate_hz=rate_hz, wait=wait) for wait in ("sleep", "rehearse"))
    for one, two in zip(plain.got, own.got, strict=True):
        np.testing.assert_array_equal(one.y, two.y)
    assert own.summary.rehearsal.failed == 0
    assert own.summary.rehearsal.made == (61 if rate_hz else 0)  # where samples wait there is no time for one
    if rate_hz:
        assert own.summary.lateness.max_us == 0


def test_a_rehearsed_loop_with_measured_time(measured):
    xs = samples(measured, 40)
    hz = 1 / measured.time.period_s
    plain = Ran(measured, xs, rate_hz=hz, wait="spin")
    own = Ran(measured, xs, rate_hz=hz, wait="rehearse")
    for one, two in zip(plain.got, own.got, strict=True):
        np.testing.assert_allclose(one.y, two.y, atol=1e-5)  # dt differs by nanoseconds between the two schedules
    assert own.summary.rehearsal.failed == 0


def test_a_loop_whose_rehearsals_fail_goes_on_without(model, monkeypatch):
    xs = samples(model, 20)
    timer, got = FakeTimer(late_ns=50 * US), []
    loop = Loop(
        model, xs, rate_hz=HZ, wait="rehearse", after=got.append, report=[].append, timer=timer, signals=False,
        threads=False,
    )  # fmt: skip
    monkeypatch.setattr(Loop, "_alone", raising(RuntimeError("no twin")))
    summary = loop.run()
    np.testing.assert_array_equal([tick.y for tick in got], model.stream().run(xs))
    assert summary.rehearsal.failed == 3
    assert summary.rehearsal.off.endswith("RuntimeError: no twin")
    assert "rehearsals are off: it failed 3 times in a row" in str(summary)


# ---- arguments


ARRAY = np.zeros(2)  # which is neither equal to a text nor not


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"rate_hz": 0}, ValueError, "`rate_hz` is 0, expected a number above 0"),
        ({"rate_hz": 500}, ValueError, r"`rate_hz` is 500, but '\w+' was exported for 50 samples per second, fixed\."),
        ({"wait": "nap"}, ValueError, r"`wait` is 'nap'"),
        ({"wait": "Spin", "rate_hz": None}, ValueError, "`wait` is 'Spin'. Valid: sleep, spin, rehearse"),
        ({"wait": "spin", "rate_hz": None}, ValueError, "`wait` is 'spin', and samples pace the loop: pass rate_hz"),
        ({"late": "never"}, ValueError, "`late` is 'never'"),
        ({"on_fault": "halt"}, ValueError, "`on_fault` is 'halt', expected a function or one of these. Valid: hold"),
        ({"on_fault": "safe"}, ValueError, r"has no safe output\. Type: model\.guarded\(lnn_edge\.Guard\(safe="),
        ({"before": 3}, TypeError, "`before` is 3, expected a function"),
        ({"fresh_s": -1}, ValueError, "`fresh_s` is -1"),
        ({"function_limit_s": 0}, ValueError, "`function_limit_s` is 0, expected a number above 0, in seconds"),
        ({"snapshot": "a", "snapshot_every_s": 0}, ValueError, "`snapshot_every_s` is 0"),
        ({"snapshot": "none/a.snapshot"}, FileNotFoundError, "directory 'none' does not exist. Type: mkdir -p none"),
        ({"snapshot": "a", "extra": {}}, TypeError, "`extra` is {}, expected a function"),
        ({"rate_hz": 1e-320}, ValueError, "expected at least 1e-06 ticks per second"),
        ({"recorder": "walk.mcap"}, TypeError, r"`recorder` is 'walk.mcap', expected lnn_edge\.Recorder\('NAME\.mcap'"),
        ({"watchdog": 1.0}, TypeError, "`watchdog` is 1.0, expected lnn_edge.Watchdog"),
        ({"systemd": True}, TypeError, "`systemd` is True, expected lnn_edge.Systemd"),
        ({"realtime": True}, TypeError, "`realtime` is True, expected lnn_edge.Realtime"),
        ({"report": "log.txt"}, TypeError, "`report` is 'log.txt', expected a function that takes a text"),
        ({"sink": 3}, TypeError, "the sink is a int"),
        ({"steps": -1}, ValueError, "`steps` is -1, expected a whole number of at least 0"),  # also without a snapshot
        ({"steps": None}, TypeError, "`steps` is None, expected a whole number"),
        ({"snapshot_every_s": 0}, ValueError, "`snapshot_every_s` is 0, expected a number above 0, in seconds"),
        ({"extra": 3}, TypeError, "`extra` is 3, expected a function"),
        ({"snapshot": 5}, TypeError, "`snapshot` is 5, expected the name of a file for the state: 'NAME.snapshot'"),
        ({"snapshot": b"a"}, TypeError, "`snapshot` is b'a', expected the name of a file"),
        ({"snapshot": "a\0"}, ValueError, r"`snapshot` is 'a\\x00', a name that no file has; expected"),
        ({"signals": "no"}, TypeError, "`signals` is 'no', expected True or False"),
        ({"threads": 0}, TypeError, "`threads` is 0, expected True or False"),
        ({"timer": 5}, TypeError, r"`timer` is 5, which has no monotonic_ns\(\); expected a clock"),
        ({"wait": ARRAY}, ValueError, r"`wait` is .*\. Valid: sleep, spin, rehearse"),
        ({"late": ARRAY}, ValueError, r"`late` is .*\. Valid: skip"),
        ({"on_fault": ARRAY}, ValueError, "`on_fault` is .*, expected a function or one of these"),
        ({"on_late_input": ARRAY}, ValueError, r"`on_late_input` is .*\. Valid: hold"),
    ],
)
def test_wrong_arguments_are_refused(model, options, error, text):
    with pytest.raises(error, match=text):
        Loop(model, samples(model, 1), **({"rate_hz": HZ} | options))


def test_what_is_no_model_is_refused(model):
    for own in ("gait.lnn", model.stream()):
        with pytest.raises(TypeError, match=r"`model` is .*, expected a model or a guarded stream: lnn_edge\.load\("):
            Loop(own, samples(model, 1))


def test_times_longer_than_any_are_for_ever(model, tmp_path):
    options = {"fresh_s": 1e308, "function_limit_s": 1e308, "snapshot": tmp_path / "s", "snapshot_every_s": 1e308}
    own = Ran(model, samples(model, 3), rate_hz=HZ, watchdog=lnn_edge.Watchdog(1e308, print, start=False), **options)
    assert own.summary.by_status == {"ok": 3}
    assert own.summary.snapshots.written == 1
    assert Ran(model, samples(model, 3), fresh_s=1e308).summary.by_status == {"ok": 3}


def test_wrong_ticks_are_refused_before_it_runs(model):
    with pytest.raises(ValueError, match="`ticks` is -1"):
        Loop(model, samples(model, 1), timer=FakeTimer()).run(-1)


# ---- all of it


@settings(deadline=None, derandomize=True, max_examples=examples(60))
@given(
    st.lists(st.sampled_from(["good"] * 4 + ["nan", "shape", "none", "raise", "before", "after", "slow"]), max_size=40),
    st.sampled_from(["skip", "catch up", "at once"]),
    st.sampled_from(["sleep", "spin", "rehearse"]),
    st.booleans(),
    st.integers(0, 30 * MS),
)
def test_the_state_is_that_after_the_good_samples_alone(model, events, late, wait, paced, sleeps_late):
    """Whatever sensors and functions do: every tick is counted, and bad ones leave no trace."""
    timer, rng = FakeTimer(sleeps_late), np.random.default_rng(len(events))
    left, told, good = list(events), [], []

    def read():
        if not left:
            raise EOFError
        told.append(left.pop(0))
        x = rng.uniform(-0.5, 0.5, 3).astype(np.float32)
        if told[-1] == "raise":
            raise OSError("gone")
        if told[-1] == "none":
            return None
        if told[-1] in ("good", "after", "slow"):
            good.append(x)
        return {"nan": np.full(3, np.nan), "shape": np.zeros(4)}.get(told[-1], x)

    def before(_x):
        if told[-1] == "before":
            raise ValueError("before")

    def after(_tick):
        timer.now_ns += MS
        if told[-1] == "after":
            raise ValueError("after")
        if told[-1] == "slow":
            timer.now_ns += 47 * MS

    options = {"rate_hz": HZ, "wait": wait, "late": late} if paced else {}
    fresh = {"fresh_s": 1e-9} if paced else {}  # nothing is held: what is not new is stale
    own = Ran(model, read, timer=timer, before=before, after=after, **options, **fresh)
    expected = model.stream()
    if good:
        expected.run(np.array(good))
    np.testing.assert_array_equal(own.loop.guarded.snapshot().tensors["h_in"], expected.snapshot().tensors["h_in"])
    assert own.summary.steps == len(good)
    assert sum(own.summary.by_status.values()) == own.summary.ticks == len([e for e in events if paced or e != "none"])
