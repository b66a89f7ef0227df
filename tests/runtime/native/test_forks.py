"""Children of a fork: what other threads of the parent held is not held there, and what a child has holds up nobody."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import warnings

import numpy as np
import pytest

import lnn_edge
from lnn_edge.runtime.backends.build_cache import EngineCache
from lnn_edge.runtime.backends.native import library

SECONDS = 60  # that a child may take which waits for somebody who is not there: it is ended, and the test fails


def child_of_a_fork(work):
    """Run something in a child; whether it ended well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of forks where there are threads
        pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            code = 0 if work() else 2
        os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


@pytest.fixture
def busy():
    """Start something in a thread that stays in it until the test has ended, once it says that it is there."""
    there, end, threads = threading.Event(), threading.Event(), []

    def stay():
        there.set()
        assert end.wait(SECONDS)

    def start(work):
        threads.append(threading.Thread(target=work, args=(stay,)))
        threads[-1].start()
        assert there.wait(SECONDS)
        return end, threads[-1]

    yield start
    end.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def model(cfc_bundle, compiler):
    return lnn_edge.load(cfc_bundle, backend="native")


def rows(model):
    return model.step_many(np.ones((5, 3), np.float32), model.initial_state(rows=5))[0]


def test_while_another_thread_compiles_rows(model, cfc_bundle, busy, monkeypatch):
    expected = rows(model)
    other = lnn_edge.load(cfc_bundle, backend="native")
    made, me = other._backend._made.rows, os.getpid()

    def work(stay):
        def compiling():
            if os.getpid() == me:
                stay()
            return made()

        monkeypatch.setattr(other._backend._made, "rows", compiling)
        rows(other)

    busy(work)
    assert child_of_a_fork(lambda: rows(other).tobytes() == expected.tobytes())


def test_while_another_thread_loads_a_library(model, cfc_bundle, busy):
    def work(stay):
        with library._loading.lock:
            stay()

    busy(work)
    assert child_of_a_fork(lambda: lnn_edge.load(cfc_bundle, backend="native").build == model.build)


def test_in_the_middle_of_what_the_child_does_itself(model, cfc_bundle):
    """As in a signal's handler: what its own thread holds, it holds in the child as well, and gives it back there."""

    def goes_on():
        with library._loading.lock:
            pass
        return True

    with library._loading.lock:
        assert child_of_a_fork(goes_on)
    lock = model._backend._compiling.lock
    with lock:
        assert child_of_a_fork(lambda: model._backend._compiling.lock is lock)


def test_a_child_keeps_no_cache_locked(busy, tmp_path):
    """A file is locked until all who have it open have closed it, and a child has what its parent had."""
    cache = EngineCache(tmp_path / "cache")

    def work(stay):
        with cache.building():
            stay()

    end, thread = busy(work)

    def is_free_while_the_child_lives():
        descriptor = os.open(tmp_path / "cache" / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        asked.write(b"?")
        asked.flush()
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # which waits for the parent alone
        return True

    readable, writable = os.pipe()
    asked = os.fdopen(writable, "wb")

    def let_go():
        os.read(readable, 1)
        end.set()

    helper = threading.Thread(target=let_go)
    helper.start()
    assert child_of_a_fork(is_free_while_the_child_lives)
    helper.join()
    thread.join()
    asked.close()
    os.close(readable)
    with cache.building():
        assert child_of_a_fork(lambda: True)
