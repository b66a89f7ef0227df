"""systemd's protocol, heard by a real socket of datagrams."""

from __future__ import annotations

import os
import socket
import sys

import pytest
from fake_timer import FakeTimer

import lnn_edge
from lnn_edge.runtime.loop.loop import Loop
from lnn_edge.runtime.loop.systemd import Systemd

MS = 1_000_000


class Manager:
    """What systemd is to a service."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self):
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def manager(short_tmp_path):
    own = Manager(str(short_tmp_path / "notify"))
    yield own
    own.socket.close()


def told(short_tmp_path, **more):
    return Systemd({"NOTIFY_SOCKET": str(short_tmp_path / "notify"), **more})


def test_words_arrive(manager, short_tmp_path):
    own = told(short_tmp_path)
    assert own.listens
    assert own.ready("gait at 50 Hz\nand more")
    assert own.status("12 stale")
    assert own.stopping()
    own.close()
    assert manager.heard() == ["READY=1\nSTATUS=gait at 50 Hz and more", "STATUS=12 stale", "STOPPING=1"]
    assert not own.status("closed")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names without a file")
def test_a_name_without_a_file():
    name = f"lnn-edge-test-{os.getpid()}"
    listening = Manager("\0" + name)
    own = Systemd({"NOTIFY_SOCKET": "@" + name})
    assert own.ready()
    own.close()
    assert listening.heard() == ["READY=1"]
    listening.socket.close()


def test_without_systemd_nobody_is_told():
    own = Systemd({})
    assert not own.listens
    assert not own.ready()
    assert not own.alive(0)
    own.close()
    assert own.failed == 0


def test_the_watchdog_hears_four_words_in_its_time(manager, short_tmp_path):
    own = told(short_tmp_path, WATCHDOG_USEC="400000")
    assert own.watchdog_ns == 400 * MS
    sent = [ms for ms in range(0, 1000, 10) if own.alive(ms * MS)]
    own.close()
    assert sent == [*range(0, 1000, 100)]
    assert manager.heard() == ["WATCHDOG=1"] * 10


def test_a_watchdog_of_another_process_is_none(short_tmp_path, manager):
    own = told(short_tmp_path, WATCHDOG_USEC="400000", WATCHDOG_PID="1")
    mine = told(short_tmp_path, WATCHDOG_USEC="400000", WATCHDOG_PID=str(os.getpid()))
    assert (own.watchdog_ns, mine.watchdog_ns) == (None, 400 * MS)
    own.close()
    mine.close()


def test_a_manager_that_is_gone_or_full_stops_nothing(short_tmp_path):
    own = told(short_tmp_path)
    assert not own.ready()
    own.close()
    full = Manager(str(short_tmp_path / "notify"))
    other = told(short_tmp_path)
    while other.ready():
        pass  # until the socket's queue is full: it does not wait
    assert (own.failed, other.failed) == (1, 1)
    other.close()
    full.socket.close()


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"NOTIFY_SOCKET": "notify"}, "NOTIFY_SOCKET is 'notify', expected an absolute path, or a name that begins"),
        ({"NOTIFY_SOCKET": "@"}, "NOTIFY_SOCKET is '@'"),
        ({"WATCHDOG_USEC": "1s"}, "WATCHDOG_USEC is '1s', expected a number of microseconds above 0"),
        ({"WATCHDOG_USEC": "0"}, "WATCHDOG_USEC is '0'"),
    ],
)
def test_what_systemd_never_sets_is_refused(environment, text):
    with pytest.raises(ValueError, match=text):
        Systemd(environment)


def test_a_loop_tells_when_it_is_up_turns_and_ends(cfc_bundle, manager, short_tmp_path):
    loop = Loop(
        lnn_edge.load(cfc_bundle), lambda: [0.0] * 3, rate_hz=50, systemd=told(short_tmp_path, WATCHDOG_USEC="40000"),
        timer=FakeTimer(), signals=False, threads=False,
    )  # fmt: skip
    loop.run(10)
    assert manager.heard() == ["READY=1", "STOPPING=1", "WATCHDOG=1"]


def test_the_thread_beside_a_loop_that_stands_sends_no_word(cfc_bundle, manager, short_tmp_path):
    """Else the watchdog would hear of a loop that stands that it turns."""
    heard = []

    def after(_tick):
        for _ in range(3):
            timer.now_ns += 100 * MS
            loop._keeping.look_at_watchdogs()
        heard.append(manager.heard())

    timer = FakeTimer()
    loop = Loop(
        lnn_edge.load(cfc_bundle), lambda: [0.0] * 3, rate_hz=50, systemd=told(short_tmp_path, WATCHDOG_USEC="40000"),
        timer=timer, after=after, signals=False, threads=False, late="catch up",
    )  # fmt: skip
    loop.run(3)
    assert heard == [["READY=1", "WATCHDOG=1"], ["WATCHDOG=1"], ["WATCHDOG=1"]]


def test_a_status_that_utf8_cannot_hold(manager, short_tmp_path):
    own = told(short_tmp_path)
    assert own.status("walk \udc80")
    own.close()
    assert manager.heard() == ["STATUS=walk ?"]
