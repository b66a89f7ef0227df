"""Record of a run between two rows, beside the state of its stream, as a file holds it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

__all__ = ["VERSION", "Keeping", "KeptRun"]

VERSION = 1

Options = dict[str, Any]  # as they are typed, by name


class Keeping(Struct, frozen=True):
    """How a run is kept.

    Args:
        path: The file.
        every_s: How often it is written, seconds.
        options: What was typed that decides how results look, by option.
        policies: What was typed that decides what becomes of rows; the sensor of a live input may get others.
    """

    path: str
    every_s: float
    options: Options
    policies: Options


class KeptRun(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run, of which those of rows and of loops each know one thing more.

    Args:
        version: Of this description.
        runner: The backend with its version and device.
        live: Whether the input was none that is there again.
        options, policies: See `Keeping`.
        lines: Lines of the input that were taken; 0 of a live one.
        digest: Their SHA-256, hex; see `MarkedLines`.
        results: Lines of results.
        size: Bytes of the file with them; 0 where they went elsewhere.
        times: What `TimeColumn.kept` gave.
        results_digest: Of these bytes their SHA-256, hex; empty of a file that is older than this was kept.
    """

    version: int
    runner: str
    live: bool
    options: Options
    policies: Options
    lines: int
    digest: str
    results: int
    size: int
    times: dict[str, Any]
    results_digest: str = ""
