"""Recorders: every tick is in the file, bit for bit, or counted as dropped, and the loop goes on whatever happens."""

from __future__ import annotations

import csv
import errno
import os
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest
from bundles import ROOT
from ticks import Robot, bundle, model_of, put, read_back, record

import lnn_edge
from lnn_edge import Recorder, State
from lnn_edge.runtime.guard.status import Status, Tick
from lnn_edge.runtime.loop.sink import Awaited
from lnn_edge.runtime.loop.summary import Lost
from lnn_edge.runtime.record import csv_file
from lnn_edge.runtime.record.layout import layout_of
from lnn_edge.runtime.record.ring import Ring

GOOD = ["good"] * 40


@pytest.fixture(scope="module")
def model():
    return model_of("fixed_2")


@pytest.mark.parametrize("name", ["fixed_2", "measured_2", "unroll_2", "two_cores_2"])
def test_every_number_comes_back(name, tmp_path):
    model = model_of(name)
    ticks = record(tmp_path / "walk.mcap", model, ["good", "refused", "split", "reset", "stopped", "good"])
    found, starts, cut = read_back(tmp_path / "walk.mcap", model)
    assert (len(found), starts, cut) == (len(ticks), [], False)
    assert found["tick"].tolist() == list(range(len(ticks)))
    assert found["status"].tolist() == [tick.status for tick in ticks]
    assert found["stepped"].tolist() == [tick.stepped for tick in ticks]
    for part in layout_of(model.manifest).parts:
        if part.role in ("input", "output", "raw"):
            for row, tick in zip(found, ticks, strict=True):
                whole = {"input": tick.x, "output": tick.y, "raw": tick.raw}[part.role]
                value = whole[part.tensor] if isinstance(whole, dict) else whole
                if tick.stepped:
                    assert row[part.key].tobytes() == np.asarray(value, part.memory).tobytes()


def test_times_and_flags_come_back(model, tmp_path):
    tick = Tick(Status.LATE, np.zeros(2, np.float32), np.ones(2, np.float32), 1, True, 0.25, np.ones(3), None, True)
    with Recorder(tmp_path / "walk.mcap", model) as recorder:
        recorder.put(tick, t_s=1.5, mono_ns=7, wall_ns=1 << 60)
        recorder.put(tick._replace(dt_s=None), mono_ns=8, wall_ns=-5)
    (first, second), _, _ = read_back(tmp_path / "walk.mcap", model)
    assert (first["t_s"], first["dt_s"], first["mono_ns"], first["wall_ns"]) == (1.5, 0.25, 7, 1 << 60)
    assert (first["status"], first["reset"], first["limited"]) == (Status.LATE, 1, 1)
    assert np.isnan(second["t_s"])
    assert np.isnan(second["dt_s"])
    assert second["wall_ns"] == -5


ODD = [
    None,
    "nothing",
    object(),
    [1.0, 2.0, 3.0],
    {"acc_x": 1.0},
    np.array([1e300, 0.0, -1e300]),
    np.zeros((2, 5)),
    np.array(["a", "b", "c"]),
    float("nan"),
    [[1.0], [2.0, 3.0]],
    np.ma.masked_array([1.0, 2.0, 3.0], [True, False, False]),
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
@pytest.mark.parametrize("stepped", [0, 1])
def test_no_sample_stops_the_loop(odd, stepped, model, tmp_path):
    good = np.array([1, 2, 3], np.float32), np.zeros(2, np.float32)
    with Recorder(tmp_path / "walk.mcap", model) as recorder:
        recorder.put(Tick(Status.BAD_INPUT, odd, odd, stepped, False, None, odd, None, False), mono_ns=0, wall_ns=0)
        recorder.put(Tick(Status.OK, good[1], good[1], 1, False, None, good[0], None, False), mono_ns=1, wall_ns=1)
    found, _, _ = read_back(tmp_path / "walk.mcap", model)
    assert found["status"].tolist() == [Status.BAD_INPUT, Status.OK]
    assert found["input.input"][1].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "when", [{"t_s": "soon"}, {"mono_ns": "now"}, {"wall_ns": 1 << 80}, {"t_s": np.datetime64("2026-01-01")}]
)
def test_no_time_stops_the_loop(when, model, tmp_path):
    robot = Robot(model)
    with Recorder(tmp_path / "walk.mcap", model) as recorder:
        recorder.put(robot.tick(), **({"mono_ns": 1, "wall_ns": 2} | when))
    assert len(read_back(tmp_path / "walk.mcap", model)[0]) == 1


