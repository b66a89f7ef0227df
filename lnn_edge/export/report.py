"""What an export or a proof has to tell: a frozen report that prints as sentences and encodes as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..equality import TOLERANCE, TOLERANCE_REASON, Comparison
from ..manifest import Verification
from ..runtime.replay import BUNDLE_TORCH
from ..wording import plural

__all__ = ["ExportReport", "worst_by_comparison"]


@dataclass(frozen=True)
class ExportReport:
    """The outcome of a proof.

    Args:
        path: The bundle.
        backend: What ran the bundle, with version and device.
        steps: Number of closed-loop steps compared.
        segments: Name and number of steps of each kind of input.
        comparisons: Every tensor against every reference.
        nodes: Number of operators in the graph.
        parameters: Number of constants in the graph.
        seconds: Time that everything took.
    """

    path: Path
    backend: str
    steps: int
    segments: tuple[tuple[str, int], ...]
    comparisons: tuple[Comparison, ...]
    nodes: int
    parameters: int
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every comparison is within its limit."""
        return all(c.passed for c in self.comparisons)

    @property
    def max_abs_error(self) -> float:
        """Largest absolute difference between the bundle and torch float32, over all tensors and steps."""
        return max(c.max_abs for c in self.comparisons if c.against == BUNDLE_TORCH)

    def verification(self) -> Verification:
        """The brief form for the manifest."""
        return Verification(
            status="passed" if self.passed else "pending",
            steps=self.steps,
            tolerance=TOLERANCE,
            tolerance_reason=TOLERANCE_REASON,
            max_abs_error=worst_by_comparison(self.comparisons),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a difference that is not finite becomes `null`."""
        values = asdict(self) | {"path": str(self.path.name), "passed": self.passed, "tolerance": TOLERANCE}
        return values | {"tolerance_reason": TOLERANCE_REASON}

    def __str__(self) -> str:
        if not self.passed:
            failed = [c for c in self.comparisons if not c.passed]
            return "not equal: " + "; ".join(str(c) for c in failed)
        return (
            f"{self.path.name}: equal to torch within {self.max_abs_error:.1e} over "
            f"{plural(self.steps, 'closed-loop step')} ({self.backend}); {plural(self.nodes, 'operator')}, "
            f"{plural(self.parameters, 'constant')}"
        )


def worst_by_comparison(comparisons: tuple[Comparison, ...] | list[Comparison]) -> dict[str, float]:
    """Largest absolute error per kind of comparison."""
    worst: dict[str, float] = {}
    for c in comparisons:
        worst[c.against] = max(worst.get(c.against, 0.0), c.max_abs)
    return worst
