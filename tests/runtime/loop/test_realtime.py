"""Settings of the machine: tried, told where they are refused, and put back."""

from __future__ import annotations

import gc
import os
import sys

import pytest
from fake_timer import FakeTimer

from lnn_edge.machine.timer_slack import timer_slack_ns
from lnn_edge.runtime.loop import realtime as subject
from lnn_edge.runtime.loop.realtime import Realtime, RealtimeError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="settings of Linux")


class Machine:
    """The settings that a fake kernel has, and what it refuses."""

    def __init__(self, monkeypatch, refused=()):
        self.now = {"cpus": {0, 1}, "class": (os.SCHED_OTHER, os.sched_param(0)), "locked": False}
        self.refused = refused
        for name, call in {
            "sched_getaffinity": lambda _pid: self.now["cpus"],
            "sched_setaffinity": lambda _pid, cpus: self.set("cpus", cpus),
            "sched_getscheduler": lambda _pid: self.now["class"][0],
            "sched_getparam": lambda _pid: self.now["class"][1],
            "sched_setscheduler": lambda _pid, kind, param: self.set("class", (kind, param)),
        }.items():
            monkeypatch.setattr(subject.os, name, call)
        monkeypatch.setattr(subject, "_memory_lock", lambda name, *_: self.set("locked", name == "mlockall"))

    def set(self, name, value):
        if name in self.refused:
            raise PermissionError(1, "Operation not permitted")
        self.now[name] = value


def test_everything_is_set_and_put_back(monkeypatch):
    machine = Machine(monkeypatch)
    before = dict(machine.now)
    slack, switch = timer_slack_ns(), sys.getswitchinterval()
    frozen = gc.get_freeze_count()
    with Realtime(priority=40, cpus=[1], lock_memory=True, switch_s=0.001, garbage="off") as own:
        kind, param = machine.now["class"]
        assert (kind, param.sched_priority) == (os.SCHED_FIFO, 40)
        assert (machine.now["cpus"], machine.now["locked"]) == ({1}, True)
        assert (timer_slack_ns(), round(sys.getswitchinterval(), 6), gc.isenabled()) == (1, 0.001, False)
        assert gc.get_freeze_count() > frozen
    assert own.warnings == []
    assert machine.now == before
    assert (timer_slack_ns(), sys.getswitchinterval(), gc.isenabled()) == (slack, switch, True)
    assert own._collecting not in gc.callbacks


def test_what_is_refused_is_told_with_what_would_allow_it(monkeypatch):
    Machine(monkeypatch, refused=("class", "locked"))
    with Realtime(priority=40, cpus=[7], lock_memory=True) as own:
        pass
    memory, cpus, scheduling = own.warnings
    refused = "[Errno 1] Operation not permitted"
    assert memory == f"no memory lock: {refused}. Type: ulimit -l unlimited, or in the unit LimitMEMLOCK=infinity"
    assert cpus == "no CPU affinity: CPU 7 is not among 0, 1. Type: taskset -p $$ to see which there are"
    assert scheduling.startswith(f"no scheduling class: {refused}. Type: ulimit -r 99, or in the unit LimitRTPRIO=99")


def test_strict_raises_and_puts_back_what_was_set(monkeypatch):
    machine = Machine(monkeypatch, refused=("class",))
    before, slack = dict(machine.now), timer_slack_ns()
    with pytest.raises(RealtimeError, match=r"no scheduling class: .*Type: ulimit -r 99"):
        Realtime(priority=40, cpus=[1], lock_memory=True, strict=True).__enter__()
    assert machine.now == before
    assert timer_slack_ns() == slack
    assert gc.isenabled()


def test_pauses_of_the_collector_are_measured():
    timer = FakeTimer()
    with Realtime(timer=timer, slack_ns=None) as own:
        assert own.pauses is None
        gc.callbacks.append(slow := lambda phase, _info: setattr(timer, "now_ns", timer.now_ns + 5000))
        gc.callbacks.sort(key=lambda call: call is not slow)  # it takes its time within the pause
        gc.callbacks.reverse()
        gc.collect()
        gc.callbacks.remove(slow)
    assert (own.pauses.samples, own.pauses.max_us) == (1, 5.0)


def test_what_a_program_froze_itself_stays_frozen():
    gc.freeze()
    try:
        with Realtime(slack_ns=None):
            pass
        assert gc.get_freeze_count() > 0
        gc.unfreeze()
        with Realtime(slack_ns=None):
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() == 0
    finally:
        gc.freeze()  # as the other tests have it


def test_left_alone_nothing_changes():
    frozen, slack = gc.get_freeze_count(), timer_slack_ns()
    with Realtime(slack_ns=None, garbage="leave"):
        assert (gc.get_freeze_count(), timer_slack_ns()) == (frozen, slack)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"priority": 100}, ValueError, "`priority` is 100, expected a whole number from 1 to 99"),
        ({"garbage": "burn"}, ValueError, "`garbage` is 'burn'. Valid: leave, freeze, off"),
        ({"cpus": ["a"]}, TypeError, "`cpus` is 'a'"),
        ({"slack_ns": 0}, ValueError, "`slack_ns` is 0"),
        ({"switch_s": 0}, ValueError, "`switch_s` is 0"),
        ({"cpus": 2}, TypeError, r"`cpus` is 2, expected numbers of CPUs: cpus=\[2, 3\]"),
        ({"lock_memory": "no"}, TypeError, "`lock_memory` is 'no', expected True or False"),
        ({"strict": 1}, TypeError, "`strict` is 1, expected True or False"),
    ],
)
def test_wrong_settings_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        Realtime(**options)


def test_a_loop_tells_what_was_refused_and_paused(monkeypatch, cfc_bundle):
    import lnn_edge
    from lnn_edge.runtime.loop.loop import Loop

    Machine(monkeypatch, refused=("class",))
    timer = FakeTimer()
    own = Realtime(priority=1, timer=timer)
    loop = Loop(
        lnn_edge.load(cfc_bundle), lambda: [0.0] * 3, rate_hz=50, realtime=own, timer=timer, signals=False,
        after=lambda _tick: gc.collect(), threads=False,
    )  # fmt: skip
    summary = loop.run(3)
    assert "no scheduling class" in str(summary)
    assert summary.pauses.samples == 3
