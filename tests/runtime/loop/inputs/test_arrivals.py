"""Samples that pace a loop: predicted, rehearsed for, and never made to wait for more than one step."""

from __future__ import annotations

import pytest
from fake_timer import FakeTimer

from lnn_edge.runtime.loop.inputs.arrivals import Arrivals, next_sample
from lnn_edge.runtime.loop.rehearsal import Rehearsal
from lnn_edge.runtime.loop.source import Sample

US, MS = 1000, 1_000_000


class Clocked:
    """A source whose samples arrive at given times of a fake clock; asking takes a microsecond."""

    def __init__(self, timer, arrivals):
        self.timer, self.arrivals, self.waited = timer, list(arrivals), []

    def read(self, timeout_s):
        until = self.timer.now_ns + round(timeout_s * 1e9)
        if not self.arrivals:
            raise EOFError
        if self.arrivals[0] > until:
            self.timer.now_ns = max(until, self.timer.now_ns + US)
            return None
        self.timer.now_ns = max(self.timer.now_ns + US, self.arrivals[0])
        at = self.arrivals.pop(0)
        self.waited.append(self.timer.now_ns - at)
        return Sample([1.0])

    def close(self):
        pass


def ran(intervals_us, took_us=100, step_us=50, timeout_s=1.0, slow_start_us=0):
    """How long each sample waited, and what became of the rehearsals."""
    timer = FakeTimer()
    took = [(slow_start_us or took_us) * US]
    rehearsal = Rehearsal(lambda: setattr(timer, "now_ns", timer.now_ns + took[0]), timer)
    took[0] = took_us * US
    times, at = [], timer.now_ns
    for interval in intervals_us:
        at += round(interval * US)
        times.append(at)
    source, arrivals = Clocked(timer, times), Arrivals()
    for _ in intervals_us:
        sample = None
        while sample is None:
            sample = next_sample(source, timeout_s, timer, arrivals, rehearsal)
        assert sample == Sample([1.0])
        timer.now_ns += step_us * US
    return source.waited, rehearsal.counts


def test_a_steady_source_is_rehearsed_for():
    waited, counts = ran([10_000] * 200)
    assert counts.made > 150
    assert max(waited) <= 2 * US
    assert (counts.met, counts.overran) == (0, 0)


@pytest.mark.parametrize("interval_ms", [100, 150, 200, 1000])
def test_slow_sources_are_rehearsed_for_within_short_waits(interval_ms):
    """A loop waits in slices of 0.1 s, so that a stop is noticed, and a sample may be due where one of them ends."""
    waited, counts = ran([interval_ms * 1000] * 60, timeout_s=0.1)
    assert counts.made > 35
    assert max(waited) <= 2 * US


def test_a_wait_ends_two_leads_behind_its_time_at_most():
    timer = FakeTimer()
    rehearsal, arrivals = Rehearsal(timer.taking(100 * US), timer), Arrivals()
    source = Clocked(timer, [timer.now_ns + k * 100 * MS for k in range(1, 40)] + [timer.now_ns + 9000 * MS])
    for _ in range(39):
        next_sample(source, 1.0, timer, arrivals, rehearsal)
    began = timer.now_ns
    assert next_sample(source, 0.1, timer, arrivals, rehearsal) is None
    assert 100 * MS <= timer.now_ns - began <= 100 * MS + 2 * rehearsal.lead_ns


def test_a_slow_start_does_not_end_the_rehearsals():
    """A step that took 900 us while the machine started does not fit into a tenth of 5 ms, and one of 100 us does."""
    counts = ran([5000] * 2000, slow_start_us=900)[1]
    assert counts.made > 1000
    assert counts.lead_us < 500


def test_scattered_samples_are_not_predicted():
    waited, counts = ran([10_000, 13_000] * 100)
    assert counts.made == 0
    assert max(waited) <= US


def test_samples_that_come_too_fast_are_not_rehearsed_for():
    """A lead of 120 us is more than a tenth of the time between them: it would take more of a core than it may.

    But for one in 64, which sees whether that is still so.
    """
    assert ran([1100] * 1000)[1].made == 1000 // 64
    assert ran([1300] * 100)[1].made > 50


def test_samples_that_scatter_a_little_are():
    """Those that come earlier than predicted are taken at once, the others are rehearsed for."""
    assert ran([10_000, 11_000] * 100)[1].made > 80


def test_a_sample_during_a_rehearsal_waits_for_one_step_and_is_counted():
    """Every tenth one comes early, within the first or the second rehearsal of 100 us before it was due."""
    waited, counts = ran(([10_000] * 8 + [9_820, 10_180] + [10_000] * 8 + [9_740, 10_260]) * 10)
    assert counts.met > 10
    assert max(waited) <= 101 * US
    assert counts.made > 100


def test_an_early_sample_is_taken_at_once():
    waited, counts = ran([10_000] * 60 + [5_000] + [10_000] * 20)
    assert waited[60] <= US
    assert counts.met == 0


def test_a_missing_sample_is_waited_for_asleep():
    """After a lead behind the predicted time nothing is asked again and again."""
    timer = FakeTimer()
    rehearsal = Rehearsal(timer.taking(100 * US), timer)
    arrivals = Arrivals()
    source = Clocked(timer, [timer.now_ns + k * 10 * MS for k in range(1, 40)] + [timer.now_ns + 800 * MS])
    for _ in range(39):
        next_sample(source, 1.0, timer, arrivals, rehearsal)
    reads = []
    plain = source.read
    source.read = lambda timeout_s: reads.append(timeout_s) or plain(timeout_s)
    next_sample(source, 1.0, timer, arrivals, rehearsal)
    asked = [timeout for timeout in reads if timeout == 0.0]
    assert 0 < len(asked) <= 2 * rehearsal.lead_ns / US
    assert reads[-1] > 0.3


def test_nothing_in_time_is_none():
    timer = FakeTimer()
    source = Clocked(timer, [timer.now_ns + 500 * MS])
    assert next_sample(source, 0.1, timer, Arrivals(), None) is None
    assert next_sample(source, 1.0, timer, Arrivals(), None) == Sample([1.0])


@pytest.mark.parametrize("error", [TimeoutError, BlockingIOError])
def test_a_socket_that_has_nothing_in_time_is_none(error):
    class Silent:
        def read(self, timeout_s):
            raise error

        def close(self):
            pass

    assert next_sample(Silent(), 0.1, FakeTimer(), Arrivals(), None) is None


def test_the_end_comes_through():
    with pytest.raises(EOFError):
        next_sample(Clocked(FakeTimer(), []), 0.1, FakeTimer(), Arrivals(), None)


def test_too_few_intervals_predict_nothing():
    own = Arrivals()
    for k in range(16):
        own.note(k * MS)
        assert own.next_ns is None
    own.note(16 * MS)
    assert own.next_ns == 17 * MS