def test_a_list_of_named_values_is_recorded_by_name(model, tmp_path):
    y = np.zeros(2, np.float32)
    x = {"gyro_z": 3.0, "acc_x": 1.0, "acc_y": 2.0}
    with Recorder(tmp_path / "walk.mcap", model) as recorder:
        recorder.put(Tick(Status.OK, y, y, 1, False, None, x, None, False), mono_ns=0, wall_ns=0)
    assert read_back(tmp_path / "walk.mcap", model)[0]["input.input"][0].tolist() == [1, 2, 3]


def test_a_full_ring_drops_whole_ticks_and_counts_them(model):
    ring, robot = Ring(model.manifest, layout_of(model.manifest), 4), Robot(model)
    placed = [ring.put(robot.tick(), None, k, k, None, None) for k in range(6)]
    assert placed == [True] * 4 + [False] * 2
    assert ring.take().ticks["tick"].tolist() == [0, 1, 2, 3]
    assert ring.put(robot.tick(), None, 6, 6, None, None)
    assert ring.take().ticks["tick"].tolist() == [6]
    assert (ring.count, ring.dropped) == (7, 2)


def test_a_ring_of_large_ticks_is_shorter(model):
    layout = layout_of(model.manifest)
    assert Ring(model.manifest, layout, 1 << 30).capacity == (64 << 20) // layout.dtype.itemsize


class Sink:
    """What a recording is written to: it fails in the calls that are named, or waits."""

    def __init__(self, fails=(), wait=None):
        self.data, self.calls, self._fails, self._wait = bytearray(), 0, fails, wait

    def write(self, data):
        self.calls += 1
        if self._wait is not None:
            self._wait.wait(30)
        if self.calls in self._fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.data += data[:1000]
        return min(len(data), 1000)  # as a pipe does


def test_a_sink_that_takes_a_part_gets_the_rest(model, tmp_path):
    sink = Sink()
    record(sink, model, GOOD)
    record(tmp_path / "walk.mcap", model, GOOD)
    assert bytes(sink.data) == (tmp_path / "walk.mcap").read_bytes()


def test_a_sink_that_fails_ends_the_recording_and_not_the_loop(model):
    sink, robot = Sink(fails=(4,)), Robot(model)
    with Recorder(sink, model) as recorder:
        for k in range(100):
            put(recorder, robot, robot.tick(), k)
    assert recorder.error == "No space left on device"
    assert (recorder.written, recorder.dropped) == (0, 100)


def test_a_sink_that_blocks_stops_nothing_and_close_waits_no_longer_than_told(model):
    go_on = threading.Event()
    robot, recorder = Robot(model), Recorder(Sink(wait=go_on), model, capacity=8)
    try:
        for k in range(20):
            put(recorder, robot, robot.tick(), k)
        recorder.close(timeout_s=0.01)
        assert recorder.error == "what it writes to took nothing for 0.01 s, so the recording has no end"
        assert (recorder.written, recorder.dropped) == (0, 20)
    finally:
        go_on.set()
        recorder._thread.join()


@pytest.mark.timeout(60)
def test_it_says_whether_there_is_room_and_whether_all_is_written(model):
    """For samples that can wait: a file's, in a loop that nothing paces."""
    go_on = threading.Event()
    robot, recorder = Robot(model), Recorder(Sink(wait=go_on), model, capacity=8)
    assert isinstance(recorder, Awaited)
    put(recorder, robot, robot.tick(), 0)
    assert not recorder.full
    while not recorder.full:  # the thread takes some, and blocks at the first chunk
        put(recorder, robot, robot.tick(), 0)
    assert not recorder.finish()
    go_on.set()
    recorder._thread.join()
    assert (recorder.full, recorder.finish()) == (False, True)
    recorder.close()
    assert (recorder.dropped, recorder.written, recorder.error) == (0, len(robot.ticks), None)


def test_one_whose_thread_has_ended_is_waited_for_no_more(model, monkeypatch):
    def ended(_own):
        raise MemoryError

    monkeypatch.setattr(Ring, "take", ended)
    robot, recorder = Robot(model), Recorder(Sink(), model, capacity=2)
    recorder._thread.join()
    for k in range(4):
        put(recorder, robot, robot.tick(), k)
    assert (recorder.full, recorder.finish(), recorder.dropped) == (False, True, 2)


