"""The picture of a proof: error over time, the bundle's and torch float32's own, under what is allowed."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array
from ..files import check_output, given_path, whole_file
from ..wording import plural
from .comparison import EXACT, TORCH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .report import Curve, ExportReport, Segment

__all__ = ["check_plot", "plot_report", "rendered"]


_SUFFIXES = (".svg", ".png", ".pdf")
_PANELS = 6  # tensors; more do not fit on a page
_POINTS = 1200  # along the axis, about two per pixel of the printed width; longer runs show the largest error per bin
_FLOOR = 1e-12  # where no error at all is drawn: below the float64 reference's own rounding
# Of backends: told apart without colour too.
_STYLES = (
    ("black", "-"),
    ("#0072b2", "--"),
    ("#d55e00", "-."),
    ("#009e73", ":"),
)
_OWN_COLOR, _EDGE_COLOR = "#b8b8b8", "#808080"


def check_plot(path: str | os.PathLike[str]) -> None:
    """Refuse a picture that cannot be drawn, before any long work.

    Raises:
        ValueError: If the suffix is none of .svg, .png and .pdf.
        ImportError: If matplotlib is not installed.
        OSError: If the directory is missing.
    """
    target = given_path(path, "the name of a picture: 'NAME.svg'")
    if target.suffix not in _SUFFIXES:
        raise ValueError(f"the picture is '{target}', expected a name that ends in {', '.join(_SUFFIXES)}")
    check_output(target)
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"a picture needs matplotlib, and '{error.name}' is not installed. Type: pip install 'lnn-edge[plot]'"
        ) from error


def plot_report(report: ExportReport, path: str | os.PathLike[str]) -> None:
    """Draw a report; see `ExportReport.plot`. The file appears whole or not at all."""
    check_plot(path)
    target = given_path(path, "the name of a picture: 'NAME.svg'")
    data = rendered(_drawn(report), target.suffix[1:])
    with whole_file(target) as file:
        file.write(data)


def rendered(figure: Figure, form: str) -> bytes:
    """The figure as a file; the same report gives the same bytes."""
    import matplotlib

    undated: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "lnn-edge", "svg.fonttype": "none"}):
        figure.savefig(buffer, format=form, dpi=120, metadata=undated[form])
    return buffer.getvalue()


def _drawn(report: ExportReport) -> Figure:
    from matplotlib.figure import Figure

    tensors = _shown(report)
    dt_s = report.timeline.dt_s
    heights = [1.0] * len(tensors) + ([0.6] if dt_s is not None else [])
    figure = Figure(figsize=(10.0, 1.3 + 2.0 * sum(heights)), layout="constrained")
    axes = list(
        figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    )
    for panel, tensor in zip(axes, tensors, strict=False):
        _draw_tensor(panel, report, tensor)
    if dt_s is not None:
        _draw_dt(axes[-1], report, dt_s)
    for panel in axes:
        _draw_boundaries(panel, report)
    _label_segments(axes[0], report)
    _label_time(axes, report)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    verdict, explained = _titles(report, tensors)
    figure.suptitle(verdict, fontsize=12, fontweight="bold", x=0.01, ha="left")
    axes[0].set_title(explained, fontsize=9, loc="left", pad=20)
    return figure


def _shown(report: ExportReport) -> list[str]:
    """The tensors to draw, in the bundle's order: all, or the ones nearest to their limits."""
    tensors = list(dict.fromkeys(curve.tensor for curve in report.timeline.curves))
    nearness = dict.fromkeys(tensors, 0.0)
    for c in report.comparisons:
        nearness[c.tensor] = max(nearness[c.tensor], c.max_abs / c.limit)
    kept = sorted(tensors, key=lambda name: -nearness[name])[:_PANELS]
    return [name for name in tensors if name in kept]


def _titles(report: ExportReport, tensors: list[str]) -> tuple[str, str]:
    """The verdict, and what is drawn."""
    judge = "torch" if any(curve.subject == TORCH for curve in report.timeline.curves) else "torch and its step program"
    verdict = f"equal to {judge}" if report.passed else f"NOT equal to {judge}"
    total = len({curve.tensor for curve in report.timeline.curves})
    shown = "" if len(tensors) == total else f"; the {len(tensors)} of {total} tensors nearest to their limits"
    width = _bin_width(report.steps)
    binned = "" if width == 1 else f"; each point the largest of {width} steps"
    return (
        f"{report.path.name}: {verdict} over {plural(report.steps, 'closed-loop step')}",
        f"largest absolute difference to {EXACT} at each step{binned}{shown}\non {', '.join(report.backends)}",
    )


