"""The command line as it is typed: what it prints where, the file it leaves or does not leave, and its exit code."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
from bundles import INPUTS, ROOT, edit_golden, manifest_of, small_cfc
from ncps.torch import LTC
from safetensors.torch import save_file, save_model

import lnn_edge
from lnn_edge.cli import main
from lnn_edge.export.checkpoint.source import load_trained
from lnn_edge.export.trained.forward import TIME_NAMES
from lnn_edge.wording import listed

TRAIN = """
from functools import partial

import torch
from ncps.torch import CfC
from ncps.wirings import AutoNCP

COUNT = 3

def make_model():
    torch.manual_seed(11)
    return CfC(3, AutoNCP(10, 2))

def make_wide():
    return CfC(4, AutoNCP(10, 2))

def make_deep():
    return CfC(3, AutoNCP(12, 2))

def make_chaos():
    torch.manual_seed(0)
    model = CfC(3, 16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10.0)
    return model

def make_list():
    return [1, 2]

def make_fault():
    raise RuntimeError("no data here")

def make_sized(units, batch_first=True):
    return CfC(3, units, batch_first=batch_first)

class Sized(CfC):
    def __init__(self, units, *, scale):
        super().__init__(3, units)

def make_inner():
    return make_sized()

ready = make_model()
four = partial(make_sized, 4)
"""


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """A working directory with a training script; what the script leaves in this process is removed again."""
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def call(capfd, monkeypatch):
    """Run a command in this process; returns exit code, standard output and standard error."""

    def run(*arguments, stdin: str | bytes = ""):
        data = stdin.encode() if isinstance(stdin, str) else stdin
        with io.TextIOWrapper(io.BytesIO(data)) as lines, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", lines)
            try:
                code = main([str(a) for a in arguments])
            except SystemExit as stop:
                code = stop.code
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def start(environment):
    """Start a command as a process with pipes; it is ended with the test."""
    processes = []

    def run(*arguments, **options):
        command = [sys.executable, "-m", "lnn_edge", *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        processes.append(subprocess.Popen(command, env=environment, text=True, **pipes))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(AttributeError, BrokenPipeError):
                pipe.close()


def samples(count=20, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)


def csv_text(rows, header=INPUTS) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()


def table(text: str) -> tuple[list[str], list[list[str]]]:
    header, *rows = csv.reader(io.StringIO(text))
    return header, rows


def streamed(bundle, xs, **times) -> np.ndarray:
    return lnn_edge.load(bundle).stream().run(xs, **times)


# ---- the frame ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["export", "verify", "inspect", "build", "run", "bench", "doctor"])
def test_help_has_examples(call, command):
    code, out, err = call(command, "--help")
    assert (code, err) == (0, "")
    assert f"examples:\n  lnn-edge {command}" in out


def test_help_lists_commands_and_exit_codes(call):
    code, out, _ = call("--help")
    assert code == 0
    assert "0 done; 1 unexpected error; 2 usage or bad input; 3 verification failed; 4 deadline or target missed" in out


def test_version(call):
    assert call("--version") == (0, f"lnn-edge {lnn_edge.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "lnn-edge: the following arguments are required: COMMAND\nType: lnn-edge --help\n"),
        (["insect"], "COMMAND is 'insect'. Valid: export, verify, inspect, build, run, bench, doctor. Did you mean"),
        (["run"], "lnn-edge run: the following arguments are required: bundle\nType: lnn-edge run --help"),
        (["run", "x.lnn", "--inpt", "a"], "unknown option '--inpt'. Valid: "),
        (["run", "x.lnn", "--inpt=a"], "Did you mean '--input'?"),
        (["run", "x.lnn", "--on-bad", "skp"], "--on-bad is 'skp'. Valid: stop, skip. Did you mean 'skip'?"),
        (["run", "x.lnn", "--format", "xml"], "--format is 'xml'. Valid: csv, jsonl."),
        (["inspect", "x.lnn", "y.lnn"], "lnn-edge inspect: unrecognized arguments: y.lnn"),
        (["bench", "x.lnn", "--steps", "many"], "argument --steps: invalid int value: 'many'"),
        (["bench", "x.lnn", "--rate", "0"], "argument --rate: expected a number above 0, got '0'"),
        (["bench", "x.lnn", "--rate", "fast"], "argument --rate: expected a number above 0, got 'fast'"),
        (["bench", "x.lnn", "--deadline-us", "nan"], "argument --deadline-us: expected a number above 0, got 'nan'"),
        (["bench", "x.lnn", "--max-p99-us", "-1"], "argument --max-p99-us: expected a number above 0, got '-1'"),
        (["bench", "x.lnn", "--wait", "slep"], "--wait is 'slep'. Valid: sleep, spin. Did you mean 'sleep'?"),
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


@pytest.mark.parametrize("command", ["run", "verify", "bench"])
def test_unknown_backend_names_the_valid_ones(call, cfc_bundle, command):
    code, _, err = call(command, cfc_bundle, "--backend", "onxruntime")
    assert code == 2
    valid = "all, auto, tensorrt, onnxruntime" if command == "verify" else "auto, tensorrt, onnxruntime"
    assert f"unknown backend 'onxruntime'. Valid: {valid}. Did you mean 'onnxruntime'?" in err


@pytest.mark.parametrize("command", [("run",), ("verify",), ("verify", "--backend", "onnxruntime")], ids=" ".join)
def test_threads_below_one_are_refused(command, call, cfc_bundle):
    assert call(*command, cfc_bundle, "--threads", "0")[::2] == (
        2,
        "lnn-edge: `threads` is 0, expected a whole number of at least 1\n",
    )


@pytest.mark.parametrize("command", ["inspect", "verify", "bench", "doctor"])
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


def test_shell_pipe_into_head(environment, cfc_bundle):
    command = f"set -o pipefail; {sys.executable} -m lnn_edge inspect {cfc_bundle} | head -1"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.startswith("gait: fixed time"), done.stderr) == (0, True, "")


# ---- inspect --------------------------------------------------------------------------------------------------------


def test_inspect_shows_the_bundle(call, cfc_bundle):
    code, out, err = call("inspect", cfc_bundle)
    assert (code, err) == (0, "")
    for text in ("gait: fixed time, period 0.02 s", "acc_x", "m/s2", "-8 to 8", "h_in <- h_out", "CfC (default)"):
        assert text in out
    assert out.splitlines()[-1].startswith(f"{cfc_bundle}: valid, ")


def test_inspect_shows_measured_time(call, ltc_bundle):
    assert "measured time, period 0.1 s = timespan 1, legal dt 0.005 to 2 s" in call("inspect", ltc_bundle)[1]


def test_inspect_json_is_the_manifest(call, cfc_bundle, tmp_path):
    code, out, err = call("inspect", cfc_bundle, "--json", "-")
    assert code == 0
    assert json.loads(out) == json.loads((cfc_bundle / "manifest.json").read_bytes())
    assert "valid, " in err
    call("inspect", cfc_bundle, "--json", tmp_path / "m.json")
    assert (tmp_path / "m.json").read_text() == out


def test_inspect_of_a_damaged_bundle(call, cfc_copy):
    (cfc_copy / "model.onnx").write_bytes(b"")
    code, out, err = call("inspect", cfc_copy)
    assert (code, out) == (6, "")
    assert "model.onnx has 0 bytes, but the manifest says" in err


# ---- run ------------------------------------------------------------------------------------------------------------


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


@pytest.fixture(scope="session")
def block_bundle(tmp_path_factory) -> Path:
    """The model of `cfc_bundle`, for blocks of four samples with measured time."""
    path = tmp_path_factory.mktemp("blocks") / "blocks.lnn"
    lnn_edge.export_model(small_cfc(), path, unroll=4, time="measured", period_s=0.1, inputs=INPUTS, steps=1000)
    return path


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
    """A time that goes back is found by the stream, for the whole block; a value that is none by the table."""
    rows = block_rows().splitlines()
    rows[6] = rows[6].replace(rows[6].split(",")[1], "0.05")  # the second row of the second block
    code, _, err = call("run", block_bundle, *BY_WALK, stdin="\n".join(rows))
    assert code == 2
    assert "lines 6 to 9: `t_s` is 0.05, not after the previous sample at 0.5" in err
    code, out, err = call("run", block_bundle, *BY_WALK, "--on-bad", "skip", stdin="\n".join(rows))
    assert (code, len(table(out)[1])) == (0, 8)
    assert "8 samples in 2 recordings, 4 bad rows skipped, 5 at the ends" in err
    code, out, err = call("run", block_bundle, *BY_WALK, "--on-bad", "skip", stdin=block_rows(bad=5))
    assert "line 7: 'acc_y' is nan" in err
    assert "12 samples in 2 recordings, 1 bad row skipped, 4 at the ends" in err


def test_export_inspect_and_bench_tell_about_blocks(call, work):
    assert call("export", "train.py:ready", "m.lnn", "--unroll", 4, "--period-s", 0.5, "--steps", 1000)[0] == 0
    assert "blocks of 4 samples" in call("inspect", "m.lnn")[1]
    code, out, _ = call("bench", "m.lnn", "--steps", 100, "--warmup", 10, "--seconds", 0.1, "--json", "bench.json")
    assert code == 0
    assert "each step takes a block of 4 samples" in out
    assert "paced 0.5 Hz" in out  # a block every four periods
    assert json.loads(Path("bench.json").read_text())["samples_per_step"] == 4
    assert call("export", "train.py:ready", "n.lnn", "--unroll", 0)[0] == 2


def test_run_needs_the_time_of_a_measured_model(call, ltc_bundle):
    code, _, err = call("run", ltc_bundle, stdin=csv_text(samples(1)))
    assert code == 2
    assert "'drift' has measured time: name the column with the time in seconds, --time-column" in err


def test_run_refuses_time_that_goes_back(call, ltc_bundle):
    text = csv_text([(0.1, 0, 0, 0), (0.2, 0, 0, 0), (0.2, 0, 0, 0)], ["t", *INPUTS])
    code, out, err = call("run", ltc_bundle, "--time-column", "t", stdin=text)
    assert code == 2
    assert len(out.splitlines()) == 3
    assert "standard input, line 4: `t_s` is 0.2, not after the previous sample at 0.2" in err


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
    assert err.endswith("'gyro_z' is nan, expected a finite number. To go on with the next row, pass --on-bad skip\n")
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


def test_run_takes_one_row_of_named_features_only(call, tmp_path):
    lnn_edge.export_model(small_cfc(), tmp_path / "two.lnn", batch=2, steps=1000)
    code, _, err = call("run", tmp_path / "two.lnn", stdin=csv_text(samples(1)))
    assert code == 2
    assert "`run` takes models with one row of named features per sample; 'two' takes [[2, 3]]" in err


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


STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "expected"), STOPS, ids=["Ctrl-C", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("output", ["-", "y.csv"])
def test_a_signal_ends_run_and_keeps_what_is_finished(start, cfc_bundle, tmp_path, output, number, expected):
    target = tmp_path / output if output != "-" else "-"
    process = start("run", cfc_bundle, "--output", target, "--on-bad", "skip")
    process.stdin.write(f"{','.join(INPUTS)}\n0,0,0\nbad\n")
    process.stdin.flush()
    assert "line 3: 1 cells" in process.stderr.readline()
    process.send_signal(number)
    assert process.wait(30) == expected
    saved = "" if output == "-" else f", saved {target}"
    told = process.stderr.read()
    assert told == f"interrupted after 1 sample in 1 recording, 1 bad row skipped{saved}\n"
    written = process.stdout.read() if output == "-" else target.read_text()
    assert table(written) == (["walk", "run"], table(written)[1])
    assert (len(table(written)[1]), written[-1]) == (1, "\n")
    assert os.listdir(tmp_path) == ([] if output == "-" else ["y.csv"])


def test_a_signal_before_the_first_result_leaves_the_old_file(start, cfc_bundle, tmp_path):
    (tmp_path / "y.csv").write_text("old")
    process = start("run", cfc_bundle, "--output", tmp_path / "y.csv", "--on-bad", "skip")
    process.stdin.write(f"{','.join(INPUTS)}\nbad\n")
    process.stdin.flush()
    assert "line 2: 1 cells" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert process.stderr.read() == (
        f"interrupted after 0 samples in 0 recordings, 1 bad row skipped; {tmp_path}/y.csv is left as it was\n"
    )
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_signal_that_is_ignored_stays_ignored(start, cfc_bundle):
    """As `nohup` and a shell's background jobs have it."""
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    process = start("run", cfc_bundle, **ignore)
    process.stdin.write(f"{','.join(INPUTS)}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "walk,run\n"
    process.send_signal(signal.SIGHUP)
    process.stdin.write("0,0,0\n")
    process.stdin.close()
    assert process.wait(30) == 0
    assert len(process.stdout.read().splitlines()) == 1


def test_ctrl_c_while_the_file_is_put_in_place_loses_nothing(call, cfc_bundle, tmp_path, monkeypatch):
    def sync(descriptor):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)  # the handler runs in here

    monkeypatch.setattr(os, "fsync", sync)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    code, _, err = call("run", cfc_bundle, "--output", tmp_path / "y.csv", stdin=csv_text([*samples(3), ("x", 0, 0)]))
    assert code == 2
    assert err.startswith(f"stopped after 3 samples in 1 recording, saved {tmp_path}/y.csv\n")
    assert len((tmp_path / "y.csv").read_text().splitlines()) == 4
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_run_works_in_a_thread_that_may_handle_no_signals(call, cfc_bundle):
    with ThreadPoolExecutor(1) as pool:
        code, out, _ = pool.submit(call, "run", cfc_bundle, stdin=csv_text(samples(2))).result()
    assert (code, len(out.splitlines())) == (0, 3)


