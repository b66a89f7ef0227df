"""`lnn-edge run` as it is typed: rows in, results out, and rows that cannot be used."""

from __future__ import annotations

import json
import os
import re
import subprocess

import numpy as np
import pytest
from bundles import INPUTS, edit_golden, resign, small_cfc
from command_line import bare_call, csv_text, samples, streamed, table

import lnn_edge
from lnn_edge.bundle.spec import Readout, Window


def test_run_gives_what_a_stream_gives(call, cfc_bundle, tmp_path):
    xs = samples()
    (tmp_path / "x.csv").write_text(csv_text(xs))
    code, out, err = call("run", cfc_bundle, "--input", tmp_path / "x.csv")
    header, rows = table(out)
    assert (code, header) == (0, ["walk", "run"])
    np.testing.assert_array_equal(np.array(rows, np.float32), streamed(cfc_bundle, xs))
    assert err.startswith("20 samples in 1 recording through gait on onnxruntime ")


def test_run_reads_standard_input_and_finds_columns_by_name(call, cfc_bundle):
    xs = samples()
    rows = [(z, "note", y, x) for x, y, z in xs]
    code, out, _ = call("run", cfc_bundle, stdin=csv_text(rows, ["gyro_z", "label", "acc_y", "acc_x"]))
    assert code == 0
    np.testing.assert_array_equal(np.array(table(out)[1], np.float32), streamed(cfc_bundle, xs))


def test_run_writes_json_lines(call, cfc_bundle):
    xs = samples(5)
    rows = [("a", *x) for x in xs]
    code, out, _ = call(
        "run", cfc_bundle, "--format", "jsonl", "--reset-column", "who", stdin=csv_text(rows, ["who", *INPUTS])
    )
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["who"] for line in lines] == ["a"] * 5
    got = np.array([[line["walk"], line["run"]] for line in lines], np.float32)
    np.testing.assert_array_equal(got, streamed(cfc_bundle, xs))


def test_run_starts_over_where_the_reset_column_changes(call, cfc_bundle):
    xs = samples(12)
    rows = [("first" if k < 5 else "second, quoted", *x) for k, x in enumerate(xs)]
    text = csv_text(rows, ["who", *INPUTS])
    code, out, err = call("run", cfc_bundle, "--reset-column", "who", stdin=text)
    header, got = table(out)
    assert (code, header) == (0, ["who", "walk", "run"])
    assert [row[0] for row in got] == [row[0] for row in rows]
    expected = np.concatenate([streamed(cfc_bundle, xs[:5]), streamed(cfc_bundle, xs[5:])])
    np.testing.assert_array_equal(np.array([row[1:] for row in got], np.float32), expected)
    assert "12 samples in 2 recordings" in err


def test_run_takes_the_time_from_a_column(call, ltc_bundle):
    xs = samples(10)
    t = np.cumsum(np.random.default_rng(1).uniform(0.05, 0.3, 10)).round(4)
    text = csv_text(np.column_stack([t, xs.astype(np.float64)]).tolist(), ["t", *INPUTS])
    code, out, _ = call("run", ltc_bundle, "--time-column", "t", stdin=text)
    header, got = table(out)
    assert (code, header) == (0, ["t", "left", "right"])
    assert [float(row[0]) for row in got] == t.tolist()
    np.testing.assert_array_equal(np.array([row[1:] for row in got], np.float32), streamed(ltc_bundle, xs, t_s=t))


