"""`lnn-edge run` on lines that are damaged: each costs itself alone, and a run that gives nothing is no success."""

from __future__ import annotations

import csv
import subprocess

import numpy as np
import pytest
from bundles import INPUTS, manifest_of
from command_line import csv_text, samples, streamed, table
from hypothesis import given
from hypothesis import strategies as st

from lnn_edge.runtime.transport.csv_file import Table

HEAD = ",".join([*INPUTS, "note"]) + "\n"
SKIP = ["--on-bad", "skip"]
OPEN = "not CSV: a quote is not closed in this line, and a sample is one line"


def noted(*notes) -> str:
    """A row for each note, which is written as it is."""
    return HEAD + "".join(
        f"{','.join(map(str, x))},{note}\n" for x, note in zip(samples(len(notes)), notes, strict=True)
    )


def results(out) -> np.ndarray:
    return np.array(table(out)[1], np.float32)


@pytest.mark.parametrize(
    ("notes", "bad"),
    [
        (['"walked', "a", "b"], {2: OPEN}),
        (["a", 'x"y', '"b'], {4: OPEN}),
        (["a", '"', "b", '"c', "d"], {3: OPEN, 5: OPEN}),
        (['"the dog barked""', "a", "b"], {2: OPEN}),
        (["a", '"x"y', "b"], {3: "not CSV: ',' expected after '\"'"}),
        (["a", "x\0", "b"], {3: "not CSV: it holds a NUL byte"}),
        (["a", "b,c", "d"], {3: "5 cells, but the header has 4"}),
    ],
)
def test_a_damaged_line_costs_itself_alone(call, cfc_bundle, notes, bad):
    code, out, err = call("run", cfc_bundle, *SKIP, stdin=noted(*notes))
    kept = [k for k in range(len(notes)) if k + 2 not in bad]
    assert code == 0
    np.testing.assert_array_equal(results(out), streamed(cfc_bundle, samples(len(notes))[kept]))
    assert all(f"standard input, line {line}: {reason}" in err for line, reason in bad.items())
    assert f"{len(kept)} samples in 1 recording, {len(bad)} bad row{'s' * (len(bad) > 1)} skipped" in err


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_quotes_that_are_closed_hold_commas_and_quotes(call, cfc_bundle, end):
    text = noted('"left, right"', '"he said ""go"", then"', '""', 'x"y').replace("\n", end)
    code, out, err = call("run", cfc_bundle, stdin=text.encode())
    assert (code, len(results(out))) == (0, 4)
    assert "bad" not in err


def test_a_cell_of_two_lines_costs_both(call, cfc_bundle):
    text = noted("a", '"first\nsecond"', "b")
    code, out, err = call("run", cfc_bundle, *SKIP, stdin=text)
    assert code == 0
    np.testing.assert_array_equal(results(out), streamed(cfc_bundle, samples(3)[[0, 2]]))
    assert f"line 3: {OPEN}" in err
    assert "line 4: 1 cells, but the header has 4" in err


@pytest.mark.parametrize("header", ['acc_x,"acc_y,gyro_z', '"acc_x,acc_y,gyro_z', 'acc_x,acc_y,gyro_z,"note'])
def test_a_quote_left_open_in_the_header(call, cfc_bundle, header):
    code, out, err = call("run", cfc_bundle, stdin=f"{header}\n1,2,3\n")
    assert (code, out) == (2, "")
    assert f"standard input, line 1: {OPEN}" in err


def test_an_open_quote_stalls_no_live_pipe(start, cfc_bundle):
    process = start("run", cfc_bundle, *SKIP)
    process.stdin.write(HEAD + '1,2,3,"open\n')
    process.stdin.flush()
    assert process.stdout.readline() == "walk,run\n"
    for k in range(3):
        process.stdin.write(f"{k},2,3,note\n")
        process.stdin.flush()
        assert len(process.stdout.readline().split(",")) == 2
    process.stdin.close()
    assert process.wait(30) == 0
    assert "3 samples in 1 recording, 1 bad row skipped" in process.stderr.read()