# ---- run: times -----------------------------------------------------------------------------------------------------


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
        (["--on-bad", "skip"], ["0.1,0,0,0", *["0.2,nan,0,0"] * 40], "bad rows"),
        (["--on-gap", "reset"], [f"{9 * k},0,0,0" for k in range(41)], "gaps"),
    ],
)
def test_only_the_first_remarks_of_a_kind_are_shown(call, ltc_bundle, arguments, lines, kind):
    code, _, err = call("run", ltc_bundle, *BY_TIME, *arguments, stdin="\n".join(["t," + ",".join(INPUTS), *lines]))
    *shown, more, last = err.splitlines()
    assert (code, len(shown)) == (0, 5)
    assert more == f"more {kind} follow; they are counted and no longer shown"
    assert f"40 {kind}" in last


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0.02, 0.04, 0.05, 0.07], "there are 0.01 to 0.02 s between samples, in 1 of 3 cases more than 10 % off"),
        ([0, 20, 40], "there are 20 to 20 s between samples, in 2 of 2 cases more than 10 % off"),
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
    lines = ["who,t," + ",".join(INPUTS), "a,5.00,0,0,0", "a,5.02,0,0,0", "b,0.10,0,0,0", "b,0.12,0,0,0"]
    assert "warning" not in call("run", cfc_bundle, *BY_TIME, "--reset-column", "who", stdin="\n".join(lines))[2]


