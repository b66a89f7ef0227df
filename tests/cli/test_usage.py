"""The frame of the command line: help, wrong usage, letters, pipes, and arguments that several commands share."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import ROOT
from command_line import csv_text, samples
from properties import some
from shared_bundles import shared_bundle

import lnn_edge
from lnn_edge.backends import BACKENDS
from lnn_edge.cli import program
from lnn_edge.cli.commands import export
from lnn_edge.runtime.loop.waiting import SPIN_NS

COMMANDS = [command.NAME for command in program.COMMANDS]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(call, command):
    code, out, err = call(command, "--help")
    assert (code, err) == (0, "")
    assert f"examples:\n  lnn-edge {command}" in out


def test_help_lists_commands_and_exit_codes(call):
    code, out, _ = call("--help")
    assert code == 0
    assert call("--help", "run") == (0, out, "")
    assert all(f"\n    {command}  " in out for command in COMMANDS)
    assert "0 done; 1 unexpected error; 2 usage or bad input; 3 verification failed; 4 deadline or target missed" in out


def test_version(call):
    assert call("--version") == (0, f"lnn-edge {lnn_edge.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], f"usage: lnn-edge [-h] [--version] COMMAND ...\n\n{program.SUBJECT}\n"),
        (["--verbos"], "lnn-edge: the following arguments are required: COMMAND\nType: lnn-edge --help\n"),
        (["run", "x.lnn", "a b.csv"], "Type: lnn-edge run x.lnn --input 'a b.csv'\n"),
        (["export", "a.py:m", "b.lnn", "w.pt"], "A file is named by its option. Pass it as --weights w.pt\n"),
        (["export", "a.py:m", "b.lnn", "walk.csv"], "Pass it as --example walk.csv\n"),
        (["export", "a.py:m", "b.lnn", "--rate", "0"], "--rate: expected a number above 0, got '0'"),
        (["insect"], f"COMMAND is 'insect'. Valid: {', '.join(COMMANDS)}. Did you mean 'inspect'?"),
        (["run"], "lnn-edge run: the following arguments are required: bundle\nType: lnn-edge run --help"),
        (["run", "x.lnn", "--inpt", "a"], "unknown option '--inpt'. Valid: "),
        (["run", "x.lnn", "--inpt=a"], "Did you mean '--input'?"),
        (["run", "x.lnn", "--on-bad", "skp"], "--on-bad is 'skp'. Valid: stop, skip, hold. Did you mean 'skip'?"),
        (["run", "x.lnn", "--format", "xml"], "--format is 'xml'. Valid: csv, jsonl."),
        (["inspect", "x.lnn", "y.lnn"], "lnn-edge inspect: unrecognized arguments: y.lnn"),
        (["bench", "x.lnn", "--steps", "many"], "--steps: expected a whole number from 1 to 100,000,000, got 'many'"),
        (["bench", "x.lnn", "--steps", "1000000000000"], "--steps: expected a whole number from 1 to 100,000,000, got"),
        (["bench", "x.lnn", "--steps", "9" * 5000], "got '9999999999999999999999999999999999999999...'\n"),
        (["bench", "x.lnn", "--warmup", "1000000000000"], "--warmup: expected a whole number from 0 to 100,000,000"),
        (["bench", "x.lnn", "--warmup", "-1"], "--warmup: expected a whole number from 0 to 100,000,000, got '-1'"),
        (["bench", "x.lnn", "--max-misses", "-1"], "--max-misses: expected a whole number from 0 to 100,000,000"),
        (["bench", "x.lnn", "--rate", "1e-300"], "--rate: expected a number from 0.001 to 1e+09, got '1e-300'"),
        (["bench", "x.lnn", "--rate", "inf"], "--rate: expected a number from 0.001 to 1e+09, got 'inf'"),
        (["bench", "x.lnn", "--seconds", "nan"], "--seconds: expected a number from 0 to 1e+09, got 'nan'"),
        (["bench", "x.lnn", "--seconds", "inf"], "--seconds: expected a number from 0 to 1e+09, got 'inf'"),
        (["bench", "x.lnn", "--seconds", "-1"], "--seconds: expected a number from 0 to 1e+09, got '-1'"),
        (["verify", "x.lnn", "--steps", "1000000000000"], "--steps: expected a whole number from 1 to 100,000,000"),
        (["verify", "x.lnn", "--steps", "1e4"], "--steps: expected a whole number from 1 to 100,000,000, got '1e4'"),
        (["run", "x.lnn", "--window", "1000000000000"], "--window: expected a whole number from 1 to 65,536, got"),
        (["run", "x.lnn", "--every", "nan"], "--every: expected a whole number from 1 to 65,536, got 'nan'"),
        (["run", "x.lnn", "--threads", "100000"], "--threads: expected a whole number from 1 to "),
        (["export", "a", "b", "--period-s", "nan"], "--period-s: expected a number above 0, got 'nan'"),
        (["export", "a", "b", "--timespan", "inf"], "--timespan: expected a number above 0, got 'inf'"),
        (["export", "a", "b", "--dt-range-s", "0", "nan"], "--dt-range-s: expected a number above 0, got '0'"),
        (["export", "a", "b", "--batch", "1e2"], "--batch: expected a whole number from 1 to 1,048,576, got '1e2'"),
        (["export", "a", "b", "--unroll", "100000"], "--unroll: expected a whole number from 1 to 1,024, got"),
        (["export", "a", "b", "--every", "0"], "--every: expected a whole number from 1 to 65,536, got '0'"),
        (["export", "a", "b", "--steps", "1000000000000"], "--steps: expected a whole number from 1 to 100,000,000"),
        (["bench", "x.lnn", "--rate", "0"], "argument --rate: expected a number from 0.001 to 1e+09, got '0'"),
        (["bench", "x.lnn", "--rate", "fast"], "argument --rate: expected a number from 0.001 to 1e+09, got 'fast'"),
        (["bench", "x.lnn", "--deadline-us", "nan"], "argument --deadline-us: expected a number above 0, got 'nan'"),
        (["bench", "x.lnn", "--max-p99-us", "-1"], "argument --max-p99-us: expected a number above 0, got '-1'"),
        (["bench", "x.lnn", "--wait", "slep"], "--wait is 'slep'. Valid: sleep, spin, rehearse. Did you mean 'sleep'?"),
        (["bench", "x.lnn", "--wait", "spin,spin"], "argument --wait: 'spin' is there 2 times, expected each way once"),
        (["export", "a", "b", "--time", "mesured"], "--time is 'mesured'. Valid: fixed, measured. Did you mean"),
    ],
)  # fmt: skip
def test_wrong_usage_names_what_is_valid(call, arguments, expected):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert expected in err


@pytest.mark.parametrize("command", ["inspect", "run", "verify", "bench"])
def test_missing_bundle_is_a_bad_bundle(call, tmp_path, command):
    code, out, err = call(command, tmp_path / "none.lnn")
    assert (code, out) == (6, "")
    assert f"lnn-edge: no bundle at '{tmp_path}/none.lnn'. Type: lnn-edge export FILE.py:FACTORY" in err


def _examples():
    """What follows the program's name in each example, for a shell."""
    text = "\n".join([program._EXAMPLES, *(own.EPILOG for own in program.COMMANDS)]).replace("\\\n", " ")
    return re.findall(r"\blnn-edge ([a-z]+ [^|&\n]*)", text)


