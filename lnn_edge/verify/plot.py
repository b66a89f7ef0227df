"""The picture of a proof: the signals, torch's and the stream's, and their error over time under what is allowed."""

from __future__ import annotations

import io
import os
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array
from ..files.whole import check_output, given_path, whole_file
from ..wording import plural
from .tolerance import EXACT, TORCH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .comparison import Comparison
    from .report import Curve, ExportReport, Segment

__all__ = ["check_plot", "plot_report", "rendered"]


_PATH = re.compile(rb' d="[^"]*"')
_DIGITS = re.compile(rb"(\.\d)\d+")  # a tenth of a point is finer than the lines are wide
_SUFFIXES = (".svg", ".png", ".pdf")
_PANELS = 6  # tensors; more do not fit on a page
_POINTS = 600  # along the axis, about one per two pixels; longer runs show the largest error per bin
_ALL_POINTS = 1500  # of the panels together, so that no picture of many tensors is large
_SIGNAL_STEPS = 160  # of the signals: enough to see their shape, few enough to see two lines beside one another
_DPI = 100
_COLORS = 64  # of a .png: what is drawn has ten, and their edges
_FLOOR = 1e-12  # where no error at all is drawn: below the float64 reference's own rounding
_WIDTH = 140  # characters of a line of small text
_RAISED = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")

# Of backends: told apart without colour too.
_STYLES = (
    ("black", "-"),
    ("#0072b2", "--"),
    ("#d55e00", "-."),
    ("#009e73", ":"),
)
_OWN_COLOR, _EDGE_COLOR = "#b8b8b8", "#808080"
_SIGNAL_COLORS = ("#56b4e9", "#e69f00", "#009e73")  # of columns, torch's below the thin black line of the stream
_MEANINGS = {
    "recorded": "recorded: your example",
    "windows": "windows: each from a reset",
    "random": "random: anywhere in the range of each input",
    "constant": "constant: held, so that states settle",
    "step": "step: jumps from value to value",
    "extreme": "extreme: ten times the range, where inputs have limits at these",
    "golden": "golden: samples and results that the bundle ships",
    "repeated": "repeated: the golden samples again",
    "single steps": "single steps: each from a state that is known exactly",
}


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

    form = form.lower()
    undated: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "lnn-edge", "svg.fonttype": "none"}):
        figure.savefig(buffer, format=form, dpi=_DPI, metadata=undated[form])
    if form == "svg":
        return _PATH.sub(lambda path: _DIGITS.sub(rb"\1", path[0]).replace(b" \nL ", b" "), buffer.getvalue())
    return _few_colors(buffer) if form == "png" else buffer.getvalue()


def _few_colors(picture: io.BytesIO) -> bytes:
    """A .png with a palette, a third as large."""
    from PIL import Image

    smaller = io.BytesIO()
    with Image.open(picture) as image:
        image.convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE).save(smaller, "png", optimize=True)
    return smaller.getvalue()


