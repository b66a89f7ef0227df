"""`lnn-edge run --resume`: what was killed goes on, and gives byte for byte what a run gives that was not."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from bundles import INPUTS, ROOT, copied, manifest_of, resign
from command_line import KEPT, OUT, csv_text, refused, samples, stored
from msgspec.structs import replace
from properties import some

import lnn_edge
from lnn_edge.bundle.spec import Readout
from lnn_edge.cli.feeding import keeper
from lnn_edge.cli.feeding.feed import Feed
from lnn_edge.errors import BackendUnavailable

FACTS = "facts.json"


def timed(xs, times) -> str:
    return csv_text([(t, *row) for t, row in zip(times, xs, strict=True)], ["t", *INPUTS])


def bad_rows(text: str, *places: int) -> str:
    lines = text.splitlines()
    for place in places:
        lines[place] = "bad"
    return "\n".join(lines) + "\n"


def steady(count, step=0.1, start=0.0):
    return [round(start + step * k, 6) for k in range(count)]


def recordings(count, length) -> str:
    return csv_text([(f"r{k // length}", *x) for k, x in enumerate(samples(count))], ["who", *INPUTS])


def late_and_gapped() -> str:
    times = steady(40)
    times[7], times[12] = 0.3, 0.31  # late
    times[20:] = [t + 100 for t in times[20:]]  # a gap
    times[25:32] = steady(7, start=3.0)  # a clock that was set back, and forth
    return bad_rows(timed(samples(40), times), 5, 16, 30)


def holes() -> str:
    rows = [[t, *x] for t, x in zip(steady(40), samples(40).tolist(), strict=True)]
    for place, column in ((3, 1), (4, 1), (5, 1), (11, 2), (12, 3), (30, 1)):
        rows[place][column] = ""
    return csv_text(rows, ["t", *INPUTS])


def dates() -> str:
    day = np.datetime64("2026-05-01T12:00:00.000001")
    return timed(samples(30), [str(day + np.timedelta64(100_000 * k, "us")) for k in range(30)])


def outside() -> str:
    xs = samples(40) * 3
    xs[7, 2], xs[21, 0] = 7.9, -1e30
    return bad_rows(csv_text(xs.clip(-1e30, 7.9)), 9)


# Bundle, options, and rows.
RUNS = {
    "fixed": ("gait", [], csv_text(samples(30))),
    "lines of JSON": ("gait", ["--format", "jsonl", "--reset-column", "who"], recordings(30, 7)),
    "off the pace": (
        "gait",
        ["--time-column", "t"],
        timed(samples(30), [t + (k % 3) * 0.01 for k, t in enumerate(steady(30, 0.02))]),
    ),
    "outside the example": ("seen", ["--on-bad", "skip"], outside()),
    "measured": ("drift", ["--time-column", "t"], timed(samples(30), steady(30))),
    "late, gapped and bad": (
        "drift",
        ["--time-column", "t", "--on-bad", "skip", "--on-gap", "reset"],
        late_and_gapped(),
    ),
    "reset at late rows": (
        "drift",
        ["--time-column", "t", "--on-bad", "skip", "--on-gap", "reset", "--on-late", "reset"],
        late_and_gapped(),
    ),
    "held": ("drift", ["--time-column", "t", "--on-bad", "hold", "--hold-for", "0.25"], holes()),
    "held without times": ("gait", ["--on-bad", "hold"], holes()),
    "dates": ("drift", ["--time-column", "t"], dates()),
    "milliseconds": ("drift", ["--time-column", "t:ms"], timed(samples(30), range(10**15, 10**15 + 3000, 100))),
    "windows side by side": (
        "drift",
        ["--time-column", "t", "--window", "6", "--every", "2"],
        timed(samples(30), steady(30)),
    ),
    "windows that end": ("gait", ["--window", "7", "--every", "3", "--reset-column", "who"], recordings(40, 17)),
    "blocks": (
        "blocks",
        ["--time-column", "t", "--reset-column", "who", "--on-bad", "skip"],
        bad_rows(
            csv_text(
                [(t, f"r{k // 15}", *x) for k, (t, x) in enumerate(zip(steady(50), samples(50), strict=True))],
                ["t", "who", *INPUTS],
            ),
            9,
            17,
        ),
    ),
    "blocks in windows": ("blocks", ["--time-column", "t", "--window", "8"], timed(samples(45), steady(45))),
    "readouts": ("mean", ["--reset-column", "who"], recordings(30, 9)),
}


# What must have happened in some of them, or they would prove nothing.
HAPPENED = {
    "off the pace": ["in 29 of 29 cases more than 10 % off"],
    "outside the example": ["values in 39 samples outside the range", "1 bad row skipped"],
    "late, gapped and bad": ["after 3 gaps, 6 late rows left out, 3 bad rows skipped"],
    "reset at late rows": ["after 2 gaps, state reset at 3 late rows, 3 bad rows skipped"],
    "held": ["5 missing values held, 1 bad row skipped"],
    "blocks": ["2 bad rows skipped, 8 at the ends of recordings filled no block"],
}


@pytest.fixture
def bundles(cfc_bundle, ltc_bundle, block_bundle, tmp_path):
    mean = resign(copied(cfc_bundle, tmp_path / "mean.lnn"), readout=Readout("mean"), labels=("on foot", "running"))
    (tensor,) = manifest_of(cfc_bundle).inputs
    ranged = replace(tensor, features=tuple(replace(own, range=(-1.0, 1.5)) for own in tensor.features))
    seen = resign(copied(cfc_bundle, tmp_path / "seen.lnn"), inputs=(ranged,))
    return {"seen": seen, "gait": cfc_bundle, "drift": ltc_bundle, "blocks": block_bundle, "mean": mean}


@pytest.fixture
def ticking(monkeypatch):
    """A clock that goes on by a second with each row."""
    monkeypatch.setattr(keeper, "monotonic", itertools.count().__next__)


class Images:
    """What a kill behind each row would leave on the disk."""

    def __init__(self, folder, monkeypatch):
        self.all, usual = [], Feed.take

        def take(feed, row):
            usual(feed, row)
            self.all.append(stored(folder))

        monkeypatch.setattr(Feed, "take", take)


def typed(folder, bundle, options, *more):
    places = ["--input", folder / "x.csv", "--output", folder / OUT, "--json", folder / FACTS]
    return ["run", bundle, "--backend", "onnxruntime", *places, *options, *more]


@pytest.mark.parametrize("name", some(RUNS))
def test_a_killed_run_ends_as_one_that_was_not(call, bundles, tmp_path, monkeypatch, ticking, name):
    bundle, options, rows = RUNS[name]
    (tmp_path / "x.csv").write_text(rows)
    command = typed(tmp_path, bundles[bundle], options)
    kept = [*command, "--resume", tmp_path / KEPT, "--snapshot-every", "3"]
    code, _, told = call(*command)
    assert code == 0, told
    assert all(word in told for word in HAPPENED.get(name, ()))
    expected, facts = (tmp_path / OUT).read_bytes(), (tmp_path / FACTS).read_bytes()
    with monkeypatch.context() as patch:
        images = Images(tmp_path, patch)
        assert call(*kept)[0] == 0
    assert ((tmp_path / OUT).read_bytes(), (tmp_path / FACTS).read_bytes()) == (expected, facts)
    rng, summary = random.Random(name), told.splitlines()[-1].partition(", saved")[0]
    for image in rng.sample(images.all[2:], 4):
        (tmp_path / OUT).write_bytes(image.get(OUT, b"") + b"0.25,-1"[: rng.randrange(8)])
        if KEPT in image:
            (tmp_path / KEPT).write_bytes(image[KEPT])
        else:
            (tmp_path / KEPT).unlink()
        code, _, told = call(*kept)
        assert code == 0, told
        assert ((tmp_path / OUT).read_bytes(), (tmp_path / FACTS).read_bytes()) == (expected, facts)
        assert told.splitlines()[-1].startswith(f"{summary}, saved {tmp_path / OUT}; the same command goes on from ")
        assert (f"remark: goes on from {tmp_path / KEPT}, behind line " in told) == (KEPT in image)


def test_images_are_taken_before_and_behind_snapshots(call, cfc_bundle, tmp_path, monkeypatch, ticking):
    """Or the tests above would say little: most kills come behind a snapshot, and lose some rows of results."""
    (tmp_path / "x.csv").write_text(csv_text(samples(30)))
    images = Images(tmp_path, monkeypatch)
    call(*typed(tmp_path, cfc_bundle, []), "--resume", tmp_path / KEPT, "--snapshot-every", "3")
    snapshots = {image.get(KEPT) for image in images.all}
    assert 6 <= len(snapshots) <= 12
    assert None in snapshots


def test_killed_again_and_again(call, ltc_bundle, tmp_path, monkeypatch, ticking):
    (tmp_path / "x.csv").write_text(late_and_gapped())
    options = ["--time-column", "t", "--on-bad", "skip", "--on-gap", "reset"]
    command = typed(tmp_path, ltc_bundle, options)
    assert call(*command)[0] == 0
    expected, usual, rng = stored(tmp_path)[OUT], Feed.take, random.Random(3)
    (tmp_path / OUT).unlink()

    class KilledError(BaseException):
        pass

    for _ in range(12):
        left = rng.randrange(3, 9)

        def take(feed, row):
            nonlocal left
            left -= 1
            usual(feed, row)
            if not left:
                raise KilledError

        with monkeypatch.context() as patch, contextlib.suppress(KilledError):
            patch.setattr(Feed, "take", take)
            call(*command, "--resume", tmp_path / KEPT, "--snapshot-every", "2")
    assert call(*command, "--resume", tmp_path / KEPT)[0] == 0
    assert stored(tmp_path)[OUT] == expected


@pytest.mark.parametrize("options", [[], ["--format", "jsonl"]], ids=["csv", "jsonl"])
def test_what_is_done_stays_as_it_is(call, cfc_bundle, tmp_path, options):
    (tmp_path / "x.csv").write_text(csv_text(samples(12)))
    command = [*typed(tmp_path, cfc_bundle, options), "--resume", tmp_path / KEPT]
    assert call(*command)[0] == 0
    before, facts, changed = stored(tmp_path), (tmp_path / FACTS).read_bytes(), os.stat(tmp_path / OUT).st_mtime_ns
    code, out, err = call(*command)
    assert (code, out) == (0, "")
    first, second, saved, last = err.splitlines()
    assert first == f"remark: goes on from {tmp_path / KEPT}, behind line 13 of '{tmp_path / 'x.csv'}'"
    assert second == f"remark: no row of '{tmp_path / 'x.csv'}' was left to do"
    assert saved == f"saved {tmp_path / FACTS}"
    assert last.startswith("12 samples in 1 recording through gait on onnxruntime ")
    assert last.endswith(f", saved {tmp_path / OUT}; the same command goes on from {tmp_path / KEPT}")
    assert (stored(tmp_path), (tmp_path / FACTS).read_bytes()) == (before, facts)
    assert os.stat(tmp_path / OUT).st_mtime_ns == changed


def test_rows_that_are_added_are_done(call, cfc_bundle, tmp_path):
    rows = csv_text(samples(12)).splitlines(keepends=True)
    (tmp_path / "x.csv").write_text("".join(rows))
    command = typed(tmp_path, cfc_bundle, [])
    assert call(*command)[0] == 0
    expected = stored(tmp_path)[OUT]
    for count in (1, 6, 6, 9, 13):
        (tmp_path / "x.csv").write_text("".join(rows[:count]))
        assert call(*command, "--resume", tmp_path / KEPT)[0] == 0
        assert expected.startswith(stored(tmp_path)[OUT])
    assert stored(tmp_path)[OUT] == expected


def test_a_half_line_that_became_a_whole_one_is_another_input(call, cfc_bundle, tmp_path):
    text = csv_text([(0, 0, 0.25), (0, 0, 0.25)])
    (tmp_path / "x.csv").write_text(text[:-2])
    command = [*typed(tmp_path, cfc_bundle, []), "--resume", tmp_path / KEPT]
    assert call(*command)[0] == 0
    (tmp_path / "x.csv").write_text(text)
    code, _, err = call(*command)
    assert code == 2
    assert f"is of a run of another input: the first 3 lines of '{tmp_path / 'x.csv'}' differ. To begin anew, " in err


@pytest.fixture
def begun(call, cfc_bundle, tmp_path):
    """A run of which half is done, and the command."""
    text = timed(samples(20), steady(20, 0.02))
    (tmp_path / "x.csv").write_text("".join(text.splitlines(keepends=True)[:11]))
    command = [*typed(tmp_path, cfc_bundle, ["--time-column", "t"]), "--resume", tmp_path / KEPT]
    assert call(*command)[0] == 0
    (tmp_path / "x.csv").write_text(text)
    return command


OTHERS = {
    "format": (["--format", "jsonl"], "with --format csv, and this is one with --format jsonl"),
    "window": (["--window", "4"], "without --window, and this is one with --window 4"),
    "time": (["--time-column", "t:ms"], "with --time-column t, and this is one with --time-column t:ms"),
    "recordings": (["--reset-column", "acc_x"], "without --reset-column, and this is one with --reset-column acc_x"),
    "policy": (["--on-bad", "skip"], "with --on-bad stop, and this is one with --on-bad skip"),
    "late": (["--on-late", "drop"], "without --on-late, and this is one with --on-late drop"),
}


@pytest.mark.parametrize(("options", "words"), OTHERS.values(), ids=OTHERS)
def test_other_options_are_refused_by_name(call, begun, tmp_path, options, words):
    refused(call, [*begun, *options], tmp_path, words)


def test_another_bundle_or_backend_is_refused(call, begun, cfc_bundle, tmp_path, compiler):
    other = resign(copied(cfc_bundle, tmp_path / "run.lnn"), name="run")
    refused(call, [begun[0], other, *begun[2:]], tmp_path, "is of bundle 'gait' (", "), and this is 'run' (")
    native = ["native" if word == "onnxruntime" else word for word in begun]
    refused(call, native, tmp_path, "is of backend onnxruntime, and this is native")


def test_another_version_of_the_backend_is_refused(call, begun, tmp_path, monkeypatch):
    monkeypatch.setattr("onnxruntime.__version__", "9.9")
    refused(call, begun, tmp_path, "is of a run on onnxruntime ", ", and this is one on onnxruntime 9.9")


def test_auto_is_what_it_was(call, begun, tmp_path):
    """The fastest may be another today."""
    auto = ["auto" if word == "onnxruntime" else word for word in begun]
    code, _, err = call(*auto)
    assert (code, err.splitlines()[-1].split(" on ")[1].split()[0]) == (0, "onnxruntime")


@pytest.mark.parametrize("loop", [[], ["--on-fault", "hold"]], ids=["rows", "loop"])
def test_what_auto_chose_goes_on_however_fast_it_was(call, cfc_bundle, tmp_path, compiler, loop):
    (tmp_path / "x.csv").write_text("".join(csv_text(samples(20)).splitlines(keepends=True)[:11]))
    command = ["auto" if word == "onnxruntime" else word for word in typed(tmp_path, cfc_bundle, loop)]
    code, _, err = call(*command, "--resume", tmp_path / KEPT)
    assert (code, "; the fastest here: " in err) == (0, True)
    (tmp_path / "x.csv").write_text(csv_text(samples(20)))
    code, _, err = call(*command, "--resume", tmp_path / KEPT)
    assert (code, err.splitlines()[0]) == (
        0,
        f"remark: goes on from {tmp_path / KEPT}, behind line 11 of '{tmp_path / 'x.csv'}'" + ", 10 steps" * bool(loop),
    )


def test_auto_says_where_a_backend_comes_from_that_is_gone(call, begun, tmp_path, monkeypatch):
    def gone(*arguments, **options):
        raise BackendUnavailable("it is not installed")

    monkeypatch.setattr("lnn_edge.runtime.loading.load", gone)
    code, _, err = call(*["auto" if word == "onnxruntime" else word for word in begun])
    assert code == 5
    assert f"snapshot '{tmp_path / KEPT}' is of backend onnxruntime. it is not installed" in err


def test_compiled_streams_go_on_as_well(call, bundles, tmp_path, monkeypatch, ticking, compiler):
    """Which count in C what lies outside the example's range."""
    _, options, rows = RUNS["outside the example"]
    (tmp_path / "x.csv").write_text(rows)
    command = ["native" if word == "onnxruntime" else word for word in typed(tmp_path, bundles["seen"], options)]
    assert call(*command)[0] == 0
    expected, facts = (tmp_path / OUT).read_bytes(), (tmp_path / FACTS).read_bytes()
    with monkeypatch.context() as patch:
        images = Images(tmp_path, patch)
        assert call(*command, "--resume", tmp_path / KEPT, "--snapshot-every", "3")[0] == 0
    for image in (images.all[13], images.all[27]):
        (tmp_path / OUT).write_bytes(image[OUT])
        (tmp_path / KEPT).write_bytes(image[KEPT])
        assert call(*command, "--resume", tmp_path / KEPT)[0] == 0
        assert ((tmp_path / OUT).read_bytes(), (tmp_path / FACTS).read_bytes()) == (expected, facts)


