"""`lnn-edge run --resume` of a loop: over a file it ends as one that was not killed, and other files are refused."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time

import msgspec
import numpy as np
import pytest
from bundles import INPUTS
from command_line import KEPT, OUT, csv_text, refused, samples, stored
from properties import some

import lnn_edge
from lnn_edge.bundle.spec import Guard
from lnn_edge.files.lines import continued_file
from lnn_edge.runtime.loop.state_saver import StateSaver
from lnn_edge.runtime.loop.turn.keeping import Keeping


def steady(count, step=0.1, start=0.0):
    return [round(start + step * k, 6) for k in range(count)]


def timed(times) -> str:
    return csv_text([(t, *x) for t, x in zip(times, samples(len(times)), strict=True)], ["t", *INPUTS])


def faulty() -> str:
    """Holes, a bad row, late rows, a gap, and a clock that is set back."""
    times = steady(60)
    times[7], times[8] = 0.3, 0.31
    times[30:] = [t + 100 for t in times[30:]]
    times[40:48] = steady(8, start=3.0)
    rows = [[t, *x] for t, x in zip(times, samples(60).tolist(), strict=True)]
    for place, column in ((3, 1), (4, 1), (15, 2), (16, 3), (50, 1)):
        rows[place][column] = ""
    rows[20][1] = "bad"
    return csv_text(rows, ["t", *INPUTS])


def paced() -> str:
    """Off the pace of 50 Hz in the middle."""
    return timed(np.cumsum([0.02 if k < 20 or k > 40 else 0.027 for k in range(60)]).round(6).tolist())


POLICIES = Guard(
    on_gap="reset", warm_up=4, on_bad="hold", hold_for_s=0.3, slew_per_s={"output": (1.0, 1.0)}, pace_window=10,
    on_fault="safe", safe={"output": (0.25, -0.25)},
)  # fmt: skip

RUNS = {
    "plain": ("gait", [], csv_text(samples(60)), None),
    "faults": ("drift", ["--time-column", "t"], faulty(), POLICIES),
    "predicted": ("drift", ["--time-column", "t"], faulty(), Guard(on_bad="predict", hold_for_s=0.5)),
    "pace": ("gait", ["--time-column", "t", "--format", "jsonl"], paced(), POLICIES),
    "milliseconds": ("drift", ["--time-column", "t:ms"], timed(range(10**15, 10**15 + 6000, 100)), None),
    "without times": ("gait", [], faulty(), POLICIES),
}
# What must have happened, or they would prove nothing.
HAPPENED = {
    "faults": {"warming up", "clock backward", "bad input"},
    "pace": {"warming up", "off pace"},
    "predicted": {"clock backward", "gap"},
    "without times": {"bad input", "ok"},
}


@pytest.fixture
def bundles(cfc_bundle, ltc_bundle):
    return {"gait": cfc_bundle, "drift": ltc_bundle}


@contextlib.contextmanager
def snapshots(monkeypatch, place):
    """Each tick waits for its snapshot, of which this is a list."""
    found, usual = [], StateSaver.offer

    def offer(saver, guarded, steps, now_ns):
        saver._taken_ns, done, until = None, saver.lost, time.monotonic() + 20
        usual(saver, guarded, steps, now_ns)
        while now_ns is not None and saver.lost == done:
            assert time.monotonic() < until
            saver.save()
            time.sleep(0.001)
        if now_ns is not None:
            found.append(place.read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(StateSaver, "offer", offer)
        yield found


def typed(folder, bundle, options, guard=None):
    if guard is not None:
        (folder / "guard.json").write_bytes(msgspec.json.encode(guard))
        options = [*options, "--guard", folder / "guard.json"]
    answer = "hold" if guard is None or not guard.safe else "safe"
    places = ["--input", folder / "x.csv", "--output", folder / OUT]
    return ["run", bundle, "--backend", "onnxruntime", *places, "--on-fault", answer, *options]


@pytest.mark.parametrize("name", some(RUNS))
def test_a_killed_loop_ends_as_one_that_was_not(call, bundles, tmp_path, monkeypatch, name):
    killed(call, bundles, tmp_path, monkeypatch, name, "onnxruntime")


@pytest.mark.parametrize("name", some(["faults", "pace", "plain"]))
def test_a_compiled_loop_does_as_well(call, bundles, tmp_path, monkeypatch, compiler, name):
    """Whose usual ticks are made in C."""
    killed(call, bundles, tmp_path, monkeypatch, name, "native")


def killed(call, bundles, tmp_path, monkeypatch, name, backend):
    bundle, options, rows, guard = RUNS[name]
    (tmp_path / "x.csv").write_text(rows)
    command = [own if own != "onnxruntime" else backend for own in typed(tmp_path, bundles[bundle], options, guard)]
    code, _, told = call(*command, "--json", tmp_path / "facts.json")
    assert code == 0, told
    counts = counted(tmp_path)
    assert HAPPENED.get(name, {"ok"}) <= set(counts["by_status"])
    expected = (tmp_path / OUT).read_bytes()
    (tmp_path / OUT).unlink()
    with snapshots(monkeypatch, tmp_path / KEPT) as images:
        assert call(*command, "--resume", tmp_path / KEPT)[0] == 0
    assert ((tmp_path / OUT).read_bytes(), len(images)) == (expected, 60)
    rng = random.Random(name)
    lines = expected.splitlines(keepends=True)
    heading = len(lines) - 60
    for number in [0, *rng.sample(range(1, 59), 3)]:
        (tmp_path / KEPT).write_bytes(images[number])
        behind = rng.randrange(number + 1, 61)  # results that were written before the kill
        (tmp_path / OUT).write_bytes(b"".join(lines[: heading + behind]) + b"0.25,-1"[: rng.randrange(8)])
        code, _, told = call(*command, "--resume", tmp_path / KEPT, "--json", tmp_path / "facts.json")
        assert code == 0, told
        assert ((tmp_path / OUT).read_bytes(), counted(tmp_path)) == (expected, counts)
        assert f"60 ticks ({59 - number} in this run) through " in told.splitlines()[-1]
        assert f"goes on from {tmp_path / KEPT}, behind line {number + 2} of '{tmp_path / 'x.csv'}'" in told


def counted(folder):
    """What `--json` has counted, of all runs together."""
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["ticks"] == sum(facts["by_status"].values())
    return {name: facts[name] for name in ("ticks", "steps", "by_status")}


@pytest.fixture
def begun(call, ltc_bundle, tmp_path):
    """A loop of which half is done, and the command."""
    text = timed(steady(20))
    (tmp_path / "x.csv").write_text("".join(text.splitlines(keepends=True)[:11]))
    command = [*typed(tmp_path, ltc_bundle, ["--time-column", "t"]), "--resume", tmp_path / KEPT]
    assert call(*command)[0] == 0
    (tmp_path / "x.csv").write_text(text)
    return command


def test_rows_that_are_added_are_done_and_what_is_done_stays(call, begun, ltc_bundle, tmp_path):
    half = stored(tmp_path)[OUT]
    code, _, told = call(*begun, "--json", tmp_path / "facts.json")
    assert (code, "20 ticks (10 in this run) through drift" in told) == (0, True)
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert counted(tmp_path) == {"ticks": 20, "steps": 20, "by_status": {"ok": 20}}
    assert facts["this_run"] == {"ticks": 10, "steps": 10, "by_status": {"ok": 10}}
    whole = stored(tmp_path)
    assert whole[OUT].startswith(half)
    assert len(whole[OUT].splitlines()) == 21
    code, _, told = call(*begun, "--record", tmp_path / "walk.mcap", "--json", tmp_path / "facts.json")
    assert (counted(tmp_path)["ticks"], "20 ticks (0 in this run) through drift" in told) == (20, True)
    assert (code, f"remark: no row of '{tmp_path / 'x.csv'}' was left to do" in told) == (0, True)
    assert stored(tmp_path)[OUT] == whole[OUT]
    assert not (tmp_path / "walk.mcap").exists()


def test_at_a_rate_each_tick_takes_the_next_row(call, ltc_bundle, tmp_path):
    text = timed(steady(20)).splitlines(keepends=True)
    command = [*typed(tmp_path, ltc_bundle, ["--time-column", "t", "--rate", "400"]), "--resume", tmp_path / KEPT]
    for count in (8, 8, 21):
        (tmp_path / "x.csv").write_text("".join(text[:count]))
        assert call(*command)[0] == 0
    lines = [line.split(",") for line in (tmp_path / OUT).read_text().splitlines()[1:]]
    assert {line[-1] for line in lines} <= {"ok", "late"}  # by how busy the machine is
    expected = lnn_edge.load(ltc_bundle, backend="onnxruntime").stream().run(samples(20), t_s=np.array(steady(20)))
    assert [[float(v) for v in line[1:-1]] for line in lines] == [[float(str(v)) for v in y] for y in expected]


OTHERS = {
    "format": (["--format", "jsonl"], "with --format csv, and this is one with --format jsonl"),
    "answer": (["--on-fault", "stop"], "with --on-fault hold, and this is one with --on-fault stop"),
    "rate": (["--rate", "50"], "without --rate, and this is one with --rate 50.0"),
    "policy": (
        ["--on-gap", "reset"],
        "with `on_gap` of the guard refuse, and this is one with `on_gap` of the guard reset",
    ),
    "record": (["--format", "jsonl", "--record", "{}/walk.mcap"], "is of a run with --format csv"),
}


@pytest.mark.parametrize(("options", "words"), OTHERS.values(), ids=OTHERS)
def test_other_options_are_refused_by_name(call, begun, tmp_path, options, words):
    refused(call, [*begun, *[own.format(tmp_path) for own in options]], tmp_path, words)


def test_how_it_waits_and_what_it_records_may_differ(call, begun, tmp_path):
    code, _, told = call(*begun, "--wait", "rehearse", "--record", tmp_path / "walk.mcap")
    assert code == 0, told


def test_another_table_is_refused(call, begun, tmp_path):
    text = (tmp_path / "x.csv").read_text()
    (tmp_path / "x.csv").write_text(text.replace("0.2,", "0.201,", 1))
    refused(call, begun, tmp_path, "is of a run of another input: the first 11 lines of ")
    (tmp_path / "x.csv").write_text("".join(text.splitlines(keepends=True)[:4]))
    refused(call, begun, tmp_path, "is of a run that took 11 lines, and ", " has 4.")


def test_other_results_are_refused_and_left_alone(call, begun, tmp_path):
    whole = (tmp_path / OUT).read_bytes()
    for other in (whole[:-1], b"x" * (len(whole) - 1) + b"\nmine\n", whole.replace(b"ok", b"no", 1)):
        (tmp_path / OUT).write_bytes(other)
        refused(
            call, begun, tmp_path, "is of a run " + ("that wrote " if other == whole[:-1] else "with other results")
        )
    (tmp_path / OUT).unlink()
    refused(call, begun, tmp_path, "is not there")


def test_what_is_no_snapshot_of_a_loop_is_refused_and_no_crash(call, begun, ltc_bundle, tmp_path):
    model = lnn_edge.load(ltc_bundle, backend="onnxruntime")
    saved = lnn_edge.load_snapshot(tmp_path / KEPT, model)
    whole = json.loads(json.dumps(dict(saved.extra)))
    for own in ({}, {"guard": 1}, whole | {"lines": "x"}):
        lnn_edge.save_snapshot(tmp_path / KEPT, saved.state, model=model, steps=1, extra=own)
        refused(call, begun, tmp_path, "holds a state, but no run of this version of lnn-edge")
    guard = whole["guard"]
    for own in ({}, guard | {"trusted": [1.0]}, guard | {"came": "x"}, guard | {"sent": 3}, guard | {"to_warm": None}):
        extra = whole | {"guard": own}
        lnn_edge.save_snapshot(tmp_path / KEPT, saved.state, model=model, steps=1, extra=extra)
        refused(call, begun, tmp_path, "does not fit: ")


def test_a_file_that_is_older_than_counts_were_kept_is_gone_on_from(call, begun, ltc_bundle, tmp_path):
    model = lnn_edge.load(ltc_bundle, backend="onnxruntime")
    saved = lnn_edge.load_snapshot(tmp_path / KEPT, model)
    extra = json.loads(json.dumps(dict(saved.extra)))
    assert extra.pop("by_status") == {"ok": 10}
    lnn_edge.save_snapshot(tmp_path / KEPT, saved.state, model=model, steps=10, extra=extra)
    assert call(*begun, "--json", tmp_path / "facts.json")[0] == 0
    assert counted(tmp_path) == {"ticks": 10, "steps": 20, "by_status": {"ok": 10}}


def test_a_loop_and_a_run_of_rows_are_told_apart(call, begun, ltc_bundle, tmp_path):
    rows = [own for own in begun if own not in ("--on-fault", "hold")]
    refused(call, rows, tmp_path, "is of a run with a loop, and this is one without one. ")
    (tmp_path / KEPT).unlink()
    (tmp_path / OUT).unlink()
    assert call(*rows)[0] == 0
    refused(call, begun, tmp_path, "is of a run without a loop, and this is one with one: leave its arguments out. ")


@pytest.mark.parametrize("rate", [[], ["--rate", "400"]], ids=["", "at a rate"])
def test_a_row_that_stopped_it_is_come_to_again_and_may_be_mended(call, ltc_bundle, tmp_path, rate):
    """The same command went on behind it."""
    good = timed(steady(20))
    lines = good.splitlines(keepends=True)
    command = [*typed(tmp_path, ltc_bundle, ["--time-column", "t", *rate]), "--resume", tmp_path / KEPT]
    command[command.index("hold")] = "stop"
    (tmp_path / "x.csv").write_text("".join([*lines[:12], "1.1,bad,0,0\n", *lines[13:]]))
    for _ in range(2):
        code, _, told = call(*command, "--json", tmp_path / "facts.json")
        assert (code, "stopped after 12 ticks" in told.splitlines()[-1]) == (2, True)
        assert len((tmp_path / OUT).read_text().splitlines()) == 13
        assert counted(tmp_path)["by_status"]["bad input"] == 1
    (tmp_path / "x.csv").write_text(good)
    assert call(*command)[0] == 0
    done = [[float(v) for v in line.split(",")[1:-1]] for line in (tmp_path / OUT).read_text().splitlines()[1:]]
    expected = lnn_edge.load(ltc_bundle, backend="onnxruntime").stream().run(samples(20), t_s=np.array(steady(20)))
    assert done == [[float(str(v)) for v in y] for y in expected]


def test_results_of_a_file_have_to_be_in_a_file(call, ltc_bundle, tmp_path):
    (tmp_path / "x.csv").write_text(timed(steady(3)))
    command = ["run", ltc_bundle, "--input", tmp_path / "x.csv", "--time-column", "t", "--on-fault", "hold"]
    code, _, err = call(*command, "--resume", tmp_path / KEPT)
    assert code == 2
    assert "--resume cuts the results where it goes on: name a file for them, --output FILE" in err


@pytest.mark.parametrize("loop", [["--on-fault", "hold"], []], ids=["loop", "rows"])
def test_results_that_another_process_continues_are_not_replaced(call, ltc_bundle, tmp_path, loop):
    (tmp_path / "x.csv").write_text(timed(steady(3)))
    with continued_file(tmp_path / OUT) as others:
        others.write("theirs\n")
        command = ["run", ltc_bundle, "--input", tmp_path / "x.csv", "--time-column", "t", *loop]
        code, _, err = call(*command, "--output", tmp_path / OUT)
        assert (code, "is being written by another process" in err) == (2, True)
    assert stored(tmp_path)[OUT] == b"theirs\n"


@pytest.mark.parametrize("live", [False, True], ids=["file", "sensor"])
def test_results_that_another_process_writes_are_left_to_it_with_its_snapshot(call, ltc_bundle, tmp_path, live):
    rows = timed(steady(20))
    (tmp_path / "x.csv").write_text(rows)
    command = [*typed(tmp_path, ltc_bundle, ["--time-column", "t"]), "--resume", tmp_path / KEPT]
    command += ["--input", "-"] if live else []
    with continued_file(tmp_path / OUT) as others:
        others.write("theirs\n")
        code, out, err = call(*command, stdin=rows if live else "")
        assert (code, out) == (2, "")
        assert err.splitlines()[-1].endswith(
            f"'{tmp_path / OUT}' is being written by another process. Wait until that ends"
        )
    assert stored(tmp_path) == {OUT: b"theirs\n"}


def test_each_part_has_a_recording_that_replays(call, begun, ltc_bundle, tmp_path):
    pytest.importorskip("mcap", reason="needs the extra `record`. Type: pip install 'lnn-edge[record]'")
    text = timed(steady(30))
    for count in (16, 31):
        (tmp_path / "x.csv").write_text("".join(text.splitlines(keepends=True)[:count]))
        code, _, told = call(*begun, "--record", tmp_path / "walk.mcap")
        assert code == 0, told
    names = ["walk.mcap", "walk-0001.mcap"]
    recordings = [tmp_path / name for name in names]
    code, out, err = call("replay", ltc_bundle, *recordings, "--jobs", "1", "--backend", "onnxruntime")
    assert code == 0, err
    assert "5 ticks" in out + err
    assert "15 ticks" in out + err


def test_a_snapshot_speaks_of_results_that_are_written_alone(ltc_bundle, tmp_path):
    """Of a sink that is a hundred ticks behind."""
    model, written = lnn_edge.load(ltc_bundle, backend="onnxruntime"), []

    class Slow:
        def write(self, entry):
            written.append(entry.number)
            if entry.number == 0:
                while looping:
                    time.sleep(0.001)

        def results_mark(self):
            count = len(written)
            return lambda: {"results": count}

        def close(self):
            pass

    looping, ticks, early = [True], [], []

    def after(tick):
        ticks.append(tick)
        time.sleep(0.001)
        if len(ticks) == 100:
            early.append((tmp_path / "s").exists())
            looping.clear()

    times = steady(200)
    lnn_edge.Loop(
        model, zip(times, samples(200), strict=True), Slow(), after=after, snapshot=tmp_path / "s",
        snapshot_every_s=0.001, function_limit_s=1.0, extra=lambda: {"ticks": len(ticks)},
    ).run()  # fmt: skip
    assert early == [False]
    kept = lnn_edge.load_snapshot(tmp_path / "s", model)
    assert (kept.steps, kept.extra) == (200, {"ticks": 200, "results": 200})


def test_pressing_ctrl_c_twice_keeps_whole_ticks_alone(call, ltc_bundle, tmp_path, monkeypatch):
    """Within a tick, whose row is taken and whose result is not written."""
    (tmp_path / "x.csv").write_text(timed(steady(20)))
    command = typed(tmp_path, ltc_bundle, ["--time-column", "t"])
    assert call(*command)[0] == 0
    whole, usual, count = (tmp_path / OUT).read_bytes(), Keeping.take, [0]

    def keep(keeping, *arguments):
        count[0] += 1
        if count[0] == 9:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        usual(keeping, *arguments)

    with monkeypatch.context() as patch, snapshots(monkeypatch, tmp_path / KEPT) as kept:
        patch.setattr(Keeping, "take", keep)
        assert call(*command, "--resume", tmp_path / KEPT)[0] == 130
    assert len(kept) == 8
    code, _, told = call(*command, "--resume", tmp_path / KEPT)
    assert (code, (tmp_path / OUT).read_bytes()) == (0, whole)
    assert "behind line 9 of" in told


def test_results_that_a_full_disk_lost_are_written_by_the_next_run(call, cfc_bundle, tmp_path, warm_device):
    """No state is kept behind them, so that their rows are stepped again."""
    (tmp_path / "x.csv").write_text(csv_text(samples(1200)))
    command = typed(tmp_path, cfc_bundle, [])
    assert call(*command)[0] == 0
    whole = (tmp_path / OUT).read_bytes()
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)); "
    limited += "from lnn_edge.cli.program import main; sys.exit(main(sys.argv[1:]))"
    kept = ["--resume", tmp_path / KEPT, "--snapshot-every", "0.01"]
    given = ["python", "-c", limited, *command, *kept]
    done = subprocess.run(list(map(str, given)), env=warm_device, capture_output=True, text=True, timeout=120)
    assert (done.returncode, (tmp_path / KEPT).exists()) == (4, True), done.stderr
    assert call(*command, *kept)[0] == 0
    assert (tmp_path / OUT).read_bytes() == whole