def _drawn(report: ExportReport) -> Figure:
    from matplotlib.figure import Figure

    tensors, dt_s = _shown(report), report.timeline.dt_s
    above = [1.3] if report.timeline.signals else []
    heights = [*above, *[1.0] * len(tensors), *([0.6] if dt_s is not None else [])]
    figure = Figure(figsize=(10.0, 1.6 + 1.9 * sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    if above:
        _draw_signals(figure.add_subplot(grid[0]), report)
    axes = [figure.add_subplot(grid[k]) for k in range(len(above), len(heights))]
    for panel in axes[1:]:
        panel.sharex(axes[0])
    for panel in axes[:-1]:
        panel.tick_params(labelbottom=False)
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


def _draw_signals(panel: Axes, report: ExportReport) -> None:
    """Torch's columns and, over them, the stream's: the beginning, or where they part."""
    signals = report.timeline.signals
    start, stop, where = _signal_part(report)
    columns = list(dict.fromkeys(signal.column for signal in signals))
    lines = iter(_STYLES * len(signals))
    styles = {subject: next(lines)[1] for subject in dict.fromkeys(s.subject for s in signals) if subject != TORCH}
    for signal in signals:
        steps = np.arange(start, min(stop, len(signal.values)))
        values = signal.values[start:stop]
        if signal.subject == TORCH:
            color = _SIGNAL_COLORS[columns.index(signal.column)]
            panel.plot(steps, values, color=color, linewidth=4.0, alpha=0.6, label=f"{signal.column}, {TORCH}")
        else:
            label = f"the stream on {signal.subject}" if signal.column == columns[0] else ""
            panel.plot(steps, values, styles[signal.subject], color="black", linewidth=0.9, label=label)
    panel.set_xlim(start, stop)
    panel.tick_params(labelsize=8)
    panel.set_ylabel("value", fontsize=9)
    panel.set_xlabel("step", fontsize=9)
    panel.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    panel.set_axisbelow(True)
    named = "the first output" if report.passed else f"'{signals[0].tensor}'"
    panel.set_title(f"{named}, {where}", fontsize=9, loc="left", pad=20)  # above the legend, which may be as wide
    in_order = sorted(zip(*panel.get_legend_handles_labels(), strict=True), key=lambda pair: TORCH not in pair[1])
    panel.legend(
        *zip(*in_order, strict=True),
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=4,
        frameon=False,
        fontsize=8,
        borderaxespad=0.2,
    )


def _signal_part(report: ExportReport) -> tuple[int, int, str]:
    """First and last step of the signals that are drawn, and what is to be seen there."""
    signals = report.timeline.signals
    over = _failures(report, {signal.subject for signal in signals}, signals[0].tensor)
    first = min((step for step, _ in over), default=None)
    start = 0 if first is None else max(0, first - _SIGNAL_STEPS // 4)
    segment = next(s for s in report.segments if s.start + s.steps > start)
    stop = min(start + _SIGNAL_STEPS, report.steps if first is not None else segment.start + segment.steps)
    where = "around the first step over what is allowed" if first is not None else f"at the first of the {segment.name}"
    return start, stop, f"{where} samples" if first is None else where


def _shown(report: ExportReport) -> list[str]:
    """The tensors to draw, in the order of the table: all, or the ones nearest to their limits."""
    drawn = {curve.tensor for curve in report.timeline.curves}
    tensors = [name for name in report.tensors if name in drawn]
    nearness = dict.fromkeys(tensors, 0.0)
    for c in report.comparisons:
        nearness[c.tensor] = max(nearness.get(c.tensor, 0.0), c.max_abs / c.limit)
    kept = sorted(tensors, key=lambda name: -nearness[name])[:_PANELS]
    return [name for name in tensors if name in kept]


def _titles(report: ExportReport, tensors: list[str]) -> tuple[str, str]:
    """The verdict, and what is drawn."""
    judge = "torch" if any(curve.subject == TORCH for curve in report.timeline.curves) else "torch and its step program"
    verdict = f"equal to {judge}" if report.passed else f"NOT equal to {judge}"
    total = len({curve.tensor for curve in report.timeline.curves})
    shown = "" if len(tensors) == total else f"; the {len(tensors)} of {total} tensors nearest to their limits"
    width = _bin_width(report)
    binned = "" if width == 1 else f"; each point the largest of {width} steps"
    drawn = f"largest difference to {EXACT} at each step{binned}{shown}, on {', '.join(report.backends)}"
    return (
        f"{report.path.name}: {verdict} over {plural(report.steps, 'closed-loop step')}",
        f"{textwrap.fill(drawn, _WIDTH)}\n{_meanings(report)}",
    )


def _draw_tensor(panel: Axes, report: ExportReport, tensor: str) -> None:
    curves = [curve for curve in report.timeline.curves if curve.tensor == tensor]
    styles = iter(_STYLES * len(curves))
    for curve in curves:
        steps, error = _thinned(curve, report)
        if curve.subject == TORCH:
            across, up = np.r_[steps[0], steps, steps[-1]], np.r_[_FLOOR, error, _FLOOR]
            panel.fill(across, up, color=_OWN_COLOR, linewidth=0, label=_torchs_difference(report))
        else:
            color, line = next(styles)
            panel.plot(steps, error, line, color=color, linewidth=0.8, label=curve.subject)
    for k, (segment, judged) in enumerate(_judged(report, tensor)):
        ends = (segment.start, segment.start + segment.steps)
        panel.plot(ends, (judged.limit, judged.limit), ":", color="black", linewidth=1.6, label="" if k else "allowed")
    _mark_failure(panel, report, tensor)
    starts = np.flatnonzero(report.timeline.reset)
    ticks = panel.get_xaxis_transform()
    panel.plot(starts, np.full(len(starts), 0.03), "|", color="black", ms=6, transform=ticks, label="reset")
    _set_decades(panel)
    panel.set_ylim(*_span(report, tensor))
    panel.set_ylabel(f"{tensor}\nerror", fontsize=9)
    panel.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    panel.set_axisbelow(True)


def _set_decades(panel: Axes) -> None:
    """A logarithmic axis whose powers of ten are plain text: to lay them out as formulas takes a third of a picture."""
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(lambda value, _: f"10{str(round(np.log10(value))).translate(_RAISED)}")


def _torchs_difference(report: ExportReport) -> str:
    """What the curve of torch shows: its rounding, unless it is not the model that the bundle was made of."""
    other = any(c.subject == TORCH and not c.passed for c in report.comparisons)
    return f"{TORCH}, which is not the bundle's step program" if other else f"{TORCH}'s own error"


def _bin_width(report: ExportReport) -> int:
    """Steps of a point."""
    points = min(_POINTS, _ALL_POINTS // len(_shown(report)))
    return max(1, -(-report.steps // points))


def _thinned(curve: Curve, report: ExportReport) -> tuple[Array, Array]:
    """Where and how high to draw: the largest error of each bin, so that no peak is lost. The last edge closes it."""
    steps = len(curve.error)
    starts = np.arange(0, steps, _bin_width(report))
    worst = np.maximum.reduceat(curve.error.astype(np.float64), starts)
    _, top = _span(report, curve.tensor)
    return np.append(starts, steps), np.clip(np.append(worst, worst[-1]), _FLOOR, top)


def _span(report: ExportReport, tensor: str) -> tuple[float, float]:
    """Lowest and highest error of the axis: whole decades around what there is, the limit well inside."""
    errors = np.concatenate([curve.error for curve in report.timeline.curves if curve.tensor == tensor])
    errors = errors[np.isfinite(errors) & (errors > 0)].astype(np.float64)
    limits = [judged.limit for _, judged in _judged(report, tensor)]
    low = np.quantile(errors, 0.05) if len(errors) else min(limits)
    high = max(*limits, errors.max(initial=0.0))
    return max(_FLOOR, 10.0 ** np.floor(np.log10(low))), 10.0 ** (np.floor(np.log10(high)) + 1.0)


def _judged(report: ExportReport, tensor: str) -> Iterator[tuple[Segment, Comparison]]:
    """By segment the comparison that decides: the worst that failed, as in the table; else of the backends."""
    drawn = {curve.subject for curve in report.timeline.curves}
    for segment in report.segments:
        rows = [c for c in report.comparisons if (c.tensor, c.segment) == (tensor, segment.name) and c.subject in drawn]
        failed = [c for c in rows if not c.passed]
        usual = [c for c in rows if c.subject != TORCH and c.reference == EXACT]
        yield segment, max(failed, key=lambda c: c.max_abs / c.limit) if failed else max(usual, key=lambda c: c.limit)


def _failures(report: ExportReport, subjects: set[str], tensor: str | None = None) -> list[tuple[int, Comparison]]:
    """The first step over the limit of each comparison that failed, of these subjects and perhaps of one tensor."""
    starts = {segment.name: segment.start for segment in report.segments}
    return [
        (starts[c.segment] + c.first_over, c)
        for c in report.comparisons
        if tensor in (None, c.tensor) and c.first_over is not None and c.subject in subjects and c.segment in starts
    ]


def _mark_failure(panel: Axes, report: ExportReport, tensor: str) -> None:
    """Point at the first step over the limit."""
    over = [(segment.start + c.first_over, c) for segment, c in _judged(report, tensor) if c.first_over is not None]
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
    """The shortest and the longest of each bin, a line between them."""
    starts = np.arange(0, report.steps, _bin_width(report))
    ends = np.stack([np.minimum.reduceat(dt_s, starts), np.maximum.reduceat(dt_s, starts)], axis=1)
    panel.plot(np.repeat(starts, 2), ends.ravel(), color="black", linewidth=0.6)
    _set_decades(panel)
    panel.set_ylabel("dt\nseconds", fontsize=9)
    panel.grid(axis="y", color="#e4e4e4", linewidth=0.6)


def _draw_boundaries(panel: Axes, report: ExportReport) -> None:
    for segment in report.segments[1:]:
        panel.axvline(segment.start, color=_EDGE_COLOR, linewidth=0.8)
    panel.set_xlim(0, report.steps)
    panel.tick_params(labelsize=8)
    panel.minorticks_off()


def _label_segments(panel: Axes, report: ExportReport) -> None:
    """The name of each segment above its part of the axis; what the names mean stands in the title."""
    narrow = min(segment.steps for segment in report.segments) < 0.07 * report.steps
    for segment in report.segments:
        panel.annotate(
            segment.name,
            (segment.start + segment.steps / 2, 1.0),
            xycoords=panel.get_xaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="left" if narrow else "center",
            rotation=25 if narrow else 0,
            fontsize=9,
        )


def _meanings(report: ExportReport) -> str:
    """What the names of the segments mean, a line for three of them."""
    known = [_MEANINGS[s.name] for s in report.segments if s.name in _MEANINGS]
    return "\n".join("; ".join(known[k : k + 3]) for k in range(0, len(known), 3))


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
