"""`lnn-edge run` with a time column in any unit or form: copied as it stands, and read in the unit that it is in."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from bundles import INPUTS
from command_line import csv_text, samples, streamed, table
from properties import some

T = ["--time-column", "t"]
TIMES = np.array([0.0, 0.1, 0.2, 0.35, 0.4, 0.5])  # seconds, of a bundle with a period of 0.1 s


def timed(cells, name="t") -> str:
    rows = [(cell, *x) for cell, x in zip(cells, samples(len(cells)), strict=True)]
    return csv_text(rows, [name, *INPUTS])


def in_unit(per_second, start=0) -> list[int]:
    return [start + round(t * per_second) for t in TIMES]


def dates(start="2024-05-01T12:00:00", zone="") -> list[str]:
    return [f"{np.datetime64(start, 'ns') + np.timedelta64(round(t * 1e9), 'ns')}{zone}" for t in TIMES]


VERBATIM = {
    "whole": ["0", "1", "2"],
    "zeros": ["0.10", "0.20", "00.30"],
    "nanoseconds": ["1700000000123456789", "1700000000143456789", "1700000000163456790"],
    "more than 64 bit": ["170000000012345678901", "170000000012345678902", "170000000012345678903"],
    "long": ["1700000000.123456789", "1700000000.143456789", "1700000000.163456789"],
    "powers": ["1e-1", "2E-1", "+3e-1"],
    "spaces": [" 1 ", "2 ", " 3"],
    "dates": ["2024-05-01T12:00:00Z", "2024-05-01T12:00:00.020Z", "2024-05-01T14:00:00.040+02:00"],
    "spaced dates": ["2024-05-01 12:00", "2024-05-01 12:00:00.020000001", "2024-05-01 12:00:00.04"],
}


@pytest.mark.parametrize("cells", VERBATIM.values(), ids=VERBATIM)
def test_the_time_is_copied_as_it_stands(call, cfc_bundle, cells):
    code, out, _ = call("run", cfc_bundle, *T, stdin=timed(cells))
    assert (code, [row[0] for row in table(out)[1]]) == (0, cells)


@pytest.mark.parametrize("pace", [(), ("--rate", "50")], ids=["as they come", "at a rate"])
@pytest.mark.parametrize("cells", VERBATIM.values(), ids=VERBATIM)
def test_a_loop_copies_the_time_as_it_stands(call, cfc_bundle, tmp_path, cells, pace):
    (tmp_path / "in.csv").write_text(timed(cells))
    rows = ("--input", tmp_path / "in.csv", *T)
    code, out, _ = call("run", cfc_bundle, *rows, *pace, "--wait", "rehearse")
    assert (code, [row[0] for row in table(out)[1]]) == (0, cells)
    plain, looped = (
        call("run", cfc_bundle, *rows, "--format", "jsonl", *more)[1] for more in ((), ("--wait", "rehearse"))
    )
    assert [line.split(",")[0] for line in looped.splitlines()] == [line.split(",")[0] for line in plain.splitlines()]


def test_a_loop_over_a_pipe_copies_the_time_and_has_none_where_a_row_is_bad(start, cfc_bundle):
    process = start("run", cfc_bundle, *T, "--on-fault", "hold")
    out, _ = process.communicate(timed(["1.00", "soon", "1.20"]), 60)
    assert (process.returncode, [row[0] for row in table(out)[1]]) == (0, ["1.00", "", "1.20"])


def test_a_block_copies_each_time(call, block_bundle):
    cells = ["0.10", "0.20", "0.30", "0.40"]
    code, out, _ = call("run", block_bundle, *T, stdin=timed(cells))
    assert (code, [row[0] for row in table(out)[1]]) == (0, cells)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1700000000123456789", "1700000000123456789"), ("0.10", "0.10"), ("007", "7"), ("+1.50", "1.50"),
        (".5", "0.5"), ("1.", "1"), ("-0", "-0"), (" 2e3 ", "2e3"), ("00", "0"),
        ("2024-05-01T12:00:00Z", '"2024-05-01T12:00:00Z"'),
    ],
)  # fmt: skip
def test_json_has_every_digit_of_it(call, cfc_bundle, cell, expected):
    code, out, _ = call("run", cfc_bundle, *T, "--format", "jsonl", stdin=timed([cell]))
    assert code == 0
    assert out.startswith(f'{{"t": {expected}, "walk": ')
    assert set(json.loads(out)) == {"t", "walk", "run"}


UNITS = [("ms", 10**3), ("us", 10**6), ("ns", 10**9)]
NAMES = ["t_{}", "t [{}]", "Time ({})", "header.stamp.{}", "{}", "t-{}"]


def check_steps(bundle, out, column=0):
    """The results are those of the times in seconds."""
    got = np.array([row[column + 1 :] for row in table(out)[1]], np.float32)
    np.testing.assert_allclose(got, streamed(bundle, samples(len(TIMES)), t_s=TIMES), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("unit", "per_second"), UNITS)
@pytest.mark.parametrize("start", [0, 1_700_000_000])
def test_the_unit_behind_a_colon(call, ltc_bundle, unit, per_second, start):
    """The same to the last digit, wherever the clock begins: 1.7e9 s in float64 is no finer than 0.24 us."""
    code, out, err = call(
        "run", ltc_bundle, "--time-column", f"t:{unit}", stdin=timed(in_unit(per_second, start * per_second))
    )
    assert code == 0
    check_steps(ltc_bundle, out)
    assert "remark" not in err


@pytest.mark.parametrize(("unit", "per_second"), UNITS)
@pytest.mark.parametrize("form", some(NAMES))
def test_the_unit_in_the_name(call, ltc_bundle, unit, per_second, form):
    name = form.format(unit)
    code, out, err = call("run", ltc_bundle, "--time-column", name, stdin=timed(in_unit(per_second), name))
    assert (code, table(out)[0][0]) == (0, name)
    check_steps(ltc_bundle, out)
    assert f"remark: '{name}' is taken in {unit}, by its name. For seconds type: --time-column '{name}:s'" in err


@pytest.mark.parametrize("name", ["timestampMs", "timeMillis", "t_milliseconds"])
def test_the_unit_in_a_longer_name(call, ltc_bundle, name):
    code, out, _ = call("run", ltc_bundle, "--time-column", name, stdin=timed(in_unit(1000), name))
    assert code == 0
    check_steps(ltc_bundle, out)


def test_the_argument_is_above_the_name(call, ltc_bundle):
    text = timed(TIMES.tolist(), "t_ms")
    code, _, err = call("run", ltc_bundle, "--time-column", "t_ms", stdin=text)
    assert code == 2
    assert (
        "'t_ms' is 0.1, 0.0001 s after the previous sample at 0.0, but 'drift' was proven for at least 0.005 s" in err
    )
    assert "'t_ms' is taken in ms; for seconds type: --time-column 't_ms:s'" in err
    assert "skip" not in err
    code, out, err = call("run", ltc_bundle, "--time-column", "t_ms:s", stdin=text)
    assert code == 0
    check_steps(ltc_bundle, out)


@pytest.mark.parametrize("name", ["t_s", "items", "bus", "t"])
def test_names_that_are_of_no_other_unit(call, ltc_bundle, name):
    code, out, err = call("run", ltc_bundle, "--time-column", name, stdin=timed(TIMES.tolist(), name))
    assert code == 0
    check_steps(ltc_bundle, out)
    assert "remark" not in err


def test_a_colon_in_a_name_is_part_of_it(call, ltc_bundle):
    code, out, _ = call("run", ltc_bundle, "--time-column", "clock:ms", stdin=timed(in_unit(1000), "clock:ms"))
    assert (code, table(out)[0][0]) == (0, "clock:ms")
    check_steps(ltc_bundle, out)
    code, _, err = call("run", ltc_bundle, "--time-column", "t:hours", stdin=timed(TIMES.tolist()))
    assert code == 2
    assert "has no column 't:hours'. Valid: t, acc_x" in err


@pytest.mark.parametrize(("unit", "per_second"), some(UNITS))
@pytest.mark.parametrize("on_gap", ["stop", "reset"])
@pytest.mark.parametrize("start", [0, 1_700_000_000])
def test_another_unit_is_recognised(call, ltc_bundle, unit, per_second, on_gap, start):
    """Also where a gap may be reset at: every row would be one."""
    text = timed(in_unit(per_second, start * per_second))
    code, _, err = call("run", ltc_bundle, *T, "--on-gap", on_gap, stdin=text)
    assert code == 2
    word = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[unit]
    assert err.endswith(f"That looks like {word}. If it is, type: --time-column 't:{unit}'\n")
    assert "--on-gap" not in err
    code, _, err = call("run", ltc_bundle, "--time-column", f"t:{unit}", stdin=text)
    assert code == 0


def test_a_unit_that_is_too_small_by_a_thousand(call, ltc_bundle):
    code, _, err = call("run", ltc_bundle, "--time-column", "t:ms", stdin=timed(in_unit(10**6)))
    assert code == 2
    assert "That looks like microseconds. If it is, type: --time-column 't:us'" in err


def test_a_gap_as_long_as_a_thousand_periods_is_a_gap(call, ltc_bundle):
    """The rows behind it, or before it, come in time."""
    for times in ([0.0, 100.0, 100.1, 100.2], [0.0, 0.1, 0.2, 100.2]):
        code, _, err = call("run", ltc_bundle, *T, stdin=timed(times))
        assert code == 2
        assert "To reset the state there and go on, pass --on-gap reset" in err
        code, out, _ = call("run", ltc_bundle, *T, "--on-gap", "reset", stdin=timed(times))
        assert (code, len(table(out)[1])) == (0, 4)


def test_a_reset_at_most_rows_is_no_success(call, ltc_bundle, tmp_path):
    text = timed([9 * k for k in range(6)])
    code, _, err = call("run", ltc_bundle, *T, "--on-gap", "reset", "--output", tmp_path / "y.csv", stdin=text)
    assert code == 2
    assert f"6 samples in 1 recording, state reset after 5 gaps, saved {tmp_path}/y.csv" in err
    assert "lnn-edge: the state was reset at 5 of 6 samples, so hardly two belong together: see whether 't' is" in err
    code, _, err = call("run", ltc_bundle, *T, stdin=text)
    assert code == 2
    assert "--on-gap" not in err
    assert "So it is with 4 rows behind it: is it the time of each sample, in seconds?" in err


def test_times_that_stand_still_cannot_be_skipped(call, ltc_bundle):
    code, _, err = call("run", ltc_bundle, *T, stdin=timed([0.1] * 6))
    assert code == 2
    assert "'t' is 0.1, not after the previous sample at 0.1" in err
    assert "skip" not in err


@pytest.mark.parametrize(("unit", "per_second"), UNITS)
def test_a_model_of_fixed_time_hears_of_the_unit(call, cfc_bundle, unit, per_second):
    text = timed([round(0.02 * k * per_second) for k in range(5)])
    code, _, err = call("run", cfc_bundle, *T, stdin=text)
    assert code == 0
    assert f"If it is, type: --time-column 't:{unit}'" in err
    assert "--time measured" not in err
    assert "warning" not in call("run", cfc_bundle, "--time-column", f"t:{unit}", stdin=text)[2]


@pytest.mark.parametrize(
    "cells",
    [dates(), dates(zone="Z"), dates(zone="+02:00"), [cell.replace("T", " ") for cell in dates()], dates("1969-12-31")],
    ids=["local", "UTC", "zone", "with a space", "before 1970"],
)
def test_dates_are_times(call, ltc_bundle, block_bundle, cells):
    code, out, _ = call("run", ltc_bundle, *T, stdin=timed(cells))
    assert code == 0
    check_steps(ltc_bundle, out)
    code, out, _ = call("run", block_bundle, *T, stdin=timed(cells))
    assert (code, [row[0] for row in table(out)[1]]) == (0, cells[:4])


def test_a_change_of_zone_is_no_gap(call, ltc_bundle):
    cells = [*dates(zone="+00:00")[:3], *dates("2024-05-01T14:00:00", "+0200")[3:]]
    code, out, _ = call("run", ltc_bundle, *T, stdin=timed(cells))
    assert code == 0
    check_steps(ltc_bundle, out)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("12:00:00.02", "'t' is '12:00:00.02', expected seconds, or a date and time as 2024-05-01T12:00:00.02"),
        (
            "05/01/2024 12:00",
            "'t' is '05/01/2024 12:00', expected seconds, or a date and time as 2024-05-01T12:00:00.02",
        ),
        ("2024-13-01T12:00:00", "'t' is '2024-13-01T12:00:00', no date and time: "),
        ("soon", "'t' is 'soon', expected a number"),
        ("", "'t' is '', expected a number"),
        ("inf", "'t' is inf, expected a finite number"),
    ],
)
def test_what_is_no_time(call, ltc_bundle, cell, expected):
    code, _, err = call("run", ltc_bundle, *T, "--on-bad", "skip", stdin=timed([cell] * 3))
    assert code == 2
    assert f"line 2: {expected}" in err
    assert "3 rows came from standard input, and none could be used" in err


def test_dates_among_numbers_are_bad_rows(call, ltc_bundle):
    code, _, err = call("run", ltc_bundle, *T, stdin=timed([0.1, "2024-05-01T12:00:00", 0.2]))
    assert code == 2
    assert "line 3: 't' is '2024-05-01T12:00:00', expected a number as before" in err
    code, _, err = call("run", ltc_bundle, *T, stdin=timed(["2024-05-01T12:00:00", 0.2]))
    assert code == 2
    assert "line 3: 't' is '0.2', expected a date and time as before" in err


UNTIMELY = {
    "spans": lambda k: 0.1,
    "backwards": lambda k: -0.1 * k,
    "days": lambda k: 45413.5 + 0.1 * k / 86400,
}


@pytest.mark.parametrize("time", UNTIMELY.values(), ids=UNTIMELY)
def test_rows_that_are_skipped_for_their_time_are_no_success(call, ltc_bundle, tmp_path, time):
    """The first row of each recording is always in time: one result of eight rows is none."""
    rows = [[*x, time(k)] for k, x in enumerate(samples(8))]
    (tmp_path / "x.csv").write_text(csv_text(rows, [*INPUTS, "t"]))
    code, out, err = call("run", ltc_bundle, "--input", tmp_path / "x.csv", "--time-column", "t", "--on-bad", "skip")
    assert code == 2
    assert len(out.splitlines()) == 2
    untimely = "rows are not in time after the one before|samples came late and were left out"
    assert re.search(rf"7 of 8 ({untimely}): see whether 't' is the time of each sample", err)


def test_a_recording_for_each_row_is_no_success(call, cfc_bundle, tmp_path):
    """As with the time for a reset column: each result was that of a first sample."""
    rows = [[*x, k // size] for size in (1, 2) for k, x in enumerate(samples(6))]
    for part, expected in ((rows[:6], 2), (rows[6:], 0)):
        (tmp_path / "x.csv").write_text(csv_text(part, [*INPUTS, "r"]))
        code, _, err = call("run", cfc_bundle, "--input", tmp_path / "x.csv", "--reset-column", "r")
        assert code == expected
        assert ("the state was reset at 5 of 6 samples" in err) == (expected == 2)
    assert "see whether --reset-column is one that tells recordings apart" not in err


@pytest.mark.parametrize(
    ("per_second", "words", "factor"),
    [(60, "minutes", "60"), (3600, "hours", "3,600"), (86400, "days, as spreadsheets count them", "86,400")],
)
def test_a_column_in_minutes_hours_or_days_is_named(call, cfc_bundle, ltc_bundle, per_second, words, factor):
    """A spreadsheet's 45321.5 is noon of a day; taken for seconds its rows would lie a millionth apart."""
    text, quick = (timed([repr(45321.5 + k * t / per_second) for k in range(4)]) for t in (0.1, 0.02))
    told = f". That looks like {words}. If it is, multiply 't' by {factor}"
    code, _, err = call("run", ltc_bundle, *T, stdin=text)
    assert (code, told in err) == (2, True)
    code, _, err = call("run", cfc_bundle, *T, stdin=quick)
    assert (code, f"sample counts as{told}\n" in err) == (0, True)
    named = quick.replace("t,", "t_s,", 1)  # who names the unit means it
    assert "That looks like" not in call("run", cfc_bundle, "--time-column", "t_s", stdin=named)[2]
