"""The pages of docs: their blocks run as written, their links lead somewhere, and that of the API is up to date."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess

import pytest
from pages import ROOT, blocks, gait_script, run_page

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LINKS = re.compile(r"\[[^]]*\]\(([^)#]+)(?:#([^)]*))?\)")


@pytest.fixture
def trained(tmp_path, tmp_path_factory, warm_and_short):
    """A folder with the README's script and what an epoch of it trained, once in a run; other pages go on from it."""
    from exports import locked, shared_folder  # which need torch

    folder = shared_folder(tmp_path_factory) / "gait-of-the-readme"
    with locked(folder.with_suffix(".lock")):
        if not (folder / "gait.pt").exists():
            script = gait_script()
            assert "range(10)" in script
            folder.mkdir(exist_ok=True)
            (folder / "gait.py").write_text(script.replace("range(10)", "range(1)"))
            subprocess.run(["python", "gait.py"], cwd=folder, env=warm_and_short, check=True)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    return tmp_path


def test_models(trained, warm_and_short):
    printed = [text for _, text in run_page(DOCS / "models.md", trained, warm_and_short)]
    assert printed[:2] == ["True\n", "True\n"]
    assert printed[-1] == "(2,)\n"
    assert printed[-2] == "29 (2,)\n34 (2,)\n39 (2,)\n"


def test_step_in_another_runtime(trained, warm_and_short):
    *_, (_, printed), (_, equal) = run_page(DOCS / "step.md", trained, warm_and_short)
    assert equal == "True\n"
    stepped = "import lnn_edge, numpy as np\nstream = lnn_edge.load('gait.lnn').stream()\nfor k in range(3):\n"
    stepped += "    print(stream.step(np.sin(np.float32(k) * np.array([0.1, 0.2, 0.3], np.float32))))\n"
    (trained / "stepped.py").write_text(stepped)
    done = subprocess.run(["python", "stepped.py"], cwd=trained, env=warm_and_short, check=True, capture_output=True)
    assert printed == done.stdout.decode()  # as the page says, bit for bit


def test_snapshots(trained, warm_and_short):
    """What the page's reader prints is what is in the file."""
    printed = [text for _, text in run_page(DOCS / "snapshots.md", trained, warm_and_short)]
    assert printed[1] == "1 True\n"
    assert re.fullmatch(r"gait 1 state\.\w+ F32 \[1, (\d+)\] \1\n", printed[-1])
    assert (trained / "gait.csv").read_text().count("\n") == 4


def test_robot(trained, warm_and_short):
    printed = run_page(DOCS / "robot.md", trained, warm_and_short)
    texts = [text for _, text in printed]
    guarded, looped = (text for code, text in printed if "import lnn_edge" in code)
    assert guarded.splitlines() == [
        "non-finite input [0. 0.] {'ok': 2, 'warming up': 5, 'non-finite input': 1}",
        "stopped",
        "warming up",
    ]
    assert looped == "{'warming up': 5, 'ok': 93, 'non-finite input': 1, 'clock backward': 1}\n"
    (last,) = [text for line, text in printed if line.startswith("tail")]
    assert re.fullmatch(r"2\.00,[-.e\d]+,[-.e\d]+,(ok|late)\n", last)  # by how busy the machine is
    assert any("the same bit for bit: 100 ticks" in text for text in texts)
    assert (trained / "current.lnn").resolve().name == "gait-1.lnn"


@pytest.mark.needs("cmake", "gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm")
def test_microcontroller(trained, warm_and_short, compiler):
    """The page's C compiles, and stands between two steps of what was exported."""
    (trained / "examples").symlink_to(ROOT / "examples")
    environment = {name: value for name, value in warm_and_short.items() if name != "CC"}
    printed = dict(run_page(DOCS / "microcontroller.md", trained, environment))
    replays = [text for line, text in printed.items() if line.startswith(("gait-here/build/replay", "qemu"))]
    assert len(replays) == 2
    for text in replays:  # of the few that a short proof records
        assert re.fullmatch(r"equal: \d+ calls replayed", text.splitlines()[-1])
    (control,) = [code for language, code, _ in blocks(DOCS / "microcontroller.md") if language == "c"]
    (trained / "control.c").write_text(control)
    command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-Igait-here", "-c", "control.c"]
    subprocess.run(command, cwd=trained, check=True)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links(page):
    for path, place in LINKS.findall(page.read_text()):
        if "://" in path:
            continue
        assert (page.parent / path).exists(), path
        titles = re.findall(r"^#+ (.*)$", (page.parent / path).read_text(), re.M) if place else ()
        assert not place or place in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_installing_is_typed_by_ci():
    """With pip and a network, so not here; every block of the page, in a copy of the checkout."""
    languages = {language for language, _, _ in blocks(DOCS / "install.md")}
    assert languages == {"bash"}
    assert "docs/install.md >" in (ROOT / ".ci" / "run").read_text()


def test_the_index_names_every_page():
    named = {path for path, _ in LINKS.findall((DOCS / "README.md").read_text())}
    assert {page.name for page in PAGES} - {"README.md"} <= named


def test_the_page_of_the_api_is_up_to_date():
    """What to type if it is not: python docs/make_api.py."""
    page = runpy.run_path(str(DOCS / "make_api.py"))["page"]
    assert page() == (DOCS / "api.md").read_text()
