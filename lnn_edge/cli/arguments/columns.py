"""Lists of columns as they are typed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...bundle.spec import Feature

    Columns = list[Feature] | dict[str, list[Feature]]

__all__ = ["names_list"]

_NAMED = re.compile(r"((?:\\.|[^=:,\\])+)=")  # what stands before the columns of one of several inputs or outputs
_COMMA = re.compile(r"(?<!\\),")
_ESCAPED = re.compile(r"\\([,=])")


def names_list(option: str, given: Sequence[str] | None) -> Columns | None:
    """`acc_x:m/s2,acc_y,gap:s:0.001:0.5` as features; or of several inputs or outputs `x=acc_x,acc_y` for each of them.

    Args:
        option: Its name, for messages.
        given: What was typed, once for each time; `None` for nothing. Lists without a name go on where the last ended.

    Raises:
        ValueError: If one is no column, a name is given twice, or some lists have a name and others none.
    """
    if given is None:
        return None
    lists = [_named_list(text) for text in given]
    names = [name for name, _ in lists]
    if set(names) == {None}:
        return [feature for _, features in lists for feature in features]
    shown = f"{option} NAME=column,column for each: {option} velocity=vx:m/s,vy:m/s {option} heading=sin,cos"
    if None in names:
        raise ValueError(f"{option} is given with a name and without one. Type {shown}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{option} names '{twice}' {names.count(twice)} times. Type {shown}")
    return {str(name): features for name, features in lists}


def _named_list(text: str) -> tuple[str | None, list[Feature]]:
    """The columns, and what stands before an equals sign; commas and equals signs of names have a backslash."""
    from ...bundle.columns import parse_column

    named = _NAMED.match(text)
    name, columns = (None, text) if named is None else (named[1], text[named.end() :])
    items = [_ESCAPED.sub(r"\1", item.strip()) for item in _COMMA.split(columns)]
    return name, [parse_column(item) for item in items]
