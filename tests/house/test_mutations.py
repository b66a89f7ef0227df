"""The table of mutations, which fits the tree, so that it can be run at any time; `make mutations` runs it."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import cache

import mutations
import pytest
from bundles import ROOT
from compilations import assert_gone
from mutation_table import KINDS, MUTATIONS, Mutation, node_of, place_of


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_fits_the_tree(mutation):
    """It is found in exactly one place, what it makes is still Python, and the test that kills it exists."""
    _, before, after = place_of(mutation, ROOT)
    new, old = ast.parse(after).body, dumped(before)
    assert len(new) != len(old) or any(ast.dump(mine) != theirs for mine, theirs in zip(new, old, strict=True))
    assert node_of(mutation.killed_by, ROOT)


@cache  # several mutations change one file
def dumped(text):
    return [ast.dump(statement) for statement in ast.parse(text).body]


def test_names_are_unique():
    assert max(Counter(mutation.name for mutation in MUTATIONS).values()) == 1


def test_every_kind_is_there():
    assert {mutation.kind for mutation in MUTATIONS} >= KINDS


def test_every_room_has_one():
    package = ROOT / "lnn_edge"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    assert rooms == {place_of(mutation, ROOT)[0].relative_to(package).parts[0] for mutation in MUTATIONS} & rooms


SOURCE = "def double(x):\n    return 2 * x\n\n\ndef half(x):\n    return x / 2\n"
TESTS = """import lnn_edge
import pytest


def test_double():
    assert lnn_edge.double(3) == 6


def test_half():
    assert lnn_edge.half(0) == 0


def test_wrong():
    assert lnn_edge.half(0) == 1


@pytest.mark.parametrize("x", [1])
def test_each(x):
    assert lnn_edge.double(x) == 2
"""
OWN = [
    Mutation("killed", "sum", "test_double", (("x + x", "x"), ("2 * x", "x"))),
    Mutation("survives", "sum", "test_half", (("x / 2", "x / 3"),)),
    Mutation("twice there", "sum", "test_half", (("return", "yield"),)),
    Mutation("nowhere", "sum", "test_half", (("x // 2", "x"),)),
    Mutation("untested", "sum", "test_third", (("2 * x", "x"),)),
    Mutation("fails anyway", "sum", "test_wrong", (("2 * x", "x"),)),
    Mutation("without its case", "sum", "test_each[2]", (("2 * x", "x"),)),
]


def test_runner_tells_what_became_of_each(tmp_path, monkeypatch, capsys):
    tree = tmp_path / "tree"
    (tree / "lnn_edge").mkdir(parents=True)
    (tree / "tests").mkdir()
    (tree / "lnn_edge" / "__init__.py").write_text(SOURCE)
    (tree / "tests" / "test_sums.py").write_text(TESTS)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take most of the time
    monkeypatch.setattr(mutations, "MUTATIONS", OWN)
    assert mutations.main(["--root", str(tree), "--json", str(tmp_path / "results.json")]) == 1
    verdicts = {result["name"]: result["verdict"] for result in json.loads((tmp_path / "results.json").read_text())}
    assert verdicts == {
        "killed": "killed",
        "survives": "SURVIVED",
        "twice there": "does not apply",
        "nowhere": "does not apply",
        "untested": "no such test",
        "fails anyway": "test fails without it too",
        "without its case": "test fails without it too",  # pytest runs nothing then, which the others must survive
    }
    assert (tree / "lnn_edge" / "__init__.py").read_text() == SOURCE
    assert "7 mutations: 2 does not apply, 2 test fails without it too, 1 killed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "gate-sing"], "there is no mutation 'gate-sing'; nearest: gate-sign"),
        (["--only", "?"], "there is no mutation '?'; nearest: none; `mutation_table.py` has them all"),
        (["--jobs", "0"], "--jobs 0: give 1 or more"),
        (["--root", "/nowhere"], "--root /nowhere holds no lnn_edge: name the root of a checkout"),
        (["--json", "/nowhere/results.json"], "--json /nowhere/results.json: there is no folder /nowhere"),
    ],
)
def test_what_it_cannot_do_is_told_before_it_begins(options, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        mutations.main(options)
    assert said in capsys.readouterr().err


ENDLESS = """
import os, time

def test_double():
    with open(os.environ["RUNS"], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(600)
"""
ENDED = """
import mutations
from mutation_table import Mutation
mutations.MUTATIONS = [Mutation(name, "sum", "test_double", (("2 * x", "x"),)) for name in ("one", "two")]
mutations.program()
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_one_leaves_nothing(stop, tmp_path):
    tree, runs, copies = tmp_path / "tree", tmp_path / "runs", tmp_path / "copies"
    for folder in (tree / "lnn_edge", tree / "tests", copies):
        folder.mkdir(parents=True)
    (tree / "lnn_edge" / "__init__.py").write_text(SOURCE)
    (tree / "tests" / "test_sums.py").write_text(ENDLESS)
    own = {"RUNS": str(runs), "TMPDIR": str(copies), "PYTHONPATH": str(ROOT / "tests/support")}
    environment = os.environ | own | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with subprocess.Popen([sys.executable, "-c", ENDED, "--root", tree], env=environment) as process:
        while process.poll() is None and not (runs.exists() and runs.read_text().endswith("\n")):
            time.sleep(0.01)
        process.send_signal(stop)
    assert process.returncode == 128 + stop
    assert_gone(int(runs.read_text()))
    assert not list(copies.iterdir())
