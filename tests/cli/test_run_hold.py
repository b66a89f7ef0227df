"""`lnn-edge run --on-bad hold`: a sensor that is silent for a moment, and one that is gone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bundles import INPUTS, resign
from command_line import csv_text, samples, streamed, table

from lnn_edge.bundle.spec import Time

HOLD = ["--on-bad", "hold"]
BY_TIME = ["--time-column", "t"]


def holed(xs, holes, times=None, cell="") -> str:
    """CSV of samples with empty cells at (row, column)."""
    rows = [[str(v) for v in x] for x in xs]
    for row, column in holes:
        rows[row][column] = cell
    if times is None:
        return csv_text(rows)
    return csv_text([(t, *row) for t, row in zip(times, rows, strict=True)], ["t", *INPUTS])


def results(out) -> np.ndarray:
    return np.array(table(out)[1], float)[:, -2:].astype(np.float32)


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "-inf", "null", "N/A", " "])
def test_the_last_good_value_stands_in(call, cfc_bundle, cell):
    xs = samples(6)
    code, out, err = call("run", cfc_bundle, *HOLD, stdin=holed(xs, [(2, 1), (3, 1), (3, 0)], cell=cell))
    filled = xs.copy()
    filled[2:4, 1], filled[3, 0] = xs[1, 1], xs[2, 0]
    assert code == 0
    np.testing.assert_array_equal(results(out), streamed(cfc_bundle, filled))
    first, _, summary = err.splitlines()
    assert first == f"warning: standard input, line 4: '{INPUTS[1]}' is missing; the last good value is held"
    assert "6 samples in 1 recording, 3 missing values held through gait" in summary


def test_the_first_of_each_column_is_told_and_all_are_counted(call, cfc_bundle, tmp_path):
    """Only the first column was told, and the others never."""
    holes = [(2, 1), (3, 1), (3, 0), (4, 1)]
    place = tmp_path / "s.json"
    _, _, err = call("run", cfc_bundle, *HOLD, "--json", place, stdin=holed(samples(6), holes))
    assert [line for line in err.splitlines() if line.startswith("warning")] == [
        f"warning: standard input, line {line}: '{INPUTS[k]}' is missing; the last good value is held"
        for line, k in ((4, 1), (5, 0))
    ]
    summary = json.loads(place.read_text())
    assert (summary["values_held"], summary["values_held_by_column"]) == (4, {INPUTS[1]: 3, INPUTS[0]: 1})


@pytest.mark.parametrize(
    ("cell", "holds"), [("", True), ("nan", True), ("-inf", True), ("null", True), ("1;5", False), ("abc", False)]
)
def test_to_hold_is_advised_where_a_value_is_missing(call, cfc_bundle, cell, holds):
    text = holed(samples(4), [(2, 0)], cell=cell)
    code, _, err = call("run", cfc_bundle, stdin=text)
    assert code == 2
    advice = "pass --on-bad skip; to let the last good value of the column stand in, --on-bad hold"
    assert (advice in err) == holds
    assert ("pass --on-bad skip" in err) is True
    code, out, _ = call("run", cfc_bundle, *HOLD, stdin=text)
    assert (code, len(table(out)[1])) == (0, 4 if holds else 3)


def test_for_a_stated_time(call, ltc_bundle):
    """By the time column; then the rows are skipped, until the sensor is back."""
    xs, times = samples(8), [round(0.1 * k, 1) for k in range(1, 9)]
    holes = [(k, 2) for k in range(2, 6)]
    arguments = [*HOLD, "--hold-for", "0.2", *BY_TIME]
    code, out, err = call("run", ltc_bundle, *arguments, stdin=holed(xs, holes, times))
    filled = xs.copy()
    filled[2:4, 2] = xs[1, 2]
    kept = [0, 1, 2, 3, 6, 7]
    assert code == 0
    np.testing.assert_array_equal(results(out), streamed(ltc_bundle, filled[kept], t_s=np.array(times)[kept]))
    assert f"line 6: '{INPUTS[2]}' is missing, and its last good value is 0.3 s old: values are held for 0.2 s" in err
    assert "6 samples in 1 recording, 2 missing values held, 2 bad rows skipped through drift" in err


def test_for_ten_periods_where_nobody_says(call, cfc_bundle):
    """Without a time column each row is a period."""
    xs = samples(14)
    _, out, err = call("run", cfc_bundle, *HOLD, stdin=holed(xs, [(k, 0) for k in range(1, 13)]))
    assert len(table(out)[1]) == 12
    assert "10 missing values held, 2 bad rows skipped" in err
    assert "its last good value is 0.22 s old: values are held for 0.2 s" in err


def test_never_before_a_first_good_value(call, cfc_bundle):
    lines = [f"who,{','.join(INPUTS)}", "a,,1,1", "a,1,1,1", "a,,1,1", "b,,1,1", "b,1,1,1", ""]
    code, out, err = call("run", cfc_bundle, *HOLD, "--reset-column", "who", stdin="\n".join(lines))
    assert (code, [row[0] for row in table(out)[1]]) == (0, ["a", "a", "b"])
    assert f"line 2: '{INPUTS[0]}' is missing, and no good value came before it that could be held" in err
    assert f"line 5: '{INPUTS[0]}' is missing, and no good value came before it" in err
    assert "3 samples in 2 recordings, 1 missing value held, 2 bad rows skipped" in err


def test_what_is_no_number_is_skipped(call, cfc_bundle):
    code, out, err = call("run", cfc_bundle, *HOLD, stdin=holed(samples(4), [(2, 0)], cell="1;5"))
    assert (code, len(table(out)[1])) == (0, 3)
    assert f"line 4: '{INPUTS[0]}' is '1;5', expected a number" in err
    assert "1 bad row skipped" in err


def test_a_refused_row_is_no_source(call, cfc_bundle):
    """A value beyond its limits is not held: its row was refused."""
    xs = samples(3)
    xs[:, 0] = [1, 1e38, 2]
    lines = holed(xs, [(2, 0)]).splitlines()
    lines[2] = "1e39,0,0"
    code, out, _ = call("run", cfc_bundle, *HOLD, stdin="\n".join([*lines, ""]))
    expected = xs[[0, 2]].copy()
    expected[1, 0] = 1
    assert code == 0
    np.testing.assert_array_equal(results(out), streamed(cfc_bundle, expected))


def test_blocks(call, block_bundle):
    xs, times = samples(8), [round(0.1 * k, 1) for k in range(1, 9)]
    code, out, _ = call("run", block_bundle, *HOLD, *BY_TIME, stdin=holed(xs, [(2, 1)], times))
    filled = xs.copy()
    filled[2, 1] = xs[1, 1]
    assert code == 0
    np.testing.assert_array_equal(results(out), streamed(block_bundle, filled, t_s=np.array(times)))


def test_a_missing_cell_still_ends_a_run_that_was_not_told_to_hold(call, cfc_bundle):
    code, _, err = call("run", cfc_bundle, stdin=holed(samples(3), [(1, 0)]))
    assert code == 2
    assert f"line 3: '{INPUTS[0]}' is '', expected a number" in err


def test_a_bundle_without_a_period_is_asked_for_how_long(call, cfc_copy):
    resign(cfc_copy, time=Time("fixed"))
    text = holed(samples(4), [(2, 0)], [0.1, 0.2, 0.3, 0.4])
    code, out, err = call("run", cfc_copy, *HOLD, *BY_TIME, stdin=text)
    assert (code, out) == (2, "")
    assert "--on-bad hold needs to know for how long, and 'gait' was exported without a period. Type: --hold-for" in err
    code, out, err = call("run", cfc_copy, *HOLD, "--hold-for", "1", stdin=text)
    assert (code, out) == (2, "")
    assert "neither the rows nor 'gait' say how long a row takes: name the column with the time, --time-column t" in err
    assert call("run", cfc_copy, *HOLD, "--hold-for", "1", *BY_TIME, stdin=text)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--hold-for", "1"], "--hold-for says how long --on-bad hold may hold a value: pass both"),
        ([*HOLD, "--hold-for", "-1"], "expected a number above 0, got '-1'"),
        ([*HOLD, "--hold-for", "soon"], "expected a number above 0, got 'soon'"),
        (["--on-bad", "keep"], "--on-bad is 'keep'. Valid: stop, skip, hold"),
    ],
)
def test_wrong_values(call, cfc_bundle, arguments, expected):
    code, out, err = call("run", cfc_bundle, *arguments, stdin=csv_text(samples(2)))
    assert (code, out) == (2, "")
    assert expected in err
