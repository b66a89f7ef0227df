"""Targets of the generated C: how many numbers a register of theirs holds."""

from __future__ import annotations

from dataclasses import dataclass

from ..wording import choices

__all__ = ["TARGETS", "Target", "named_target"]


@dataclass(frozen=True)
class Target:
    """A kind of processor.

    Args:
        name: What users type.
        lanes: float32 numbers computed together: 1, 4, 8 or 16. Above 1 the C needs the vector extensions of GCC and
            clang, and is right, if slow, where the processor has narrower registers.
        runs_on: Where, in a few words.
    """

    name: str
    lanes: int
    runs_on: str


TARGETS = (
    Target("generic", 1, "any C99 compiler, no vector registers"),
    Target("vector4", 4, "SSE2, NEON"),
    Target("vector8", 8, "AVX2"),
    Target("vector16", 16, "AVX-512"),
)


def named_target(name: str) -> Target:
    """Find a target.

    Raises:
        ValueError: If there is no such target.
    """
    for target in TARGETS:
        if target.name == name:
            return target
    raise ValueError(f"unknown target '{name}'. {choices(name, [target.name for target in TARGETS])}")
