"""`lnn-edge run` with times: gaps, clocks that were set back, and times that are not the period."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import INPUTS
from command_line import csv_text, samples, streamed, table


def test_run_needs_the_time_of_a_measured_model(call, ltc_bundle):
    code, _, err = call("run", ltc_bundle, stdin=csv_text(samples(1)))
    assert code == 2
    assert "'drift' has measured time: name the column with the time in seconds, --time-column" in err


def test_run_refuses_time_that_goes_back(call, ltc_bundle):
    text = csv_text([(0.1, 0, 0, 0), (0.2, 0, 0, 0), (0.2, 0, 0, 0)], ["t", *INPUTS])
    code, out, err = call("run", ltc_bundle, "--time-column", "t", stdin=text)
    assert code == 2
    assert len(out.splitlines()) == 3
    assert "standard input, line 4: 't' is 0.2, not after the previous sample at 0.2" in err


def timed(times) -> str:
    return csv_text([(t, *x) for t, x in zip(times, samples(len(times)), strict=True)], ["t", *INPUTS])


BY_TIME = ["--time-column", "t"]


GAPS = [
    ([0.1, 0.2, 9.0, 9.1, 9.2], 2, "line 4: 't' is 9.0, 8.8 s after the last sample at 0.2"),
    ([50.1, 50.2, 0.1, 0.2, 0.3], 2, "line 4: 't' is 0.1, 50.1 s before the last sample at 50.2"),
    ([1e9, 0.2, 0.3, 0.4], 1, "line 3: 't' is 0.2, 1e+09 s before the last sample at 1000000000.0"),
]


@pytest.mark.parametrize(("times", "first", "expected"), GAPS, ids=["gap", "clock set back", "wrong first time"])
@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_run_stops_at_a_gap_too_long(call, ltc_bundle, times, first, expected, on_bad):
    """Under --on-bad skip too: every later row is just as far away, so skipping would skip all of them."""
    code, out, err = call("run", ltc_bundle, *BY_TIME, "--on-bad", on_bad, stdin=timed(times))
    assert (code, len(table(out)[1])) == (2, first)
    assert f"stopped after {first} sample" in err
    assert f"{expected}, but 'drift' was proven for at most 2 s between samples. To reset" in err
    assert err.endswith("To reset the state there and go on, pass --on-gap reset\n")


@pytest.mark.parametrize(("times", "first", "expected"), GAPS, ids=["gap", "clock set back", "wrong first time"])
def test_run_begins_anew_behind_a_gap(call, ltc_bundle, times, first, expected):
    code, out, err = call("run", ltc_bundle, *BY_TIME, "--on-gap", "reset", stdin=timed(times))
    xs = samples(len(times))
    parts = [streamed(ltc_bundle, xs[k], t_s=times[k]) for k in (slice(0, first), slice(first, None))]
    assert code == 0
    np.testing.assert_array_equal(np.array(table(out)[1], float)[:, 1:].astype(np.float32), np.concatenate(parts))
    assert f"{expected}, but 'drift' was proven for at most 2 s between samples: the state is reset\n" in err
    assert f"{len(times)} samples in 1 recording, state reset after 1 gap through drift" in err


def test_run_skips_a_time_that_goes_back_a_little(call, ltc_bundle):
    text = timed([0.1, 0.2, 0.2, 0.15, 0.3])
    code, out, err = call("run", ltc_bundle, *BY_TIME, "--on-bad", "skip", "--on-gap", "reset", stdin=text)
    assert (code, [row[0] for row in table(out)[1]]) == (0, ["0.1", "0.2", "0.3"])
    assert "3 samples in 1 recording, 2 bad rows skipped through" in err


def test_bad_rows_can_make_a_gap(call, ltc_bundle):
    lines = timed([0.1, 1.5, 3.0]).splitlines()
    lines[2] = "1.5,nan,0,0"
    code, _, err = call("run", ltc_bundle, *BY_TIME, "--on-bad", "skip", stdin="\n".join(lines))
    assert code == 2
    assert "line 4: 't' is 3.0, 2.9 s after the last sample at 0.1" in err


def test_a_new_recording_is_no_gap(call, ltc_bundle):
    lines = ["who,t," + ",".join(INPUTS), "a,5.0,0,0,0", "a,5.1,0,0,0", "b,0.1,0,0,0", "b,0.2,0,0,0"]
    code, _, err = call("run", ltc_bundle, *BY_TIME, "--reset-column", "who", stdin="\n".join(lines))
    assert code == 0
    assert "4 samples in 2 recordings through" in err


def test_a_gap_ends_a_block(call, block_bundle):
    """Rows before it that fill no block are left out, and the block after it begins behind it."""
    times = [*(0.1 * np.arange(1, 7)), *(90 + 0.1 * np.arange(5))]
    code, out, err = call("run", block_bundle, *BY_TIME, "--on-gap", "reset", stdin=timed(times))
    assert code == 0
    xs = samples(11)
    expected = [streamed(block_bundle, xs[k : k + 4], t_s=times[k : k + 4]) for k in (0, 6)]
    np.testing.assert_array_equal(np.array(table(out)[1], float)[:, 1:].astype(np.float32), np.concatenate(expected))
    assert "8 samples in 1 recording, state reset after 1 gap, 3 at the ends of recordings filled no block" in err


def test_on_gap_belongs_to_measured_time(call, cfc_bundle):
    code, out, err = call("run", cfc_bundle, *BY_TIME, "--on-gap", "reset", stdin=timed([1, 2]))
    assert (code, out) == (2, "")
    assert "--on-gap reset belongs to bundles with measured time; 'gait' has fixed time" in err


@pytest.mark.parametrize(
    ("arguments", "lines", "kind"),
    [
        (["--on-bad", "skip"], ["499.9,0,0,0", *["499.9,nan,0,0"] * 40], "bad rows"),
        (["--on-gap", "reset"], [f"{9 * k},0,0,0" for k in range(40)], "gaps"),
    ],
)
def test_only_the_first_remarks_of_a_kind_are_shown(call, ltc_bundle, arguments, lines, kind):
    lines = ["t," + ",".join(INPUTS), *lines, *(f"{500 + 0.1 * k:.1f},0,0,0" for k in range(50)), ""]
    code, _, err = call("run", ltc_bundle, *BY_TIME, *arguments, stdin="\n".join(lines))
    *shown, more, last = err.splitlines()
    assert (code, len(shown)) == (0, 5)
    assert more == f"more {kind} follow; they are counted and no longer shown"
    assert f"40 {kind}" in last


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0.02, 0.04, 0.05, 0.07], "there are 0.01 to 0.02 s between samples, in 1 of 3 cases more than 10 % off"),
        ([0, 0.2, 0.4], "there are 0.2 to 0.2 s between samples, in 2 of 2 cases more than 10 % off"),
        ([0.02, 0.04, 0.0, 0.02], "there are -0.04 to 0.02 s between samples, in 1 of 3 cases more than 10 % off"),
    ],
)
def test_run_warns_of_times_that_are_not_the_period(call, cfc_bundle, times, expected):
    code, out, err = call("run", cfc_bundle, *BY_TIME, stdin=timed(times))
    assert (code, len(table(out)[1])) == (0, len(times))
    warning, summary = err.splitlines()
    assert warning == (
        f"warning: by 't' {expected} the 0.02 s that 'gait' was exported with and that every sample counts as. "
        "Export it with --time measured, or resample the input to one row every 0.02 s"
    )
    assert summary.startswith(f"{len(times)} samples in 1 recording through gait on ")


def test_run_is_silent_about_times_near_the_period(call, cfc_bundle, ltc_bundle):
    assert "warning" not in call("run", cfc_bundle, *BY_TIME, stdin=timed([0.02, 0.0415, 0.06]))[2]
    assert "warning" not in call("run", ltc_bundle, *BY_TIME, stdin=timed([0.1, 0.9]))[2]
    lines = ["who,t," + ",".join(INPUTS), "a,5.00,0,0,0", "a,5.02,0,0,0", "b,0.10,0,0,0", "b,0.12,0,0,0", ""]
    assert "warning" not in call("run", cfc_bundle, *BY_TIME, "--reset-column", "who", stdin="\n".join(lines))[2]


def test_help_says_what_the_time_column_does(call):
    out = " ".join(call("run", "--help")[1].split())
    assert "with fixed time it is only copied to the results, and compared with the bundle's period" in out
