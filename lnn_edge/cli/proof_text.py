"""Text of a proof: the verdict, a row per tensor, the samples and a legend; on demand all of it, JSON, a picture."""

from __future__ import annotations

import argparse
import math
import textwrap
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
_WIDTH = 100


def add_proof_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--verbose` and `--plot`."""
    parser.add_argument("--verbose", action="store_true", help="print every comparison too, with quantiles and growth")
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
    """The verdict in a line, then a row per tensor with a legend; `verbose`: and every comparison."""
    parts = [_verdict(report), _tensor_rows(report), _legend(report)]
    parts += _streamed(report)
    parts.append(_all_rows(report) if verbose else "quantiles, growth and every comparison: --verbose")
    parts.append(_samples(report, verbose))
    parts += [_wrapped(f"not run: {name}: {reason}") for name, reason in report.not_run.items()]
    if report.distinct is not None:
        parts.append(str(report.distinct))
    if report.sensitive is not None and report.passed:
        parts.append(str(report.sensitive))
    if report.window is not None:
        parts.append(str(report.window))
    return "\n".join(parts)


def _wrapped(text: str) -> str:
    """A sentence as wide as the tables."""
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _streamed(report: ExportReport) -> list[str]:
    """A line for windows and readouts each, which are compared as a robot program has them."""
    largest: dict[str, float] = {}
    for row in report.comparisons:
        if row.reference == "the truth offline":
            largest[row.subject] = max(row.max_abs, largest.get(row.subject, 0.0))
    return [f"{subject}: within {error:.1e} of the truth computed offline" for subject, error in largest.items()]


def _verdict(report: ExportReport) -> str:
    if not report.passed:
        return f"NOT equal: {report.worst}"
    from ..verify.tolerance import TORCH

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
    from ..verify.tolerance import EXACT, TORCH

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
    backends = _backends(report)
    rows = []
    for tensor in report.tensors:
        worst = _worst(report, tensor)
        where = f"{worst.segment} samples"
        if not worst.passed:
            where = f"{worst.against}, {where}"
        elif {worst.subject} != backends:
            where = f"{where}, {worst.subject}"
        rows.append((tensor, f"{worst.max_abs:.1e}", f"{worst.limit:.1e}", _margin(worst), where))
    return grid(("tensor", "largest error", "allowed", "", "where"), rows, left=(0, 4))


def _backends(report: ExportReport) -> set[str]:
    from ..verify.tolerance import TORCH

    return {curve.subject for curve in report.timeline.curves} - {TORCH}


def _worst(report: ExportReport, tensor: str) -> Comparison:
    """Of what failed; else of the backends beside torch, and beside float64 where torch was not stepped."""
    from ..verify.tolerance import TORCH

    judged = [c for c in report.comparisons if c.tensor == tensor]
    failed = [c for c in judged if not c.passed]
    own = [c for c in judged if c.subject in _backends(report)]
    by_torch = {c.segment for c in own if c.reference == TORCH}
    usual = [c for c in own if c.reference == TORCH or c.segment not in by_torch]
    return max(failed or usual, key=lambda c: c.max_abs / c.limit)


def _margin(c: Comparison) -> str:
    """How far an error is from what is allowed, in words."""
    if c.max_abs == 0.0:
        return "no error"
    ratio, side = (c.limit / c.max_abs, "below") if c.passed else (c.max_abs / c.limit, "above")
    if not math.isfinite(ratio):
        return f"not finite, from step {c.first_over}"
    times = f"{ratio:.1f}" if ratio < 10 else f"{float(f'{ratio:.2g}'):,.0f}" if ratio < 1e6 else f"{ratio:.0e}"
    return f"{times} times {side}" + ("" if c.passed else f", from step {c.first_over}")


def _legend(report: ExportReport) -> str:
    """What the words of the table mean."""
    from ..verify.tolerance import EXACT, TORCH, tolerance_of

    judges = {_worst(report, tensor).reference for tensor in report.tensors}
    beside = f"of the bundle beside {TORCH}" + (f", or {EXACT} where torch is not known" if judges - {TORCH} else "")
    what = beside if report.passed else "of the comparison named under `where`"
    size = f"{tolerance_of(report.precision):.0e} of the tensor's size".replace("e-0", "e-")
    if report.precision == "float32":
        size += ", at least of 1; more only where torch rounds as coarsely"
    return f"largest error: {what}, at any step\nallowed: {size}"


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