def test_help_says_what_the_time_column_does(call):
    out = " ".join(call("run", "--help")[1].split())
    assert "with fixed time it is only copied to the results, and compared with the bundle's period" in out


# ---- run: letters ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def letters_bundle(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("letters") / "letters.lnn"
    lnn_edge.export_model(
        small_cfc(), path, inputs=["gr\u00f6\u00dfe", "b", "c"], outputs=["g\u00e5", "run"], steps=1000
    )
    return path


@pytest.mark.parametrize("output", ["-", "y.csv"])
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


# ---- a machine that fails -------------------------------------------------------------------------------------------


FULL = "No space left on device. Free some space or write to another disk. Type: df -h {}\n"


def full_disk(*_arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_run_on_a_disk_that_fills_up_keeps_whole_lines(call, cfc_bundle, tmp_path, monkeypatch):
    """A disk takes what it can of the last line."""
    room, write = [100], os.write

    def limited(descriptor, data):
        if not room[0]:
            full_disk()
        written = write(descriptor, bytes(data)[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr("lnn_edge.files.os.write", limited)
    target = tmp_path / "y.csv"
    code, _, err = call("run", cfc_bundle, "--output", target, stdin=csv_text(samples(20)))
    lines = target.read_text().splitlines(keepends=True)
    assert (code, lines[0]) == (1, "walk,run\n")
    assert all(re.fullmatch(r"[-\d.e]+,[-\d.e]+\n", line) for line in lines[1:])
    assert 1 < len(lines) < 20
    assert err == (
        f"stopped after {len(lines) - 1} samples in 1 recording, saved {target}\n"
        f"lnn-edge: '{target}': {FULL.format(tmp_path)}"
    )
    assert os.listdir(tmp_path) == ["y.csv"]


def test_run_whose_file_cannot_be_completed_says_so(call, cfc_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    code, _, err = call("run", cfc_bundle, "--output", tmp_path / "y.csv", stdin=csv_text(samples(2)))
    assert code == 1
    assert err == (
        f"stopped after 2 samples in 1 recording; {tmp_path}/y.csv is not written\n"
        f"lnn-edge: '{tmp_path}/y.csv': {FULL.format(tmp_path)}"
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["--output", "standard output"])
def test_run_into_a_full_device(environment, cfc_bundle, place):
    """One message, none of Python's own at its end."""
    command = [sys.executable, "-m", "lnn_edge", "run", str(cfc_bundle)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, "--output", "/dev/full"] if place == "--output" else command,
            env=environment, input=csv_text(samples(2)), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    named, folder = ("'/dev/full'", " /dev") if place == "--output" else ("standard output", "")
    assert done.stderr == f"lnn-edge: {named}: {FULL.format('')[:-2]}{folder}\n"


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (["export", "train.py:ready", "m.lnn", "--steps", 1000], "m.lnn"),
        (["verify", "BUNDLE", "--plot", "e.png"], "e.png"),
        (["verify", "BUNDLE", "--json", "v.json"], "v.json"),
        (["bench", "BUNDLE", "--steps", 50, "--seconds", 0, "--json", "b.json"], "b.json"),
    ],
    ids=["export", "verify --plot", "verify --json", "bench --json"],
)
def test_a_full_disk_is_told_with_the_name_that_was_typed(call, work, cfc_bundle, monkeypatch, command, file):
    monkeypatch.setattr(os, "fsync", full_disk)
    before = sorted(os.listdir(work))
    code, out, err = call(*(cfc_bundle if part == "BUNDLE" else part for part in command))
    assert code == 1
    assert err.endswith(f"lnn-edge: '{file}': {FULL.format('.')}")
    assert ".partial" not in err
    assert sorted(name for name in os.listdir(work) if name != "__pycache__") == before
    shown = {"bench": "back to back: service", "verify": "equal: outputs and states within", "export": ""}
    assert shown[command[0]] in out  # what took long is not lost with the file


@pytest.mark.parametrize(
    ("number", "code", "expected"),
    [
        (errno.EROFS, 1, "Read-only file system. Write to another disk, or mount this one for writing. Type: findmnt"),
        (errno.EDQUOT, 1, "Disk quota exceeded. Your quota is used up: free some space"),
        (errno.EIO, 1, "Input/output error. The disk or device does not answer"),
        (errno.EMFILE, 1, "Too many open files. This process may open no more files. Type: ulimit -n"),
        (errno.EACCES, 2, "Permission denied. Check who may use it. Type: ls -ld {} {}/y.csv"),
        (errno.ENAMETOOLONG, 2, "File name too long. Check the name and who may use it"),
    ],
)
def test_an_output_that_cannot_be_made(call, cfc_bundle, tmp_path, monkeypatch, number, code, expected):
    def refuse(suffix, prefix, dir):  # noqa: A002
        raise OSError(number, os.strerror(number), f"{dir}/{prefix}123{suffix}")

    monkeypatch.setattr("lnn_edge.files.tempfile.mkstemp", refuse)
    got, _, err = call("run", cfc_bundle, "--output", tmp_path / "y.csv", stdin=csv_text(samples(2)))
    assert got == code
    assert err.startswith(f"lnn-edge: '{tmp_path}/y.csv': {expected.format(tmp_path, tmp_path)}")
    assert err.count("\n") == 1


def test_a_missing_example_is_told_plainly(call, work):
    export = ["export", "train.py:ready", "m.lnn", "--inputs", ",".join(INPUTS), "--example"]
    assert call(*export, "walk.npy")[::2] == (
        2,
        "lnn-edge: 'walk.npy': No such file or directory. Check the name. Type: ls .\n",
    )
    (work / "walk.csv").write_text("")
    code, _, err = call(*export, "wakl.csv")
    assert (code, err) == (
        2,
        "lnn-edge: no file 'wakl.csv', expected a CSV file. Valid: walk.csv. Did you mean 'walk.csv'?\n",
    )


# ---- verify ---------------------------------------------------------------------------------------------------------


def test_verify_replays_the_golden_sequences(call, ltc_bundle):
    code, out, _ = call("verify", ltc_bundle)
    assert code == 0
    assert "onnxruntime vs torch float32" in out
    assert f"{ltc_bundle}: equal over 1,020 closed-loop steps on onnxruntime" in out


def test_verify_of_altered_golden_outputs_is_not_equal(call, cfc_copy, tmp_path):
    edit_golden(cfc_copy, lambda t: t["float64/output"].__setitem__((9, 0, 1), 3.0))
    code, out, _ = call("verify", cfc_copy, "--json", tmp_path / "v.json")
    assert code == 3
    assert re.search(r"^ output .* step 9 ", out, re.M)
    assert "NOT equal on onnxruntime" in out.splitlines()[-1]
    assert out.endswith("Export it again on the workstation\n")
    result = json.loads((tmp_path / "v.json").read_text())
    assert result["passed"] is False
    assert {c["first_over"] for c in result["comparisons"]} == {None, 9}


def test_what_is_not_finite_is_null(call, ltc_copy, tmp_path):
    """JSON has no word for infinity; Python's own is one that other readers refuse."""
    edit_golden(ltc_copy, lambda t: t["float64/h_out"].__setitem__((3, 0, 0), np.nan))
    code, *_ = call("verify", ltc_copy, "--json", tmp_path / "v.json")
    result = json.loads((tmp_path / "v.json").read_text(), parse_constant=pytest.fail)
    assert (code, result["passed"]) == (3, False)
    assert None in [c["max_abs"] for c in result["comparisons"]]


def test_run_of_altered_golden_outputs_does_not_start(call, cfc_copy):
    edit_golden(cfc_copy, lambda t: t["float64/output"].__setitem__((9, 0, 1), 3.0))
    code, out, err = call("run", cfc_copy, stdin=csv_text(samples(1)))
    assert (code, out) == (3, "")
    assert "failed its self-test" in err


def test_verify_with_golden_of_another_shape_is_a_bad_bundle(call, cfc_copy):
    edit_golden(cfc_copy, lambda t: t.pop("float32/output"))
    code, _, err = call("verify", cfc_copy)
    assert code == 6
    assert f"lnn-edge: bundle '{cfc_copy}': golden.safetensors holds" in err


def test_verify_json_goes_to_standard_output_alone(call, cfc_bundle):
    code, out, err = call("verify", cfc_bundle, "--json", "-")
    result = json.loads(out)
    assert (code, result["passed"]) == (0, True)
    assert {c["tensor"] for c in result["comparisons"]} == {"output", "h_out"}
    assert "equal over" in err


def test_verify_against_the_trained_model(call, work, cfc_bundle):
    code, out, _ = call("verify", cfc_bundle, "--against", "train.py:make_model", "--steps", 1000)
    assert code == 0
    assert "torch stepped vs" in out  # what the golden replay alone cannot compare
    assert "equal over" in out.splitlines()[-1]


def test_verify_against_other_weights_is_not_equal(call, work, cfc_bundle):
    other = {name: value.contiguous() for name, value in small_cfc().state_dict().items()}
    other["rnn_cell.layer_2.ff1.bias"] += 0.05
    save_file(other, "other.safetensors")
    against = ["--against", "train.py:make_model", "--weights", "other.safetensors", "--steps", 1000]
    code, out, _ = call("verify", cfc_bundle, *against)
    assert code == 3
    assert "NOT equal" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        ("make_wide", "the model has inputs of shape [[1, 4]], but bundle 'gait' has [[1, 3]]"),
        ("make_deep", "the model has states of shape [[1, 12]], but bundle 'gait' has [[1, 10]]"),
    ],
)
def test_verify_against_another_shape_is_a_mistake(call, work, cfc_bundle, factory, expected):
    code, _, err = call("verify", cfc_bundle, "--against", f"train.py:{factory}")
    assert code == 2
    assert f"{expected}: they are not of the same model" in err