def test_results_that_are_gone_are_refused(call, begun, tmp_path):
    whole = (tmp_path / OUT).read_bytes()
    (tmp_path / OUT).write_bytes(whole[:-1])
    words = f"wrote {len(whole)} bytes of results, and '{tmp_path / OUT}' has {len(whole) - 1}"
    refused(call, begun, tmp_path, words)
    (tmp_path / OUT).unlink()
    refused(call, begun, tmp_path, f"bytes of results, and '{tmp_path / OUT}' is not there")


def test_results_of_somebody_else_are_left_alone(call, begun, tmp_path):
    whole = (tmp_path / OUT).read_bytes()
    for other in (b"x" * 10_000, b"x" * (len(whole) - 1) + b"\nmine\n", whole.replace(b"1", b"2", 1)):
        (tmp_path / OUT).write_bytes(other)
        words = f"is of a run with other results than the first {len(whole)} bytes of '{tmp_path / OUT}'"
        refused(call, begun, tmp_path, words)


def test_a_file_that_is_older_than_results_were_summed_is_gone_on_from(call, begun, cfc_bundle, tmp_path):
    model = lnn_edge.load(cfc_bundle, backend="onnxruntime")
    saved = lnn_edge.load_snapshot(tmp_path / KEPT, model)
    extra = json.loads(json.dumps(dict(saved.extra)))
    assert len(extra.pop("results_digest")) == 64
    lnn_edge.save_snapshot(tmp_path / KEPT, saved.state, model=model, steps=10, extra=extra)
    code, _, told = call(*begun)
    assert code == 0, told


