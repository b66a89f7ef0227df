"""Sinks: what a file gets of a tick, and what becomes of a loop whose sink blocks, fails or fills the disk."""

from __future__ import annotations

import csv
import errno
import json
import threading

import numpy as np
import pytest

import lnn_edge
from lnn_edge.runtime.guard.status import Status, Tick
from lnn_edge.runtime.loop import sink as subject
from lnn_edge.runtime.loop.sink import Awaited, Behind, Entry, Sink, as_sink


def entry(number, y=None, status=Status.OK, t_s=None):
    return Entry(number, Tick(status, y, y, 1, False, None, None, None, False), t_s, 0, 0)


class Kept:
    """A sink that keeps what it gets, and raises at some of it."""

    def __init__(self, bad=()):
        self.numbers, self.closed, self.bad = [], False, bad

    def write(self, own):
        if own.number in self.bad:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.numbers.append(own.number)

    def close(self):
        self.closed = True


def test_everything_is_written_in_order_and_the_sink_closed():
    kept = Kept()
    assert isinstance(kept, Sink)
    behind = Behind(kept)
    for k in range(1000):
        behind.put(entry(k))
    behind.close()
    assert kept.numbers == [*range(1000)]
    assert (behind.written, behind.dropped, behind.error, kept.closed) == (1000, 0, None, True)


def test_what_finds_no_room_is_dropped_and_counted():
    kept = Kept()
    behind = Behind(kept, capacity=3, start=False)
    for k in range(10):
        behind.put(entry(k))
    behind.drain()
    behind.put(entry(10))
    behind.close()
    assert kept.numbers == [0, 1, 2, 10]
    assert (behind.written, behind.dropped, behind.error) == (4, 7, None)


@pytest.mark.timeout(30)
def test_it_says_whether_there_is_room_and_whether_all_is_written():
    go = threading.Event()

    class Slow(Kept):
        def write(self, own):
            go.wait()
            super().write(own)

    kept = Slow()
    behind = Behind(kept, capacity=2)
    assert isinstance(behind, Awaited)
    found = []
    for k in range(2):
        found.append(behind.full)
        behind.put(entry(k))
    assert [*found, behind.full, behind.finish()] == [False, False, True, False]
    go.set()
    behind._thread.join()
    assert (behind.full, behind.finish(), kept.numbers, kept.closed) == (False, True, [0, 1], False)
    behind.close()
    assert (behind.written, behind.dropped, kept.closed) == (2, 0, True)


def test_where_no_thread_writes_who_asks_for_room_does():
    kept = Kept()
    behind = Behind(kept, capacity=2, start=False)
    for k in range(5):
        assert not behind.full
        behind.put(entry(k))
    behind.close()
    assert (kept.numbers, behind.dropped) == ([*range(5)], 0)


def test_a_full_disk_costs_the_ticks_that_it_has_no_room_for():
    kept = Kept(bad=(2, 3))
    behind = Behind(kept, start=False)
    for k in range(5):
        behind.put(entry(k))
    behind.close()
    assert kept.numbers == [0, 1, 4]
    assert (behind.written, behind.dropped) == (3, 2)
    assert behind.error == "OSError: [Errno 28] No space left on device"


@pytest.mark.timeout(30)
@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_a_sink_that_leaves_the_program_costs_its_tick(error):
    def write(own):
        if own.number == 1:
            raise error
        written.append(own.number)

    written = []
    behind = Behind(subject._Called(write))
    for k in range(3):
        behind.put(entry(k))
    behind.close()
    assert (written, behind.written, behind.dropped) == ([0, 2], 2, 1)
    assert behind.error == f"{type(error).__name__}: {error}"


@pytest.mark.timeout(30)
def test_a_sink_that_blocks_is_left_behind():
    entered, go = threading.Event(), threading.Event()

    class Blocked(Kept):
        def write(self, own):
            entered.set()
            go.wait()

    behind = Behind(Blocked(), capacity=4)
    behind.put(entry(0))
    entered.wait()
    for k in range(1, 10):
        behind.put(entry(k))  # returns, or this test does not
    behind.close(timeout_s=0.05)
    go.set()
    assert behind.dropped == 10
    assert behind.error == "it did not take 4 ticks within 0.05 s"
    behind._thread.join()


