"""The demo, shortened, as is its proof: every stage runs and prints a summary; the figures are those of `make demo`."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import nbclient
import nbformat
import pytest
from jupyter_client import AsyncKernelManager

ROOT = Path(__file__).parents[2]
DATA = ROOT / "examples" / "data"


def printed_by(warm, script, *arguments):
    """What a script of this project prints. `warm` is the environment it runs in."""
    command = ["python", *map(str, (script, *arguments))]
    done = subprocess.run(command, cwd=ROOT, env=warm, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


SEEDS = {"cfc": "1", "ltc": "6"}  # with which eight epochs are far above chance, which is 10 of 40


@pytest.fixture
def demo(cell, request, tmp_path):
    """What `make demo` printed for a cell, and its folder: CI has just run it; elsewhere it runs, shortened."""
    kept = os.environ.get("LNN_EDGE_TEST_DEMOS")
    if kept:
        return Path(kept, f"demo-{cell}.txt").read_text(), Path(kept, f"demo-{cell}")
    arguments = ["--cell", cell, "--epochs", "8", "--seed", SEEDS[cell], "--output", tmp_path]
    warm = request.getfixturevalue("warm_and_short")
    return printed_by(warm, "-W", "error", "examples/imu_activity.py", *arguments), tmp_path


@pytest.mark.parametrize("cell", sorted(SEEDS))
def test_demo(cell, demo, tmp_path, request):
    printed, folder = demo
    assert "Warning" not in printed
    for stage in ("1. train", "2. export", "3. verify", "4. stream", "5. measure"):
        assert f"\n{stage}" in printed
    by_second = re.search(r"right of 40 +(.*)", printed).group(1).split()
    assert len(by_second) == 10
    summary = printed[printed.index("\nsummary of") :]
    right = int(re.search(r"right +(\d+) of 40", summary).group(1))
    assert right >= 20
    assert right == int(by_second[-1])
    assert "deadlines missed" in summary
    assert json.loads((folder / "bench.json").read_text())["self_test"] == "passed"

    typed = [line.strip() for line in printed.partition("\nnext, type\n")[2].splitlines()]
    assert [line.split()[1] for line in typed if line.startswith("lnn-edge ")] == ["inspect", "verify", "run"]
    if cell == "cfc":
        run_next(typed, tmp_path, request.getfixturevalue("warm_and_short"))


def run_next(typed, folder, warm):
    """What the demo says to type next, in the project's folder; but for what it writes, and the environment."""
    for line in typed:
        if not line.startswith(". "):
            line = line.replace("decisions.csv", str(folder / "decisions.csv"))
            subprocess.run(line, shell=True, cwd=ROOT, env=warm, check=True, capture_output=True)
    assert len((folder / "decisions.csv").read_text().splitlines()) == 4001


def run_quick(warm, script, folder):
    """An example with `--quick`: every stage runs, what is trained is not good yet, and the last line says so."""
    printed = printed_by(warm, f"examples/{script}", "--quick", "--output", folder)
    assert " the figures show that every stage runs, and not how good such " in printed.splitlines()[-1]
    assert "For that leave out --quick" in printed.splitlines()[-1]
    return printed


