"""The number of examples that a property is tried with: a third where the same tests run once more on other versions.

`make unit` tries all of them. The Makefile sets `LNN_EDGE_TEST_AGAIN` for the device half alone, on the oldest and the
newest Python of the same machine: what is ours is the same code there, and what is other is found by fewer.
"""

from __future__ import annotations

import os

__all__ = ["examples"]

_SHARE = 3 if os.environ.get("LNN_EDGE_TEST_AGAIN") else 1


def examples(count: int) -> int:
    """Of `count` examples those that are tried here."""
    return -(-count // _SHARE)
