"""Text of a proof: the verdict, a table of one row per tensor, the samples; and on demand JSON and a picture."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from ..errors import VerificationError
from .console import emit_json, grid, note, print_result

if TYPE_CHECKING:
    from ..verify.comparison import Comparison
    from ..verify.report import ExportReport

__all__ = ["ProofView", "add_proof_arguments", "check_plot_path", "proof_text", "show_proof", "shown_when_it_fails"]

_HEADERS = ("max abs", "rel", "ULP", "p50", "p99", "growth", "allowed", "over at", "own")  # fit in 100 columns


def add_proof_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--verbose` and `--plot`."""
    parser.add_argument("--verbose", action="store_true", help="print every comparison, not only the worst per tensor")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw the error over time: .svg, .png or .pdf (needs the extra `plot`)"
    )


class ProofView(Struct, frozen=True):
    """How a proof is shown.

    Args:
        verbose: Whether every comparison is printed.
        plot: File for the picture, or `None`.
        json: What `--json` says, or `None`.
    """

    verbose: bool
    plot: str | None
    json: str | None


def check_plot_path(path: str | None) -> None:
    """Refuse a `--plot FILE` that cannot be drawn, before any long work."""
    if path is not None:
        from ..verify.plot import check_plot

        check_plot(path)


def show_proof(report: ExportReport, view: ProofView) -> None:
    """Print a proof that went through to its end, equal or not."""
    print_result(proof_text(report, view.verbose), view.json)
    _save(report, view)


@contextmanager
def shown_when_it_fails(view: ProofView) -> Iterator[None]:
    """Show what a failed export compared before its error ends the command."""
    try:
        yield
    except VerificationError as error:
        if error.report is not None:
            note(proof_text(error.report, view.verbose))
            _save(error.report, view)
        raise


def _save(report: ExportReport, view: ProofView) -> None:
    emit_json(report.to_dict(), view.json)
    if view.plot is not None:
        report.plot(view.plot)
        note(f"saved {view.plot}")


def proof_text(report: ExportReport, verbose: bool) -> str:
    """The verdict in a line, then the tables."""
    parts = [_verdict(report), _all_rows(report) if verbose else _tensor_rows(report)]
    if not verbose:
        parts.append(_compared(report))
    parts.append(_samples(report, verbose))
    if report.distinct is not None:
        parts.append(str(report.distinct))
    if report.sensitive is not None and report.passed:
        parts.append(str(report.sensitive))
    if report.window is not None:
        parts.append(str(report.window))
    return "\n".join(parts)


def _verdict(report: ExportReport) -> str:
    if not report.passed:
        return f"NOT equal: {report.worst}"
    from ..verify.comparison import TORCH

    own = max(c.own for c in report.comparisons if c.reference == TORCH)
    if report.precision != "float32":
        drifts = ", ".join(f"{against} {error:.1e}" for against, error in report.errors(TORCH).items())
        return (
            f"accepted in half precision, largest drift: {drifts}{_beyond(report)};\n"
            "onnx.reference computes in true half, a CPU backend may compute in float32 between half weights"
        )
    return (
        f"equal: outputs and states within {report.max_abs_error:.1e} of torch float32 at every step"
        f"{' that it made' if _beyond(report) else ''}{_beyond(report)}; "
        f"torch's own error: {own:.1e}"
    )


def _beyond(report: ExportReport) -> str:
    """What judges the steps that torch never made: those of a bundle on its own."""
    from ..verify.comparison import EXACT, TORCH

    known, all_steps = (_steps(report, reference) for reference in (TORCH, EXACT))
    if known == all_steps:
        return ""
    error = max(report.errors(EXACT).values())
    return f" ({known:,}), within {error:.1e} of the step program in float64 at all {all_steps:,}"


def _steps(report: ExportReport, reference: str) -> int:
    """Over how many steps a reference judged."""
    return sum({c.segment: c.steps for c in report.comparisons if c.reference == reference}.values())


def _tensor_rows(report: ExportReport) -> str:
    """One row per tensor: where a backend comes nearest to what is allowed, or the comparison that failed."""
    from ..verify.comparison import TORCH

    backends = {curve.subject for curve in report.timeline.curves} - {TORCH}
    rows = []
    for tensor in dict.fromkeys(c.tensor for c in report.comparisons):
        judged = [c for c in report.comparisons if c.tensor == tensor]
        mine = [c for c in judged if not c.passed] or [c for c in judged if c.reference == TORCH]
        worst = max((c for c in mine if c.subject in backends or not c.passed), key=lambda c: c.max_abs / c.limit)
        place = worst.segment if {worst.subject} == backends else f"{worst.segment}, {worst.subject}"
        rows.append((tensor, place, *_figures(worst)))
    return grid(("tensor", "worst on", *_HEADERS), rows)


def _all_rows(report: ExportReport) -> str:
    """A table per kind of comparison, one row per segment and tensor."""
    tables = []
    for against in dict.fromkeys(c.against for c in report.comparisons):
        rows = [(c.tensor, c.segment, *_figures(c)) for c in report.comparisons if c.against == against]
        steps = sum({c.segment: c.steps for c in report.comparisons if c.against == against}.values())
        tables.append(grid(("tensor", "inputs", *_HEADERS), rows, title=f"{against}, {steps:,} steps"))
    notes = (
        "rel: of the tensor's largest value. ULP: in float32 spacings at the value, so large near zero.\n"
        "growth: mean error in the last tenth over that in the first. over at: first step over what is\n"
        "allowed, counted in its segment. own: torch float32's own largest error on the same samples."
    )
    return "\n\n".join([*tables, notes])


def _figures(c: Comparison) -> tuple[str, ...]:
    p50, _, p99, _ = (f"{q:.0e}" for q in c.quantiles)
    return (
        f"{c.max_abs:.1e}",
        f"{c.max_rel:.0e}",
        f"{c.max_ulp:.0f}" if c.max_ulp < 1e4 else f"{c.max_ulp:.0e}",
        p50,
        p99,
        f"{c.growth:.1f}",
        f"{c.limit:.1e}",
        "-" if c.first_over is None else f"step {c.first_over}",
        f"{c.own:.1e}" if c.own else "-",
    )


def _compared(report: ExportReport) -> str:
    """What was compared with what, over how many steps, and the largest error."""
    steps: dict[str, dict[str, int]] = {}
    for c in report.comparisons:
        steps.setdefault(c.against, {})[c.segment] = c.steps
    rows = [(name, f"{sum(steps[name].values()):,}", f"{error:.1e}") for name, error in report.errors().items()]
    return grid(("compared", "steps", "largest error"), rows)


def _samples(report: ExportReport, verbose: bool) -> str:
    """What was stepped through; with measured time also with which dt."""
    if not verbose and all(s.dt_range_s is None for s in report.segments):
        named = ", ".join(f"{s.steps:,} {s.name}" for s in report.segments)
        return f"samples: {named}\n{sum(s.sequences for s in report.segments):,} sequences, each from a reset"
    rows = []
    for s in report.segments:
        low, high = s.dt_range_s or (None, None)
        dt = "fixed" if low is None else f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
        rows.append((s.name, f"{s.steps:,}", f"{s.sequences:,}", dt, s.dt_regime or "-"))
    return grid(("samples", "steps", "sequences", "dt, seconds", "dt regime"), rows)