def test_a_line_that_ends_with_a_carriage_return_is_not_kept_waiting(start, cfc_bundle):
    process = start("run", cfc_bundle, bufsize=0, text=False)
    process.stdin.write(b"acc_x,acc_y,gyro_z\r\n1,2,3\r")
    assert process.stdout.readline() == b"walk,run\n"
    assert process.stdout.readline().count(b",") == 1
    process.stdin.write(b"\n4,5,6\r\n")
    assert process.stdout.readline().count(b",") == 1
    process.stdin.close()
    assert process.wait(30) == 0
    assert b"2 samples in 1 recording through" in process.stderr.read()


@pytest.mark.workstation
def test_an_example_is_read_line_by_line_as_well(call, work, cfc_bundle):
    (work / "x.csv").write_text(noted("a", '"open', "b"))
    columns = ",".join(INPUTS)
    code, _, err = call("export", "train.py:make_model", "new.lnn", "--inputs", columns, "--example", "x.csv")
    assert code == 2
    assert f"'x.csv', line 3: {OPEN}" in err


CUT = "ends within line 4, which has no line end: its last number may be cut off"


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_last_line_of_a_pipe_may_be_cut_off(start, cfc_bundle, end):
    process = start("run", cfc_bundle)
    out, err = process.communicate("acc_x,acc_y,gyro_z\n1,2,3\n1,2,3\n1,2,0." + end, timeout=60)
    assert (process.returncode, len(out.splitlines())) == (0, 4)
    assert (f"warning: standard input {CUT}\n" in err) == (not end)


def test_the_last_line_of_a_file_needs_no_end(call, warm_device, cfc_bundle, tmp_path):
    (tmp_path / "x.csv").write_text(csv_text(samples(3)).rstrip("\n"))
    code, out, err = call("run", cfc_bundle, "--input", tmp_path / "x.csv")
    assert (code, len(results(out))) == (0, 3)
    assert "warning" not in err
    with open(tmp_path / "x.csv") as file:
        command = ["python", "-m", "lnn_edge", "run", str(cfc_bundle)]
        done = subprocess.run(command, env=warm_device, stdin=file, capture_output=True, text=True, check=True)
    assert "warning" not in done.stderr


def test_a_last_line_too_short_says_that_the_input_ends_there(call, cfc_bundle):
    code, _, err = call("run", cfc_bundle, stdin=csv_text(samples(2)) + "1,2")
    assert code == 2
    assert "line 4: 2 cells, but the header has 3; the input ends within this line. To go on" in err


def test_an_endless_line_does_not_fill_the_memory(call, cfc_bundle):
    code, _, err = call("run", cfc_bundle, "--input", "/dev/zero")
    assert code == 2
    assert "there is no line end in 16 MiB: expected a table" in err


FAULTS = {
    "text": "1,two,3",
    "nan": "1,nan,3",
    "cells": "1,2",
    "limit": "1,2,9",
    "float32": "1,2e39,3",
    "quote": '1,2,"3',
}