def test_another_input_is_refused(call, begun, tmp_path):
    text = (tmp_path / "x.csv").read_text()
    (tmp_path / "x.csv").write_text(text.replace("0.04,", "0.041,", 1))
    refused(call, begun, tmp_path, "is of a run of another input: the first 11 lines of ")
    (tmp_path / "x.csv").write_text("".join(text.splitlines(keepends=True)[:4]))
    refused(call, begun, tmp_path, "is of a run that took 11 lines, and ", " has 4.")
    code, _, err = call(*begun[:-2], "--resume", tmp_path / KEPT, "--input", "-", stdin=text)
    assert code == 2
    assert "is of a run of a file, and standard input is a live input. To begin anew, type: rm " in err


def test_what_is_no_snapshot_of_a_run_is_refused(call, begun, cfc_bundle, tmp_path):
    kept = (tmp_path / KEPT).read_bytes()
    (tmp_path / KEPT).write_bytes(kept[:-1])
    refused(call, begun, tmp_path, "is not a safetensors file of lnn-edge")
    (tmp_path / KEPT).write_text("t,x\n")
    refused(call, begun, tmp_path, "it is a text file")
    model = lnn_edge.load(cfc_bundle, backend="onnxruntime")
    for extra in ({}, {"feed": 1}):
        lnn_edge.save_snapshot(tmp_path / KEPT, model.initial_state(), model=model, steps=0, extra=extra)
        refused(call, begun, tmp_path, "holds a state, but no run of this version of lnn-edge")


