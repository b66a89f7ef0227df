"""The README, typed exactly as written, in order, in an empty folder, with no more installed than it says by then."""

from __future__ import annotations

import re

import pytest
from pages import ROOT, blocks, run_page

README = (ROOT / "README.md").read_text()
BLOCKS = list(blocks(ROOT / "README.md"))

VERSION = re.compile(r"\b\d+\.\d+\.\d+\b")  # belongs to the machine; every other figure must be the one that is shown
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
# gait.py is seeded and trains in float32: over CPU capabilities and numbers of threads its outputs agree within 1e-5 in
# the pinned version of torch. The output shows three decimals, so what remains is one unit of the last, by rounding.
LAST_DIGIT = 0.001 + 1e-9  # which binary fractions may miss by a little


def words_and_figures(text):
    text = VERSION.sub("#", text)
    return NUMBER.sub("#", text), [float(number) for number in NUMBER.findall(text)]


def assert_same_output(printed, shown):
    (printed_words, printed_figures), (shown_words, shown_figures) = map(words_and_figures, (printed, shown))
    assert printed_words == shown_words
    for got, expected in zip(printed_figures, shown_figures, strict=True):
        assert got == pytest.approx(expected, abs=LAST_DIGIT)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, warm_and_short):
    """Run every block in order, where there is a C compiler; what each printed."""
    environment = {name: value for name, value in warm_and_short.items() if name != "CC"}
    return run_page(ROOT / "README.md", tmp_path_factory.mktemp("readme"), environment)


def printed_by(outputs, part):
    """What the only block printed that holds a text."""
    (printed,) = [printed for text, printed in outputs if part in text]
    return printed


def test_every_block_runs(outputs):
    assert printed_by(outputs, "python gait.py") == ""
    assert "left,right\n" in printed_by(outputs, "| lnn-edge run")
    assert "left,right,status\n" in printed_by(outputs, "--rate 50 --wait")
    assert printed_by(outputs, "model.fit(x, y") == "(300, 1)\nTrue\n"
    guarded = [line.split()[:2] for line in printed_by(outputs, "lnn_edge.Guard(").splitlines()]
    assert guarded == [["ok", "1"], ["ok", "1"], ["clock", "backward"]]
    assert "the same bit for bit" in printed_by(outputs, "lnn-edge replay")


def test_shown_output_is_real(outputs):
    shown = next(code for language, code, _ in BLOCKS if language == "text")
    assert_same_output(printed_by(outputs, "stream = model.stream()"), shown)


def test_what_a_block_may_import_is_what_was_installed_above_it(tmp_path, warm):
    after_demo = BLOCKS[1][2]
    assert "sklearn" in after_demo
    assert "torch" not in after_demo
    (tmp_path / "page.md").write_text("```python\nimport sklearn\n```\n")
    with pytest.raises(AssertionError, match="No module named 'sklearn'"):
        run_page(tmp_path / "page.md", tmp_path, warm)
    (tmp_path / "page.md").write_text("pip install '.[train]'\n```python\nimport sklearn\n```\n")
    run_page(tmp_path / "page.md", tmp_path, warm)


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("on version 1.33.1, 1 thread\n+0.120 -0.251\n", True),  # another release, and the last digit rounded
        ("on version 1.32.0, 1 thread\n+0.117 -0.250\n", False),
        ("on version 1.32.0, 1 thread\n-0.119 -0.250\n", False),
        ("on version 1.32.0, 2 threads\n+0.119 -0.250\n", False),
        ("on version 1.32.0, 1 thread\n+0.119 -0.250 +0.000\n", False),
    ],
)
def test_another_output_is_noticed(printed, same):
    shown = "on version 1.32.0, 1 thread\n+0.119 -0.250\n"
    if same:
        assert_same_output(printed, shown)
    else:
        with pytest.raises(AssertionError):
            assert_same_output(printed, shown)


def test_training_times_are_of_as_many_runs_as_the_benchmark_makes():
    script = (ROOT / "benchmarks" / "estimator.py").read_text()
    runs = re.search(r'"--runs", type=int, default=(\d+)', script).group(1)
    assert f"`python benchmarks/estimator.py`, medians of {runs} interleaved trainings" in " ".join(README.split())


def test_snippet_is_short():
    snippet = next(code for language, code, _ in BLOCKS if language == "python" and "lnn_edge.load" in code)
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 12


def test_make_lines_are_what_ci_runs():
    steps = (ROOT / ".ci" / "run").read_text()
    targets = (ROOT / "Makefile").read_text()
    for language, code, _ in BLOCKS:
        for line in code.splitlines():
            if language == "bash" and line.startswith("make "):
                typed = line.partition("#")[0].strip()
                assert typed in steps
                assert f"\n{typed.split()[1]}:" in targets


def test_every_language_is_known():
    assert {language for language, _, _ in BLOCKS} == {"bash", "python", "text"}


def test_it_is_short():
    assert len(README.splitlines()) <= 220