@pytest.mark.parametrize("example", sorted(set(_examples())))
def test_an_example_is_a_command(example):
    typed = shlex.split(example)
    arguments = program._make_parser(typed).parse_args(typed)
    if arguments.run is export.run and (arguments.example or "").endswith(".csv"):
        assert arguments.inputs  # which a file of columns is refused without


def test_missing_engine_is_told_how_to_make_one(call, tmp_path):
    code, out, err = call("inspect", tmp_path / "none.engine")
    assert (code, out) == (6, "")
    made = f"Type: lnn-edge build BUNDLE --backend tensorrt-rtx --for GPU -o {tmp_path}/none.engine\n"
    assert err == f"lnn-edge: no engine at '{tmp_path}/none.engine'. {made}"


def test_help_and_pages_say_how_long_a_wait_spins(call):
    spun = f"for the last {SPIN_NS / 1e6:g} ms before "
    assert spun in " ".join(call("run", "--help")[1].split())
    assert spun in (ROOT / "docs/robot.md").read_text()


@pytest.mark.parametrize("command", ["run", "verify", "bench"])
def test_unknown_backend_names_the_valid_ones(call, cfc_bundle, command):
    code, _, err = call(command, cfc_bundle, "--backend", "onxruntime")
    assert code == 2
    valid = ", ".join([*(["all"] if command == "verify" else []), "auto", *(entry.name for entry in BACKENDS)])
    assert f"unknown backend 'onxruntime'. Valid: {valid}. Did you mean 'onnxruntime'?" in err


