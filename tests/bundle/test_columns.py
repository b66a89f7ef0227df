"""Columns as text: one grammar for the shell and for Python, and a way to write a colon that belongs to a name."""

from __future__ import annotations

import pytest

from lnn_edge import Feature
from lnn_edge.bundle.columns import escaped, parse_column, parse_columns


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ax", Feature("ax")),
        ("ax:m/s", Feature("ax", "m/s")),
        ("gap:s:0.001:0.5", Feature("gap", "s", limits=(0.001, 0.5))),
        ("ax::-1:1", Feature("ax", limits=(-1.0, 1.0))),
        ("ax:m/s::", Feature("ax", "m/s")),
        ("ax:", Feature("ax")),
        (" ax : m/s : -1 : 1e3 ", Feature("ax", "m/s", limits=(-1.0, 1000.0))),
        (r"t\:ms", Feature("t:ms")),
        (r"t\:ms:ms:0:1", Feature("t:ms", "ms", limits=(0.0, 1.0))),
        (r"a\b", Feature(r"a\b")),
        (r"a:m\:s", Feature("a", "m:s")),
        (Feature("ax:m/s"), Feature("ax", "m/s")),
        (Feature("ax:m/s:-1:1", range=(0.0, 1.0)), Feature("ax", "m/s", (0.0, 1.0), (-1.0, 1.0))),
        (Feature(r"t\:ms", "ms"), Feature("t:ms", "ms")),
        (Feature("ax", "m/s", -1, 1), Feature("ax", "m/s", limits=(-1.0, 1.0))),
    ],
)
def test_columns(given, expected):
    assert parse_column(given) == expected


@pytest.mark.parametrize("text", ["a:m:1", "a:m:1:", "a:m::1", "a:m:low:high", "a:m:1:2:3"])
def test_what_is_no_column_is_told_with_the_form(text):
    expected = r"is no column: expected name, name:unit or name:unit:low:high, as gap:s:0.001:0.5; a colon that"
    with pytest.raises(ValueError, match=expected):
        parse_column(text)


@pytest.mark.parametrize("text", ["a:m:2:1", "a::nan:1", "a::0:inf"])
def test_limits_that_are_none_are_told(text):
    with pytest.raises(ValueError, match=r"`limits` of 'a' is .*, expected .low, high., both finite"):
        parse_column(text)


@pytest.mark.parametrize("feature", [Feature("a:m", "s"), Feature("a:m:1:2", limits=(0, 1))])
def test_what_is_said_twice_is_refused(feature):
    with pytest.raises(ValueError, match="behind a colon and beside it: leave one out"):
        parse_column(feature)


@pytest.mark.parametrize("name", ["a", "a:b", "a:b:1:2", r"a\:b", "a::", r"a\b", ":"])
def test_an_escaped_name_is_the_name(name):
    assert parse_column(escaped(Feature(name, "m"))) == Feature(name, "m")


def test_names_that_differ_behind_their_colons_only_are_told():
    with pytest.raises(ValueError, match=r"names before the colons are \['acc', 'acc'\], not all different"):
        parse_columns("inputs", ["acc:x", "acc:y"])
    assert parse_columns("inputs", {"x": ["a:m"], "y": None}) == {"x": [Feature("a", "m")], "y": None}
    assert parse_columns("inputs", "a:m") == "a:m"  # whoever reads it says that it is no list
    assert parse_columns("inputs", [1, "a:m"]) == [1, Feature("a", "m")]