@pytest.mark.parametrize("row", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("rows", [1, 9])
def test_rows_that_none_could_be_used_of_are_no_success(call, cfc_bundle, tmp_path, row, rows):
    (tmp_path / "y.csv").write_text("old")
    text = ",".join(INPUTS) + "\n" + f"{row}\n" * rows
    code, _, err = call("run", cfc_bundle, *SKIP, "--output", tmp_path / "y.csv", stdin=text)
    assert code == 2
    came = "1 row" if rows == 1 else f"{rows} rows"
    assert (
        f"lnn-edge: {came} came from standard input, and none could be used; the first: standard input, line 2:" in err
    )
    assert (tmp_path / "y.csv").read_text() == "old"
    code, _, err = call("run", cfc_bundle, stdin=text)
    assert code == 2
    assert "skip" not in err
    assert ("8 rows behind it cannot be used either" in err) == (rows > 1)


@pytest.mark.parametrize("row", FAULTS.values(), ids=FAULTS)
def test_to_skip_is_advised_where_it_helps(call, cfc_bundle, row):
    rows = [",".join(INPUTS), row, row, "1,2,3", ""]
    assert "To go on with the next row, pass --on-bad skip" in call("run", cfc_bundle, stdin="\n".join(rows))[2]
    rows = [",".join(INPUTS), "1,2,3", row, ""]
    assert "To go on with the next row, pass --on-bad skip" in call("run", cfc_bundle, stdin="\n".join(rows))[2]
    rows = [",".join(INPUTS), "1,2,3", row, row, row, ""]
    assert "2 rows behind it cannot be used either" in call("run", cfc_bundle, stdin="\n".join(rows))[2]


def test_a_window_or_block_that_is_never_full_is_no_success(call, cfc_bundle, block_bundle):
    code, _, err = call("run", cfc_bundle, "--window", 6, stdin=csv_text(samples(5)))
    assert code == 2
    assert "5 rows came from standard input, and no recording filled a window of 6 samples" in err
    rows = csv_text([(0.1 * k, *x) for k, x in enumerate(samples(3), 1)], ["t", *INPUTS])
    code, _, err = call("run", block_bundle, "--time-column", "t", stdin=rows)
    assert code == 2
    assert "3 rows came from standard input, and no recording filled a block of 4 samples" in err


@pytest.mark.parametrize("row", ["0.6,1e39,0,0", "0.6,nan,0,0", "0.5,0,0,0", "0.5001,0,0,0", "0.2,0,0,0", "soon,0,0,0"])
def test_a_block_loses_no_more_than_the_row_that_is_bad(call, block_bundle, row):
    """Whether the table, the limits or the clock refuses it."""
    xs, times = samples(12), 0.1 * np.arange(1, 13)
    lines = csv_text([(f"{t:.1f}", *x) for t, x in zip(times, xs, strict=True)], ["t", *INPUTS]).splitlines()
    lines[6:6] = [row]
    code, out, err = call("run", block_bundle, "--time-column", "t", *SKIP, stdin="\n".join([*lines, ""]))
    assert code == 0
    np.testing.assert_array_equal(results(out)[:, 1:], streamed(block_bundle, xs, t_s=times.round(1)))
    count = "1 late row left out" if row in ("0.5,0,0,0", "0.2,0,0,0") else "1 bad row skipped"
    assert f"12 samples in 1 recording, {count} through" in err
    assert "standard input, line 7: " in err


def test_a_recording_whose_first_row_is_over_its_limit_begins_with_the_next(call, cfc_bundle):
    xs = samples(6)
    rows = [("a", *x) for x in xs[:3]] + [("b", 1, 2, 9)] + [("b", *x) for x in xs[3:]]
    text = csv_text(rows, ["who", *INPUTS])
    code, out, err = call("run", cfc_bundle, "--reset-column", "who", *SKIP, stdin=text)
    expected = np.concatenate([streamed(cfc_bundle, xs[:3]), streamed(cfc_bundle, xs[3:])])
    assert code == 0
    np.testing.assert_array_equal(np.array([row[1:] for row in table(out)[1]], np.float32), expected)
    assert "6 samples in 2 recordings, 1 bad row skipped" in err


def test_a_first_line_that_is_no_header(call, cfc_bundle, tmp_path):
    columns = ",".join(f.name for f in manifest_of(cfc_bundle).streamed[0].features)
    path = tmp_path / "walk.csv"
    path.write_text(f"# recorded\n{columns}\n")
    code, _, err = call("run", cfc_bundle, "--input", path)
    assert code == 2
    assert "begins with a comment, '# recorded', expected a header. To leave comments out, type: sed" in err


@given(st.text(alphabet='ab1.,; \t"\\\r\x0b\u2028', max_size=30))
def test_a_line_without_quotes_has_the_cells_that_the_csv_module_finds(line):
    try:
        expected = next(csv.reader([line.rstrip("\r\n")], strict=True), [])
    except csv.Error:
        with pytest.raises(csv.Error):
            next(Table([line]))
    else:
        assert next(Table([line])) == expected