def test_what_does_not_fit_is_refused_and_no_crash(call, begun, cfc_bundle, tmp_path):
    model = lnn_edge.load(cfc_bundle, backend="onnxruntime")
    saved = lnn_edge.load_snapshot(tmp_path / KEPT, model)
    whole = json.loads(json.dumps(dict(saved.extra)))
    changes = [
        ("times", {}),
        ("times", {"first": "x", "dated": None}),
        ("feed", whole["feed"] | {"times": {}}),
        ("feed", whole["feed"] | {"rows": [whole["feed"]["last"]]}),
        ("feed", whole["feed"] | {"times": whole["feed"]["times"] | {"pace": 3}}),
    ]
    for name, value in changes:
        extra = whole | {name: value}
        lnn_edge.save_snapshot(tmp_path / KEPT, saved.state, model=model, steps=1, extra=extra)
        refused(call, begun, tmp_path, "does not fit: ")


def test_results_have_to_be_in_a_file(call, cfc_bundle, tmp_path):
    (tmp_path / "x.csv").write_text(csv_text(samples(3)))
    code, _, err = call("run", cfc_bundle, "--input", tmp_path / "x.csv", "--resume", tmp_path / KEPT)
    assert code == 2
    assert "--resume cuts the results where it goes on: name a file for them, --output FILE" in err
    code, _, err = call("run", cfc_bundle, "--snapshot-every", "2", stdin=csv_text(samples(3)))
    assert (code, "--resume FILE is written: pass both" in err) == (2, True)
    assert not (tmp_path / KEPT).exists()