# ---- export ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["acc:m/s2:1", "acc:m/s2:low:high", "acc:m/s2:1:2:3"])
def test_export_refuses_columns_that_are_none(call, work, column):
    code, _, err = call("export", "train.py:make_model", "gait.lnn", "--inputs", f"a,{column},b")
    assert code == 2
    assert f"'{column}' is no column: expected name, name:unit or name:unit:low:high, as gap:s:0.001:0.5" in err


def test_export_from_a_file(call, work):
    save_model(small_cfc(), "gait.safetensors")
    names = ["--inputs", "acc_x:m/s2,acc_y::-40:40, gyro_z : rad/s", "--outputs", "walk,run"]
    weights = ["--weights", "gait.safetensors", "--period-s", "0.02", "--json", "report.json"]
    code, out, err = call("export", "train.py:make_deep", "gait.lnn", *weights)
    assert code == 2
    assert "but the model has" in err
    code, out, err = call("export", "train.py:make_model", "gait.lnn", *weights, *names)
    assert code == 0
    assert out.startswith("equal: outputs and states within ")
    assert out.splitlines()[-1].startswith("saved gait.lnn: equal to torch within ")
    assert err == "saved report.json\n"
    report = json.loads(Path("report.json").read_text())
    assert report["passed"] is True
    manifest = manifest_of(Path("gait.lnn"))
    assert [(f.name, f.unit, f.limits) for f in manifest.inputs[0].features] == [
        ("acc_x", "m/s2", None),
        ("acc_y", None, (-40.0, 40.0)),
        ("gyro_z", "rad/s", None),
    ]
    assert manifest.provenance.checkpoint_sha256
    assert lnn_edge.load("gait.lnn").time.period_s == 0.02


def test_export_from_a_package_with_measured_time(call, work):
    (work / "nets").mkdir()
    (work / "nets/__init__.py").touch()
    (work / "nets/drift.py").write_text(
        "import torch\nfrom ncps.torch import LTC\n\ndef make():\n    torch.manual_seed(1)\n    return LTC(2, 4)\n"
    )
    arguments = ["--time", "measured", "--period-s", "0.1", "--dt-range-s", "0.05", "0.5", "--timespan", "2"]
    code, out, err = call("export", "nets.drift:make", "drift.lnn", *arguments, "--json", "-")
    assert code == 0
    assert json.loads(out)["passed"] is True
    assert "no --weights: exporting the model as the factory returns it" in err
    when = lnn_edge.load("drift.lnn").time
    assert (when.mode, when.dt_range_s, when.timespan) == ("measured", (0.05, 0.5), 2.0)


def test_functions_that_the_source_imports_are_no_steps(call, work):
    (work / "loop.py").write_text("from train import make_model\nfrom shutil import copy\n\ndef turn(): ...\n")
    code, _, err = call("export", "loop.py:make_model", "gait.lnn", "--step", "trun")
    assert code == 2
    assert "Did you mean 'turn'?" in err
    assert "copy" not in err


@pytest.mark.parametrize("what", ["ready", "four"])
def test_export_takes_a_module_itself_or_a_partial(call, work, what):
    assert call("export", f"train.py:{what}", "gait.lnn")[0] == 0


def test_export_says_where_it_saved(call, work):
    (work / "bundles").mkdir()
    code, out, _ = call("export", "train.py:make_model", "bundles/gait.lnn", "--steps", 1000)
    assert code == 0
    assert out.splitlines()[-1].startswith("saved bundles/gait.lnn: equal to torch within ")


