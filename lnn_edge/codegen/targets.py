"""Targets of the generated C: how many numbers a register of theirs holds."""

from __future__ import annotations

import msgspec

from ..wording import choices

__all__ = ["TARGETS", "Target", "named_target"]


class Target(msgspec.Struct, frozen=True):
    """A kind of processor.

    Args:
        name: What users type.
        lanes: float32 numbers computed together: 1, 4, 8 or 16. Above 1 the C needs the vector extensions of GCC and
            clang, and is right, if slow, where the processor has narrower registers.
        runs_on: Where, in a few words.
        flags: That a compiler needs to compile for it.
        triple: Of a target that is no computer of its own, which `lnn-edge codegen --compile` makes an object for.
        gcc: The program of GCC's that compiles for it alone.
        tiles: Registers that stand for each number and are computed together, as the text is written.
    """

    name: str
    lanes: int
    runs_on: str
    flags: tuple[str, ...] = ()
    triple: str | None = None
    gcc: str | None = None
    tiles: int = 1


TARGETS = (
    Target("generic", 1, "any C99 compiler, no vector registers"),
    Target("vector4", 4, "SSE2, NEON"),
    Target("vector8", 8, "AVX2", ("-mavx2", "-mfma")),
    Target("vector16", 16, "AVX-512", ("-mavx512f", "-mfma")),
    Target(
        "cortex-m4f",
        1,
        "Cortex-M4F, and M7 and M33 with a floating-point unit",
        ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
        "thumb-freestanding-eabihf",
        "arm-none-eabi-gcc",
    ),
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