def test_the_snapshot_is_no_other_file(call, cfc_bundle, tmp_path):
    (tmp_path / "x.csv").write_text(csv_text(samples(3)))
    command = typed(tmp_path, cfc_bundle, [])
    for place in (tmp_path / OUT, tmp_path / "x.csv", tmp_path / FACTS):
        code, _, err = call(*command, "--resume", place)
        assert (code, "--resume" in err) == (2, True)
    assert csv_text(samples(3)) == (tmp_path / "x.csv").read_text()


def test_a_run_that_fails_before_its_first_result_leaves_the_old_file(call, cfc_bundle, tmp_path):
    (tmp_path / "x.csv").write_text(csv_text([("x", 0, 0), *samples(3)]))
    (tmp_path / OUT).write_text("old")
    command = [*typed(tmp_path, cfc_bundle, []), "--resume", tmp_path / KEPT]
    code, _, err = call(*command)
    assert (code, (tmp_path / OUT).read_text()) == (2, "old")
    assert f"stopped after 0 samples in 0 recordings; {tmp_path / OUT} is left as it was\n" in err
    assert not (tmp_path / KEPT).exists()


def test_a_run_that_stops_at_a_row_stops_there_again(call, cfc_bundle, tmp_path, ticking):
    (tmp_path / "x.csv").write_text(csv_text([*samples(8), ("x", 0, 0), *samples(3)]))
    command = [*typed(tmp_path, cfc_bundle, []), "--resume", tmp_path / KEPT, "--snapshot-every", "3"]
    code, _, first = call(*command)
    written = stored(tmp_path)[OUT]
    assert (code, len(written.splitlines())) == (2, 9)
    code, _, again = call(*command)
    assert (code, first.splitlines()[-2:]) == (2, again.splitlines()[-2:])
    assert stored(tmp_path)[OUT] == written