def _draw_tensor(panel: Axes, report: ExportReport, tensor: str) -> None:
    curves = [curve for curve in report.timeline.curves if curve.tensor == tensor]
    styles = iter(_STYLES * len(curves))
    for curve in curves:
        steps, error = _thinned(curve, report)
        if curve.subject == TORCH:
            label = f"{TORCH}'s own error"
            panel.fill_between(steps, _FLOOR, error, color=_OWN_COLOR, linewidth=0, step="post", label=label)
        else:
            color, line = next(styles)
            panel.plot(steps, error, line, color=color, linewidth=0.8, drawstyle="steps-post", label=curve.subject)
    for k, (segment, limit) in enumerate(_limits(report, tensor)):
        ends = (segment.start, segment.start + segment.steps)
        panel.plot(ends, (limit, limit), ":", color="black", linewidth=1.6, label="" if k else "allowed")
    _mark_failure(panel, report, tensor)
    starts = np.flatnonzero(report.timeline.reset)
    ticks = panel.get_xaxis_transform()
    panel.plot(starts, np.full(len(starts), 0.03), "|", color="black", ms=6, transform=ticks, label="reset")
    panel.set_yscale("log")
    panel.set_ylim(*_span(report, tensor))
    panel.set_ylabel(f"{tensor}\nerror", fontsize=9)
    panel.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    panel.set_axisbelow(True)


def _bin_width(steps: int) -> int:
    return max(1, -(-steps // _POINTS))


def _thinned(curve: Curve, report: ExportReport) -> tuple[Array, Array]:
    """Where and how high to draw: the largest error of each bin, so that no peak is lost. The last edge closes it."""
    steps = len(curve.error)
    starts = np.arange(0, steps, _bin_width(report.steps))
    worst = np.maximum.reduceat(curve.error.astype(np.float64), starts)
    _, top = _span(report, curve.tensor)
    return np.append(starts, steps), np.clip(np.append(worst, worst[-1]), _FLOOR, top)


def _span(report: ExportReport, tensor: str) -> tuple[float, float]:
    """Lowest and highest error of the axis: whole decades around what there is, the limit well inside."""
    errors = np.concatenate([curve.error for curve in report.timeline.curves if curve.tensor == tensor])
    errors = errors[np.isfinite(errors) & (errors > 0)].astype(np.float64)
    limits = [limit for _, limit in _limits(report, tensor)]
    low = np.quantile(errors, 0.05) if len(errors) else min(limits)
    high = max(*limits, errors.max(initial=0.0))
    return max(_FLOOR, 10.0 ** np.floor(np.log10(low))), 10.0 ** (np.floor(np.log10(high)) + 1.0)


def _limits(report: ExportReport, tensor: str) -> Iterator[tuple[Segment, float]]:
    """What is allowed to the backends, by segment."""
    backends = {curve.subject for curve in report.timeline.curves} - {TORCH}
    for segment in report.segments:
        found = [
            c.limit
            for c in report.comparisons
            if c.tensor == tensor and c.segment == segment.name and c.subject in backends and c.reference == EXACT
        ]
        yield segment, max(found)


def _mark_failure(panel: Axes, report: ExportReport, tensor: str) -> None:
    """Point at the first step over the limit."""
    starts = {segment.name: segment.start for segment in report.segments}
    drawn = {curve.subject for curve in report.timeline.curves}
    over = [
        (starts[c.segment] + c.first_over, c)
        for c in report.comparisons
        if c.tensor == tensor and c.first_over is not None and c.subject in drawn
    ]
    if over:
        step, first = min(over, key=lambda pair: pair[0])
        note = f"over at step {step}: {first.against}"
        panel.axvline(step, color="#d55e00", linewidth=1.2)
        late = step > report.steps / 2
        panel.annotate(
            note,
            (step, first.limit),
            xytext=(-4 if late else 4, -5),  # below the limit: the error is above it
            textcoords="offset points",
            ha="right" if late else "left",
            va="top",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )


def _draw_dt(panel: Axes, report: ExportReport, dt_s: Array) -> None:
    panel.plot(np.arange(report.steps), dt_s, ".", color="black", markersize=1.2)
    panel.set_yscale("log")
    panel.set_ylabel("dt\nseconds", fontsize=9)
    panel.grid(axis="y", color="#e4e4e4", linewidth=0.6)


def _draw_boundaries(panel: Axes, report: ExportReport) -> None:
    for segment in report.segments[1:]:
        panel.axvline(segment.start, color=_EDGE_COLOR, linewidth=0.8)
    panel.set_xlim(0, report.steps)
    panel.tick_params(labelsize=8)


def _label_segments(panel: Axes, report: ExportReport) -> None:
    for segment in report.segments:
        panel.annotate(
            segment.name,
            (segment.start + segment.steps / 2, 1.0),
            xycoords=panel.get_xaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )


def _label_time(axes: list[Axes], report: ExportReport) -> None:
    """Steps below; with fixed time and a known period also seconds above."""
    period_s = report.timeline.period_s
    axes[-1].set_xlabel("step", fontsize=9)
    if period_s and report.timeline.dt_s is None:

        def scaled(factor: float) -> Callable[[Any], Any]:
            return lambda value: value * factor

        seconds = axes[-1].secondary_xaxis(-0.32, functions=(scaled(period_s), scaled(1.0 / period_s)))
        seconds.set_xlabel("seconds", fontsize=9)
        seconds.tick_params(labelsize=8)