def block_rows(bad=None) -> str:
    """Two recordings of 10 and 7 rows; `bad` is a row in which a value is no number."""
    rows = [[k // 10, 0.1 * (k + 1), *x] for k, x in enumerate(samples(17))]
    if bad is not None:
        rows[bad][3] = "nan"
    return csv_text(rows, ["walk", "t", *INPUTS])


BY_WALK = ["--reset-column", "walk", "--time-column", "t"]


def test_run_steps_blocks_of_rows(call, block_bundle, ltc_bundle):
    code, out, err = call("run", block_bundle, *BY_WALK, stdin=block_rows())
    assert (code, err.count("12 samples in 2 recordings, 5 at the ends of recordings filled no block")) == (0, 1)
    _, rows = table(out)
    stream, expected = lnn_edge.load(block_bundle).stream(), []
    for start in (0, 4, 10):
        if start == 10:
            stream.reset()
        expected.append(stream.step(samples(17)[start:][:4], t_s=0.1 * np.arange(start + 1, start + 5)).copy())
    np.testing.assert_array_equal(np.array(rows, float)[:, 2:].astype(np.float32), np.concatenate(expected))


def test_run_names_the_lines_of_a_bad_block(call, block_bundle):
    """Each row is checked as it comes: a time that goes back, or a value that is none, spoils its row alone."""
    rows = block_rows().splitlines()
    rows[6] = rows[6].replace(rows[6].split(",")[1], "0.05")  # the second row of the second block
    code, _, err = call("run", block_bundle, *BY_WALK, stdin="\n".join(rows))
    assert code == 2
    assert "line 7: 't' is 0.05, not after the previous sample at 0.5" in err
    code, out, err = call("run", block_bundle, *BY_WALK, "--on-bad", "skip", stdin="\n".join(rows))
    assert (code, len(table(out)[1])) == (0, 12)
    assert "12 samples in 2 recordings, 1 late row left out, 4 at the ends" in err
    code, out, err = call("run", block_bundle, *BY_WALK, "--on-bad", "skip", stdin=block_rows(bad=5))
    assert "line 7: 'acc_y' is nan" in err
    assert "12 samples in 2 recordings, 1 bad row skipped, 4 at the ends" in err


BAD_ROWS = [
    ("1,2", "line 3: 2 cells, but the header has 3"),
    ("1,x,3", "line 3: 'acc_y' is 'x', expected a number"),
    ("1,nan,3", "line 3: 'acc_y' is nan, expected a finite number"),
    ('1,"2"x,3', "line 3: not CSV: ',' expected after '\"'"),
    ("1,1e39,3", "line 3: `input` holds 1e+39 at 'acc_y' (index [1]); that is more than float32 can hold"),
    ("1,2,9", "line 3: `input` holds 9.0 at 'gyro_z' (index [2]); its legal range is [-8.0, 8.0]"),
]


@pytest.mark.parametrize(("row", "expected"), BAD_ROWS)
def test_run_stops_at_a_bad_row(call, cfc_bundle, row, expected):
    code, out, err = call("run", cfc_bundle, stdin=f"{','.join(INPUTS)}\n0,0,0\n{row}\n0,0,0\n")
    assert code == 2
    assert len(out.splitlines()) == 2
    assert f"lnn-edge: standard input, {expected}" in err
    assert "To go on with the next row, pass --on-bad skip" in err


@pytest.mark.parametrize(("row", "expected"), BAD_ROWS)
def test_run_skips_a_bad_row_and_keeps_the_state(call, cfc_bundle, row, expected):
    xs = samples(4)
    good = csv_text(xs).splitlines()
    code, out, err = call("run", cfc_bundle, "--on-bad", "skip", stdin="\n".join([*good[:2], row, *good[2:], ""]))
    assert code == 0
    np.testing.assert_array_equal(np.array(table(out)[1], np.float32), streamed(cfc_bundle, xs))
    assert f"standard input, {expected}" in err
    assert "4 samples in 1 recording, 1 bad row skipped" in err


def test_run_skips_bytes_that_are_no_text(call, cfc_bundle):
    text = csv_text(samples(2)).encode() + b"\xff\xfe,0,0\n1,2,3\n"
    code, out, err = call("run", cfc_bundle, "--on-bad", "skip", stdin=text)
    assert (code, len(out.splitlines())) == (0, 4)
    assert "line 4: 'acc_x' is '\ufffd\ufffd', expected a number" in err


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("acc_x,acc_z,gyro_z", "has no column 'acc_y'. Valid: acc_x, acc_z, gyro_z. Did you mean 'acc_"),
        ("acc_x,acc_y,gyro_z,acc_x", "has the column 'acc_x' 2 times; expected it once"),
        ("", "is empty; expected a header row with the columns acc_x, acc_y, gyro_z"),
        ('"acc_x"x', "line 1: not CSV"),
    ],
)
def test_run_refuses_a_header_that_does_not_fit(call, cfc_bundle, tmp_path, header, expected):
    (tmp_path / "x.csv").write_text(f"{header}\n1,2,3\n" if header else "")
    code, out, err = call("run", cfc_bundle, "--input", tmp_path / "x.csv")
    assert (code, out) == (2, "")
    assert f"'{tmp_path}/x.csv'" in err
    assert expected in err


