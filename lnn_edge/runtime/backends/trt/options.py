"""Options of the backends `tensorrt` and `tensorrt-rtx`; their values are in the backend table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Options", "options_from_table"]


@dataclass(frozen=True)
class Options:
    """Chosen values; `lnn_edge.backends` says what each is for.

    Args:
        wait: "spin", "block" or "poll".
        graph: "auto", "on" or "off".
        feedback: "copy" or "pingpong".
        optimization_level: 0 to 5; only where kernels are chosen by measuring them.
        tf32: Whether float32 products may be computed in TF32.
    """

    wait: str
    graph: str
    feedback: str
    optimization_level: int
    tf32: bool


def options_from_table(values: Mapping[str, str]) -> Options:
    """Read checked values, as `lnn_edge.backends.checked_options` gives them."""
    return Options(
        wait=values["wait"],
        graph=values["graph"],
        feedback=values["feedback"],
        optimization_level=int(values.get("optimization_level", 3)),
        tf32=values["tf32"] == "on",
    )
