"""`lnn-edge run` of bundles with several inputs: all their columns come of one table."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from command_line import csv_text
from exports import proven
from ncps.torch import CfC
from torch import nn

import lnn_edge

OUT, KEPT = "y.csv", "run.snapshot"
LOOP = ["--on-fault", "hold"]


class Arms(nn.Module):
    """Two arms, and what the right one has."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.rnn, self.grip = CfC(4, 6), nn.Embedding(5, 2)
        self.out = nn.Linear(6, 2)

    def forward(self, left, right, held):
        taken = self.grip(held[..., 0].long())
        return self.out(self.rnn(torch.cat([left, right, taken[..., :1]], -1))[0])


def example(rows=80):
    xs = np.random.default_rng(1).uniform(-1, 1, (1, rows, 3)).astype(np.float32)
    held = np.random.default_rng(2).integers(0, 5, (1, rows, 1), dtype=np.int32)
    return {"left": xs[..., :2], "right": xs[..., 2:], "held": held}


NAMES = {"left": ["x", "y"], "right": ["x"], "held": ["what"]}
COLUMNS = ["left.x", "y", "right.x", "what"]


@pytest.fixture(scope="session")
def arms(tmp_path_factory):
    given = {"inputs": NAMES, "example": example(), "period_s": 0.1}
    return proven(tmp_path_factory, Arms, "arms.lnn", short=True, **given)


@pytest.fixture(scope="session")
def blocks(tmp_path_factory):
    given = {"inputs": NAMES, "example": example(), "period_s": 0.1, "time": "measured", "unroll": 4}
    return proven(tmp_path_factory, Arms, "blocks.lnn", short=True, **given)


def rows(count=20):
    own = example(count)
    return np.concatenate([own[name][0] for name in NAMES], -1).astype(np.float64).tolist()


def table(xs, columns=("t", "what", "y", "right.x", "other", "left.x")):
    """In another order, with a column that nobody asked for."""
    found = [{"t": round(0.1 * k, 6), "other": 7, **dict(zip(COLUMNS, x, strict=True))} for k, x in enumerate(xs)]
    return csv_text([[own[name] for name in columns] for own in found], list(columns))


def by_input(xs):
    array = np.array(xs, np.float32)
    return {"left": array[:, :2], "right": array[:, 2:3], "held": array[:, 3:].astype(np.int32)}


def expected(bundle, xs, **time):
    model = lnn_edge.load(bundle, backend="onnxruntime")
    return [[float(str(v)) for v in y] for y in model.stream().run(by_input(xs), **time)]


def outputs(text, columns=slice(0, 2)):
    return [[float(v) for v in line.split(",")[columns]] for line in text.splitlines()[1:]]


@pytest.mark.parametrize("options", [[], LOOP, ["--rate", "10", "--late", "at-once"]], ids=["rows", "loop", "rate"])
def test_columns_are_found_by_input_and_name(call, arms, options):
    xs = rows(20 if "--rate" not in options else 3)
    code, out, err = call("run", arms, "--backend", "onnxruntime", *options, stdin=table(xs))
    assert code == 0, err
    assert outputs(out) == expected(arms, xs)


def test_blocks_and_measured_time(call, blocks):
    xs = rows(22)
    code, out, err = call("run", blocks, "--backend", "onnxruntime", "--time-column", "t", stdin=table(xs))
    assert code == 0, err
    assert "2 at the ends of recordings filled no block" in err
    assert outputs(out, slice(1, 3)) == expected(blocks, xs[:20], t_s=0.1 * np.arange(20).round(6))


def test_a_column_that_is_missing_is_told_by_its_name(call, arms):
    code, _, err = call("run", arms, stdin=table(rows(3)).replace("right.x", "rightx", 1))
    assert code == 2
    assert "right.x" in err


@pytest.mark.parametrize("options", [["--on-bad", "skip"], LOOP], ids=["rows", "loop"])
def test_what_is_wrong_is_told_by_input(call, arms, options):
    xs = rows(6)
    xs[2][3], xs[4][0] = 9, "bad"
    code, out, err = call("run", arms, "--backend", "onnxruntime", "--format", "jsonl", *options, stdin=table(xs))
    assert code == 0, err
    assert "'left.x' is 'bad', expected a number" in err
    good = [x for k, x in enumerate(xs) if k not in (2, 4)]
    found = [json.loads(line) for line in out.splitlines()]
    stepped = [own for own in found if own.get("status", "ok") == "ok"]
    assert [list(own.values())[:2] for own in stepped] == expected(arms, good)