@pytest.mark.parametrize("command", [("run",), ("verify",), ("verify", "--backend", "onnxruntime")], ids=" ".join)
@pytest.mark.parametrize("threads", [0, 100_000])
def test_threads_that_no_machine_has_are_refused(command, threads, call, cfc_bundle):
    code, _, err = call(*command, cfc_bundle, "--threads", str(threads))
    assert code == 2
    assert f"argument --threads: expected a whole number from 1 to {os.cpu_count()}, got '{threads}'" in err


@pytest.mark.parametrize("command", ["inspect", "verify", "bench", "doctor", "run"])
@pytest.mark.parametrize("place", ["none/x.json", "."])
def test_json_that_cannot_be_written_is_refused_before_any_work(call, tmp_path, monkeypatch, command, place):
    monkeypatch.chdir(tmp_path)
    bundle = [] if command == "doctor" else ["none.lnn"]  # it is not even looked for
    code, _, err = call(command, *bundle, "--json", place)
    assert code == 2
    assert ("'.' is a directory" if place == "." else "'none' does not exist. Type: mkdir -p none") in err


def test_output_to_a_closed_pipe_is_no_error(start, cfc_bundle, tmp_path):
    (tmp_path / "x.csv").write_text(csv_text(samples(3000)))
    process = start("run", cfc_bundle, "--input", tmp_path / "x.csv")
    assert process.stdout.readline() == "walk,run\n"
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == ""


def test_shell_pipe_into_head(warm_device, cfc_bundle):
    command = f"set -o pipefail; python -m lnn_edge inspect {cfc_bundle} | head -1"
    done = subprocess.run(["bash", "-c", command], env=warm_device, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.startswith("gait: fixed time"), done.stderr) == (0, True, "")


@pytest.fixture(scope="session")
def letters_bundle(tmp_path_factory) -> Path:
    return shared_bundle(tmp_path_factory, "letters.lnn")


@pytest.mark.parametrize("output", some(["-", "y.csv"]))
def test_results_are_utf8_whatever_the_locale(environment, letters_bundle, tmp_path, output):
    (tmp_path / "x.csv").write_text("gr\u00f6\u00dfe,b,c\n1,2,3\n", encoding="utf-8")
    command = ["run", letters_bundle, "--input", "x.csv", "--reset-column", "gr\u00f6\u00dfe", "--output", output]
    done = in_c_locale(environment, tmp_path, command)
    assert done.returncode == 0, done.stderr
    written = done.stdout if output == "-" else (tmp_path / output).read_bytes()
    assert written.decode().startswith("gr\u00f6\u00dfe,g\u00e5,run\n1,")


def test_letters_that_the_locale_lacks_end_no_command(environment, letters_bundle, tmp_path):
    done = in_c_locale(environment, tmp_path, ["inspect", letters_bundle])
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"gr\\xf6\\xdfe" in done.stdout
    done = in_c_locale(environment, tmp_path, ["inspect", letters_bundle, "--json", "-"])
    assert json.loads(done.stdout.decode()) == json.loads((letters_bundle / "manifest.json").read_bytes())


def in_c_locale(environment, folder, command):
    command = [sys.executable, "-m", "lnn_edge", *map(str, command)]
    locale = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    return subprocess.run(
        [os.fsencode(part) for part in command], env=environment | locale, cwd=folder, capture_output=True, check=False
    )