def test_a_sink_that_fails_to_close_is_told():
    class Broken(Kept):
        def close(self):
            raise ValueError("half\nclosed")

    behind = Behind(Broken(), start=False)
    behind.close()
    assert behind.error == "ValueError: half closed"


def test_a_function_is_a_sink(cfc_bundle):
    got = []
    sink = as_sink(got.append, lnn_edge.load(cfc_bundle))
    sink.write(entry(3))
    sink.close()
    assert got == [entry(3)]


def test_csv_has_a_line_for_each_tick(cfc_bundle, tmp_path):
    model = lnn_edge.load(cfc_bundle)
    count = model.outputs[0].shape[-1]
    sink = as_sink(tmp_path / "a.csv", model)
    sink.write(entry(0, np.arange(count, dtype=np.float32) / 3, t_s=0.5))
    sink.write(entry(1, None, Status.STALE))
    sink.close()
    heading, first, second = csv.reader((tmp_path / "a.csv").read_text().splitlines())
    assert heading[:3] == ["tick", "t_s", "status"]
    assert first[:3] == ["0", "0.5", "ok"]
    np.testing.assert_array_equal(np.array(first[3:], np.float64), np.arange(count, dtype=np.float32) / 3)
    assert second == ["1", "", "stale", *[""] * count]


def test_json_lines_hold_what_json_has(tmp_path, cfc_bundle):
    sink = as_sink(str(tmp_path / "a.jsonl"), lnn_edge.load(cfc_bundle))
    sink.write(entry(0, np.array([1.5, np.nan], np.float32), t_s=1.0))
    sink.write(entry(1, {"a": np.float32([1]), "b": np.float32([[np.inf]])}, t_s=np.datetime64(0, "s")))
    sink.write(entry(2))
    sink.write(entry(3, t_s=7))
    sink.write(entry(4, t_s=np.float32(0.5)))
    sink.close()
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines == [
        {"tick": 0, "t_s": 1.0, "status": "ok", "y": [1.5, None]},
        {"tick": 1, "t_s": "1970-01-01T00:00:00", "status": "ok", "y": {"a": [1.0], "b": [[None]]}},
        {"tick": 2, "t_s": None, "status": "ok", "y": None},
        {"tick": 3, "t_s": 7, "status": "ok", "y": None},
        {"tick": 4, "t_s": 0.5, "status": "ok", "y": None},
    ]


def test_a_line_that_the_disk_took_in_part_is_taken_back(tmp_path, cfc_bundle, monkeypatch):
    sink = as_sink(tmp_path / "a.jsonl", lnn_edge.load(cfc_bundle))
    sink.write(entry(0))
    writes = subject.Lines.write

    def full(lines, line, *, heading=False):
        writes(lines, line[:9])
        lines._done = (lines.rows - 1, lines.size - 9)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(subject.Lines, "write", full)
        with pytest.raises(OSError, match="No space left"):
            sink.write(entry(1))
    sink.write(entry(2))
    sink.close()
    assert [json.loads(line)["tick"] for line in (tmp_path / "a.jsonl").read_text().splitlines()] == [0, 2]


def test_a_file_that_somebody_removes_is_told(tmp_path, cfc_bundle):
    behind = Behind(as_sink(tmp_path / "a.jsonl", lnn_edge.load(cfc_bundle)), start=False)
    behind.put(entry(0))
    behind.drain()
    (tmp_path / "a.jsonl").unlink()
    behind.close()
    assert behind.error == (
        f"FileNotFoundError: [Errno 2] The file was removed while it was written: '{tmp_path / 'a.jsonl'}'"
    )


def test_what_takes_no_results_is_refused(cfc_bundle, tmp_path):
    model = lnn_edge.load(cfc_bundle)
    with pytest.raises(TypeError, match=r"the sink is a int, expected an object with write\(entry\) and close\(\)"):
        as_sink(3, model)
    with pytest.raises(ValueError, match=r"a\.txt', expected a file that ends in \.csv"):
        as_sink(tmp_path / "a.txt", model)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        as_sink(tmp_path / "none" / "a.csv", model)
    with pytest.raises(TypeError, match=r"`capacity` is 1\.5"):
        Behind(Kept(), 1.5, start=False)  # type: ignore[arg-type]
