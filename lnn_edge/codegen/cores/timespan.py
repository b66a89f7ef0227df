"""The time since the last sample, as a core takes it: a number that is folded, or a value."""

from __future__ import annotations

from ..emission import Emission

__all__ = ["fixed_timespan"]


def fixed_timespan(emission: Emission, name: str) -> float | None:
    """The timespan of a core that never changes; `None` if it is measured or computed."""
    if name == emission.elapsed:
        return emission.fixed
    return float(emission.tensors[name].reshape(-1)[0]) if name in emission.tensors else None
