"""Promises about bundles, state, files and time: each has its tests, and each of these exists."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest
from bundles import ROOT
from sources import parsed

TEXT = (ROOT / "docs" / "trust.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", TEXT)))
PROMISES, _, NOT_PROMISED = TEXT.partition("\n## What is not promised\n")


def items(text: str) -> list[str]:
    return re.findall(r"^- (?:.|\n(?!- |\n))*", text, re.M)


@cache  # many promises name one file
def functions_of(path: str) -> set[str]:
    return {node.name for node in ast.walk(parsed(ROOT / path)) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("named", NAMED)
def test_a_test_that_is_named_exists(named):
    path, _, name = named.partition("::")
    assert name in functions_of(path)


@pytest.mark.parametrize("promise", items(PROMISES), ids=lambda promise: promise[4:40])
def test_each_promise_names_a_test(promise):
    assert re.search(r"`tests/[\w/]+\.py::test_\w+`", promise)


def test_both_lists_are_there():
    assert len(items(PROMISES)) > 20
    assert len(items(NOT_PROMISED)) > 5
    assert "tests/" not in NOT_PROMISED


def test_links_lead_somewhere():
    for target, anchor in re.findall(r"\]\((\.\./[\w/.]+)#([\w-]+)\)", TEXT):
        headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / target).resolve().read_text(), re.M)
        assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