def test_a_pipe_that_nobody_reads_stops_nothing(model, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    robot, recorder = Robot(model), Recorder(tmp_path / "pipe", model, state_every=1)
    try:
        for k in range(4000):
            put(recorder, robot, robot.tick(), k)
        recorder.close(timeout_s=0.01)
        assert recorder.dropped + recorder.written == 4000
        assert recorder.dropped > 0
    finally:
        os.set_blocking(reader, True)
        while os.read(reader, 1 << 20):
            pass
        recorder._thread.join()
        os.close(reader)


def test_a_full_disk_leaves_what_was_complete(model, tmp_path):
    """A limit on the size of files is what a full disk looks like to one program."""
    path, robot = tmp_path / "walk.mcap", Robot(model)
    recorder = Recorder(path, model, start=robot.stream.snapshot())
    writer = recorder._writer
    end_thread(recorder)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for k in range(100):
            put(recorder, robot, robot.tick(), k)
            if k % 10 == 9:
                if k == 49:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, usual[1]))
                if k == 79:
                    resource.setrlimit(resource.RLIMIT_FSIZE, usual)
                writer._turn(recorder._ring.take(), end=True)
                assert (writer.error is None) == (k < 49)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert writer.error == f"File too large: '{path}'"
    assert (writer.written, writer.lost) == (70, 30)
    writer._end()
    assert [*read_back(path, model)[0]["tick"]] == [*range(40), *range(70, 100)]
    report = lnn_edge.replay(bundle("fixed_2"), path)
    assert report.same
    assert report.verdicts[0].found.unknown == 1  # the state came behind the first tick after the hole


def end_thread(recorder):
    """Let a test take its turns."""
    recorder._writer.stop.set()
    recorder._writer._end = lambda: None
    recorder._thread.join()
    del recorder._writer._end


def test_files_follow_each_other_and_each_opens_by_itself(model, tmp_path):
    robot, recorder = Robot(model), Recorder(tmp_path / "walk.mcap", model, rotate_bytes=20_000)
    end_thread(recorder)
    for k in range(300):
        put(recorder, robot, robot.tick("refused" if k % 7 == 3 else "good"), k)
        if k % 10 == 9:
            recorder._writer._turn(recorder._ring.take(), end=True)
    recorder._writer._end()
    assert [path.name for path in recorder.paths] == [
        "walk.mcap",
        *(f"walk-{k:04d}.mcap" for k in range(1, len(recorder.paths))),
    ]
    assert len(recorder.paths) > 2
    found = [read_back(path, model) for path in recorder.paths]
    assert np.concatenate([ticks["tick"] for ticks, _, _ in found]).tolist() == list(range(300))
    assert [[start.tick for start in starts] for _, starts, _ in found[1:]] == [
        [ticks["tick"][0]] for ticks, _, _ in found[1:]
    ]
    report = lnn_edge.replay(bundle("fixed_2"), recorder.paths, executor=lnn_edge.runtime.record.replay.InThisProcess())
    assert report.same
    assert sum(verdict.found.compared + verdict.found.skipped for verdict in report.verdicts) == 300


def test_a_file_ends_before_its_index_fills_the_memory(model, tmp_path, monkeypatch):
    """Whatever its size is."""
    monkeypatch.setattr("lnn_edge.runtime.record.writer._MOST_CHUNKS", 4)
    robot, recorder = Robot(model), Recorder(tmp_path / "walk.mcap", model)
    end_thread(recorder)
    for k in range(90):
        put(recorder, robot, robot.tick("good"), k)
        if k % 10 == 9:
            recorder._writer._turn(recorder._ring.take(), end=True)
    recorder._writer._end()
    assert [path.name for path in recorder.paths] == ["walk.mcap", "walk-0001.mcap", "walk-0002.mcap"]
    report = lnn_edge.replay(bundle("fixed_2"), recorder.paths, executor=lnn_edge.runtime.record.replay.InThisProcess())
    assert report.same
    assert [verdict.found.compared for verdict in report.verdicts] == [41, 40, 9]


def test_files_follow_each_other_where_no_state_comes(model, tmp_path):
    robot, recorder = Robot(model), Recorder(tmp_path / "walk.mcap", model, rotate_bytes=20_000)
    end_thread(recorder)
    for k in range(300):
        recorder.put(robot.tick(), mono_ns=k, wall_ns=k)
        if k % 10 == 9:
            recorder._writer._turn(recorder._ring.take(), end=True)
    recorder._writer._end()
    assert len(recorder.paths) > 1
    assert recorder.written == 300
    verdict = lnn_edge.replay(bundle("fixed_2"), recorder.paths[1]).verdicts[0]
    assert not verdict.same
    assert "NOTHING to compare" in str(verdict)
    assert "does not hold the state that it begins from" in str(verdict)