def test_run_names_a_missing_reset_column(call, cfc_bundle):
    code, _, err = call("run", cfc_bundle, "--reset-column", "rec", stdin=csv_text(samples(1)))
    assert code == 2
    assert "standard input has no column 'rec'. Valid: acc_x, acc_y, gyro_z." in err


def test_run_of_a_missing_input_file(call, cfc_bundle, tmp_path):
    code, _, err = call("run", cfc_bundle, "--input", tmp_path / "x.csv", "--output", tmp_path / "y.csv")
    assert code == 2
    assert f"lnn-edge: no file '{tmp_path}/x.csv', expected a CSV file. Type: ls {tmp_path}\n" in err
    assert os.listdir(tmp_path) == []


def test_run_writes_a_file_whole(call, cfc_bundle, tmp_path):
    xs = samples(6)
    code, out, err = call("run", cfc_bundle, "--output", tmp_path / "y.csv", stdin=csv_text(xs))
    assert (code, out) == (0, "")
    assert err.endswith(f", saved {tmp_path}/y.csv\n")
    np.testing.assert_array_equal(
        np.array(table((tmp_path / "y.csv").read_text())[1], np.float32), streamed(cfc_bundle, xs)
    )
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "y.csv").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (csv_text([(1, 2, "x"), (1, 2, 3)]), "stopped after 0 samples in 0 recordings; {0} is {1}\n"),
        ("acc_x,acc_y\n1,2\n", "lnn-edge: standard input has no column 'gyro_z'"),
    ],
    ids=["first row", "header"],
)
def test_run_that_fails_before_a_result_leaves_what_was_there(call, cfc_bundle, tmp_path, old, text, expected):
    target = tmp_path / "y.csv"
    if old:
        target.write_text("old")
    code, _, err = call("run", cfc_bundle, "--output", target, stdin=text)
    assert code == 2
    assert err.startswith(expected.format(target, "left as it was" if old else "not written"))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"] * old


def test_run_that_meets_a_bad_row_keeps_the_results_before_it(call, cfc_bundle, tmp_path):
    (tmp_path / "y.csv").write_text("old")
    xs = samples(6)
    text = csv_text([*xs[:5], (1, 2, "nan"), xs[5]])
    code, _, err = call("run", cfc_bundle, "--output", tmp_path / "y.csv", stdin=text)
    assert code == 2
    assert err.startswith(f"stopped after 5 samples in 1 recording, saved {tmp_path}/y.csv\nlnn-edge: standard input, ")
    assert err.endswith(
        "'gyro_z' is nan, expected a finite number. To go on with the next row, pass --on-bad skip; to let the last "
        "good value of the column stand in, --on-bad hold\n"
    )
    got = np.array(table((tmp_path / "y.csv").read_text())[1], np.float32)
    np.testing.assert_array_equal(got, streamed(cfc_bundle, xs[:5]))
    assert os.listdir(tmp_path) == ["y.csv"]


def test_run_without_rows_writes_the_header(call, cfc_bundle, tmp_path):
    assert call("run", cfc_bundle, "--output", tmp_path / "y.csv", stdin=csv_text([]))[0] == 0
    assert (tmp_path / "y.csv").read_text() == "walk,run\n"


@pytest.mark.parametrize(
    ("place", "expected"), [("none/y.csv", "does not exist. Type: mkdir -p"), (".", "is a directory, expected a file")]
)
def test_run_refuses_an_output_that_cannot_be(call, cfc_bundle, tmp_path, place, expected):
    code, _, err = call("run", cfc_bundle, "--output", tmp_path / place, stdin=csv_text(samples(1)))
    assert code == 2
    assert expected in err


