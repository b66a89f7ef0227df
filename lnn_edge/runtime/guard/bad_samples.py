"""Policy for samples that cannot be used: values that are none, out of their limits, or not in order of time."""

from __future__ import annotations

from typing import Literal

__all__ = ["BadSamplePolicy"]


class BadSamplePolicy:
    """Decides what becomes of a refused sample. A step is all or nothing, so the stream is as it was before it.

    Args:
        on_bad: "stop": raise; "skip": count it, and let the caller go on with the next; "hold": likewise, of what
            `HeldValues` cannot fill.

    Attributes:
        skipped: How many samples were skipped.
    """

    def __init__(self, on_bad: Literal["stop", "skip", "hold"] = "stop") -> None:
        self.skipped = 0
        self._on_bad = on_bad

    def refuse(self, error: ValueError, samples: int = 1) -> None:
        """Take the error that a sample, or a whole unroll block of `samples`, was refused with.

        Raises:
            ValueError: The error itself, if the policy is to stop.
        """
        if self._on_bad == "stop":
            raise error
        self.skipped += samples
