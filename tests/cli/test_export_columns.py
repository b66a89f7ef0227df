"""Columns of several inputs and outputs as they are typed for `lnn-edge export`."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import manifest_of
from command_line import csv_text, samples, table

from lnn_edge.bundle.spec import Feature
from lnn_edge.cli.arguments.columns import names_list

NETS = """
import torch
from torch import nn
from ncps.torch import CfC

class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.rnn, self.velocity, self.heading = CfC(3, 6), nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x):
        y, _ = self.rnn(x)
        return {"velocity": self.velocity(y), "heading": self.heading(y)}

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.rnn = CfC(3, 6)

    def forward(self, acc, gyro):
        return self.rnn(torch.cat([acc, gyro], -1))[0]
"""
VELOCITY, HEADING = [("vx", "m/s"), ("vy", "m/s")], [("sin", None), ("cos", None)]


@pytest.fixture
def nets(work, short_commands):
    (work / "nets.py").write_text(NETS)
    (work / "x.csv").write_text(csv_text(samples(60), ["a", "b", "c"]))
    return work


def exported(call, nets, *arguments, source="nets.py:Heads"):
    code, _, err = call("export", source, "m.lnn", "--example", "x.csv", *arguments)
    assert code == 0, err
    manifest = manifest_of(nets / "m.lnn")
    sides = (manifest.inputs, manifest.outputs)
    return tuple({t.name: [(f.name, f.unit) for f in t.features] for t in side} for side in sides)


@pytest.mark.parametrize(
    "outputs",
    [
        ["--outputs", "vx:m/s,vy:m/s,sin,cos"],
        ["--outputs", "vx:m/s, vy:m/s", "--outputs", "sin,cos"],
        ["--outputs", "heading=sin,cos", "--outputs", "velocity=vx:m/s,vy:m/s"],
        ["--outputs=velocity= vx:m/s,vy:m/s", "--outputs=heading=sin,cos"],
    ],
)
def test_two_heads_are_named_and_run(call, nets, outputs):
    _, got = exported(call, nets, "--inputs", "a,b,c", *outputs)
    assert got == {"velocity": VELOCITY, "heading": HEADING}
    code, out, _ = call("run", "m.lnn", "--input", "x.csv")
    assert (code, table(out)[0]) == (0, ["vx", "vy", "sin", "cos"])


def test_several_inputs_are_named_and_their_columns_come_of_one_table(call, nets):
    got, _ = exported(call, nets, "--inputs", "gyro=c:rad/s", "--inputs", "acc=b,a", source="nets.py:Two")
    assert got == {"acc": [("b", None), ("a", None)], "gyro": [("c", "rad/s")]}
    code, out, _ = call("verify", "m.lnn", "--against", "nets.py:Two", "--example", "x.csv", "--steps", 1000)
    assert (code, "equal over" in out) == (0, True)
    np.savez(nets / "x.npz", acc=np.ones((1, 40, 2), np.float32), gyro=np.ones((1, 40, 1), np.float32))
    options = ["--overwrite", "--inputs", "b,a", "--inputs", "c:rad/s"]
    assert call("export", "nets.py:Two", "m.lnn", "--example", "x.npz", *options)[0] == 0
    names = {t.name: [f.name for f in t.features] for t in manifest_of(nets / "m.lnn").inputs}
    assert names == {"acc": ["b", "a"], "gyro": ["c"]}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--outputs", "vx,vy,sin"],
            (
                "--outputs has 3 names for velocity (2 columns), heading (2 columns): name all of them in a row, or "
                "name the columns of each: --outputs velocity=velocity_0,velocity_1 --outputs "
                "heading=heading_0,heading_1\n"
            ),
        ),
        (["--outputs", "vx,vy", "--outputs", "sin"], "--outputs has 3 names for velocity (2 columns), heading"),
        (
            ["--outputs", "velocity=vx,vy", "--outputs", "sin,cos"],
            "--outputs is given with a name and without one. Type",
        ),
        (["--outputs", "heading=a,b", "--outputs", "heading=c,d"], "--outputs names 'heading' 2 times. Type --outputs"),
        (["--outputs", "speed=a,b"], "--outputs names 'speed'. Valid: velocity, heading."),
        (["--outputs", "vx:m/s:1,vy,sin,cos"], "'vx:m/s:1' is no column: expected name, name:unit or"),
    ],
)
def test_names_that_do_not_fit_are_told_with_the_form(call, nets, options, told):
    code, out, err = call("export", "nets.py:Heads", "m.lnn", "--example", "x.csv", "--inputs", "a,b,c", *options)
    assert (code, out) == (2, "")
    assert told in err
    assert not (nets / "m.lnn").exists()


def test_a_second_list_of_a_model_with_one_output_replaces_nothing(call, nets):
    code, _, err = call("export", "train.py:ready", "m.lnn", "--outputs", "l,r", "--outputs", "left,right")
    assert (code, "--outputs names ['l', 'r', 'left', 'right'], expected 2 different names" in err) == (2, True)


def test_a_colon_of_a_column_is_written_with_a_backslash(call, nets):
    (nets / "x.csv").write_text(csv_text(samples(60), ["a:raw", "b", "c"]))
    options = ["export", "train.py:ready", "m.lnn", "--example", "x.csv", "--inputs"]
    code, _, err = call(*options, "a:raw,b,c")
    assert code == 2
    assert err.startswith("lnn-edge: 'x.csv' has no column 'a', but 'a:raw'. A colon ends a name in --inputs; one that")
    assert err.endswith("is written with a backslash: --inputs 'a\\:raw'\n")
    assert call(*options, r"a\:raw:g:-9:9,b,c")[0] == 0
    (first, *_) = manifest_of(nets / "m.lnn").inputs[0].features
    assert (first.name, first.unit, first.limits) == ("a:raw", "g", (-9.0, 9.0))
    assert call("run", "m.lnn", "--input", "x.csv")[0] == 0


def test_commas_and_equals_signs_of_columns():
    assert names_list("--inputs", [r"a\,b:m,c\=d"]) == [Feature("a,b", "m"), Feature("c=d")]
    assert names_list("--inputs", [r"enc.x=a\=b"]) == {"enc.x": [Feature("a=b")]}
    assert names_list("--inputs", ["a:x=y"]) == [Feature("a", "x=y")]  # of a unit