def test_run_writes_into_a_pipe_and_leaves_it_a_pipe(start, cfc_bundle, tmp_path):
    """Were it replaced like a file, `--output /dev/null` would break the machine."""
    os.mkfifo(tmp_path / "pipe")
    process = start("run", cfc_bundle, "--output", tmp_path / "pipe", stdout=subprocess.DEVNULL)
    process.stdin.write(csv_text(samples(2)))
    process.stdin.close()
    with open(tmp_path / "pipe") as pipe:
        assert len(pipe.read().splitlines()) == 3
    assert process.wait(30) == 0
    assert (tmp_path / "pipe").is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


def test_run_writes_through_a_link(call, cfc_bundle, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/real.csv").write_text("old")
    (tmp_path / "y.csv").symlink_to("data/real.csv")
    assert call("run", cfc_bundle, "--output", tmp_path / "y.csv", stdin=csv_text(samples(2)))[0] == 0
    assert (tmp_path / "y.csv").is_symlink()
    assert (tmp_path / "data/real.csv").read_text().startswith("walk,run\n")
    assert os.listdir(tmp_path / "data") == ["real.csv"]


@pytest.mark.workstation
def test_run_takes_one_row_of_named_features_only(call, tmp_path):
    from exports import quick_export  # which needs torch

    quick_export(small_cfc(), tmp_path / "two.lnn", batch=2)
    code, _, err = call("run", tmp_path / "two.lnn", stdin=csv_text(samples(1)))
    assert code == 2
    assert "a table has rows of named features, and 'two' takes input [2, 3]. Use lnn_edge.load in Python" in err


def test_each_line_comes_before_the_next_is_sent(start, cfc_bundle):
    process = start("run", cfc_bundle)
    process.stdin.write(",".join(INPUTS) + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "walk,run\n"
    stream = lnn_edge.load(cfc_bundle).stream()
    for x in samples(5):
        process.stdin.write(",".join(map(str, x)) + "\n")
        process.stdin.flush()
        got = np.array(process.stdout.readline().split(","), np.float32)
        np.testing.assert_array_equal(got, stream.step(x))
    process.stdin.close()
    assert process.wait(30) == 0


def test_run_of_altered_golden_outputs_does_not_start(call, cfc_copy):
    edit_golden(cfc_copy, lambda t: t["float64/output"].__setitem__((9, 0, 1), 3.0))
    code, out, err = call("run", cfc_copy, stdin=csv_text(samples(1)))
    assert (code, out) == (3, "")
    assert "failed its self-test" in err


def test_run_without_a_backend_is_not_ready(bare, cfc_bundle):
    done = bare_call(bare, "run", cfc_bundle)
    assert done.returncode == 5
    assert done.stderr.startswith("lnn-edge: no backend is ready on this machine: native: ")
    assert done.stderr.endswith("; onnxruntime: it is not installed. Type: pip install lnn-edge\n")


def test_run_prints_a_line_per_window(call, cfc_bundle):
    xs = samples(23)
    rows = [("a" if k < 16 else "b", *x) for k, x in enumerate(xs)]
    text = csv_text(rows, ["who", *INPUTS])
    code, out, err = call(
        "run", cfc_bundle, "--window", "6", "--every", "4", "--reset-column", "who", "--on-bad", "skip", stdin=text
    )
    header, got = table(out)
    stream = lnn_edge.load(cfc_bundle).stream()
    expected = []
    for part in (xs[0:6], xs[4:10], xs[8:14], xs[16:22]):
        stream.reset()
        expected.append(stream.run(part)[-1])
    assert (code, header, [row[0] for row in got]) == (0, ["who", "walk", "run"], list("aaab"))
    np.testing.assert_array_equal(np.array([row[1:] for row in got], np.float32), expected)
    assert err.startswith("23 samples in 2 recordings, 4 windows of 6 through gait")


def test_run_says_that_a_model_of_windows_keeps_its_state(call, cfc_copy):
    resign(cfc_copy, window=Window(6, 4))
    text, remark = (
        csv_text(samples(11)),
        "remark: 'gait' was trained on windows of 6 samples, and its state is kept here",
    )
    assert remark in call("run", cfc_copy, stdin=text)[2]
    code, out, err = call("run", cfc_copy, "--every", 5, stdin=text)
    assert (code, len(table(out)[1])) == (0, 2)
    assert "remark" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--window", "0"), "--window: expected a whole number from 1 to 65,536, got '0'"),
        (("--window", "4", "--every", "5"), "`every` is 5, expected 1 to 4 samples, the length of a window"),
        (("--every", "5"), "`every` is 5, but it has a meaning only with `window`"),
    ],
)
def test_run_refuses_windows_that_are_none(call, cfc_bundle, arguments, message):
    code, out, err = call("run", cfc_bundle, *arguments, stdin=csv_text(samples(3)))
    assert (code, out) == (2, "")
    assert message in err


