"""Commands whose standard streams are closed, as a service or a cron job may leave them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command_line import csv_text, samples
from properties import some

CLOSED = "lnn-edge: standard output: Bad file descriptor. It is closed: leave it open, or name a file with --output or"


@pytest.fixture
def shell(environment, warm_device, work, cfc_bundle):
    """Run a line of shell with `lnn-edge` and `BUNDLE` in it; `cold` by an interpreter that finds the streams so."""
    (work / "s.csv").write_text(csv_text(samples(3)))

    def run(line, cold=False):
        python, own = (sys.executable, environment) if cold else ("python", warm_device)
        command = line.replace("lnn-edge", f"{python} -m lnn_edge").replace("BUNDLE", str(cfc_bundle))
        return subprocess.run(
            command, shell=True, env=own, cwd=work, capture_output=True, text=True, check=False, timeout=120
        )

    return run


@pytest.mark.parametrize(
    ("line", "code", "expected"),
    some(
        [
            ("lnn-edge run BUNDLE 0<&- 1>&-", 2, "lnn-edge: standard input is closed."),
            (
                "lnn-edge run BUNDLE 0<&-",
                2,
                "lnn-edge: standard input is closed. Name a file: --input FILE, or pipe the rows",
            ),
            ("lnn-edge run BUNDLE < s.csv 1>&-", 2, CLOSED),
            ("lnn-edge inspect BUNDLE 1>&-", 2, CLOSED),
            ("lnn-edge inspect BUNDLE --json - 1>&-", 2, CLOSED),
            ("lnn-edge verify BUNDLE 1>&-", 2, CLOSED),
            ("lnn-edge doctor 1>&-", 2, CLOSED),
            ("lnn-edge bench BUNDLE --steps 20 --warmup 0 --seconds 0 1>&-", 2, CLOSED),
            ("lnn-edge --help 1>&-", 2, CLOSED),
            ("lnn-edge --version 1>&-", 2, CLOSED),
            ("lnn-edge run --help 1>&-", 2, CLOSED),
            ("lnn-edge bogus 0<&- 1>&-", 2, "lnn-edge: COMMAND is 'bogus'"),
        ]
    ),
)
def test_one_line_says_what_is_closed(shell, line, code, expected):
    done = shell(line, cold=line.endswith("0<&- 1>&-"))
    assert (done.returncode, done.stdout) == (code, "")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("closed", some(["0<&- 1>&- 2>&-", "1>&-", "2>&-", "0<&-", "0<&- 1>&-", "1>&- 2>&-"]))
def test_a_file_holds_what_was_asked_for_and_nothing_else(shell, work, closed, call, cfc_bundle):
    """The number of a closed stream is free for the next file, and what a library prints would go there."""
    cold = closed == "0<&- 1>&- 2>&-"
    done = shell(f"lnn-edge run BUNDLE --input s.csv --output y.csv {closed}", cold)
    assert (done.returncode, done.stdout) == (0, "")
    assert (work / "y.csv").read_text() == call("run", cfc_bundle, "--input", "s.csv")[1]
    assert shell(f"lnn-edge inspect BUNDLE --json i.json {closed}", cold).returncode == (2 if "1>" in closed else 0)
    assert (work / "i.json").read_text().startswith("{")


def test_results_go_on_without_standard_error(shell):
    done = shell("lnn-edge run BUNDLE < s.csv 2>&-")
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 4)
    assert shell("lnn-edge run BUNDLE --input none.csv 2>&-").returncode == 2


def test_a_closed_input_is_of_no_matter_to_who_reads_a_file(shell):
    assert shell("lnn-edge run BUNDLE --input s.csv 0<&-").stdout.startswith("walk,run\n")
