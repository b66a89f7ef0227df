"""The pictures and tables of the documentation: the script makes them all, none is large, and all of them are kept."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
LARGEST = 150_000  # bytes: what a page should load


def lines_of(path: Path, begins: str) -> list[str]:
    """What lines that begin so say; of a line of a table its first two words, as what is here differs."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(begins)]
    return [line if begins == "graph: " else " ".join(line.split()[:2]) for line in lines]


def test_the_script_makes_what_is_kept(tmp_path, warm_and_short):
    command = ["python", "docs/pictures.py", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=warm_and_short, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {path.name for path in (ROOT / "docs" / "pictures").iterdir()}
    assert "equal: outputs and states within" in (tmp_path / "export.txt").read_text()
    for name, begins in (("inspect.txt", "graph: "), ("doctor.txt", " backend ")):  # which no training changes
        made, kept = (lines_of(folder / name, begins) for folder in (tmp_path, ROOT / "docs" / "pictures"))
        assert made == kept, f"{name} is of another version. Type: python docs/pictures.py"
    assert "NOT equal" in (tmp_path / "verify_untrained.txt").read_text().splitlines()[-1]


def test_no_picture_is_large():
    pictures = [path for folder in ("docs", "examples") for path in (ROOT / folder / "pictures").iterdir()]
    assert {path.name: path.stat().st_size for path in pictures if path.stat().st_size > LARGEST} == {}