def test_two_at_a_time_do_not_write_one_file(call, start, cfc_bundle, tmp_path):
    command = ["run", cfc_bundle, "--output", tmp_path / OUT, "--resume", tmp_path / KEPT]
    process = start(*command, "--on-bad", "skip")
    process.stdin.write(csv_text(samples(3)) + "bad\n")
    process.stdin.flush()
    assert "1 cells" in process.stderr.readline()
    written = stored(tmp_path)[OUT]
    code, _, err = call(*command, stdin=csv_text(samples(3)))
    assert (code, "is being written by another process" in err) == (2, True)
    assert stored(tmp_path)[OUT] == written


@pytest.mark.parametrize("loop", [[], ["--on-fault", "hold"]], ids=["rows", "loop"])
def test_two_at_a_time_do_not_keep_theirs_in_one_file(call, start, cfc_bundle, tmp_path, loop):
    """Whose results go into files of their own; through a link as well."""
    (tmp_path / "guard.json").write_text('{"gap_s": 600}')  # the third may come late on a slow machine
    loop = [*loop, "--guard", tmp_path / "guard.json"]
    command = ["run", cfc_bundle, *loop, "--resume", tmp_path / KEPT, "--snapshot-every", "0.001"]
    process = start(*command, "--output", tmp_path / OUT)
    process.stdin.write(csv_text(samples(3)))
    process.stdin.flush()
    while not (tmp_path / KEPT).exists():
        time.sleep(0.01)
    (tmp_path / "link").symlink_to(KEPT)
    for name in (KEPT, "link"):
        second = ["run", cfc_bundle, *loop, "--resume", tmp_path / name, "--output", tmp_path / "other.csv"]
        code, out, err = call(*second, stdin=csv_text(samples(3)))
        told = f"'{tmp_path / name}' is being written by another process. Wait until that ends, or name another file: "
        assert (code, out, told in err) == (2, "", True), err
    assert not (tmp_path / "other.csv").exists()
    process.kill()
    process.wait()
    code, _, err = call(*command, "--output", tmp_path / OUT, stdin=csv_text(samples(3)))
    assert (code, "remark: goes on from" in err) == (0, True), err
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_results_grow_in_their_place_through_a_link(call, cfc_bundle, tmp_path, monkeypatch, ticking):
    (tmp_path / "real.csv").write_text("old\n" * 100)
    (tmp_path / OUT).symlink_to("real.csv")
    (tmp_path / "x.csv").write_text(csv_text(samples(9)))
    command = typed(tmp_path, cfc_bundle, [])
    with monkeypatch.context() as patch:
        images = Images(tmp_path, patch)
        assert call(*command, "--resume", tmp_path / KEPT)[0] == 0
    assert [len(image[OUT].splitlines()) for image in images.all] == list(range(2, 11))
    assert (tmp_path / OUT).is_symlink()
    expected = stored(tmp_path)[OUT]
    assert call(*command)[0] == 0
    assert stored(tmp_path)[OUT] == expected


