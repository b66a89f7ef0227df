"""Report of a proof: frozen, prints as sentences, encodes as JSON and draws its error over time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..arrays import Array
from ..bundle.spec import Precision, Sensitive, Verification
from ..wording import chosen, listed, plural, typed
from .comparison import Comparison
from .samples import Distinct
from .tolerance import TORCH, errors_by_step, tolerance_of, tolerance_reason

__all__ = ["Curve", "ExportReport", "Segment", "Signal", "Timeline", "WindowFinding", "curves_from_results"]

_NO_CHANGE = 0.01  # of an output's spread


@dataclass(frozen=True)
class Segment:
    """One kind of samples in a proof.

    Args:
        name: "recorded", "random", "constant", "step", "extreme"; "golden" and "repeated" for a bundle on its own.
        start: First step.
        steps: Number of steps.
        sequences: Number of sequences: the state starts anew in each.
        dt_regime: How the time between samples was chosen; `None` with fixed time.
        dt_range_s: Shortest and longest time between samples, seconds; `None` with fixed time.
    """

    name: str
    start: int
    steps: int
    sequences: int
    dt_regime: str | None = None
    dt_range_s: tuple[float, float] | None = None


@dataclass(frozen=True)
class Curve:
    """Error of one tensor over time.

    Args:
        tensor: Name of the output or state.
        subject: Whose error: a backend's, or torch float32's own.
        error: Largest absolute difference to float64 over the tensor's elements, float32 (steps,).
    """

    tensor: str
    subject: str
    error: Array


@dataclass(frozen=True)
class Signal:
    """One column over time, of the first output, or of the output or state that failed.

    Args:
        tensor: Name of the output or state.
        column: Its name.
        subject: Whose: a backend's, or torch float32's.
        values: Of the first row of a batch, float32 (steps,).
    """

    tensor: str
    column: str
    subject: str
    values: Array


@dataclass(frozen=True)
class Timeline:
    """The steps of a proof one after the other, for pictures; too long for JSON.

    Args:
        curves: Errors by tensor and subject.
        reset: uint8 (steps,); 1 where the state starts anew.
        dt_s: Seconds between samples, those of the first row, (steps,); `None` with fixed time.
        period_s: Nominal time between samples, seconds; `None` if unknown.
        signals: Some columns of the first output, or of what failed, by subject.
    """

    curves: tuple[Curve, ...]
    reset: Array
    dt_s: Array | None
    period_s: float | None
    signals: tuple[Signal, ...] = ()


@dataclass(frozen=True)
class WindowFinding:
    """What a kept state changes in a model that is evaluated on windows.

    Args:
        length: Samples of a window.
        every: Samples from the beginning of one to that of the next.
        kept_state_changes: See `lnn_edge.bundle.spec.Window`; empty if it could not be told.
        asked: Whether the export was told of windows; else the example looks like some.
    """

    length: int
    every: int
    kept_state_changes: dict[str, float]
    asked: bool

    def __str__(self) -> str:
        if not self.kept_state_changes:
            return f"windows of {self.length} samples: the example is too short to tell what a kept state changes"
        name, most = max(self.kept_state_changes.items(), key=lambda item: item[1])
        what = f"after {plural(self.length, 'sample')} a kept state changes '{name}' by {most:.2g} of its spread"
        if most < _NO_CHANGE:
            return f"windows: {what}: kept or begun anew, it is the same"
        runs = typed(f"model.stream(window={self.length})", f"lnn-edge run --window {self.length}")
        advice = f"{runs} runs windows as they were trained; or train with a carried state"
        if self.asked:
            return f"windows: {what}. {advice}"
        return (
            f"windows: {what}. If the model is evaluated on windows like the equal short recordings of the example, "
            f"export it with {chosen('window', self.length)}: {advice}"
        )


@dataclass(frozen=True)
class ExportReport:
    """The outcome of a proof.

    Args:
        path: The bundle.
        backends: What ran the bundle, each with version and device.
        precision: Of the bundle's weights and inner arithmetic.
        steps: Number of closed-loop steps compared.
        segments: The kinds of samples, in the order in which they were stepped.
        comparisons: Every tensor against every reference.
        nodes: Number of operators in the graph.
        parameters: Number of constants in the graph.
        seconds: Time that everything took.
        timeline: Error at every step, for `plot`; not part of the JSON.
        sensitive: How fast the model amplifies disturbances, if float32 cannot follow it for ever.
        window: What a kept state changes, if the model is evaluated on windows or seems to be.
        distinct: How many samples differ, where the encoder is so costly that few come over and over.
        not_run: Why the other backends that are installed did not run the bundle, by name.
    """

    path: Path
    backends: tuple[str, ...]
    precision: Precision
    steps: int
    segments: tuple[Segment, ...]
    comparisons: tuple[Comparison, ...]
    nodes: int
    parameters: int
    seconds: float
    timeline: Timeline = field(repr=False, compare=False)
    window: WindowFinding | None = None
    sensitive: Sensitive | None = None
    distinct: Distinct | None = None
    not_run: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every comparison is within its limit."""
        return all(c.passed for c in self.comparisons)

    @property
    def tensors(self) -> list[str]:
        """The outputs and states that were compared, in the bundle's order."""
        return list(
            dict.fromkeys([curve.tensor for curve in self.timeline.curves] + [c.tensor for c in self.comparisons])
        )

    @property
    def max_abs_error(self) -> float:
        """Largest absolute difference between the bundle and torch float32, over all tensors, steps and backends."""
        return max(c.max_abs for c in self.comparisons if c.reference == TORCH)

    @property
    def worst(self) -> Comparison:
        """The comparison that comes nearest to its limit, or is furthest beyond it.

        Where torch itself fails, that is it: what a backend makes of such a model is no news.
        """
        return max(
            self.comparisons,
            key=lambda c: (not c.passed, not c.passed and c.subject.startswith("torch"), c.max_abs / c.limit),
        )

    def errors(self, reference: str | None = None) -> dict[str, float]:
        """Largest absolute error per kind of comparison: all, or those with one reference."""
        worst: dict[str, float] = {}
        for c in self.comparisons:
            if reference in (None, c.reference):
                worst[c.against] = max(worst.get(c.against, 0.0), c.max_abs)
        return worst

    def verification(self) -> Verification:
        """The brief form for the manifest."""
        return Verification(
            status="passed" if self.passed else "pending",
            steps=self.steps,
            tolerance=tolerance_of(self.precision),
            tolerance_reason=tolerance_reason(self.precision),
            max_abs_error=self.errors(),
            distinct_samples=None if self.distinct is None else self.distinct.samples,
            whole_steps=None if self.distinct is None else self.distinct.whole_steps,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a difference that is not finite becomes `null`."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "timeline"}
        # what these hold is numbers and texts, which need no deep copy
        values |= {name: [dict(vars(row)) for row in values[name]] for name in ("segments", "comparisons")}
        values["sensitive"] = None if self.sensitive is None else msgspec.to_builtins(self.sensitive)
        values |= {n: None if values[n] is None else asdict(values[n]) for n in ("window", "distinct")}
        values |= {"path": self.path.name, "backends": list(self.backends), "not_run": dict(self.not_run)}
        values["passed"] = self.passed
        reason = tolerance_reason(self.precision)
        return values | {"tolerance": tolerance_of(self.precision), "tolerance_reason": reason}

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the error over time, next to torch float32's own and to what is allowed.

        Args:
            path: Where the picture goes; its suffix, .svg, .png or .pdf, says in which form.

        Raises:
            ValueError: If the suffix is another.
            ImportError: If matplotlib is not installed, with the command that installs it.
            OSError: If the file cannot be written.
        """
        from .plot import plot_report

        plot_report(self, path)

    def __str__(self) -> str:
        if not self.passed:
            failed = [c for c in self.comparisons if not c.passed]
            return "not equal: " + "; ".join(str(c) for c in failed)
        holds = "" if self.sensitive is None else f", {self.sensitive.holds_steps} at a time"
        if self.distinct is not None:
            holds += f" of {plural(self.distinct.samples, 'different sample')}"
        drifts = "equal to torch within" if self.precision == "float32" else "in half precision, off torch by at most"
        return (
            f"{self.path.name}: {drifts} {self.max_abs_error:.1e} over {plural(self.steps, 'closed-loop step')}{holds} "
            f"({listed(self.backends)}); {plural(self.nodes, 'operator')}, "
            f"{plural(self.parameters, 'constant')}"
        )


def curves_from_results(subject: str, results: Mapping[str, Array], float64: Mapping[str, Array]) -> list[Curve]:
    """Error over time of every tensor against float64.

    Args:
        subject: Whose results.
        results: Per output and state output, (steps, *shape); with `unroll` the states once
            per unroll block, (calls, *shape).
        float64: The exact values at every step.
    """
    curves = []
    for name, got in results.items():
        every = len(float64[name]) // len(got)
        errors = np.repeat(errors_by_step(got, float64[name][every - 1 :: every]), every)
        with np.errstate(over="ignore"):
            curves.append(Curve(name, subject, errors.astype(np.float32)))
    return curves