def test_export_of_a_network_asks_for_an_example_as_it_is_typed(call, work):
    (work / "net.py").write_text(
        "from ncps.torch import CfC\nfrom torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.rnn = CfC(3, 4)\n\n    def forward(self, x):\n"
        "        return self.rnn(x)\n\nclass Gaps(Net):\n    def forward(self, x, gaps):\n"
        "        return self.rnn(x, timespans=gaps)\n"
    )
    code, _, err = call("export", "net.py:Net", "gait.lnn")
    assert code == 2
    assert "a network needs `example` (--example FILE.npy), recorded samples as its forward takes them" in err
    np.save("x.npy", samples(9)[None])
    code, _, err = call("export", "net.py:Gaps", "gait.lnn", "--example", "x.npy")
    assert code == 2
    assert "`example` is ndarray, but the model takes the inputs ['x', 'gaps']: pass a dict of arrays to" in err
    assert (
        "lnn_edge.export_model in Python. If one of them is the time between samples, call it one of `timespans`,"
        in err
    )


def test_help_says_what_a_forward_must_call_time(call):
    """Written down twice, because the help must not import torch."""
    _, out, _ = call("export", "--help")
    assert f"called {listed(TIME_NAMES)}" in " ".join(out.split())
    assert " ".join(lnn_edge.export_model.__doc__.split()).count(f"called {listed(f'`{n}`' for n in TIME_NAMES)}") == 1


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model_state_dict", "model", "net"])
def test_export_loads_checkpoints_of_training_frameworks(call, work, wrap):
    """A bare state_dict, and nested as Lightning ("state_dict") and hand-written loops keep it beside other things.

    Under any other name it is the only mapping of names to tensors.
    """
    state = small_cfc().state_dict()
    torch.save(state if wrap == "plain" else {wrap: state, "epoch": 3, "optimizer": {"lr": 0.1}}, "c.pt")
    source = load_trained("train.py:make_model", weights="c.pt", trust_pickle=False)
    assert source.checkpoint_sha256
    assert all(torch.equal(value, state[name]) for name, value in source.module.state_dict().items())


def test_export_refuses_what_exists_before_it_builds_the_model(call, work, cfc_bundle):
    code, _, err = call("export", "none.py:make", cfc_bundle)
    assert code == 2
    assert "exists. Choose another name, or pass overwrite=True (--overwrite)" in err


@pytest.mark.parametrize(
    ("source", "code", "expected"),
    [
        ("train.py", 2, "SOURCE is 'train.py', expected FILE.py:FACTORY or package.module:FACTORY"),
        ("train.py:", 2, "SOURCE is 'train.py:', expected"),
        ("none.py:make", 2, "no file 'none.py'"),
        ("no_such_package:make", 2, "no module 'no_such_package'; expected FILE.py:FACTORY"),
        (
            "train.py:make_modle",
            2,
            (
                "'train.py' has no 'make_modle'. Valid: make_model, make_wide, make_deep, make_chaos, make_list, "
                "make_fault, make_sized, Sized, make_inner, ready, four. Did you mean 'make_model'?\n"
            ),
        ),
        ("train.py:CFC", 2, "make_inner, ready, four, CfC. Did you mean 'CfC'?"),
        ("torch.nn:Identiy", 2, "Did you mean 'Identity'?"),
        ("train.py:COUNT", 2, "'train.py:COUNT' is int, expected a function that returns a torch module"),
        ("train.py:make_list", 2, "'train.py:make_list' returned list, expected a torch.nn.Module"),
        ("train.py:make_fault", 2, "'train.py:make_fault' raised RuntimeError: no data here (train.py, line "),
        (
            "train.py:make_sized",
            2,
            "'train.py:make_sized' needs `units`, but export calls it without arguments. Write a",
        ),
        ("train.py:make_sized", 2, "and name that: def exported(): return make_sized(units=...)\n"),
        ("torch.nn.functional:linear", 2, "'torch.nn.functional:linear' raised TypeError: linear() missing"),
        ("train.py:Sized", 2, "needs `units`, `scale`, but export calls it without arguments."),
        ("train.py:Sized", 2, "def exported(): return Sized(units=..., scale=...)\n"),
        (
            "train.py:make_inner",
            2,
            (
                "'train.py:make_inner' raised TypeError: make_sized() missing 1 required positional argument: 'units' "
                "(train.py, line "
            ),
        ),
        ("train.py:make_chaos", 3, "the exported step does not equal the trained model, so nothing was written"),
        ("syntax.py:make", 2, "'syntax.py' raised SyntaxError: "),
        ("exits.py:make", 2, "'exits.py' raised SystemExit: 1 (exits.py, line 2). Put what trains under `if __name__"),
        ("needs.py:make", 5, "No module named 'surely_not_installed'"),
        (
            "torch.nn:Identity",
            2,
            "expected an ncps.torch LTC or CfC, or a network around some, got torch.nn.modules.linear.Identity",
        ),
    ],
)
def test_export_says_what_is_wrong_with_the_source(call, work, source, code, expected):
    (work / "syntax.py").write_text("def make(:\n")
    (work / "exits.py").write_text("import sys\nsys.exit(1)\n")
    (work / "needs.py").write_text("import surely_not_installed\n")
    got, out, err = call("export", source, "gait.lnn", "--steps", 1000)
    assert (got, out) == (code, "")
    assert expected in err
    assert "Traceback" not in err
    assert "source.py" not in err  # a line of our own
    assert not [name for name in os.listdir(work) if "lnn" in name]


def _weights(change):
    state = dict(small_cfc().state_dict())
    change(state)
    return state


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (_weights(lambda s: s.pop("rnn_cell.layer_0.ff1.bias")), "missing rnn_cell.layer_0.ff1.bias; unknown none"),
        (_weights(lambda s: s.update(extra=torch.ones(1))), "missing none; unknown extra"),
        (
            _weights(lambda s: s.update({"rnn_cell.layer_0.ff1.bias": torch.ones(2)})),
            "weight 'rnn_cell.layer_0.ff1.bias' in 'w.pt' has shape [2], but the model has [5]",
        ),
        (
            {"epoch": 3, "optimizer": {"lr": 0.1}},
            (
                "'w.pt' holds no state_dict, a mapping of names to tensors, but 'epoch' (int), 'optimizer' (dict). In "
                "the training script type: torch.save(model.state_dict(), 'weights.pt')"
            ),
        ),
        ({0: torch.ones(1)}, "'w.pt' holds no state_dict, a mapping of names to tensors, but 0 (Tensor). In the"),
        (_weights(lambda s: s.update(epoch=3)), "to tensors, but 'epoch' (int), 'rnn_cell.layer_0.sparsity_mask' (Ten"),
        (torch.ones(2), "'w.pt' holds no state_dict but Tensor. In the training script type: torch.save(model.state"),
        (
            {"net": _weights(lambda s: None), "ema": _weights(lambda s: None)},
            "'w.pt' holds several mappings of names to tensors, 'net' (dict), 'ema' (dict), and nothing says which",
        ),
    ],
    ids=["missing", "unknown", "shape", "no-tensors", "numbers", "epoch-among-them", "tensor", "two"],
)
def test_export_says_which_weight_does_not_fit(call, work, state, expected):
    torch.save(state, "w.pt")
    code, _, err = call("export", "train.py:make_model", "gait.lnn", "--weights", "w.pt")
    assert code == 2
    assert expected in err
    assert not Path("gait.lnn").exists()


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        (
            "w.pt",
            b"hello, I am text",
            (
                "'w.pt' is not a torch checkpoint: it begins with b'hello, I am text', as no file of torch.save does. "
                "In the training script type: torch.save(model.state_dict(), 'weights.pt')\n"
            ),
        ),
        ("w.pt", pickle.dumps({"w": [1.0]}), "'w.pt' is not a torch checkpoint: it begins with b'\\x80"),
        ("w.pt", b"", "'w.pt' is not a torch checkpoint: it is empty. In the training script type: torch.save("),
        (
            "w.pt",
            b"PK\x03\x04 cut off",
            (
                "'w.pt' is not a torch checkpoint, or damaged: RuntimeError: PytorchStreamReader failed reading zip "
                "archive: not a ZIP archive. In the training script type: "
            ),
        ),
        ("w.pt", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 cut", "'w.pt' is not a torch checkpoint, or damaged: "),
        ("w.safetensors", b"hello, I am text", "'w.safetensors' is not a safetensors file"),
        ("w.safetensors", None, "no weights file 'w.safetensors'"),
    ],
)
def test_export_refuses_files_that_are_no_weights(call, work, name, data, expected):
    if data is not None:
        (work / name).write_bytes(data)
    code, _, err = call("export", "train.py:make_model", "gait.lnn", "--weights", name)
    assert code == 2
    assert expected in err


