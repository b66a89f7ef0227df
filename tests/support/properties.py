"""The share of examples and cases that is tried: a third where the same tests run once more on other versions.

`make unit` tries all of them. The Makefile sets `LNN_EDGE_TEST_AGAIN` for the device half alone, on the oldest and the
newest Python of the same machine: what is ours is the same code there, and what is other is found by fewer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

__all__ = ["examples", "some"]

_Case = TypeVar("_Case")

_SHARE = 3 if os.environ.get("LNN_EDGE_TEST_AGAIN") else 1


def examples(count: int) -> int:
    """Of `count` examples those that are tried here."""
    return -(-count // _SHARE)


def some(cases: Iterable[_Case]) -> list[_Case]:
    """Of the cases of a test, which differ in what is ours, those that are tried here: the first and each third."""
    return [*cases][::_SHARE]
