"""Summary of durations: percentiles, each only from enough samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import Array

__all__ = ["PERCENTILES", "DeviceFigure", "DeviceFigures", "Distribution", "distribution"]

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_BEYOND = 10  # samples that must lie beyond a percentile for it to mean something


@dataclass(frozen=True)
class Distribution:
    """A set of durations.

    Args:
        samples: Number of durations.
        min_us, max_us: Smallest and largest, microseconds.
        percentiles_us: By name ("p50", "p99.9"), microseconds; `None` where there are too few samples for it.
    """

    samples: int
    min_us: float
    max_us: float
    percentiles_us: dict[str, float | None]


@dataclass(frozen=True)
class DeviceFigure:
    """One duration on a backend's device.

    Args:
        name: The field's name for it.
        includes: What is in it, and which clock measured it.
        durations: The figures, microseconds.
    """

    name: str
    includes: str
    durations: Distribution


@dataclass(frozen=True)
class DeviceFigures:
    """Where the time of a step goes on a backend's device.

    Args:
        wait: How the host waited.
        graph: Whether steps run as one graph of the device.
        captured: Streams of this model that run as one graph.
        fallbacks: Streams of this model whose capture was refused.
        figures: In the order in which things happen.
    """

    wait: str
    graph: bool
    captured: int
    fallbacks: int
    figures: tuple[DeviceFigure, ...]


def distribution(durations_ns: Array) -> Distribution:
    """Summarise durations in nanoseconds; a percentile needs at least ten samples beyond it.

    Raises:
        ValueError: If there is no sample.
    """
    ordered = np.sort(np.asarray(durations_ns, np.int64))
    if len(ordered) == 0:
        raise ValueError("no step was measured, so there is nothing to report")

    def percentile(p: float) -> float | None:
        beyond = round(len(ordered) * (100.0 - p) / 100.0, 6)
        rank = int(np.ceil(len(ordered) * p / 100.0)) - 1
        return float(ordered[rank]) / 1e3 if beyond >= _BEYOND else None

    return Distribution(
        samples=len(ordered),
        min_us=float(ordered[0]) / 1e3,
        max_us=float(ordered[-1]) / 1e3,
        percentiles_us={f"p{p:g}": percentile(p) for p in PERCENTILES},
    )