def test_run_prints_labels_and_readouts(call, cfc_copy):
    xs = samples(9)
    outputs = streamed(cfc_copy, xs)
    resign(cfc_copy, labels=("on foot", "running"), readout=Readout("mean", 3))
    code, out, _ = call("run", cfc_copy, stdin=csv_text(xs))
    header, rows = table(out)
    expected = np.stack([outputs[max(0, k - 2) : k + 1].mean(axis=0) for k in range(9)])
    assert (code, header) == (0, ["walk", "run", "label"])
    np.testing.assert_allclose(np.array([row[:2] for row in rows], np.float32), expected, atol=1e-6)
    assert [row[2] for row in rows] == [("on foot", "running")[k] for k in expected.argmax(axis=1)]


def test_values_outside_the_seen_range_are_counted(call, work, short_commands):
    xs = samples(40)
    (work / "seen.csv").write_text(csv_text(xs))
    export = ["export", "train.py:ready", "m.lnn", "--example", "seen.csv", "--inputs", ",".join(INPUTS)]
    assert call(*export)[0] == 0
    assert "outside" not in call("run", "m.lnn", "--input", "seen.csv")[2]
    far = xs.copy()
    far[[3, 9], 1] = 1e9
    far[5, 0] = -50
    (work / "far.csv").write_text(csv_text(far))
    code, _, err = call("run", "m.lnn", "--input", "far.csv", "--output", "y.csv", "--json", "-")
    assert code == 0
    told = "warning: 3 values in 40 samples outside the range of the example of the export: 'acc_y' 2, up to 1e+09, "
    assert f"{told}'acc_x' 1, up to -50. To refuse such values, export it with --margin 1\n" in err
    near = xs * np.float32(1.1)
    (work / "near.csv").write_text(csv_text(near))
    _, _, err = call("run", "m.lnn", "--input", "near.csv", "--output", "y.csv")
    assert re.search(
        r"remark: \d+ values in 40 samples outside the range of the example .*, at most by \d% of that", err
    )
    code, out, err = call("run", "m.lnn", "--input", "far.csv", "--output", "y.csv", "--json", "-")
    told = json.loads(out)
    outside = {"acc_x": {"number": 1, "farthest": -50.0}, "acc_y": {"number": 2, "farthest": 1e9}}
    assert told["outside_seen_range"] == outside
    assert (told["ended"], told["samples"], told["recordings"], told["results"]) == ("done", 40, 1, 40)
    code, out, err = call("run", "m.lnn", "--input", "far.csv", "--json", "-")
    assert (code, out) == (2, "")
    assert "--json - and the results would both go to standard output: name a file, --output FILE" in err
    assert call(*export, "--overwrite", "--margin", "0.5")[0] == 0
    code, _, err = call("run", "m.lnn", "--input", "far.csv", "--on-bad", "skip", "--json", "s.json")
    assert code == 0
    assert "wider limits, --inputs NAME:unit:low:high,..., or a larger --margin" in err
    told = json.loads((work / "s.json").read_text())
    assert (told["samples"], told["bad_rows_skipped"], told["outside_seen_range"]) == (37, 3, {})


def test_an_interrupted_run_has_its_summary_as_json(call, cfc_bundle, tmp_path):
    (tmp_path / "x.csv").write_text(csv_text([*samples(4), ["x", 0, 0]]))
    code, *_ = call("run", cfc_bundle, "--input", tmp_path / "x.csv", "--json", tmp_path / "s.json")
    told = json.loads((tmp_path / "s.json").read_text())
    assert (code, told["ended"], told["samples"]) == (2, "stopped", 4)
