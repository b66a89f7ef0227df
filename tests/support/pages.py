"""Pages of documentation, typed as written: block by block, in one folder, with what they have installed by then."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from hidden_packages import HIDDEN

__all__ = ["ROOT", "Typed", "blocks", "gait_script", "run_page", "typed"]

ROOT = Path(__file__).parents[2]
# What each extra brings that a block may need; a block that does needs to come after a line that installs it.
EXTRAS = {
    "export": {"torch", "ncps", "onnx"},
    "train": {"torch", "ncps", "onnx", "sklearn", "pandas"},
    "plot": {"matplotlib"},
    "cross": {"ziglang", "elftools"},
    "record": {"mcap"},  # protobuf comes with others as well
}
INSTALLED = re.compile(r"pip install '\.\[([\w,]+)\]'|(make demo)")
INSTALLING = ("make ", "pip ", "python3 -m venv ", "device/bin/", ". .venv/")  # by .ci/run and by tests of packaging

Typed = tuple[str, str, frozenset[str]]  # language, text, and what is not installed at that place of the page


def blocks(page: Path) -> Iterator[Typed]:
    """The blocks of a page in order, each with the packages that nothing above it has installed."""
    text, hidden = page.read_text(), frozenset().union(*EXTRAS.values())
    for found in re.finditer(rf"```(\w+)\n(.*?)```|{INSTALLED.pattern}", text, flags=re.S):
        language, code = found[1], found[2]
        if language:
            hidden -= _brought(code)
            yield language, code, hidden
        else:
            hidden -= _brought(found[0])


def _brought(text: str) -> set[str]:
    """The packages that the lines of a text install."""
    named = [extras.split(",") if extras else ["export"] for extras, demo in INSTALLED.findall(text)]
    return {package for extras in named for extra in extras for package in EXTRAS.get(extra, ())}


def run_page(page: Path, folder: Path, environment: dict[str, str]) -> list[tuple[str, str]]:
    """Type every block of a page in a folder; each line or block with what it printed."""
    return [done for block in blocks(page) for done in typed(*block, folder, environment)]


def typed(
    language: str, code: str, hidden: frozenset[str], folder: Path, environment: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Type a block, the lines of a shell one by one; Python to be saved as a file is saved."""
    environment = environment | {HIDDEN: ",".join(sorted(hidden))}
    if language == "python" and "__main__" in code:
        (folder / "gait.py").write_text(code)
    elif language == "python":
        yield code, _printed_by(["python", "-c", code], folder, environment)
    elif language == "bash":
        for line in code.splitlines():
            if line and not line.startswith(INSTALLING):
                yield line, _printed_by(["bash", "-eu", "-o", "pipefail", "-c", line], folder, environment)


def gait_script() -> str:
    """The README's training script, which other pages go on from."""
    return next(code for _, code, _ in blocks(ROOT / "README.md") if "__main__" in code)


def _printed_by(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout
