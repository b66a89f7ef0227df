"""The map for contributors: what it names exists, and it stays short enough to be read."""

from __future__ import annotations

import re

import pytest
from bundles import ROOT
from sources import text_of

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
NAMED = sorted(
    {name for name in re.findall(r"`([\w./-]+\.(?:py|md|toml)|[\w-]+/[\w./-]+)`", TEXT) if "OTHER" not in name}
)
AROUND = [
    ROOT,
    ROOT / "lnn_edge",
    ROOT / "lnn_edge" / "export",
    ROOT / "benchmarks",
    ROOT / "lnn_edge" / "export" / "cores",
]


@pytest.mark.parametrize("name", NAMED)
def test_what_it_names_exists(name):
    assert any((folder / name).exists() for folder in AROUND), name


def test_every_target_of_make_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([\w-]+)`", TEXT)) <= targets


def test_it_is_two_pages_at_most():
    assert len(TEXT.splitlines()) <= 120
    assert len(TEXT.split()) <= 1100  # what two pages hold


def test_a_module_begins_with_a_noun():
    """Not with a clause that says what it is about: that has to be decoded, a noun is read."""
    clause = re.compile(r'"""(What|Who|Whose|Where|Which|When|Why|How|Whether|That|If) ')
    modules = [path for folder in ("lnn_edge", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert modules
    assert not [str(path) for path in modules if clause.match(text_of(path))]
