"""`lnn-edge export` as it is typed: sources, arguments, examples, and what it prints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from bundles import INPUTS, manifest_of, small_cfc
from command_line import bare_call, csv_text, samples, table
from hidden_packages import HIDDEN
from safetensors.torch import save_model

import lnn_edge
from lnn_edge.cli.arguments.example import load_scaling
from lnn_edge.export.forward.arguments import TIME_NAMES
from lnn_edge.wording import listed


def test_export_inspect_and_bench_tell_about_blocks(call, work, short_commands):
    assert call("export", "train.py:ready", "m.lnn", "--unroll", 4, "--period-s", 0.5, "--steps", 1000)[0] == 0
    assert "blocks of 4 samples" in call("inspect", "m.lnn")[1]
    code, out, _ = call("bench", "m.lnn", "--steps", 100, "--warmup", 10, "--seconds", 0.1, "--json", "bench.json")
    assert code == 0
    assert "each step takes a block of 4 samples" in out
    assert "paced 0.5 Hz" in out  # a block every four periods
    assert json.loads(Path("bench.json").read_text())["samples_per_step"] == 4
    assert call("export", "train.py:ready", "n.lnn", "--unroll", 0)[0] == 2


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


@pytest.mark.parametrize("column", ["acc:m/s2:1", "acc:m/s2:low:high", "acc:m/s2:1:2:3"])
def test_export_refuses_columns_that_are_none(call, work, column):
    code, _, err = call("export", "train.py:make_model", "gait.lnn", "--inputs", f"a,{column},b")
    assert code == 2
    assert f"'{column}' is no column: expected name, name:unit or name:unit:low:high, as gap:s:0.001:0.5" in err


def test_export_from_a_file(call, work, short_commands):
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


def test_export_and_inspect_tell_about_windows_and_labels(call, work, short_commands):
    np.save("x.npy", np.random.default_rng(0).standard_normal((9, 12, 3)).astype(np.float32))
    code, out, _ = call("export", "train.py:make_model", "gait.lnn", "--example", "x.npy")
    assert (code, manifest_of(Path("gait.lnn")).window) == (0, None)
    assert "windows: after 12 samples a kept state changes 'output' by" in out  # the example looks like windows
    chosen = ["--window", "6", "--every", "3", "--readout", "mean:4", "--labels", "on foot, running"]
    code, out, _ = call("export", "train.py:make_model", "gait.lnn", "--example", "x.npy", "--overwrite", *chosen)
    assert code == 0
    assert "windows: after 6 samples a kept state changes 'output' by" in out
    manifest = manifest_of(Path("gait.lnn"))
    assert (manifest.window.length, manifest.window.every, manifest.labels) == (6, 3, ("on foot", "running"))
    assert [f.name for f in manifest.outputs[0].features] == ["on foot", "running"]
    out = call("inspect", "gait.lnn")[1]
    assert "window: trained on 6 samples, every 3; a kept state changes the output by " in out
    assert "readout: mean of the last 4 outputs\n" in out
    assert "labels: on foot, running\n" in out
    assert call("verify", "gait.lnn")[0] == 0


REACH = """import torch
from ncps.torch import CfC


