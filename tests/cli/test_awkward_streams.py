"""Standard streams that are open and behave otherwise: they do not block, are full, or nobody reads them any more."""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import threading
import time

import pytest
from command_line import csv_text, samples

from lnn_edge.progress import READERS, tell
from lnn_edge.runtime.loop.ending import stopped_by_signals

ROWS = 3000  # whose results are more than a pipe holds


@pytest.fixture
def shell(warm_device, work, cfc_bundle):
    """Run a line of shell with `lnn-edge` and `BUNDLE` in it, beside a table with a bad row in its midst."""
    lines = csv_text(samples(40)).splitlines(keepends=True)
    (work / "bad.csv").write_text("".join([*lines[:20], "bad\n", *lines[20:]]))

    def run(line):
        command = line.replace("lnn-edge", "python -m lnn_edge").replace("BUNDLE", str(cfc_bundle))
        return subprocess.run(
            ["bash", "-c", command], env=warm_device, cwd=work, capture_output=True, text=True, check=False, timeout=120
        )

    return run


def test_no_row_is_lost_in_an_output_that_does_not_block(start, cfc_bundle, tmp_path):
    """Python's own buffer drops what a pipe that another program set not to block cannot take at once."""
    (tmp_path / "s.csv").write_text(csv_text(samples(ROWS)))
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = start("run", cfc_bundle, "--input", tmp_path / "s.csv", stdout=writing)
    os.close(writing)
    with open(reading, "rb") as results:
        first = results.read(1)
        time.sleep(0.5)  # in which the pipe fills up
        assert (first + results.read()).count(b"\n") == ROWS + 1
    assert process.wait(30) == 0


def test_a_pause_is_no_end_of_an_input_that_does_not_block(start, cfc_bundle):
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    process = start("run", cfc_bundle, stdin=reading)
    os.close(reading)
    for part in csv_text(samples(4)).splitlines(keepends=True):
        os.write(writing, part[:-3].encode())  # a pause within a number
        time.sleep(0.05)
        os.write(writing, part[-3:].encode())
        assert process.stdout.readline()
    os.close(writing)
    assert process.wait(30) == 0
    assert "4 samples in 1 recording" in process.stderr.read()


@pytest.mark.parametrize("end", ["2>/dev/full", "2> >(true)", "2>&-"], ids=["full", "nobody reads it", "closed"])
def test_remarks_that_nobody_hears_end_nothing(shell, work, end):
    done = shell(f"lnn-edge run BUNDLE --input bad.csv --on-bad skip --output y.csv {end}")
    assert (done.returncode, len((work / "y.csv").read_text().splitlines())) == (0, 41)


def test_an_error_that_nobody_hears_has_its_exit_code(shell):
    assert shell("lnn-edge run BUNDLE --input none.csv 2>/dev/full").returncode == 2
    assert shell("lnn-edge bogus 2>/dev/full").returncode == 2


@pytest.mark.parametrize("command", ["inspect BUNDLE", "doctor", "verify BUNDLE --verbose", "run --help"])
def test_a_full_output_is_named_however_much_is_printed(shell, command):
    done = shell(f"lnn-edge {command} > /dev/full")
    assert (done.returncode, "lnn-edge: standard output: No space left on device" in done.stderr) == (1, True)


def test_an_input_that_is_open_for_writing_is_named(shell):
    done = shell("lnn-edge run BUNDLE 0> x.csv")
    told = "lnn-edge: standard input: Bad file descriptor. It is open for writing only. Name a file, --input FILE"
    assert (done.returncode, done.stderr[: len(told)]) == (2, told)


@pytest.mark.parametrize("stream", [None, "closed", "full"])
def test_progress_of_a_training_ends_nothing(monkeypatch, stream):
    with open("/dev/full", "w", encoding="utf-8") as full:
        if stream == "closed":
            full.close()
        monkeypatch.setattr(sys, "stderr", None if stream is None else full)
        tell("epoch 1/2\n")
        monkeypatch.undo()


def test_a_report_that_nobody_reads_ends_soon_after_a_signal(monkeypatch):
    """It is printed by another thread than the one that gets the signal, and the end of a loop waited 5 s for it."""
    reading, writing = os.pipe()
    monkeypatch.setattr("lnn_edge.progress._LAST_WORDS_S", 0.0)
    with open(reading, "rb"), open(writing, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        thread = threading.Thread(target=tell, args=("x" * (1 << 18),), daemon=True)
        thread.start()
        while select.select([], [writing], [], 0)[1]:
            time.sleep(0.01)
        with stopped_by_signals(lambda _why: None):
            os.kill(os.getpid(), signal.SIGTERM)
            thread.join(20)
        monkeypatch.undo()
    assert not thread.is_alive()
    assert READERS.patience_s == math.inf  # as before


def test_progress_waits_for_a_reader(monkeypatch):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    found = []
    with open(reading, encoding="utf-8") as lines, open(writing, "w", encoding="utf-8") as stream:
        reader = threading.Thread(target=lambda: (time.sleep(0.2), found.append(lines.read(1 << 18))))
        reader.start()
        monkeypatch.setattr(sys, "stderr", stream)
        tell("x" * (1 << 18))
        monkeypatch.undo()
        reader.join()
    assert found == ["x" * (1 << 18)]
