"""`lnn-edge run` with times: gaps, clocks that were set back, and times that are not the period."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import INPUTS
from command_line import csv_text, samples, streamed, table

from lnn_edge.cli.console import LiveNotes


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


GAP = [0.1, 0.2, 9.0, 9.1, 9.2]
BACK = [50.1, 50.2, *(0.1 * k for k in range(1, 9))]
CLOCKS = {"clock set back": (BACK, 2), "wrong first time": ([1e9, *BACK[2:]], 1)}
TOO_LONG = (
    "line 4: 't' is 9.0, 8.8 s after the last sample at 0.2, but 'drift' was proven for at most 2 s between samples"
)


@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_run_stops_at_a_gap_too_long(call, ltc_bundle, on_bad):
    """Under --on-bad skip too: every later row is just as far away, so skipping would skip all of them."""
    code, out, err = call("run", ltc_bundle, *BY_TIME, "--on-bad", on_bad, stdin=timed(GAP))
    assert (code, len(table(out)[1])) == (2, 2)
    assert "stopped after 2 samples" in err
    assert err.endswith(f"{TOO_LONG}. To reset the state there and go on, pass --on-gap reset\n")


def test_run_begins_anew_behind_a_gap(call, ltc_bundle):
    code, out, err = call("run", ltc_bundle, *BY_TIME, "--on-gap", "reset", stdin=timed(GAP))
    assert code == 0
    check_parts(ltc_bundle, out, GAP, [slice(0, 2), slice(2, None)])
    assert f"warning: standard input, {TOO_LONG}: the state is reset\n" in err
    assert "5 samples in 1 recording, state reset after 1 gap through drift" in err


def check_parts(bundle, out, times, parts) -> None:
    """The results are those of these parts of the samples, each from a reset."""
    xs, t_s = samples(len(times)), np.array(times)
    expected = np.concatenate([streamed(bundle, xs[part], t_s=t_s[part]) for part in parts])
    np.testing.assert_array_equal(np.array(table(out)[1], float)[:, 1:].astype(np.float32), expected)


class TestLate:
    """Rows whose time is not after that of the row before."""

    def test_run_stops_there(self, call, ltc_bundle):
        code, out, err = call("run", ltc_bundle, *BY_TIME, stdin=timed(BACK))
        assert (code, len(table(out)[1])) == (2, 2)
        assert "line 4: 't' is 0.1, not after the previous sample at 50.2. Samples must come in order of time" in err
        assert err.endswith("rows out, pass --on-late drop; to begin anew with each, --on-late reset\n")

    @pytest.mark.parametrize("arguments", [["--on-late", "drop"], ["--on-gap", "reset"], ["--on-bad", "skip"]])
    @pytest.mark.parametrize("stray", [0.15, 0.2, -7.0], ids=["a little", "the same time", "far"])
    def test_one_that_was_overtaken_costs_itself_alone(self, call, ltc_bundle, stray, arguments):
        """The state is not reset, neither there nor at the next row."""
        times = [0.1, 0.2, stray, 0.3, 0.4]
        code, out, err = call("run", ltc_bundle, *BY_TIME, *arguments, stdin=timed(times))
        assert code == 0
        check_parts(ltc_bundle, out, times, [[0, 1, 3, 4]])
        assert (
            f"warning: standard input, line 4: 't' is {stray}, not after the previous sample at 0.2: it is left" in err
        )
        assert "4 samples in 1 recording, 1 late row left out through drift" in err

    @pytest.mark.parametrize(("times", "first"), CLOCKS.values(), ids=CLOCKS)
    def test_a_clock_that_was_set_back_is_a_gap(self, call, ltc_bundle, times, first):
        """Five rows in order say so; those before the fifth are left out."""
        code, out, err = call("run", ltc_bundle, *BY_TIME, "--on-gap", "reset", stdin=timed(times))
        assert code == 0
        check_parts(ltc_bundle, out, times, [slice(0, first), slice(first + 4, None)])
        assert f"line {first + 6}: 't' is 0.5, not after the previous sample at {times[first - 1]}" in err
        assert "as with the rows before it: the clock was set back. The state is reset\n" in err
        assert "1 recording, state reset after 1 gap, 4 late rows left out through drift" in err

    def test_a_clock_that_was_set_back_stops_a_run_that_may_not_reset(self, call, ltc_bundle):
        code, out, err = call("run", ltc_bundle, *BY_TIME, "--on-late", "drop", stdin=timed(BACK))
        assert (code, len(table(out)[1])) == (2, 2)
        assert err.endswith("the clock was set back. To reset the state there and go on, pass --on-gap reset\n")

    def test_packets_in_disorder_are_no_clock(self, call, ltc_bundle):
        times = [0.8, 0.9, 0.4, 0.6, 0.5, 0.7, 0.3, 1.0]
        code, out, err = call("run", ltc_bundle, *BY_TIME, "--on-late", "drop", stdin=timed(times))
        assert code == 2  # more than half came late: the column may be no time
        check_parts(ltc_bundle, out, times, [[0, 1, 7]])
        assert err.endswith("NAME:us or NAME:ns\n")
        assert "5 of 8 samples came late and were left out: see whether 't' is the time of each sample" in err

    @pytest.mark.parametrize(("times", "first"), CLOCKS.values(), ids=CLOCKS)
    def test_each_may_begin_anew(self, call, ltc_bundle, times, first):
        arguments = [*BY_TIME, "--on-late", "reset"]
        code, out, err = call("run", ltc_bundle, *arguments, stdin=timed(times))
        assert code == 0
        check_parts(ltc_bundle, out, times, [slice(0, first), slice(first, None)])
        assert "1 recording, state reset at 1 late row through drift" in err

    def test_fixed_time_steps_them_as_they_come(self, call, cfc_bundle):
        code, out, err = call("run", cfc_bundle, *BY_TIME, stdin=timed([0.02, 0.04, 0.03, 0.06]))
        assert (code, len(table(out)[1])) == (0, 4)
        assert (
            "line 4: 't' is 0.03, not after the previous sample at 0.04; 'gait' has fixed time and steps every " in err
        )
        assert "To leave such out: --on-late drop\n" in err

    def test_fixed_time_leaves_them_out_if_it_should(self, call, cfc_bundle):
        """Behind a clock that was set back it goes on, as it does without any time."""
        back = [9.02, 9.04, 9.03, 9.06, *(0.01 + 0.02 * k for k in range(7))]
        code, out, err = call("run", cfc_bundle, *BY_TIME, "--on-late", "drop", stdin=timed(back))
        xs = samples(len(back))[[0, 1, 3, 8, 9, 10]]
        assert code == 0
        assert "6 samples in 1 recording, 5 late rows left out through gait" in err
        got = np.array(table(out)[1], float)[:, 1:].astype(np.float32)
        np.testing.assert_array_equal(got, streamed(cfc_bundle, xs))

    def test_it_needs_the_time(self, call, cfc_bundle):
        code, _, err = call("run", cfc_bundle, "--on-late", "drop", stdin=csv_text(samples(2)))
        assert code == 2
        assert "--on-late compares the times of rows: name the column with the time, --time-column t" in err


def test_run_skips_a_time_that_goes_back_a_little(call, ltc_bundle):
    text = timed([0.1, 0.2, 0.2, 0.15, 0.3])
    code, out, err = call("run", ltc_bundle, *BY_TIME, "--on-bad", "skip", "--on-gap", "reset", stdin=text)
    assert (code, [row[0] for row in table(out)[1]]) == (0, ["0.1", "0.2", "0.3"])
    assert "3 samples in 1 recording, 2 late rows left out through" in err


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
    ("arguments", "lines", "first", "count"),
    [
        (["--on-bad", "skip"], ["499.9,0,0,0", *["499.9,nan,0,0"] * 40], 5, "40 bad rows skipped"),
        (["--on-gap", "reset"], [f"{9 * k},0,0,0" for k in range(40)], 1, "state reset after 40 gaps"),
        (["--on-late", "drop"], ["499.9,0,0,0", *["499.9,0,0,0"] * 40], 1, "40 late rows left out"),
    ],
    ids=["bad", "gaps", "late"],
)
def test_only_the_first_of_a_kind_are_told_at_once(call, ltc_bundle, arguments, lines, first, count):
    lines = ["t," + ",".join(INPUTS), *lines, *(f"{500 + 0.1 * k:.1f},0,0,0" for k in range(50)), ""]
    code, _, err = call("run", ltc_bundle, *BY_TIME, *arguments, stdin="\n".join(lines))
    *shown, last = err.splitlines()
    assert (code, len(shown)) == (0, first)
    assert all(line.startswith("warning: standard input, line ") for line in shown)
    assert count in last


class TestLiveNotes:
    """A fault is told when it happens, and then at most once a minute."""

    def test_the_first_at_once_and_the_others_together(self, capfd):
        clock = [0.0]
        notes = LiveNotes("gaps", now=lambda: clock[0])
        for second in range(150):
            clock[0] = second
            notes(f"gap {second}")
        assert capfd.readouterr().err.splitlines() == [
            "warning: gap 0",
            "warning: 60 more gaps in the last 60 s, 61 in all; the newest: gap 60",
            "warning: 60 more gaps in the last 60 s, 121 in all; the newest: gap 120",
        ]

    def test_the_last_that_is_told_by_itself_says_so(self, capfd):
        """Silence after five bad rows looked as if there were no more."""
        notes = LiveNotes("bad rows", first=3, now=lambda: 0.0)
        for k in range(5):
            notes(f"row {k}")
        assert capfd.readouterr().err.splitlines() == [
            "warning: row 0",
            "warning: row 1",
            "warning: row 2 (further bad rows are counted, and told once a minute)",
        ]

    def test_the_first_of_each_subject(self, capfd):
        notes = LiveNotes("held values", now=lambda: 0.0)
        for subject in ("acc", "acc", "gyro", "acc", "gyro"):
            notes(subject, subject)
        assert capfd.readouterr().err.splitlines() == ["warning: acc", "warning: gyro"]

    def test_what_has_come_is_told_though_nothing_follows(self, capfd):
        clock = [0.0]
        notes = LiveNotes("gaps", now=lambda: clock[0])
        notes("gap 0")
        notes("gap 1")
        for clock[0] in (30.0, 60.0, 90.0, 200.0):
            notes.tick()
        assert capfd.readouterr().err.splitlines() == [
            "warning: gap 0",
            "warning: 1 more gaps in the last 60 s, 2 in all; the newest: gap 1",
        ]

    def test_silence_is_silent(self, capfd):
        LiveNotes("gaps").tick()
        assert capfd.readouterr().err == ""


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
    *live, warning, summary = err.splitlines()
    assert warning == (
        f"warning: by 't' {expected} the 0.02 s that 'gait' was exported with and that every sample counts as. "
        "Export it with --time measured, or resample the input to one row every 0.02 s"
    )
    assert summary.startswith(f"{len(times)} samples in 1 recording through gait on ")
    assert [line.partition(", line ")[0] for line in live] == ["warning: standard input"] * (
        times[1] != 0.04 or times[2] == 0
    )


def test_a_missing_sample_is_told_when_it_happens(call, cfc_bundle):
    """Though fixed time takes no times: whoever watches a run for hours should not read it at its end."""
    _, _, err = call("run", cfc_bundle, *BY_TIME, stdin=timed([0.02, 0.04, 0.1, 0.12, 0.5]))
    first, *_ = err.splitlines()
    assert first == (
        "warning: standard input, line 4: 't' is 0.1, 0.06 s after the last sample at 0.04; 'gait' has fixed time and "
        "steps every row alike"
    )
    assert err.count("line ") == 1


def test_run_is_silent_about_times_near_the_period(call, cfc_bundle, ltc_bundle):
    assert "warning" not in call("run", cfc_bundle, *BY_TIME, stdin=timed([0.02, 0.0415, 0.06]))[2]
    assert "warning" not in call("run", ltc_bundle, *BY_TIME, stdin=timed([0.1, 0.9]))[2]
    lines = ["who,t," + ",".join(INPUTS), "a,5.00,0,0,0", "a,5.02,0,0,0", "b,0.10,0,0,0", "b,0.12,0,0,0", ""]
    assert "warning" not in call("run", cfc_bundle, *BY_TIME, "--reset-column", "who", stdin="\n".join(lines))[2]


def test_help_says_what_the_time_column_does(call):
    out = " ".join(call("run", "--help")[1].split())
    assert "with fixed time it is only copied to the results, and compared with the bundle's period" in out
