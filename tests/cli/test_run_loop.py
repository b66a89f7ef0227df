"""`lnn-edge run` as a loop: guarded, at a rate, recorded, and told."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
from properties import some

import lnn_edge
from lnn_edge import Guard
from lnn_edge.files.lines import Lines
from lnn_edge.runtime.loop.timer import SystemTimer

pytest.importorskip("mcap", reason="needs the extra `record`. Type: pip install 'lnn-edge[record]'")

ROWS = [[0.1 * k, -0.2 * k, 0.3] for k in range(20)]


def table(path, rows, times=None, header="acc_x,acc_y,gyro_z"):
    lines = [f"t,{header}" if times is not None else header]
    for k, row in enumerate(rows):
        cells = [str(value) for value in row]
        lines.append(",".join([str(times[k]), *cells] if times is not None else cells))
    path.write_text("\n".join(lines) + "\n")
    return path


def results(path):
    heading, *lines = path.read_text().splitlines()
    return heading, [line.split(",") for line in lines]


def outputs(model, rows, **time):
    return [[float(str(v)) for v in y] for y in model.stream().run(np.array(rows, np.float32), **time)]


def test_each_row_is_a_tick(call, cfc_bundle, tmp_path):
    rows = table(tmp_path / "walk.csv", ROWS)
    code, out, err = call("run", cfc_bundle, "--input", rows, "--output", tmp_path / "out.csv", "--on-fault", "hold")
    assert (code, out) == (0, "")
    heading, lines = results(tmp_path / "out.csv")
    assert heading == "walk,run,status"
    assert [line[-1] for line in lines] == ["ok"] * 20
    assert [[float(v) for v in line[:-1]] for line in lines] == outputs(lnn_edge.load(cfc_bundle), ROWS)
    assert err.splitlines()[-1].startswith("20 ticks through gait on onnxruntime")
    assert err.splitlines()[-1].endswith(f", saved {tmp_path / 'out.csv'}")
    assert "then: source ended; 20 ok" in err


def test_a_snapshot_that_cannot_be_written_is_told_before_anything_runs(call, cfc_bundle, tmp_path):
    rows = table(tmp_path / "walk.csv", ROWS)
    common = ("run", cfc_bundle, "--input", rows, "--output", tmp_path / "out", "--on-fault", "hold", "--resume")
    (tmp_path / "link").symlink_to(tmp_path / "none" / "s")
    for name, why in (("link", "none"), ("none/s", "mkdir -p"), (".", "is a directory")):
        code, out, err = call(*common, tmp_path / name)
        assert (code, out) == (2, "")
        assert why in err
    code, out, err = call(*common, "/dev/null")
    assert (code, out) == (2, "")
    assert "Give the snapshot another name" in err
    assert "rm /dev/null" not in err


def test_a_loop_and_a_run_of_rows_leave_each_others_snapshots_alone(call, cfc_bundle, tmp_path):
    rows, out, kept = table(tmp_path / "walk.csv", ROWS), tmp_path / "out.csv", tmp_path / "s"
    common = ("run", cfc_bundle, "--input", rows, "--output", out, "--resume", kept)
    assert call(*common)[0] == 0
    before = out.read_bytes(), kept.read_bytes()
    code, _, err = call(*common, "--on-fault", "hold")
    assert (code, before) == (2, (out.read_bytes(), kept.read_bytes()))
    assert "is of a run without a loop" in err
    kept.unlink()
    assert call(*common, "--on-fault", "hold")[0] == 0
    before = out.read_bytes(), kept.read_bytes()
    code, _, err = call(*common)
    assert (code, before) == (2, (out.read_bytes(), kept.read_bytes()))
    assert f"rm {kept}" in err


def test_faults_have_their_words_and_the_state_is_that_of_the_good_rows(call, cfc_bundle, tmp_path):
    rows = [list(row) for row in ROWS]
    rows[5][1], rows[9][2] = "nan", 99.0
    rows[12] = ["walk", 1, 2]
    table(tmp_path / "walk.csv", rows)
    options = ("--on-fault", "hold", "--format", "jsonl", "--json", tmp_path / "sum.json")
    code, out, err = call("run", cfc_bundle, "--input", tmp_path / "walk.csv", *options)
    assert code == 0, err
    found = [json.loads(line) for line in out.splitlines()]
    faults = {5: "non-finite input", 9: "bad input", 12: "bad input"}
    assert {k: own["status"] for k, own in enumerate(found) if own["status"] != "ok"} == faults
    good = [row for k, row in enumerate(ROWS) if k not in faults]
    expected = iter(outputs(lnn_edge.load(cfc_bundle), good))
    last = None
    for k, own in enumerate(found):
        last = last if k in faults else next(expected)
        assert [own["walk"], own["run"]] == last
    summary = json.loads((tmp_path / "sum.json").read_text())
    assert summary["by_status"] == {"ok": 17, "non-finite input": 1, "bad input": 2}
    assert (summary["ticks"], summary["steps"], summary["ended"]) == (20, 17, "source ended")


def test_rows_of_a_file_need_a_pace_where_the_time_between_them_counts(call, ltc_bundle, tmp_path):
    """It would be how fast they are read: most of them then came too early, and nothing was wrong with them."""
    rows = table(tmp_path / "walk.csv", ROWS)
    code, out, err = call("run", ltc_bundle, "--input", rows, "--on-fault", "hold", "--output", tmp_path / "out.csv")
    assert (code, out) == (2, "")
    assert "name the column with the time in seconds, --time-column t, or pass --rate HZ" in err
    assert not (tmp_path / "out.csv").exists()


def test_at_a_rate_recorded_and_replayed(call, ltc_bundle, tmp_path):
    times = [0.1 * k for k in range(20)]
    rows = table(tmp_path / "walk.csv", ROWS, times)
    code, _, err = call(
        "run", ltc_bundle, "--input", rows, "--output", tmp_path / "out.csv", "--time-column", "t",
        "--rate", "500", "--wait", "rehearse", "--record", tmp_path / "walk.mcap", "--state-every", "4",
        "--record-csv", tmp_path / "ticks.csv",
    )  # fmt: skip
    assert code == 0, err
    heading, lines = results(tmp_path / "out.csv")
    assert heading == "t,left,right,status"
    assert {line[-1] for line in lines} <= {"ok", "late"}  # by how busy the machine is
    assert [[float(v) for v in line[1:-1]] for line in lines] == outputs(
        lnn_edge.load(ltc_bundle), ROWS, t_s=np.array(times)
    )
    saved = ", ".join(str(tmp_path / name) for name in ("out.csv", "walk.mcap", "ticks.csv"))
    assert err.splitlines()[-1].endswith(f"saved {saved}")
    heading, lines = results(tmp_path / "ticks.csv")
    assert {"t_s", "dt_s", "status", "acc_x", "left"} <= set(heading.split(","))
    assert [float(line[heading.split(",").index("t_s")]) for line in lines] == times
    code, out, err = call("replay", ltc_bundle, tmp_path / "walk.mcap")
    assert code == 0, err
    assert "the same bit for bit: 20 ticks" in out + err


def test_policies_that_are_typed_overrule_those_of_a_file(call, ltc_bundle, tmp_path):
    rows = table(tmp_path / "walk.csv", ROWS[:4], [0.0, 0.1, 9.0, 9.1])
    policies = tmp_path / "guard.json"
    policies.write_text('{"on_gap": "clamp", "warm_up": 1}')
    common = ("run", ltc_bundle, "--input", rows, "--time-column", "t", "--guard", policies)
    guarded = lnn_edge.load(ltc_bundle).guarded(Guard(on_gap="split", warm_up=1))
    ticks = [guarded.tick(np.array(row), t_s=t) for row, t in zip(ROWS, [0.0, 0.1, 9.0, 9.1], strict=False)]
    code, out, err = call(*common, "--on-gap", "split")
    assert code == 0, err
    lines = [line.split(",") for line in out.splitlines()[1:]]
    assert lines[0][1:] == ["", "", "warming up"]
    assert [[float(v) for v in line[1:3]] for line in lines[1:]] == [
        [float(str(v)) for v in tick.y] for tick in ticks[1:]
    ]
    assert call(*common)[1] != out


def test_a_hole_is_held(call, cfc_bundle, tmp_path):
    rows = [list(row) for row in ROWS[:4]]
    rows[2][0] = ""
    table(tmp_path / "walk.csv", rows)
    common = ("run", cfc_bundle, "--input", tmp_path / "walk.csv", "--on-fault", "hold")
    assert "non-finite input" in call(*common)[1]
    out = call(*common, "--on-bad", "hold")[1]
    filled = [*ROWS[:2], [ROWS[1][0], *ROWS[2][1:]], ROWS[3]]
    expected = outputs(lnn_edge.load(cfc_bundle), filled)
    assert [[float(v) for v in line.split(",")[:2]] for line in out.splitlines()[1:]] == expected


def test_it_stops_at_a_fault_where_that_is_asked_for(call, cfc_bundle, tmp_path):
    rows = [list(row) for row in ROWS]
    rows[7][0] = "inf"
    table(tmp_path / "walk.csv", rows)
    options = ("--on-fault", "stop", "--output", tmp_path / "out.csv")
    code, _, err = call("run", cfc_bundle, "--input", tmp_path / "walk.csv", *options)
    assert code == 2
    assert err.splitlines()[-1].startswith("stopped after 8 ticks through gait: non-finite input: ")
    assert len(results(tmp_path / "out.csv")[1]) == 8


def test_a_fault_of_the_machine_is_told_from_one_of_rows(start, cfc_bundle, tmp_path):
    """A sensor that is silent may be there again behind a restart."""
    options = ("--rate", "50", "--fresh", "0.1", "--on-fault", "stop", "--output", tmp_path / "out.csv")
    process = start("run", cfc_bundle, "--backend", "onnxruntime", *options)
    process.stdin.write("acc_x,acc_y,gyro_z\n0.1,0.2,0.3\n")
    process.stdin.flush()
    assert process.wait(60) == 1
    assert ": stale: 'input' is 0.1" in process.stderr.read().splitlines()[-1]


def test_it_goes_on_from_a_sensor(call, ltc_bundle, tmp_path):
    times = [0.1 * k for k in range(20)]
    common = ("run", ltc_bundle, "--time-column", "t", "--on-fault", "hold", "--resume", tmp_path / "s")
    parts = []
    for own in (slice(0, 9), slice(9, 20)):
        rows = table(tmp_path / "walk.csv", ROWS[own], times[own]).read_text()
        code, out, err = call(*common, stdin=rows)
        assert code == 0, err
        parts += [[float(v) for v in line.split(",")[1:3]] for line in out.splitlines()[1:]]
    assert "goes on from" in err
    assert "behind 9 samples, " in err
    assert parts == outputs(lnn_edge.load(ltc_bundle), ROWS, t_s=np.array(times))
    rows = table(tmp_path / "walk.csv", ROWS[:2], [900.0, 900.1]).read_text()
    assert [line.split(",")[-1] for line in call(*common, stdin=rows)[1].splitlines()[1:]] == ["gap", "gap"]


def test_a_snapshot_of_another_model_is_refused(call, ltc_bundle, cfc_bundle, tmp_path):
    rows = table(tmp_path / "walk.csv", ROWS)
    common = ("--input", rows, "--output", tmp_path / "out.csv", "--on-fault", "hold", "--resume", tmp_path / "s")
    assert call("run", cfc_bundle, *common)[0] == 0
    table(tmp_path / "walk.csv", ROWS, range(20))
    code, out, err = call("run", ltc_bundle, *common, "--time-column", "t")
    assert (code, out) == (2, "")
    assert f"rm {tmp_path / 's'}" in err


def test_constants(call, ltc_bundle, tmp_path):
    rows = table(tmp_path / "walk.csv", ROWS)
    code, _, err = call("run", ltc_bundle, "--input", rows, "--on-fault", "hold", "--constant", "goal=1")
    assert code == 2
    assert "goal" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rate", "500"), "--rate 500: 'gait' has fixed time and was exported for 50 samples per second"),
        (("--late", "skip"), "--late belongs to a loop with --rate HZ"),
        (("--record-csv", "walk.mcap.csv"), "--record-csv says how --record FILE is written: pass both"),
        (("--state-every", "3"), "--state-every says how --record FILE is written"),
        (("--rate", "50", "--window", "4"), "--window belongs to rows without a loop: leave it or --rate out"),
        (("--rate", "50", "--reset-column", "acc_x"), "--reset-column belongs to rows without a loop"),
        (("--on-gap", "split"), "--on-gap split is a policy of a loop: pass --rate HZ"),
        (
            ("--rate", "50", "--on-bad", "stop"),
            "--on-bad stop: a loop goes on. To end it at any fault: --on-fault stop",
        ),
        (("--record", "walk"), "--record is 'walk', expected a name that ends in .mcap"),
        (("--record", "no/walk.mcap"), "directory 'no' does not exist"),
        (("--rate", "50", "--guard", "no.json"), "no.json"),
        (("--record", "walk.mcap", "--output", "no/out.csv"), "directory 'no' does not exist"),
        (("--wait", "spin"), "--wait spin waits for a tick of a rate: pass --rate HZ"),
        (("--on-fault", "safe"), '--guard FILE: {"safe": {"output": [0.0, 0.0]}}'),
        (("--cpus", "one"), "--cpus"),
        (("--record", "walk.mcap", "--record-mb", "0.001"), "--record-mb: expected a number from 1 to "),
        (("--rate", "0"), "--rate"),
        (("--rate", "nan"), "--rate"),
    ],
)
def test_what_does_not_belong_together(call, cfc_bundle, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    rows = table(tmp_path / "walk.csv", ROWS)
    code, out, err = call("run", cfc_bundle, "--input", rows, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert [own.name for own in tmp_path.iterdir()] == ["walk.csv"]


def test_rehearsals_on_a_gpu_are_refused_before_anything_is_written(call, gpu, cfc_bundle, tmp_path):
    gpu("10.3")
    table(tmp_path / "walk.csv", ROWS)
    options = ("--wait", "rehearse", "--record", tmp_path / "walk.mcap", "--output", tmp_path / "out.csv")
    code, _, err = call("run", cfc_bundle, "--input", tmp_path / "walk.csv", "--backend", "tensorrt", *options)
    assert code == 2
    assert "steps on a GPU, where rehearsals have not been measured" in err
    assert [own.name for own in tmp_path.iterdir() if own.is_file()] == ["walk.csv"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("rate", [(), ("--rate", "50")], ids=["by samples", "by a timer"])
def test_signals_end_it_clean(start, cfc_bundle, tmp_path, number, code, rate):
    command = ["run", cfc_bundle, "--output", tmp_path / "out.csv", "--record", tmp_path / "walk.mcap", *rate]
    process = start(*command, "--resume", tmp_path / "s", "--backend", "onnxruntime")
    process.stdin.write("acc_x,acc_y,gyro_z\n0.1,0.2,0.3\n")
    process.stdin.flush()
    while not (tmp_path / "s").exists():  # it runs
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(60) == code
    assert "interrupted after" in process.stderr.read().splitlines()[-1]
    lines = results(tmp_path / "out.csv")[1]
    model = lnn_edge.load(cfc_bundle, backend="onnxruntime")
    assert [float(v) for v in lines[0][:2]] == outputs(model, [[0.1, 0.2, 0.3]])[0]
    kept = lnn_edge.load_snapshot(tmp_path / "s", model)
    report = lnn_edge.replay(model, [tmp_path / "walk.mcap"])
    assert report.same
    assert kept.steps >= 1


def test_a_disk_that_is_full_ends_no_loop(cfc_bundle, tmp_path, warm_device):
    """Of results and of a recording whole ticks are lost and counted, and the exit code says so."""
    table(tmp_path / "walk.csv", ROWS * 100)
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
    limited += "from lnn_edge.cli.program import main; sys.exit(main(sys.argv[1:]))"
    command = ["python", "-c", limited, "run", cfc_bundle, "--input", tmp_path / "walk.csv"]
    command += ["--output", tmp_path / "out.csv", "--record", tmp_path / "walk.mcap", "--backend", "onnxruntime"]
    command += ["--record-csv", tmp_path / "ticks.csv"]
    done = subprocess.run(list(map(str, command)), env=warm_device, capture_output=True, text=True, timeout=120)
    assert done.returncode == 4, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("MISSED: ")
    assert "of the results" in last
    assert "of 2,000 ticks through gait" in last
    assert all(len(line) == 3 for line in results(tmp_path / "out.csv")[1])
    heading, ticks = results(tmp_path / "ticks.csv")
    assert f"{2000 - len(ticks):,} of the CSV" in last
    assert len(ticks) < 2000
    assert all(len(line) == heading.count(",") + 1 for line in ticks)
    assert (tmp_path / "ticks.csv").read_text().endswith("\n")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("more", some([("--record", "walk.mcap"), ()]), ids=lambda more: "recorded" if more else "")
def test_rows_of_a_file_wait_for_a_disk_that_blocks(call, cfc_bundle, tmp_path, monkeypatch, more):
    """For longer than the ticks that there is room for take."""
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "walk.csv", ROWS * 250)
    go, sleep, write = threading.Event(), SystemTimer.sleep_until, Lines.write

    def rest(timer, due_ns):
        sleep(timer, due_ns)
        go.set()

    def blocked(lines, line, *, heading=False):
        assert heading or go.wait(60)
        write(lines, line, heading=heading)

    monkeypatch.setattr(SystemTimer, "sleep_until", rest)
    monkeypatch.setattr(Lines, "write", blocked)
    common = ("run", cfc_bundle, "--input", "walk.csv", "--output", "out.csv", "--on-fault", "hold")
    code, _, err = call(*common, *more)
    assert code == 0, err
    assert "lost" not in err
    assert len(results(tmp_path / "out.csv")[1]) == 5000
