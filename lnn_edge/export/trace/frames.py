"""Frames of the user's code that a trace notes for each node, without those of torch and of the caller.

Left to itself, torch looks up every frame that leads to a node, from the program's first line through dozens of its
own, and reads the source of each: a fifth of a trace.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import FrameSummary, StackSummary
from types import CodeType, FrameType

import torch
from torch.fx import proxy

__all__ = ["users_frames"]

_TORCH = str(Path(torch.__file__).parent) + os.sep  # which torchvision's files do not begin with
_USUAL = getattr(proxy, "CapturedTraceback", None)  # a private place of torch's, which a later one may not have


@contextmanager
def users_frames(traced: CodeType) -> Iterator[None]:
    """A block in which traces note the frames of other code than torch's alone, from what is traced inwards."""
    if _USUAL is None:
        yield
        return
    proxy.CapturedTraceback = type("Frames", (_Frames,), {"traced": traced})  # type: ignore[assignment, attr-defined]
    try:
        yield
    finally:
        proxy.CapturedTraceback = _USUAL  # type: ignore[attr-defined]


class _Frames:
    """What torch asks of its own class of that name."""

    traced: CodeType

    def __init__(self, frames: Iterable[FrameSummary]) -> None:
        self._frames = list(frames)

    @classmethod
    def extract(cls, **_options: bool) -> _Frames:
        """The frames that are running."""
        return cls(_others(sys._getframe(1), cls.traced))

    def summary(self) -> StackSummary:
        """The outermost first, as everywhere in Python."""
        return StackSummary.from_list(self._frames[::-1])


def _others(frame: FrameType | None, traced: CodeType) -> Iterator[FrameSummary]:
    """The innermost first."""
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_TORCH):
            yield FrameSummary(code.co_filename, frame.f_lineno, code.co_name, lookup_line=False)
        frame = None if code is traced else frame.f_back