def test_what_a_snapshot_speaks_of_is_on_the_disk_before_it(call, cfc_bundle, tmp_path, monkeypatch, ticking):
    (tmp_path / "x.csv").write_text(csv_text(samples(9)))
    seen, usual = [], os.fsync

    def sync(descriptor):
        seen.append(Path(f"/proc/self/fd/{descriptor}").resolve().name.split(".")[-1])
        usual(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    call(*typed(tmp_path, cfc_bundle, []), "--resume", tmp_path / KEPT, "--snapshot-every", "3")
    kinds = [name for name in seen if name in ("csv", "partial")]
    assert kinds.count("partial") > 2
    assert all(kinds[k - 1] == "csv" for k, kind in enumerate(kinds) if kind == "partial" and k < len(kinds) - 3)


def test_a_disk_that_is_full_for_a_while_ends_nothing(call, cfc_bundle, tmp_path, monkeypatch, ticking):
    (tmp_path / "x.csv").write_text(csv_text(samples(20)))
    command = typed(tmp_path, cfc_bundle, [])
    assert call(*command)[0] == 0
    expected, usual, calls = stored(tmp_path)[OUT], os.replace, itertools.count()

    def replace(one, other):
        if str(other).endswith(KEPT) and next(calls) < 3:
            raise OSError(28, "No space left on device", str(other))
        usual(one, other)

    monkeypatch.setattr(os, "replace", replace)
    code, _, err = call(*command, "--resume", tmp_path / KEPT, "--snapshot-every", "3")
    assert (code, stored(tmp_path)[OUT]) == (0, expected)
    assert err.count("No space left on device") == 1
    assert lnn_edge.load_snapshot(tmp_path / KEPT, lnn_edge.load(cfc_bundle, backend="onnxruntime")).steps == 20


STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(("number", "expected"), STOPS, ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_within_a_row_ends_behind_it(call, ltc_bundle, tmp_path, monkeypatch, number, expected):
    (tmp_path / "x.csv").write_text(timed(samples(20), steady(20)))
    command = typed(tmp_path, ltc_bundle, ["--time-column", "t"])
    assert call(*command)[0] == 0
    whole, usual, calls = stored(tmp_path)[OUT], Feed._step, itertools.count()

    def step(feed, rows, xs):
        if next(calls) == 7:
            os.kill(os.getpid(), number)
        return usual(feed, rows, xs)

    with monkeypatch.context() as patch:
        patch.setattr(Feed, "_step", step)
        code, _, err = call(*command, "--resume", tmp_path / KEPT)
    saved = f"saved {tmp_path / OUT}; the same command goes on from {tmp_path / KEPT}"
    assert (code, err.splitlines()[-1]) == (expected, f"interrupted after 8 samples in 1 recording, {saved}")
    assert len(stored(tmp_path)[OUT].splitlines()) == 9
    code, _, err = call(*command, "--resume", tmp_path / KEPT)
    assert f"behind line 9 of '{tmp_path / 'x.csv'}'" in err
    assert (code, stored(tmp_path)[OUT]) == (0, whole)


def test_a_second_signal_within_a_row_ends_at_once(call, cfc_bundle, tmp_path, monkeypatch, ticking):
    (tmp_path / "x.csv").write_text(csv_text(samples(20)))
    command = typed(tmp_path, cfc_bundle, [])
    assert call(*command)[0] == 0
    whole, usual, calls = stored(tmp_path)[OUT], Feed._step, itertools.count()

    def step(feed, rows, xs):
        if next(calls) == 9:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return usual(feed, rows, xs)

    with monkeypatch.context() as patch:
        patch.setattr(Feed, "_step", step)
        assert call(*command, "--resume", tmp_path / KEPT, "--snapshot-every", "3")[0] == 130
    assert len(stored(tmp_path)[OUT].splitlines()) == 10
    code, _, err = call(*command, "--resume", tmp_path / KEPT)
    assert re.search(r"behind line [3-9] |behind line 10 ", err)
    assert "was left to do" not in err
    assert (code, stored(tmp_path)[OUT]) == (0, whole)


@pytest.mark.parametrize(("number", "expected"), STOPS, ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_while_rows_are_waited_for_keeps_all(start, call, ltc_bundle, tmp_path, number, expected):
    """From a sensor: behind the restart the state goes on, and the results with it."""
    text = timed(samples(20), steady(20)).splitlines(keepends=True)
    command = ["run", ltc_bundle, "--backend", "onnxruntime", "--time-column", "t", "--on-bad", "skip"]
    assert call(*command, "--output", tmp_path / "whole.csv", stdin="".join(text))[0] == 0
    command += ["--output", tmp_path / OUT, "--resume", tmp_path / KEPT]
    process = start(*command)
    process.stdin.write("".join(text[:13]) + "bad\n")
    process.stdin.flush()
    assert "1 cells" in process.stderr.readline()
    process.send_signal(number)
    assert process.wait(30) == expected
    assert "interrupted after 12 samples in 1 recording, 1 bad row skipped, saved " in process.stderr.read()
    code, _, err = call(*command, stdin="".join([text[0], *text[13:]]))
    assert code == 0
    assert f"remark: goes on from {tmp_path / KEPT}, behind 12 samples, " in err
    assert stored(tmp_path)[OUT] == (tmp_path / "whole.csv").read_bytes()


def test_what_came_before_a_silence_outlives_a_kill(start, call, ltc_bundle, tmp_path):
    """All that came at once, faster than snapshots are taken."""
    text = timed(samples(20), steady(20)).splitlines(keepends=True)
    command = ["run", ltc_bundle, "--backend", "onnxruntime", "--time-column", "t"]
    assert call(*command, "--output", tmp_path / "whole.csv", stdin="".join(text))[0] == 0
    command += ["--output", tmp_path / OUT, "--resume", tmp_path / KEPT]
    process = start(*command, "--snapshot-every", "0.3", cold=True)
    process.stdin.write("".join(text[:13]))
    process.stdin.flush()
    model = lnn_edge.load(ltc_bundle, backend="onnxruntime")
    while not (tmp_path / KEPT).exists() or lnn_edge.load_snapshot(tmp_path / KEPT, model).steps < 12:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait(30)
    assert call(*command, stdin="".join([text[0], *text[13:]]))[0] == 0
    assert stored(tmp_path)[OUT] == (tmp_path / "whole.csv").read_bytes()


def live(call, bundle, folder, *options, stdin):
    output = ["--output", folder / OUT, "--resume", folder / KEPT]
    return call("run", bundle, "--backend", "onnxruntime", "--time-column", "t", *options, *output, stdin=stdin)


def test_behind_a_gap_a_sensor_goes_on_as_the_policy_says(call, ltc_bundle, tmp_path):
    xs = samples(20)
    assert live(call, ltc_bundle, tmp_path, stdin=timed(xs[:10], steady(10)))[0] == 0
    before, later = stored(tmp_path), timed(xs[10:], steady(10, start=100.0))
    code, _, err = live(call, ltc_bundle, tmp_path, stdin=later)
    assert code == 2
    assert "'t' is 100.0, 99.1 s after the last sample at 0.9, but 'drift' was proven for at most" in err
    assert "To reset the state there and go on, pass --on-gap reset" in err
    assert stored(tmp_path) == before
    code, _, err = live(call, ltc_bundle, tmp_path, "--on-gap", "reset", stdin=later)
    assert (code, "20 samples in 1 recording, state reset after 1 gap" in err) == (0, True)
    both = [*zip(steady(10), xs[:10], strict=True), *zip(steady(10, start=100.0), xs[10:], strict=True)]
    whole = csv_text([(t, *x) for t, x in both], ["t", *INPUTS])
    call("run", ltc_bundle, "--backend", "onnxruntime", "--time-column", "t", "--on-gap", "reset", "--output",
         tmp_path / "whole.csv", stdin=whole)  # fmt: skip
    assert stored(tmp_path)[OUT] == (tmp_path / "whole.csv").read_bytes()


def test_a_sensor_in_nanoseconds_keeps_its_first_time(call, ltc_bundle, tmp_path):
    text = timed(samples(20), [10**18 + 10**8 * k + 1 for k in range(20)]).splitlines(keepends=True)
    options = ["--time-column", "t:ns"]
    command = ["run", ltc_bundle, "--backend", "onnxruntime", *options]
    assert call(*command, "--output", tmp_path / "whole.csv", stdin="".join(text))[0] == 0
    for part in (text[:8], [text[0], *text[8:]]):
        assert live(call, ltc_bundle, tmp_path, *options, stdin="".join(part))[0] == 0
    assert stored(tmp_path)[OUT] == (tmp_path / "whole.csv").read_bytes()


def test_a_state_outlives_a_controller_that_writes_to_a_pipe(call, ltc_bundle, tmp_path):
    text = timed(samples(20), steady(20)).splitlines(keepends=True)
    command = ["run", ltc_bundle, "--backend", "onnxruntime", "--time-column", "t"]
    _, whole, _ = call(*command, stdin="".join(text))
    parts = [
        call(*command, "--resume", tmp_path / KEPT, stdin="".join(rows))[1] for rows in (text[:8], [text[0], *text[8:]])
    ]
    header = whole.splitlines(keepends=True)[0]
    assert parts[0] + parts[1].removeprefix(header) == whole


def test_a_file_on_standard_input_is_a_file(start, cfc_bundle, tmp_path):
    rows = csv_text(samples(12)).splitlines(keepends=True)
    for count in (7, 13):
        (tmp_path / "x.csv").write_text("".join(rows[:count]))
        with open(tmp_path / "x.csv") as file:
            process = start("run", cfc_bundle, "--output", tmp_path / OUT, "--resume", tmp_path / KEPT, stdin=file)
            assert process.wait(30) == 0
    assert "behind line 7 of standard input" in process.stderr.read()
    assert len(stored(tmp_path)[OUT].splitlines()) == 13


def test_killed_at_any_moment(python, cfc_bundle, ltc_bundle, block_bundle, tmp_path):
    """`make test-hostile` kills two hundred."""
    script = ROOT / "tests/support/killed_runs.py"
    done = python(script, tmp_path, 20, 18, cfc_bundle, ltc_bundle, block_bundle, timeout=250)
    assert done.returncode == 0, done.stderr
    happened = json.loads(done.stdout)
    assert not [what for what in happened if what.startswith("wrong")], happened
    assert happened["kills"] == 20
    assert happened["results and counts alike"] >= 6
    assert happened["snapshots that were read"] >= 5