def test_ticks_in_a_file_that_somebody_removes_are_lost_and_told(model, tmp_path):
    with Recorder(tmp_path / "walk.mcap", model) as recorder:
        (tmp_path / "walk.mcap").unlink()
        robot = Robot(model)
        for k in range(40):
            put(recorder, robot, robot.tick("good"), k)
    assert (recorder.written, recorder.dropped) == (0, 40)
    assert "removed while it was written" in recorder.error


@pytest.mark.parametrize("path", [5, None, b"walk.mcap"])
def test_what_is_no_path_is_refused(path, model):
    with pytest.raises(TypeError, match=r"`path` is .*, expected 'NAME.mcap', or an object with `write`"):
        Recorder(path, model)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"path": "a\0.mcap"}, ValueError, "`path` is .*, a name that no file has; expected 'NAME.mcap'"),
        ({"model": "gait.lnn"}, TypeError, r"`model` is 'gait.lnn', expected a model: lnn_edge\.load\('NAME.lnn'\)"),
        ({"csv": b"a.csv"}, TypeError, "`csv` is b'a.csv', expected the name of a new file: 'NAME.csv'"),
        ({"csv": ""}, ValueError, "`csv` is '', a name that no file has"),
    ],
)
def test_wrong_arguments_leave_no_file(arguments, error, text, model, tmp_path):
    given = {"path": tmp_path / "walk.mcap", "model": model} | arguments
    with pytest.raises(error, match=text):
        Recorder(given.pop("path"), given.pop("model"), **given)
    assert not list(tmp_path.iterdir())


