"""Settings of the machine for a loop in real time: scheduling, CPUs, memory, timers, garbage; put back at its end."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from typing import Any, Literal

from ...given_numbers import given_flag, number_text, real_number, whole_number
from ...machine.timer_slack import set_timer_slack, timer_slack_ns
from ...wording import choices, listed
from ..figures.durations import Distribution
from ..figures.histogram import Histogram
from .timer import Timer, given_timer

__all__ = ["Realtime", "RealtimeError"]

_GARBAGE = ("leave", "freeze", "off")
_LOCK = 3  # MCL_CURRENT and MCL_FUTURE of sys/mman.h


def _are_several(given: object) -> bool:
    """Whether numbers can come of it; NumPy's array of one number alone has none."""
    return isinstance(given, Iterable) and not isinstance(given, (str, bytes)) and getattr(given, "ndim", 1) > 0


class RealtimeError(OSError):
    """A setting was refused, and the caller said `strict`."""


class Realtime:
    """A context in which the thread that enters it, the loop's, runs in real time as far as the machine lets it.

    By default a setting that the machine refuses is a line in `warnings`, with what would allow it. At the end each is
    put back as it was.

    Args:
        priority: Of SCHED_FIFO, 1 to 99: the thread runs before all that has none, and a loop that spins for ever takes
            its CPU for good. `None` leaves the scheduling class.
        cpus: Numbers of the CPUs that the thread may run on; `None` for all.
        lock_memory: Whether no page of this process may leave memory. It holds for the process, and for its threads.
        slack_ns: Timer slack of the thread, nanoseconds, >= 1; `None` leaves it.
        garbage: "freeze" sets aside all objects that there are, so that collections look at new ones alone; "off"
            collects nothing while the loop runs, for loops that make no circles, or do not run long; "leave".
        switch_s: Python's switch interval, seconds: how long another thread may keep the loop waiting for the
            interpreter; `None` leaves it, usually 0.005.
        strict: Raise where a setting is refused.
        timer: The clock for the collector's pauses.

    Attributes:
        warnings: What was refused, in words.

    Raises:
        TypeError, ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        *,
        priority: int | None = None,
        cpus: Collection[int] | None = None,
        lock_memory: bool = False,
        slack_ns: int | None = 1,
        garbage: Literal["leave", "freeze", "off"] = "freeze",
        switch_s: float | None = None,
        strict: bool = False,
        timer: Timer | None = None,
    ) -> None:
        if not isinstance(garbage, str) or garbage not in _GARBAGE:
            raise ValueError(f"`garbage` is {garbage!r}. {choices(garbage, _GARBAGE)}")
        self.warnings: list[str] = []
        self._priority = None if priority is None else whole_number("priority", priority, 1, 99)
        if cpus is not None and not _are_several(cpus):
            raise TypeError(f"`cpus` is {number_text(cpus)}, expected numbers of CPUs: cpus=[2, 3]")
        self._cpus = None if cpus is None else {whole_number("cpus", cpu, 0) for cpu in cpus}
        self._slack_ns = None if slack_ns is None else whole_number("slack_ns", slack_ns, 1)
        self._switch_s = None if switch_s is None else real_number("switch_s", switch_s, above=0, unit=", in seconds")
        self._lock, self._strict = given_flag("lock_memory", lock_memory), given_flag("strict", strict)
        self._garbage = garbage
        self._timer = given_timer(timer)
        self._stack = ExitStack()
        self._pauses = Histogram()
        self._began_ns: int | None = None

    @property
    def pauses(self) -> Distribution | None:
        """What the garbage collector took while this was on; `None` if it did not run."""
        return self._pauses.distribution()

    def __enter__(self) -> Realtime:
        with ExitStack() as stack:
            self._stack = stack
            if self._garbage != "leave":
                self._try("garbage", self._set_garbage)
            if self._switch_s is not None:
                self._try("switch interval", self._set_switch)
            if self._lock:
                self._try("memory lock", self._set_lock)
            if self._slack_ns is not None:
                self._try("timer slack", self._set_slack)
            if self._cpus is not None:
                self._try("CPU affinity", self._set_cpus)
            if self._priority is not None:
                self._try("scheduling class", self._set_priority)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _try(self, name: str, set_it: Callable[[], str | None]) -> None:
        """Set something; `set_it` says how to allow it where it is refused."""
        try:
            set_it()
        except (OSError, AttributeError, ValueError) as error:
            text = f"no {name}: {error}. {_ALLOW[name]}"
            if self._strict:
                raise RealtimeError(text) from error
            self.warnings.append(text)

    def _set_garbage(self) -> None:
        gc.callbacks.append(self._collecting)
        self._stack.callback(gc.callbacks.remove, self._collecting)
        gc.collect()
        if not gc.get_freeze_count():  # or what the program froze itself would be let loose at the end
            self._stack.callback(gc.unfreeze)
        gc.freeze()
        if self._garbage == "off" and gc.isenabled():
            gc.disable()
            self._stack.callback(gc.enable)
        self._pauses = Histogram()  # the one before is none of the loop's

    def _collecting(self, phase: str, _info: dict[str, Any]) -> None:
        now = self._timer.monotonic_ns()
        if phase == "start":
            self._began_ns = now
        elif self._began_ns is not None:
            self._pauses.add(now - self._began_ns)
            self._began_ns = None

    def _set_switch(self) -> None:
        usual = sys.getswitchinterval()
        sys.setswitchinterval(self._switch_s or usual)
        self._stack.callback(sys.setswitchinterval, usual)

    def _set_lock(self) -> None:
        _memory_lock("mlockall", ctypes.c_int(_LOCK))
        self._stack.callback(_memory_lock, "munlockall")

    def _set_slack(self) -> None:
        usual = timer_slack_ns()
        set_timer_slack(self._slack_ns or usual)
        self._stack.callback(set_timer_slack, usual)

    def _set_cpus(self) -> None:
        usual = os.sched_getaffinity(0)
        wrong = sorted((self._cpus or set()) - usual)
        if wrong or not self._cpus:
            raise ValueError(f"CPU {listed(map(str, wrong))} is not among {listed(map(str, sorted(usual)))}")
        os.sched_setaffinity(0, self._cpus)
        self._stack.callback(os.sched_setaffinity, 0, usual)

    def _set_priority(self) -> None:
        usual = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(self._priority or 1))
        self._stack.callback(os.sched_setscheduler, 0, *usual)


_ALLOW = {
    "garbage": "This Python has no such collector",
    "switch interval": "This Python has none",
    "memory lock": "Type: ulimit -l unlimited, or in the unit LimitMEMLOCK=infinity",
    "timer slack": "It is a setting of Linux",
    "CPU affinity": "Type: taskset -p $$ to see which there are",
    "scheduling class": "Type: ulimit -r 99, or in the unit LimitRTPRIO=99, or start it with sudo chrt -f",
}


def _memory_lock(name: str, *arguments: ctypes.c_int) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
