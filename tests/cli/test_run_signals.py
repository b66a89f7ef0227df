"""`lnn-edge run` under signals: what it keeps, and its exit code."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import signal
import termios
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from bundles import INPUTS
from command_line import csv_text, samples, table

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "expected"), STOPS, ids=["Ctrl-C", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("output", ["-", "y.csv"])
def test_a_signal_ends_run_and_keeps_what_is_finished(start, cfc_bundle, tmp_path, output, number, expected):
    target = tmp_path / output if output != "-" else "-"
    process = start("run", cfc_bundle, "--output", target, "--on-bad", "skip")
    process.stdin.write(f"{','.join(INPUTS)}\n0,0,0\nbad\n")
    process.stdin.flush()
    assert "line 3: 1 cells" in process.stderr.readline()
    process.send_signal(number)
    assert process.wait(30) == expected
    saved = "" if output == "-" else f", saved {target}"
    told = process.stderr.read()
    assert told == f"interrupted after 1 sample in 1 recording, 1 bad row skipped{saved}\n"
    written = process.stdout.read() if output == "-" else target.read_text()
    assert table(written) == (["walk", "run"], table(written)[1])
    assert (len(table(written)[1]), written[-1]) == (1, "\n")
    assert os.listdir(tmp_path) == ([] if output == "-" else ["y.csv"])


def test_a_signal_before_the_first_result_leaves_the_old_file(start, cfc_bundle, tmp_path):
    (tmp_path / "y.csv").write_text("old")
    process = start("run", cfc_bundle, "--output", tmp_path / "y.csv", "--on-bad", "skip")
    process.stdin.write(f"{','.join(INPUTS)}\nbad\n")
    process.stdin.flush()
    assert "line 2: 1 cells" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert process.stderr.read() == (
        f"interrupted after 0 samples in 0 recordings, 1 bad row skipped; {tmp_path}/y.csv is left as it was\n"
    )
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_signal_that_is_ignored_stays_ignored(start, cfc_bundle):
    """As `nohup` and a shell's background jobs have it."""
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    process = start("run", cfc_bundle, **ignore)
    process.stdin.write(f"{','.join(INPUTS)}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "walk,run\n"
    process.send_signal(signal.SIGHUP)
    process.stdin.write("0,0,0\n")
    process.stdin.close()
    assert process.wait(30) == 0
    assert len(process.stdout.read().splitlines()) == 1


def test_ctrl_c_while_the_file_is_put_in_place_loses_nothing(call, cfc_bundle, tmp_path, monkeypatch):
    def sync(descriptor):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)  # the handler runs in here

    monkeypatch.setattr(os, "fsync", sync)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    code, _, err = call("run", cfc_bundle, "--output", tmp_path / "y.csv", stdin=csv_text([*samples(3), ("x", 0, 0)]))
    assert code == 2
    assert err.startswith(f"stopped after 3 samples in 1 recording, saved {tmp_path}/y.csv\n")
    assert len((tmp_path / "y.csv").read_text().splitlines()) == 4
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_run_works_in_a_thread_that_may_handle_no_signals(call, cfc_bundle):
    with ThreadPoolExecutor(1) as pool:
        code, out, _ = pool.submit(call, "run", cfc_bundle, stdin=csv_text(samples(2))).result()
    assert (code, len(out.splitlines())) == (0, 3)


def test_rows_of_a_file_can_be_watched_where_the_help_says(start, call, cfc_bundle, tmp_path):
    """The file itself appears at the end; a killed process leaves its rows under the hidden name."""
    process = start("run", cfc_bundle, "--output", tmp_path / "live.csv", "--on-bad", "skip", cold=True)
    process.stdin.write(f"{','.join(INPUTS)}\n0,0,0\nbad\n")
    process.stdin.flush()
    assert "line 3: 1 cells" in process.stderr.readline()
    (hidden,) = tmp_path.glob(".live.csv.*.lnn-edge.partial")
    assert len(table(hidden.read_text())[1]) == 1
    process.kill()
    process.wait(30)
    assert os.listdir(tmp_path) == [hidden.name]
    assert ".FILE.*.lnn-edge.partial" in call("run", "--help")[1]


@pytest.fixture
def unread():
    """A pipe that is full, and that nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(1 << 12))
    os.set_blocking(writing, True)
    yield writing
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(("number", "expected"), STOPS[:2], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_run_though_nobody_reads_what_it_says(start, cfc_bundle, unread, number, expected):
    """Its last words as well, which waited for ever, and let no further signal end them."""
    process = start("run", cfc_bundle, stdout=unread, stderr=unread)
    _until_it_reads(process, f"{','.join(INPUTS)}\n0,0,0\n")
    process.send_signal(number)
    assert process.wait(30) == expected


def _until_it_reads(process, begun):
    """Until what it is given is taken; its handlers are set then."""
    process.stdin.write(begun)
    process.stdin.flush()
    left = array.array("i", [1])
    while left[0]:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
        fcntl.ioctl(process.stdin, termios.FIONREAD, left)


@pytest.mark.parametrize(("number", "expected"), STOPS, ids=["Ctrl-C", "SIGTERM", "SIGHUP"])
def test_a_signal_before_a_loop_begins_is_told_apart(start, cfc_bundle, number, expected):
    """While the heading of a table is waited for."""
    process = start("run", cfc_bundle, "--wait", "sleep", "--rate", "50")
    _until_it_reads(process, INPUTS[0])
    process.send_signal(number)
    assert process.wait(30) == expected
    assert process.stderr.read() == "lnn-edge: interrupted; nothing half-written is left\n"