def test_no_file_is_overwritten(model, tmp_path):
    for _ in range(3):
        record(tmp_path / "walk.mcap", model, GOOD)
    names = ["walk-0001.mcap", "walk-0002.mcap", "walk.mcap"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    ticks = [read_back(tmp_path / name, model)[0] for name in names]  # their chunks may end elsewhere
    assert len(ticks[0]) == len(GOOD)
    assert len({repr(own.tolist()) for own in ticks}) == 1


def test_what_cannot_be_opened_is_said_at_once(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere' does not exist. Type: mkdir -p"):
        Recorder(tmp_path / "nowhere" / "walk.mcap", model)
    with pytest.raises(IsADirectoryError, match="is a directory, expected a file name"):
        Recorder(tmp_path, model)
    (tmp_path / "walk.csv").write_text("mine\n")
    with pytest.raises(FileExistsError, match=r"walk\.csv"):
        Recorder(tmp_path / "walk.mcap", model, csv=tmp_path / "walk.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state_every": -1}, "`state_every` is -1"),
        ({"rotate_bytes": 0}, "`rotate_bytes` is 0"),
        ({"capacity": 0}, "`capacity` is 0"),
        ({"start": State({})}, "the state holds none, but model 'fixed_2' has h_in"),
    ],
)
def test_options_are_checked_before_a_file_is_made(options, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        Recorder(tmp_path / "walk.mcap", model, **options)
    assert not list(tmp_path.iterdir())


def test_the_state_is_there_as_often_as_asked(model, tmp_path):
    record(tmp_path / "walk.mcap", model, GOOD, state_every=7)
    found, _, _ = read_back(tmp_path / "walk.mcap", model)
    assert np.flatnonzero(found["has_state"]).tolist() == [0, 7, 14, 21, 28, 35]
    assert found["state.h_in"][7].any()


def test_tensors_alone_will_do_for_the_state(model, tmp_path):
    robot = Robot(model)
    with Recorder(tmp_path / "walk.mcap", model, state_every=1) as recorder:
        for k in range(5):
            tick = robot.tick()
            state = robot.stream.state_arrays() if k != 3 else {"another": np.zeros(3)}
            recorder.put(tick, mono_ns=k, wall_ns=k, state=state)
    found, _, _ = read_back(tmp_path / "walk.mcap", model)
    assert found["has_state"].tolist() == [1, 1, 1, 0, 1]
    assert found["state.h_in"][4].tobytes() == robot.stream.state_arrays()["h_in"].tobytes()


def test_a_csv_beside_it_has_the_same_numbers(model, tmp_path):
    ticks = record(tmp_path / "walk.mcap", model, ["good", "refused", "good"], csv=tmp_path / "walk.csv")
    rows = list(csv.DictReader((tmp_path / "walk.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["ok", "non-finite input", "ok"]
    assert rows[1]["acc_x"] == rows[1]["walk_raw"] == "nan"
    for row, tick in ((rows[0], ticks[0]), (rows[2], ticks[2])):
        assert [np.float32(row[name]) for name in ("acc_x", "acc_y", "gyro_z")] == tick.x.tolist()
        assert [np.float32(row[name]) for name in ("walk_raw", "run_raw")] == tick.raw.tolist()
    assert list(rows[0])[:9] == ["tick", "t_s", "mono_ns", "wall_ns", "dt_s", "stepped", "status", "reset", "limited"]
    assert (rows[2]["t_s"], rows[2]["dt_s"], rows[2]["wall_ns"]) == ("0.04", "", "1700000000040000000")


def test_a_csv_on_a_full_disk_has_whole_rows_and_goes_on(model, tmp_path, monkeypatch):
    layout, write = layout_of(model.manifest), csv_file.write_all
    ticks = np.zeros(45, layout.dtype)
    ticks["tick"] = range(45)
    file = csv_file.CsvFile(tmp_path / "walk.csv", layout)

    def limited(descriptor, data):
        write(descriptor, data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    file.write(ticks[:16])
    with monkeypatch.context() as patch:
        patch.setattr(csv_file, "write_all", limited)
        with pytest.raises(OSError, match=r"No space left on device: '.*walk\.csv'"):
            file.write(ticks[16:40])
    file.write(ticks[40:])
    file.close()
    rows = list(csv.DictReader((tmp_path / "walk.csv").read_text().splitlines()))
    assert [int(row["tick"]) for row in rows] == [*range(16), *range(40, 45)]
    assert file.rows == 21


def test_what_a_csv_could_not_take_is_told_and_the_recording_is_whole(model, tmp_path, monkeypatch):
    def full(_file, _ticks):
        raise OSError(errno.ENOSPC, "No space left on device", "walk.csv")

    monkeypatch.setattr(csv_file.CsvFile, "write", full)
    recorder = Recorder(tmp_path / "walk.mcap", model, csv=tmp_path / "walk.csv")
    summary = lnn_edge.Loop(model, np.zeros((5, 3), np.float32), recorder=recorder).run()
    assert (recorder.written, recorder.dropped, recorder.csv_rows, summary.complete) == (5, 0, 0, False)
    assert summary.csv == Lost(0, 5, "No space left on device: 'walk.csv'")
    assert "csv: 0 written, 5 lost: No space left on device: 'walk.csv'" in str(summary)


def test_a_csv_that_cannot_begin_leaves_both_names_free(model, tmp_path, monkeypatch):
    def full(_descriptor, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(csv_file, "write_all", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*walk\.csv'"):
            Recorder(tmp_path / "walk.mcap", model, csv=tmp_path / "walk.csv")
    assert os.listdir(tmp_path) == []


def test_a_recording_that_cannot_begin_leaves_the_name_of_its_csv_free(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist. Type: mkdir -p"):
        Recorder(tmp_path / "nowhere" / "walk.mcap", model, csv=tmp_path / "walk.csv")
    assert os.listdir(tmp_path) == []


def test_a_csv_that_somebody_removes_has_no_rows(model, tmp_path):
    with Recorder(tmp_path / "walk.mcap", model, csv=tmp_path / "walk.csv") as recorder:
        robot = Robot(model)
        put(recorder, robot, robot.tick("good"), 0)
        (tmp_path / "walk.csv").unlink()
    assert (recorder.written, recorder.csv_rows) == (1, 0)
    assert "removed while it was written" in recorder.error


def test_without_the_libraries_it_says_what_to_type(tmp_path):
    script = (
        "import sys; sys.modules['mcap'] = None\n"
        f"import lnn_edge; model = lnn_edge.load({str(bundle('fixed_2'))!r}, backend='onnxruntime')\n"
        f"lnn_edge.Recorder({str(tmp_path / 'walk.mcap')!r}, model)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: recordings need mcap, which is not installed. Type: pip install 'lnn-edge[record]'"
    )
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_nameless_files_will_do(model, tmp_path, monkeypatch):
    monkeypatch.setattr("lnn_edge.runtime.record.series._nameless", lambda _target: None)
    record(tmp_path / "walk.mcap", model, GOOD)
    record(tmp_path / "walk.mcap", model, GOOD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk-0001.mcap", "walk.mcap"]
    assert len(read_back(tmp_path / "walk.mcap", model)[0]) == len(GOOD)


def test_a_sample_beyond_float32_stops_nothing(model, tmp_path):
    """No model steps it; but a user's function may make a tick of anything."""
    y = np.zeros(2, np.float32)
    with Recorder(tmp_path / "walk.mcap", model) as recorder:
        tick = Tick(Status.OK, y, y, 1, False, None, np.array([1e300, 1.0, -1e300]), None, False)
        recorder.put(tick, mono_ns=0, wall_ns=0)
    assert read_back(tmp_path / "walk.mcap", model)[0]["input.input"][0].tolist() == [np.inf, 1.0, -np.inf]