class Payload:
    """What unpickling it does: it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("how", ["source", "weights"])
def test_export_does_not_run_what_a_pickle_holds(call, work, how):
    torch.save(Payload(work / "ran"), "m.pt")
    source, weights = ("m.pt", []) if how == "source" else ("train.py:make_model", ["--weights", "m.pt"])
    code, _, err = call("export", source, "gait.lnn", *weights)
    assert code == 2
    assert not (work / "ran").exists()
    if how == "source":
        assert "would have to be unpickled as a whole module, which runs whatever code is in the file" in err
        assert "pass --trust-pickle if you made the file yourself" in err
    else:
        assert (
            "'m.pt' is damaged, or holds more than tensors, say a whole model, and loading it would run code from the "
            "file. In the training script type: torch.save(model.state_dict(), 'weights.pt'). Or add --trust-pickle if "
            "you made the file yourself\n"
        ) in err


def test_export_unpickles_a_module_when_told_to_trust_it(call, work):
    torch.save(small_cfc(), "m.pt")
    code, out, _ = call("export", "m.pt", "gait.lnn", "--trust-pickle", "--steps", 1000)
    assert code == 0
    assert out.splitlines()[-1].startswith("saved gait.lnn: equal to torch")
    assert manifest_of(Path("gait.lnn")).provenance.checkpoint_sha256


@pytest.mark.parametrize(
    ("make", "weights", "expected"),
    [
        (lambda path: torch.save([1], path), [], "'m.pt' holds list, expected a torch.nn.Module"),
        (lambda path: Path(path).write_bytes(b"text"), [], "'m.pt' cannot be unpickled: "),
        (
            lambda path: Path(path).write_bytes(pickle.dumps(0).replace(b"K\x00", b"cnot_here\nModule\n")),
            [],
            "'m.pt' cannot be unpickled: ",
        ),
        (lambda path: None, [], "no file 'm.pt'"),
        (lambda path: None, ["--weights", "w.pt"], "--weights has no place beside the pickled module 'm.pt'"),
    ],
)
def test_export_refuses_pickles_that_are_no_module(call, work, make, weights, expected):
    make("m.pt")
    code, _, err = call("export", "m.pt", "gait.lnn", "--trust-pickle", *weights)
    assert code == 2
    assert expected in err


@pytest.mark.parametrize("wrap", ["whole", "state_dict", "arguments"])
def test_export_unpickles_weights_when_told_to_trust_them(call, work, wrap):
    """A whole module, the same inside a checkpoint, and a state_dict beside objects, such as arguments of a script."""
    model = small_cfc()
    saved = {"whole": model, "state_dict": {"state_dict": model}, "arguments": {"net": model.state_dict(), "a": Path()}}
    torch.save(saved[wrap], "m.pt")
    code, _, err = call("export", "train.py:make_deep", "gait.lnn", "--weights", "m.pt")
    assert code == 2
    assert "add --trust-pickle" in err
    source = load_trained("train.py:make_model", weights="m.pt", trust_pickle=True)
    assert source.checkpoint_sha256
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in source.module.state_dict().items())


def test_export_finds_the_classes_of_the_script_that_saved_a_module(call, work, python):
    """In the file they are known as `__main__`, which is the training script no more."""
    (work / "gait.py").write_text(
        "import torch\nfrom ncps.torch import CfC\n\nclass Gait(CfC):\n    pass\n\ndef make_model():\n"
        "    return Gait(3, 4)\n\nif __name__ == '__main__':\n    torch.save(make_model(), 'm.pt')\n"
    )
    assert python("gait.py").returncode == 0
    code, _, err = call("export", "m.pt", "gait.lnn", "--trust-pickle")
    assert code == 2
    assert "cannot be unpickled: AttributeError: " in err
    assert "Name the script that defines it: lnn-edge export train.py:make_model --weights m.pt ...\n" in err
    code, _, err = call("export", "gait.py:make_model", "gait.lnn", "--weights", "m.pt", "--trust-pickle")
    assert (code, err) == (0, "")


def test_export_holds_a_factory_to_the_cores_of_a_trusted_module(call, work):
    """A module says how its cores compute, which its state_dict does not."""
    (work / "slow.py").write_text("from ncps.torch import LTC\n\ndef make():\n    return LTC(3, 4, ode_unfolds=12)\n")
    torch.save(LTC(3, 4), "m.pt")
    code, _, err = call("export", "slow.py:make", "gait.lnn", "--weights", "m.pt", "--trust-pickle")
    assert code == 2
    assert "the core in the checkpoint 'm.pt' has `ode_unfolds` 6, but the model has 12" in err


def test_trust_does_not_run_a_file_that_is_no_torch_checkpoint(call, work):
    with open("m.pt", "wb") as file:
        pickle.dump(Payload(work / "ran"), file)
    code, _, err = call("export", "train.py:make_model", "gait.lnn", "--weights", "m.pt", "--trust-pickle")
    assert code == 2
    assert "'m.pt' is not a torch checkpoint: it begins with" in err
    assert not (work / "ran").exists()


def test_help_says_what_a_trusted_pickle_may_be(call):
    _, out, _ = call("export", "--help")
    text = " ".join(out.split())
    assert "or with --trust-pickle a whole model (.pt)" in text
    assert (
        "unpickle a whole saved module, torch.save(model), given as --weights or as SOURCE; this RUNS WHATEVER" in text
    )


@pytest.mark.parametrize("kind", ["csv", "npy"])
def test_export_uses_recorded_samples(call, work, kind):
    xs = samples(60)
    if kind == "npy":
        np.save("x.npy", xs)
        arguments = ["--example", "x.npy"]
    else:
        rows = [(k // 30, *x) for k, x in enumerate(xs)]
        Path("x.csv").write_text(csv_text(rows, ["who", *INPUTS]))
        arguments = ["--example", "x.csv", "--inputs", ",".join(INPUTS), "--reset-column", "who"]
    code, _, err = call("export", "train.py:make_model", "gait.lnn", "--steps", 1000, *arguments)
    assert code == 0, err
    features = manifest_of(Path("gait.lnn")).inputs[0].features
    assert [f.range for f in features] == [(min(c), max(c)) for c in xs.T.tolist()]
    report = msgspec.json.decode(Path("gait.lnn/report.json").read_bytes())
    assert (report["segments"][0]["name"], report["segments"][0]["steps"]) == ("recorded", 1000)
    assert report["segments"][0]["sequences"] == (34 if kind == "csv" else 17)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--example", "x.csv"], "--example with a .csv file needs --inputs"),
        (["--example", "x.wav"], "--example is 'x.wav', expected a .npy or .csv file"),
        (["--example", "x.csv", "--inputs", "acc_x,acc_q,gyro_z"], "'x.csv' has no column 'acc_q'. Valid: acc_x"),
        (["--example", "none.npy"], "'none.npy': No such file or directory. Check the name"),
        (
            ["--example", "text.npy"],
            (
                "--example 'text.npy' is not a .npy file: it begins otherwise. In Python type: np.save('text.npy', "
                "np.asarray(samples, dtype=np.float32))\n"
            ),
        ),
        (["--example", "zip.npy"], "--example 'zip.npy' is not a .npy file: it begins otherwise"),
        (
            ["--example", "lists.npy"],
            (
                "--example 'lists.npy' holds Python objects, such as recordings of different lengths, expected one "
                "array of numbers. In Python type: np.save("
            ),
        ),
        (["--example", "cut.npy"], "--example 'cut.npy' is damaged: "),
        (["--example", "wide.npy"], "`example` has shape (9, 4), but the model takes 3 features"),
        (["--steps", "10"], "`steps` is 10, expected at least 1000 steps for a proof"),
        (["--batch", "0"], "`batch` is 0, expected a whole number of at least 1"),
        (["--time", "measured"], "time='measured' needs `period_s`"),
        (["--period-s", "nan"], "`period_s` is nan, expected a number above 0"),
        (["--inputs", "a,b"], "`inputs` names ['a', 'b'], expected 3 different names"),
        (["--inputs", "a,,b"], "`inputs` has the name '', expected a name without spaces around it"),
        (["--json", "none/r.json"], "directory 'none' does not exist. Type: mkdir -p none"),
    ],
)
def test_export_refuses_wrong_arguments(call, work, arguments, expected):
    Path("x.csv").write_text(csv_text(samples(3)))
    Path("text.npy").write_text("no array")
    np.savez("zip.npz", x=samples(3))
    os.rename("zip.npz", "zip.npy")
    np.save("lists.npy", np.array([samples(3), samples(4)], dtype=object))
    np.save("cut.npy", samples(3))
    os.truncate("cut.npy", 140)
    np.save("wide.npy", np.zeros((9, 4), np.float32))
    code, out, err = call("export", "train.py:make_model", "gait.lnn", *arguments)
    assert (code, out) == (2, "")
    assert expected in err
    assert not Path("gait.lnn").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gait", "a bundle's name ends in '.lnn', got 'gait'. Type: gait.lnn"), ("none/gait.lnn", "Type: mkdir -p none")],
)
def test_export_refuses_a_wrong_target(call, work, name, expected):
    code, _, err = call("export", "train.py:make_model", name)
    assert code == 2
    assert expected in err


def test_ctrl_c_ends_export_with_130_and_leaves_nothing(start, work):
    process = start("export", "train.py:make_model", "gait.lnn", "--steps", "200000")
    assert "no --weights" in process.stderr.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr.read() == "lnn-edge: interrupted; nothing half-written is left\n"
    assert not [name for name in os.listdir(work) if "lnn" in name]


# ---- bench ----------------------------------------------------------------------------------------------------------

QUICK = ("--steps", "50", "--warmup", "5")


def test_bench_prints_figures_with_their_samples(call, cfc_bundle):
    code, out, _ = call("bench", cfc_bundle, *QUICK, "--seconds", "0.2")
    assert code == 0
    assert "back to back: service        50" in out
    assert "paced 50 Hz: response        10" in out
    assert "deadline 20000 us: " in out
    assert "machine: " in out
    assert f"{cfc_bundle}: one step takes median " in out.splitlines()[-1]


def test_bench_gives_no_percentile_from_too_few_samples(call, ltc_bundle):
    code, out, err = call("bench", ltc_bundle, *QUICK, "--seconds", "0.3", "--json", "-")
    result = json.loads(out)
    assert code == 0
    percentiles = result["back_to_back"]["percentiles_us"]
    assert [name for name, value in percentiles.items() if value is None] == ["p90", "p99", "p99.9"]
    assert result["paced"]["response"]["samples"] == 3
    assert set(result["paced"]["response"]["percentiles_us"].values()) == {None}
    assert result["self_test"] == "passed"
    assert result["machine"]["numpy"] == np.__version__
    assert "one step takes" in err


def test_bench_without_a_paced_run(call, cfc_bundle):
    code, out, _ = call("bench", cfc_bundle, *QUICK, "--seconds", "0")
    assert code == 0
    assert "no paced run: it takes --seconds above 0 and a rate, from the bundle's period or --rate HZ" in out


def test_bench_misses_its_deadline(call, cfc_bundle):
    limits = ["--deadline-us", "0.001", "--max-misses", "3"]
    code, out, _ = call("bench", cfc_bundle, *QUICK, "--rate", "100", "--seconds", "0.1", *limits)
    assert code == 4
    assert out.splitlines()[-1] == "MISSED: 10 deadline misses are more than --max-misses 3"
    assert "one step takes" in out.splitlines()[-2]


def test_bench_at_a_rate_that_cannot_be_kept(call, cfc_bundle, monkeypatch):
    """It neither runs for hours nor passes: what was never run has missed its deadline too."""
    monkeypatch.setattr("lnn_edge.runtime.measure.timing._BEHIND_NS", 0)
    rate = ["--rate", "1e7", "--seconds", "0.01", "--deadline-us", "1e9"]
    code, out, _ = call("bench", cfc_bundle, *QUICK, *rate, "--max-misses", "50", "--max-p99-us", "1e9")
    assert code == 4
    left = int(re.search(r"1e\+07 Hz cannot be kept: ([\d,]+) of 100,000 steps were due", out)[1].replace(",", ""))
    assert 0 < left < 100_000
    assert f"MISSED: {left} deadline misses are more than --max-misses 50" in out


def test_bench_misses_its_p99(call, cfc_bundle):
    limits = ["--rate", "2000", "--seconds", "0.5", "--max-p99-us", "0.001"]
    code, out, _ = call("bench", cfc_bundle, *QUICK, *limits)
    assert code == 4
    assert re.fullmatch(r"MISSED: p99 response \S+ us is above --max-p99-us 0.001", out.splitlines()[-1])


def test_bench_shows_what_a_load_costs(call, cfc_bundle, monkeypatch, tmp_path):
    """A user's load has a self-test, and that is the larger part of its time."""
    clock = iter(range(1000))
    loads = []

    def counted(*arguments, **options):
        loads.append(options)
        return lnn_edge.load(*arguments, **options)

    monkeypatch.setattr("lnn_edge.runtime.loading.load", counted)
    monkeypatch.setattr("lnn_edge.cli.commands.bench.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    code, out, _ = call("bench", cfc_bundle, *QUICK, "--seconds", "0", "--json", tmp_path / "bench.json")
    assert code == 0
    assert "load with its self-test 1000 ms, then the first step " in out
    assert [options.get("self_test", True) for options in loads] == [True]
    assert json.loads((tmp_path / "bench.json").read_text())["load_ms"] == 1000


def test_bench_meets_generous_targets(call, cfc_bundle):
    limits = ["--rate", "2000", "--seconds", "0.5", "--max-p99-us", "1e9", "--deadline-us", "1e9", "--max-misses", "0"]
    code, out, _ = call("bench", cfc_bundle, *QUICK, *limits, "--wait", "spin")
    assert code == 0
    assert "MISSED" not in out
    assert "waiting by spin" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--max-p99-us", "9", "--rate", "3"],
            "needs at least 1000 paced steps for a p99, got 15. Type: --seconds 334",
        ),
        (["--max-p99-us", "9", "--seconds", "0"], "--max-p99-us and --max-misses judge the paced run: pass --rate and"),
        (["--max-misses", "9", "--seconds", "0"], "--max-p99-us and --max-misses judge the paced run: pass --rate and"),
        (
            ["--rate", "1e9", "--seconds", "1"],
            "a paced run of 1,000,000,000 steps is too long, at most 100,000,000. Type: --seconds 0.1, or a lower",
        ),
        (["--steps", "0"], "--steps must be at least 1, --warmup and --seconds at least 0"),
        (["--seconds", "nan"], "--steps must be at least 1, --warmup and --seconds at least 0"),
        (["--seconds", "inf"], "--steps must be at least 1, --warmup and --seconds at least 0"),
    ],
)
def test_bench_refuses_what_it_could_not_judge(call, cfc_bundle, arguments, expected):
    code, out, err = call("bench", cfc_bundle, *arguments)
    assert (code, out) == (2, "")
    assert expected in err


