"""The demo, shortened: every stage runs and prints its summary; the figures are those of `make demo`."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA = ROOT / "examples" / "data"


EPOCHS = {"cfc": "12", "ltc": "30"}  # enough to be far above chance, which is 10 of 40


@pytest.mark.parametrize("cell", sorted(EPOCHS))
def test_demo(cell, tmp_path):
    arguments = ["--cell", cell, "--epochs", EPOCHS[cell], "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "imu_activity.py"), *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for stage in ("1. train", "2. export", "3. verify", "4. stream", "5. measure"):
        assert f"\n{stage}" in done.stdout
    summary = done.stdout[done.stdout.index("\nsummary of") :]
    right = int(re.search(r"right +(\d+) of 40", summary).group(1))
    assert right >= 20
    assert "deadlines missed" in summary.splitlines()[-1]
    assert json.loads((tmp_path / "bench.json").read_text())["self_test"] == "passed"


@pytest.mark.parametrize("name", ["train", "test"])
def test_recordings_are_what_the_readme_says(name):
    with open(DATA / f"basic_motions_{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(Counter(row["recording"] for row in rows).values()) == {100}
    assert Counter(row["activity"] for row in rows) == dict.fromkeys(
        ["Standing", "Walking", "Running", "Badminton"], 1000
    )
    readme = (DATA / "README.md").read_text()
    assert all(f"`{column}`" in readme for column in rows[0])


@pytest.mark.parametrize(
    ("script", "arguments", "headings"),
    [
        ("step_overhead.py", ["--calls", "100"], ["torch eager", "stream.step", "overhead"]),
        ("step_graphs.py", ["--runs", "2", "--only", "CfC(8"], ["ours us", "stock us", "ratio"]),
    ],
)
def test_benchmark(script, arguments, headings):
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert all(heading in done.stdout for heading in headings)
    assert re.search(r"^CfC\(.*\) +\d", done.stdout, flags=re.M)
