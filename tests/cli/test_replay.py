"""`lnn-edge replay` as it is typed."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from ticks import Robot, bundle, model_of, put, record

from lnn_edge import Recorder


@pytest.fixture
def walk(tmp_path):
    """A recording."""
    record(tmp_path / "walk.mcap", model_of("fixed_2"), ["good", "refused", "good", "reset"] * 5, state_every=3)
    return tmp_path / "walk.mcap"


@pytest.fixture
def changed(tmp_path):
    """A recording with another output than the bundle gives."""
    robot = Robot(model_of("fixed_2"))
    with Recorder(tmp_path / "changed.mcap", robot.model) as recorder:
        for k in range(4):
            tick = robot.tick()
            put(recorder, robot, tick._replace(raw=tick.raw * np.float32(2)) if k == 2 else tick, k)
    return tmp_path / "changed.mcap"


def test_the_same_is_a_success(call, walk):
    code, out, err = call("replay", bundle("fixed_2"), walk)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{walk}: the same bit for bit: 15 ticks with all that was recorded; 5 ticks were refused, as then",
        f"{bundle('fixed_2')}: 1 of 1 recording the same",
    ]


def test_a_difference_has_an_exit_code_of_its_own_and_says_where(call, walk, changed, tmp_path):
    code, out, _ = call("replay", bundle("fixed_2"), walk, changed, "--jobs", "1", "--json", tmp_path / "found.json")
    assert code == 3
    first, second, last = out.splitlines()
    assert ": the same bit for bit: " in first
    assert re.search(r": DIFFERENT, first at tick 2: 'walk' was \S+, and is \S+, in 1 tick of 4; expected the", second)
    assert last.endswith(": 1 of 2 recordings the same")
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["same"] for row in found["recordings"]] == [True, False]
    assert found["recordings"][1]["first"]["tick"] == 2
    assert not found["same"]


def test_a_name_that_is_no_utf_8_goes_into_json(call, walk):
    """Python has its odd bytes as halves of surrogates, which neither UTF-8 nor JSON's readers know."""
    odd = walk.rename(walk.with_name("walk\udcff.mcap"))
    code, out, _ = call("replay", bundle("fixed_2"), odd, "--json", "-")
    assert (code, json.loads(out)["recordings"][0]["recording"]) == (0, f"{walk.parent}/walk\\udcff.mcap")


def test_several_go_through_processes(call, walk):
    code, out, _ = call(
        "replay", bundle("fixed_2"), walk, walk, "--jobs", "2", "--backend", "onnxruntime", "--json", "-"
    )
    assert code == 0
    assert [row["backend"][:11] for row in json.loads(out)["recordings"]] == ["onnxruntime"] * 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("no.lnn", "walk.mcap"), 6, "no.lnn"),
        ((bundle("fixed_2"), "no.mcap"), 2, "no.mcap"),
        ((bundle("measured_2"), "walk.mcap"), 2, "is of bundle 'fixed_2'"),
        ((bundle("fixed_2"), "text.mcap"), 2, "cannot be read: it is no file of MCAP"),
        ((bundle("fixed_2"), "walk.mcap", "--backend", "nativ"), 2, "native"),
        ((bundle("fixed_2"), "walk.mcap", "--jobs", "0"), 2, "--jobs"),
        ((bundle("fixed_2"),), 2, "RECORDING"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments, code, message, call, walk, monkeypatch):
    monkeypatch.chdir(walk.parent)
    (walk.parent / "text.mcap").write_text("time,x\n0,1\n")
    found, out, err = call("replay", *arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