class Reach(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.rnn = torch.nn.Embedding(4, 2), CfC(5, 6)

    def forward(self, x, goal):
        beside = goal.unsqueeze(1).expand(-1, x.shape[1], -1)
        return self.rnn(torch.cat([x[..., :1], self.table(x[..., 1].long()), beside], -1))[0]


def make():
    torch.manual_seed(0)
    return Reach()
"""


def test_constants_from_the_example_to_the_stream(call, work, short_commands):
    (work / "reach.py").write_text(REACH)
    draws = np.random.default_rng(0)
    x = np.stack([draws.normal(size=(3, 12)), draws.integers(0, 4, (3, 12))], -1).astype(np.float32)
    np.savez("walk.npz", x=x, goal=draws.normal(size=(3, 2)).astype(np.float32))
    named = ["--example", "walk.npz", "--constants", "goal", "--inputs", "speed,gear::0:3"]
    code, _, err = call("export", "reach.py:make", "reach.lnn", *named)
    assert code == 0, err
    (goal,) = [line for line in call("inspect", "reach.lnn")[1].splitlines() if line.lstrip().startswith("goal ")]
    assert "[1, 2], once per sequence" in goal
    rows = csv_text(x[0].tolist(), ["speed", "gear"])
    code, out, err = call("run", "reach.lnn", "--constant", "goal=0.5,-1", stdin=rows)
    assert code == 0, err
    got = np.array(table(out)[1], np.float32)
    np.testing.assert_array_equal(got, lnn_edge.load("reach.lnn").stream(constants={"goal": [0.5, -1]}).run(x[0]))
    kept = ["--input", "x.csv", "--output", "y.csv", "--constant", "goal=0.5,-1", "--resume", "reach.snapshot"]
    for count in (5, 13):  # it goes on with the constants that it had, and with no others
        (work / "x.csv").write_text("".join(rows.splitlines(keepends=True)[:count]))
        assert call("run", "reach.lnn", *kept)[0] == 0
        kept[5] = "goal=0.50,-1.0e0"  # the same numbers
    assert (work / "y.csv").read_text() == out
    code, _, err = call("run", "reach.lnn", *kept, "--constant", "goal=0.5,-1.5")
    assert (code, "--constant goal is given twice" in err) == (2, True)
    code, _, err = call("run", "reach.lnn", *[word.replace("-1", "-2") for word in kept])
    assert code == 2
    assert "with --constant goal=0.50,-1.0e0, and this is one with --constant goal=0.50,-2.0e0. " in err
    assert call("verify", "reach.lnn", "--against", "reach.py:make", "--example", "walk.npz")[0] == 0
    assert call("verify", "reach.lnn", "--against", "reach.py:make")[0] == 0
    for wrong, message in (
        ([], "'reach' has constant inputs, which each recording needs. Type, with their values: --constant goal=0,0"),
        (["--constant", "goal=0.5"], "`goal` has shape (1,), but model 'reach' takes shape (2,) per sequence"),
        (["--constant", "goal"], "--constant is 'goal', expected a name and numbers: --constant goal=0.5,-1.2"),
        (["--constant", "goal=1,2", "--constant", "goal=1,2"], "--constant goal is given twice"),
    ):
        code, out, err = call("run", "reach.lnn", *wrong, stdin=rows)
        assert (code, out) == (2, "")
        assert message in err


def test_scaling_from_a_file(call, work, short_commands):
    np.save("x.npy", 2.0 + samples(40))
    Path("scale.json").write_text('{"mean": [2.0, 2.0, 2.0], "std": [1.0, 0.5, 2]}')
    np.savez("targets.npz", mean=np.zeros(2), std=np.full(2, 3.0))
    chosen = ["--example", "x.npy", "--scale-inputs", "scale.json", "--scale-outputs", "targets.npz"]
    code, _, err = call("export", "train.py:make_model", "gait.lnn", *chosen)
    assert code == 0, err
    x = samples(20)
    (plain,) = [lnn_edge.load("gait.lnn").stream().run(2.0 + x * np.float32([1.0, 0.5, 2.0]))]
    assert call("export", "train.py:make_model", "plain.lnn", "--example", "x.npy")[0] == 0
    np.testing.assert_allclose(plain, 3.0 * lnn_edge.load("plain.lnn").stream().run(x), atol=5e-6)
    assert call("verify", "gait.lnn", "--against", "train.py:make_model", *chosen)[0] == 0
    assert (
        "--scale-inputs has a meaning only with --against" in call("verify", "gait.lnn", "--scale-inputs", "x.json")[2]
    )


@pytest.mark.parametrize("name", ["s.json", "s.npz"])
def test_scaling_by_name_from_a_file(name, tmp_path):
    Path(tmp_path / "s.json").write_text('{"x": {"mean": 7, "std": 2}, "goal": {"mean": [1, 2], "std": 3}}')
    np.savez(tmp_path / "s.npz", **{"x.mean": 7, "x.std": 2, "goal.mean": [1, 2], "goal.std": 3})
    found = load_scaling("--scale-inputs", str(tmp_path / name))
    assert isinstance(found, dict)
    assert {own: tuple(map(np.ndarray.tolist, map(np.array, pair))) for own, pair in found.items()} == {
        "x": (7, 2),
        "goal": ([1, 2], 3),
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.json", "{", "--scale-inputs 's.json' is no JSON"),
        ("s.json", '{"mean": 1}', r"--scale-inputs 's.json' holds ['mean'], expected mean and std"),
        ("s.json", "[1, 2]", "--scale-inputs 's.json' holds list, expected mean and std"),
        (
            "s.json",
            " " * (1 << 24) + "{}",
            "'s.json' has 16,777,218 bytes, expected mean and std of at most",
        ),
        ("s.txt", "", "--scale-inputs is 's.txt', expected a .json or .npz file with mean and std"),
        ("s.json", '{"mean": 0, "std": 0}', "--scale-inputs has a std of 0"),
    ],
)
def test_a_file_that_holds_no_scaling(name, content, message, call, work):
    np.save("x.npy", samples(40))
    Path(name).write_text(content)
    code, _, err = call("export", "train.py:make_model", "gait.lnn", "--example", "x.npy", "--scale-inputs", name)
    assert code == 2
    assert message in err


@pytest.mark.parametrize("content", [b"nothing", b"PK\x03\x04 cut"])
def test_an_archive_that_is_none(content, call, work):
    Path("x.npz").write_bytes(content)
    code, _, err = call("export", "train.py:make_model", "gait.lnn", "--example", "x.npz")
    assert code == 2
    assert "--example 'x.npz' is no archive of arrays of numbers" in err
    assert "In Python type: np.savez('x.npz', x=..., goal=...)" in err


def test_export_from_a_package_with_measured_time(call, work, short_commands):
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
    assert err.endswith("; untrained? No --weights FILE was given\n")
    assert (
        "weights     untrained? No --weights FILE was given: they are as the function built them"
        in call("inspect", "drift.lnn")[1]
    )
    assert lnn_edge.load("drift.lnn").manifest.provenance.weights == "as built"
    when = lnn_edge.load("drift.lnn").time
    assert (when.mode, when.dt_range_s, when.timespan) == ("measured", (0.05, 0.5), 2.0)


def test_functions_that_the_source_imports_are_no_steps(call, work):
    (work / "loop.py").write_text("from train import make_model\nfrom shutil import copy\n\ndef turn(): ...\n")
    code, _, err = call("export", "loop.py:make_model", "gait.lnn", "--step", "trun")
    assert code == 2
    assert "Did you mean 'turn'?" in err
    assert "copy" not in err


@pytest.mark.parametrize("what", ["ready", "four"])
def test_export_takes_a_module_itself_or_a_partial(call, work, what, short_commands):
    assert call("export", f"train.py:{what}", "gait.lnn")[0] == 0


def test_export_says_where_it_saved(call, work):
    (work / "bundles").mkdir()
    code, out, _ = call("export", "train.py:make_model", "bundles/gait.lnn", "--steps", 1001)
    assert code == 0
    assert out.splitlines()[-1].startswith("saved bundles/gait.lnn: equal to torch within ")
    first = json.loads(Path("bundles/gait.lnn/report.json").read_bytes())["segments"][0]
    assert (first["name"], first["steps"]) == ("random", 1001)


def test_export_of_a_network_asks_for_an_example_as_it_is_typed(call, work):
    (work / "net.py").write_text(
        "from ncps.torch import CfC\nfrom torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.rnn = CfC(3, 4)\n\n    def forward(self, x):\n"
        "        return self.rnn(x)\n\nclass Gaps(Net):\n    def forward(self, x, gaps):\n"
        "        return self.rnn(x, timespans=gaps)\n"
    )
    code, _, err = call("export", "net.py:Net", "gait.lnn")
    assert code == 2
    assert "a network needs --example FILE.npy, recorded samples as its forward takes them" in err
    np.save("x.npy", samples(9)[None])
    code, _, err = call("export", "net.py:Gaps", "gait.lnn", "--example", "x.npy")
    assert code == 2
    assert "--example is ndarray, but the model takes the inputs ['x', 'gaps']: pass --example FILE.npz" in err
    assert "made with np.savez. If one of them is the time between samples, call it one of `timespans`," in err


def test_help_says_what_a_forward_must_call_time(call):
    """Written down twice, because the help must not import torch."""
    _, out, _ = call("export", "--help")
    assert f"called {listed(TIME_NAMES)}" in " ".join(out.split())
    assert " ".join(lnn_edge.export_model.__doc__.split()).count(f"called {listed(f'`{n}`' for n in TIME_NAMES)}") == 1


def test_export_refuses_what_exists_before_it_builds_the_model(call, work, cfc_bundle):
    code, _, err = call("export", "none.py:make", cfc_bundle)
    assert code == 2
    assert "exists. Choose another name, or pass --overwrite" in err


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
def test_export_says_what_is_wrong_with_the_source(call, work, source, code, expected, short_commands):
    (work / "syntax.py").write_text("def make(:\n")
    (work / "exits.py").write_text("import sys\nsys.exit(1)\ndef make(): ...\n")
    (work / "needs.py").write_text("import surely_not_installed\ndef make(): ...\n")
    got, out, err = call("export", source, "gait.lnn", "--steps", 1000)
    assert (got, out) == (code, "")
    assert expected in err
    assert "Traceback" not in err
    assert "source.py" not in err  # a line of our own
    assert not [name for name in os.listdir(work) if "lnn" in name]


@pytest.mark.parametrize("kind", ["csv", "npy"])
def test_export_uses_recorded_samples(call, work, kind, short_commands):
    xs = samples(10)
    if kind == "npy":
        np.save("x.npy", xs)
        arguments = ["--example", "x.npy"]
    else:
        rows = [(k // 5, *x) for k, x in enumerate(xs)]
        Path("x.csv").write_text(csv_text(rows, ["who", *INPUTS]))
        arguments = ["--example", "x.csv", "--inputs", ",".join(INPUTS), "--reset-column", "who"]
    code, _, err = call("export", "train.py:make_model", "gait.lnn", *arguments)
    assert code == 0, err
    features = manifest_of(Path("gait.lnn")).inputs[0].features
    assert [f.range for f in features] == [(min(c), max(c)) for c in xs.T.tolist()]
    report = msgspec.json.decode(Path("gait.lnn/report.json").read_bytes())
    assert report["segments"][0]["name"] == "recorded"
    assert report["segments"][0]["sequences"] == (3 if kind == "csv" else 2)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--example", "x.csv"], "--example with a .csv file needs --inputs"),
        (["--example", "x.wav"], "--example is 'x.wav', expected a .npy, .npz or .csv file"),
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
        (["--example", "wide.npy"], "--example has shape (9, 4), but the model takes 3 features"),
        (["--steps", "10"], "--steps is 10, expected at least 1000 steps for a proof"),
        (["--batch", "0"], "--batch: expected a whole number from 1 to 1,048,576, got '0'"),
        (
            ["--time", "measured"],
            "--time measured needs the nominal time between samples: --period-s S in seconds, or --rate HZ",
        ),
        (["--period-s", "nan"], "--period-s: expected a number above 0, got 'nan'"),
        (["--inputs", "a,b"], "--inputs names ['a', 'b'], expected 3 different names"),
        (["--inputs", "a,,b"], "--inputs has the name '', expected a name without spaces around it"),
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


def test_ctrl_c_ends_export_with_130_and_leaves_nothing(start, work, warm):
    process = start("export", "train.py:make_model", "gait.lnn", "--steps", "200000", env=warm)
    assert "no --weights" in process.stderr.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr.read() == "lnn-edge: interrupted; nothing half-written is left\n"
    assert not [name for name in os.listdir(work) if "lnn" in name]


@pytest.mark.parametrize("command", [["export", "train:make", "x.lnn"], ["verify", "{}", "--against", "t:m"]])
def test_export_without_torch_is_not_ready(bare, cfc_bundle, command):
    done = bare_call(bare, *(part.format(cfc_bundle) for part in command))
    assert done.returncode == 5
    assert "exporting needs torch, ncps and onnx, and 'ncps' is not installed" in done.stderr
    assert "Type: pip install 'lnn-edge[export]'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none.py:make", "m.lnn"], "no file 'none.py'"),
        (["trian.py:make", "m.lnn"], "no file 'trian.py'. Valid: train.py. Did you mean 'train.py'?"),
        (["train.py:make_modle", "m.lnn"], "Did you mean 'make_model'?"),
        (["train.py:ready", "m"], "a bundle's name ends in '.lnn', got 'm'. Type: m.lnn"),
        (["train.py:ready", "m.lnn", "--weights", "none.pt"], "no weights file 'none.pt'"),
        (["train.py:ready", "m.lnn", "--inputs", "a:m/s:1"], "'a:m/s:1' is no column: expected name"),
        (["train.py:ready", "m.lnn", "--example", "x.txt"], "--example is 'x.txt', expected"),
        (["train.py:ready", "m.lnn", "--scale-inputs", "x.txt"], "--scale-inputs is 'x.txt', expected"),
        (["train.py:ready", "m.lnn", "--time", "measured"], "--period-s S in seconds, or --rate HZ"),
        (["train.py:ready", "m.lnn", "--dt-range-s", "1", "2"], "--dt-range-s has a meaning only with --time measured"),
    ],
)
def test_what_needs_no_torch_is_checked_before_it_is_imported(warm_device, work, arguments, expected):
    without = warm_device | {HIDDEN: "torch,ncps,onnx"}
    done = subprocess.run(
        ["python", "-m", "lnn_edge", "export", *arguments], env=without, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")  # without torch, which would be 5
    assert expected in done.stderr


def test_a_file_that_makes_names_while_it_runs_is_run(call, work, short_commands):
    (work / "made.py").write_text("import train\nglobals()['net'] = train.make_model\n")
    assert call("export", "made.py:net", "m.lnn")[0] == 0
    (work / "starred.py").write_text("from train import *\n")
    assert call("export", "starred.py:make_model", "n.lnn")[0] == 0


def test_a_rate_is_a_period(call, work, short_commands):
    assert call("export", "train.py:ready", "m.lnn", "--rate", "100", "--period-s", "0.01")[0] == 0
    assert manifest_of(work / "m.lnn").time.period_s == 0.01
    assert call("export", "train.py:ready", "n.lnn", "--rate", "30")[0] == 0
    assert manifest_of(work / "n.lnn").time.period_s == 1 / 30
    code, out, err = call("export", "train.py:ready", "o.lnn", "--rate", "100", "--period-s", "0.1")
    assert (code, out) == (2, "")
    assert err == "lnn-edge: --rate 100 is a period of 0.01 s, but --period-s is 0.1: leave one of them out\n"


def test_errors_of_a_command_name_its_options(call, work, short_commands):
    (work / "net.py").write_text(OWN_LOOP)
    _, _, err = call("export", "net.py:Loop", "m.lnn")
    assert "--step NAME, of a function or method step(model, x, state)" in err
    assert "step=" not in err
    _, _, err = call("export", "train.py:ready", "m.lnn", "--labels", "a,a")
    assert "--labels are ['a', 'a'], expected different names" in err


OWN_LOOP = """
import torch
from ncps.torch import LTCCell
from ncps.wirings import AutoNCP

class Loop(torch.nn.Module):
    def __init__(self):
        super().__init__()
        wiring = AutoNCP(10, 2)
        wiring.build(3)
        self.cell = LTCCell(wiring, 3)

    def forward(self, x):
        h, ys = torch.zeros(len(x), 10), []
        for t in range(x.shape[1]):
            y, h = self.cell(x[:, t], h)
            ys.append(y)
        return torch.stack(ys, 1)
"""


def test_errors_of_python_name_its_arguments(tmp_path):
    (tmp_path / "m.lnn").mkdir()
    (tmp_path / "m.lnn" / "manifest.json").write_text("")
    with pytest.raises(ValueError, match=r"or pass overwrite=True$"):
        lnn_edge.export_model(small_cfc(), tmp_path / "m.lnn")


def test_a_scaling_that_unpacks_to_very_much_is_refused_before_it_is_unpacked(call, work):
    np.savez_compressed("s.npz", mean=np.zeros(1 << 22), std=np.ones(3))
    code, _, err = call("export", "train.py:make_model", "gait.lnn", "--scale-inputs", "s.npz")
    assert code == 2
    assert "--scale-inputs 's.npz' is no archive of arrays of numbers: it holds 33,554,7" in err
    assert "In Python type: np.savez('s.npz', mean=..., std=...)" in err