def test_values_are_held_by_column(call, arms, tmp_path):
    xs = rows(6)
    filled = [list(x) for x in xs]
    filled[2][0], filled[3][2] = filled[1][0], filled[2][2]
    xs[2][0], xs[3][2] = "", ""
    options = ["--on-bad", "hold", "--json", tmp_path / "facts.json"]
    code, out, err = call("run", arms, "--backend", "onnxruntime", *options, stdin=table(xs))
    assert code == 0, err
    assert outputs(out) == expected(arms, filled)
    assert json.loads((tmp_path / "facts.json").read_text())["values_held_by_column"] == {"left.x": 1, "right.x": 1}


def test_a_loop_holds_values_by_column(call, arms, tmp_path):
    xs = rows(9)
    filled = [list(x) for x in xs]
    filled[2][0], filled[3][2], filled[5][3] = filled[1][0], filled[2][2], filled[4][3]
    xs[2][0], xs[3][2], xs[5][3] = "", "", ""
    options = [*LOOP, "--on-bad", "hold", "--record", tmp_path / "a.mcap"]
    code, out, err = call("run", arms, "--backend", "onnxruntime", *options, stdin=table(xs))
    assert code == 0, err
    assert "9 ok" in err
    assert outputs(out) == expected(arms, filled)
    assert call("replay", arms, tmp_path / "a.mcap", "--backend", "onnxruntime")[0] == 0


def test_a_loop_goes_on_with_the_values_that_it_holds(call, arms, tmp_path):
    xs = rows(9)
    filled = [list(x) for x in xs]
    filled[5][0], filled[6][2] = filled[4][0], filled[5][2]
    xs[5][0], xs[6][2] = "", ""
    lines = table(xs).splitlines(keepends=True)
    for count in (6, 10):
        (tmp_path / "x.csv").write_text("".join(lines[:count]))
        places = ["--input", tmp_path / "x.csv", "--output", tmp_path / OUT, "--resume", tmp_path / KEPT]
        code, _, err = call("run", arms, "--backend", "onnxruntime", *LOOP, "--on-bad", "hold", *places)
        assert code == 0, err
    assert outputs((tmp_path / OUT).read_text()) == expected(arms, filled)


def test_values_outside_the_example_are_counted_by_input(call, arms, tmp_path):
    xs = rows(6)
    xs[1][0] = 40.0
    code, _, err = call("run", arms, "--json", tmp_path / "facts.json", stdin=table(xs))
    assert code == 0, err
    assert "outside the range of the example" in err
    assert json.loads((tmp_path / "facts.json").read_text())["outside_seen_range"]["left.x"]["number"] == 1


@pytest.mark.parametrize(
    ("bundle", "options"),
    [("arms", []), ("arms", LOOP), ("blocks", ["--time-column", "t"])],
    ids=["rows", "loop", "blocks"],
)
def test_a_run_goes_on(call, request, tmp_path, bundle, options):
    lines = table(rows(20)).splitlines(keepends=True)
    places = ["--input", tmp_path / "x.csv", "--output", tmp_path / OUT]
    command = ["run", request.getfixturevalue(bundle), "--backend", "onnxruntime", *places, *options]
    (tmp_path / "x.csv").write_text("".join(lines))
    assert call(*command)[0] == 0
    whole = (tmp_path / OUT).read_bytes()
    for count in (12, 21):
        (tmp_path / "x.csv").write_text("".join(lines[:count]))
        code, _, err = call(*command, "--resume", tmp_path / KEPT)
        assert code == 0, err
    assert (tmp_path / OUT).read_bytes() == whole


def test_it_is_recorded_and_replayed(call, arms, tmp_path):
    pytest.importorskip("mcap", reason="needs the extra `record`. Type: pip install 'lnn-edge[record]'")
    code, _, err = call("run", arms, "--backend", "onnxruntime", "--record", tmp_path / "a.mcap", stdin=table(rows()))
    assert code == 0, err
    code, out, err = call("replay", arms, tmp_path / "a.mcap", "--backend", "onnxruntime")
    assert code == 0, err
    assert "the same bit for bit: 20 ticks" in out + err


def test_a_loop_in_python_reads_the_same_table(arms, tmp_path):
    (tmp_path / "x.csv").write_text(table(rows()))
    model, found = lnn_edge.load(arms, backend="onnxruntime"), []
    lnn_edge.Loop(model, tmp_path / "x.csv", after=lambda tick: found.append(tick.y)).run()
    assert [[float(str(v)) for v in y] for y in found] == expected(arms, rows())