def test_closed_loop(tmp_path, warm_and_short):
    """Every driver gets its row, and the deployed policy acts as torch's does on the very samples that it sees."""
    printed = run_quick(warm_and_short, "closed_loop.py", tmp_path)
    rows = re.findall(r"^  (\w.*?) +(\d+) \+- +\d+ +\d+ +\d+ +\d+ +\d+\.\d+$", printed, flags=re.M)
    returns = {name: int(mean) for name, mean in rows}
    table = re.search(r"^ +return +least.*\n(?:  .* \+- .*\n)+", printed, flags=re.M).group().splitlines()
    assert len(table) == 1 + len(rows)
    assert len(set(map(len, table))) == 1, table  # every column stands under its heading
    assert returns["expert, full state every 10 ms"] == 1000
    assert returns["policy, deployed on onnxruntime"] > 0
    assert len([name for name in returns if "assumed" in name]) == 2
    assert float(re.search(r"actions within (\S+) of torch's", printed).group(1)) < 1e-4  # of actions up to 3
    assert (tmp_path / "closed_loop.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "balance.lnn" / "manifest.json").read_text())["time"]["mode"] == "measured"


def test_own_model(tmp_path, warm_and_short):
    printed = run_quick(warm_and_short, "own_model.py", tmp_path)
    assert float(re.search(r"bundle and torch (\S+) apart", printed).group(1)) < 1e-5
    assert "\n10 updates are too few to learn anything: " in printed
    assert printed.endswith("leave out --quick, which takes 400 updates.\n")
    assert re.search(r"off by +0\.\d+ of the room while it can be seen\n +0\.\d+ while it is hidden", printed)


def test_forecast(tmp_path, warm_and_short):
    printed = run_quick(warm_and_short, "forecast.py", tmp_path)
    assert float(re.search(r"stream and predict (\S+) apart", printed).group(1)) < 1e-5
    rms, _, last = map(float, re.search(r"^  1 to 5 +(\S+) +(\S+) +(\S+)", printed, flags=re.M).groups())
    assert rms < last  # even a short training beats the guess that nothing moves
    assert (tmp_path / "forecast.png").stat().st_size > 10_000


class WarmKernel(AsyncKernelManager):
    """A kernel that starts as `python` does by the PATH that it is given."""

    async def _async_launch_kernel(self, kernel_cmd, **options):
        kernel_cmd[0] = shutil.which("python", path=options["env"]["PATH"])
        await super()._async_launch_kernel(kernel_cmd, **options)

    _launch_kernel = _async_launch_kernel


# What the notebook's training and measuring are shortened by.
SHORTER = {"epochs=80": "epochs=8", '"--seconds", "2"': '"--seconds", "0.2", "--steps", "200"'}


def test_notebook(tmp_path, warm_and_short):
    """Every cell runs in an empty folder; no outputs are kept in the file, so that it never shows stale ones."""
    notebook = nbformat.read(ROOT / "examples" / "notebook" / "deploy.ipynb", as_version=4)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    for long, short in SHORTER.items():
        (cell,) = (cell for cell in notebook.cells if long in cell.source)
        cell.source = cell.source.replace(long, short)
    resources = {"metadata": {"path": str(tmp_path)}}
    done = nbclient.NotebookClient(notebook, kernel_manager_class=WarmKernel, timeout=240, resources=resources).execute(
        env=warm_and_short
    )
    shown = "\n".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for cell in done.cells if cell.cell_type == "code" for output in cell.outputs
    )  # fmt: skip
    assert "equal to torch within" in shown
    assert "closed-loop steps on onnxruntime" in shown
    assert any("image/png" in output.get("data", {}) for cell in done.cells for output in cell.get("outputs", []))


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
        ("step_overhead.py", ["--calls", "100", "--only", "CfC(6"], ["torch eager", "stream.step", "overhead"]),
        (
            "estimator.py",
            ["--runs", "1", "--epochs", "1", "--only", "CfC(8, AutoNCP(20"],
            ["ncps ms", "fit ms", "ratio"],
        ),
        ("step_graphs.py", ["--runs", "2", "--only", "CfC(8"], ["ours us", "stock us", "ratio"]),
    ],
)
def test_benchmark(script, arguments, headings, warm_and_short):
    printed = printed_by(warm_and_short, f"benchmarks/{script}", *arguments)
    assert all(heading in printed for heading in headings)
    assert re.search(r"^CfC\(.*\) +\d", printed, flags=re.M)


def test_activity_benchmark(warm_and_short):
    """The estimator on the demo's task, shortened; what is deployed decides as `predict` does."""
    printed = printed_by(warm_and_short, "benchmarks/activity.py", "--cell", "CfC", "--seeds", 1, "--epochs", 25)
    right, deployed = map(int, re.search(r"^CfC +1 +(\d+) +(\d+)", printed, flags=re.M).groups())
    assert right == deployed
    assert right >= 20  # chance is 10