def test_bench_proves_the_bundle_first(call, cfc_copy):
    edit_golden(cfc_copy, lambda t: t["float32/output"].__setitem__((9, 0, 1), 3.0))
    assert call("bench", cfc_copy, *QUICK)[0] == 3


def test_ctrl_c_in_bench_prints_the_figures_so_far(start, cfc_bundle, tmp_path):
    process = start("bench", cfc_bundle, *QUICK, "--rate", "200", "--seconds", "600", "--json", tmp_path / "b.json")
    wait_until_paced(process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out.endswith("interrupted: the figures are of the part that ran\n")
    result = json.loads((tmp_path / "b.json").read_text())
    assert result["back_to_back"]["samples"] == 50
    assert result["paced"]["interrupted"] is True
    assert 0 < result["paced"]["response"]["samples"] < 120_000


def wait_until_paced(process) -> None:
    """Wait until a process has slept 400 times: only the paced run does, before every step."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE)[1]) > 400:
            return
        time.sleep(0.05)
    raise TimeoutError("the paced run never began")


# ---- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_says_what_is_ready(call):
    code, out, _ = call("doctor")
    assert code == 0
    for what in ("backend onnxruntime", "export", "train", "plot"):
        assert re.search(rf"^ *{what} +ready", out, flags=re.M)
    assert out.splitlines()[-1] == f"lnn-edge {lnn_edge.__version__}: ready to run bundles on onnxruntime"


def test_doctor_json(call):
    code, out, err = call("doctor", "--json", "-")
    result = json.loads(out)
    assert (code, result["ready"]) == (0, True)
    extras = {"export", "train", "plot"}
    assert {f["what"] for f in result["findings"]} == {"backend tensorrt", "backend onnxruntime", "CPU clock"} | extras
    assert "ready to run bundles" in err


@pytest.fixture(scope="session")
def bare(tmp_path_factory) -> dict[str, str]:
    """An environment without torch, onnx, ncps and onnxruntime: links to everything else that is installed."""
    target = tmp_path_factory.mktemp("bare")
    for name in ("msgspec", "rich", "numpy", "numpy.libs", "safetensors", "pygments", "markdown_it", "mdurl"):
        for place in sys.path:
            if place.endswith("site-packages") and Path(place, name).exists():
                (target / name).symlink_to(Path(place, name))
                break
    return os.environ | {"PYTHONPATH": f"{ROOT}:{target}"}


def bare_call(bare, *arguments):
    """Run a command with the standard library and what `bare` links to, without this interpreter's site-packages."""
    command = [sys.executable, "-S", "-m", "lnn_edge", *map(str, arguments)]
    return subprocess.run(command, env=bare, capture_output=True, text=True, check=False)


def test_doctor_says_what_is_missing_and_what_to_type(bare):
    done = bare_call(bare, "doctor", "--json", "-")
    assert done.returncode == 5, done.stderr
    rows = {f["what"]: (f["status"], f["found"], f["fix"]) for f in json.loads(done.stdout)["findings"]}
    found = "no module onnxruntime; needs base install"
    assert rows["backend onnxruntime"] == ("missing", found, "pip install lnn-edge")
    found = "no torch, ncps, onnx; only the workstation needs them"
    assert rows["export"] == ("missing", found, "pip install 'lnn-edge[export]'")
    found = "no scikit-learn, torch, ncps, onnx; only the workstation needs them"
    assert rows["train"] == ("missing", found, "pip install 'lnn-edge[train]'")
    assert rows["plot"] == ("missing", "no matplotlib; only the workstation needs them", "pip install 'lnn-edge[plot]'")
    assert re.search(r"backend onnxruntime +missing +no module onnxruntime; needs base install", done.stderr)
    assert done.stderr.endswith(": no backend is ready; type: pip install lnn-edge\n")


def test_doctor_finds_a_broken_installation(bare, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libonnxruntime.so: cannot open shared object file')")
    broken = bare | {"PYTHONPATH": f"{bare['PYTHONPATH']}:{tmp_path}"}
    done = bare_call(broken, "doctor", "--json", "-")
    result = json.loads(done.stdout)
    assert (done.returncode, result["ready"]) == (5, False)
    assert (
        "cannot open shared object file. It needs: base install"
        in {f["what"]: f["found"] for f in result["findings"]}["backend onnxruntime"]
    )


def test_run_without_a_backend_is_not_ready(bare, cfc_bundle):
    done = bare_call(bare, "run", cfc_bundle)
    assert done.returncode == 5
    assert done.stderr == "lnn-edge: no backend is ready on this machine. Type: pip install lnn-edge\n"


@pytest.mark.parametrize("command", [["export", "train.py:make", "x.lnn"], ["verify", "{}", "--against", "t.py:m"]])
def test_export_without_torch_is_not_ready(bare, cfc_bundle, command):
    done = bare_call(bare, *(part.format(cfc_bundle) for part in command))
    assert done.returncode == 5
    assert "exporting needs torch, ncps and onnx, and 'ncps' is not installed" in done.stderr
    assert "Type: pip install 'lnn-edge[export]'" in done.stderr
