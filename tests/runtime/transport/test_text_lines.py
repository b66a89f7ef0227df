"""Lines that are waited for."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest

from lnn_edge.files.whole import write_all
from lnn_edge.runtime.transport.text_lines import TextLines

STARTED_S, GIVEN_UP_S = 0.3, 5.0


class Signalled(Exception):
    """What the handler raises."""


@pytest.fixture
def unnoticed():
    """A signal that another thread receives, and so interrupts nothing that waits here: as one just before a wait.

    Nor may anything else end the wait: what would is called late, and says so.
    """

    def handler(_number, _frame):
        raise Signalled

    former = signal.signal(signal.SIGUSR1, handler)
    threads, given_up = [], threading.Event()

    def while_waiting(end_of_the_wait):
        def give_up():
            given_up.set()
            end_of_the_wait()

        signalled = threading.Timer(STARTED_S, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
        threads.extend([signalled, threading.Timer(GIVEN_UP_S, give_up)])
        for thread in threads:
            thread.start()

    yield while_waiting
    for thread in threads:
        thread.cancel()
        thread.join()
    signal.signal(signal.SIGUSR1, former)
    assert not given_up.is_set()


@pytest.mark.parametrize("before", [b"", b"first\n"])
@pytest.mark.parametrize("blocks", [True, False])
def test_a_signal_that_wakes_nobody_is_noticed(before, blocks, unnoticed):
    reading, writing = os.pipe()
    os.set_blocking(reading, blocks)
    os.write(writing, before)
    with open(reading, encoding="utf-8") as file:
        lines = TextLines(file)
        if before:
            assert next(lines) == "first"
        unnoticed(lambda: os.write(writing, b"too late\n"))
        with pytest.raises(Signalled):
            next(lines)
    os.close(writing)


@pytest.mark.parametrize("blocks", [True, False])
def test_a_signal_that_wakes_nobody_is_noticed_where_a_pipe_is_full(blocks, unnoticed):
    reading, writing = os.pipe()
    os.set_blocking(writing, blocks)
    os.set_blocking(reading, False)

    def read_all():
        for _ in range(100):  # the writer goes on
            time.sleep(0.01)
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 1 << 20)

    unnoticed(read_all)
    with pytest.raises(Signalled):
        write_all(writing, bytes(1 << 18))
    os.close(reading)
    os.close(writing)
