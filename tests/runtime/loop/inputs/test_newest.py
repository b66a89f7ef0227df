"""The newest sample of a device: read in a test's own thread on a fake clock, and once by the real thread."""

from __future__ import annotations

import threading

import pytest
from fake_timer import FakeTimer

from lnn_edge.runtime.loop.inputs.newest import Newest
from lnn_edge.runtime.loop.source import Sample
from lnn_edge.runtime.loop.timer import SystemTimer


class Script:
    """A source that gives what a list holds: samples, `None`, or errors to raise; then the end."""

    def __init__(self, *given):
        self.given, self.closed = list(given), False

    def read(self, timeout_s):
        if not self.given:
            raise EOFError
        own = self.given.pop(0)
        if isinstance(own, Exception):
            raise own
        return own

    def close(self):
        self.closed = True


def newest_of(*given):
    timer = FakeTimer()
    return Newest(Script(*given), timer, start=False), timer


def test_before_the_first_sample_there_is_none():
    own, _ = newest_of(None)
    assert own.pump(0.1) is False
    assert own.look() == (None, None)


def test_it_keeps_the_newest_and_the_one_before():
    own, timer = newest_of(Sample(1), Sample(2), Sample(3))
    for _ in range(3):
        timer.now_ns += 5
        own.pump(0.1)
    now, before = own.look()
    assert (now.sample.x, now.number, before.sample.x, now.at_ns - before.at_ns) == (3, 3, 2, 5)


def test_samples_that_nobody_looked_at_are_counted():
    own, _ = newest_of(*map(Sample, range(5)))
    own.pump(0)
    own.look()
    for _ in range(4):
        own.pump(0)
    assert own.replaced == 3


def test_failures_are_counted_and_the_newest_stays():
    own, _ = newest_of(Sample(1), OSError("gone"), ValueError("bad"), Sample(2))
    for _ in range(3):
        own.pump(0)
    assert (own.failed, str(own.error), own.look()[0].sample.x) == (2, "bad", 1)
    own.pump(0)
    assert (own.failed, own.error, own.look()[0].sample.x) == (2, None, 2)
    assert str(own.last_error) == "bad"


@pytest.mark.parametrize("error", [TimeoutError, BlockingIOError])
def test_a_socket_that_has_nothing_in_time_did_not_fail(error):
    own, _ = newest_of(error(), Sample(1))
    assert own.pump(0) is False
    assert own.pump(0) is True
    assert (own.failed, own.last_error) == (0, None)


def test_a_device_may_give_what_a_function_may():
    own, _ = newest_of([1.0, 2.0], (0.5, [3.0, 4.0]))
    assert own.pump(0)
    assert own.look()[0].sample == Sample([1.0, 2.0])
    assert own.pump(0)
    assert own.look()[0].sample == Sample([3.0, 4.0], 0.5)


def test_a_device_that_leaves_the_program_is_a_failed_read():
    def leave(_timeout_s):
        raise SystemExit(3)

    source = Script()
    source.read = leave
    own = Newest(source, FakeTimer(), start=False)
    assert not own.pump(0)
    assert (own.failed, str(own.error)) == (1, "the source raised SystemExit: 3")


def test_the_end_is_told():
    own, _ = newest_of(Sample(1))
    own.pump(0)
    assert not own.ended
    own.pump(0)
    assert own.ended
    assert own.look()[0].sample.x == 1


@pytest.mark.timeout(30)
def test_its_thread_reads_until_it_is_closed():
    came, go = threading.Event(), threading.Event()

    class Device:
        closed = False

        def read(self, timeout_s):
            if came.is_set():
                go.wait(timeout_s)
                return None
            came.set()
            return Sample([1.0])

        def close(self):
            self.closed = True

    device = Device()
    own = Newest(device, SystemTimer())
    came.wait()
    while own.look()[0] is None:
        pass
    go.set()
    own.close()
    assert not own._thread.is_alive()
    assert device.closed
