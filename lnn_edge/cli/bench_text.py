"""Text of a measurement by `bench`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from msgspec import Struct

from ..wording import microseconds
from .console import grid

if TYPE_CHECKING:
    from ..runtime.figures.durations import DeviceFigures, Distribution
    from ..runtime.loop.rehearsal import RehearsalCounts
    from ..runtime.measure.timing import Paced
    from ..runtime.measure.turns import Beside

__all__ = ["BenchResult", "bench_advice", "bench_summary", "bench_text", "waits_compared"]

_ALIKE = 1.5  # times the back-to-back step: nearer than that, a paced response needs no explanation
_FULL = 0.9  # of a period: with more there is no time left to catch up after a late step
_TIMER_US = 2000.0  # late: more than any timer by itself


class BenchResult(Struct, frozen=True, omit_defaults=True):
    """What was measured, field by field as `--json` writes it; `waits` only of several, or rehearsed.

    `paced` is then the run of the first of them.
    """

    bundle: str
    samples_per_step: int
    backend: str
    machine: dict[str, str]
    load_ms: float
    first_step_us: float
    self_test: str
    warmup: int
    back_to_back: Distribution
    paced: Paced | None
    device: DeviceFigures | None
    waits: tuple[Beside, ...] = ()


def bench_text(result: BenchResult) -> str:
    """Table and notes of what was measured."""
    rows = [_row("back to back: service", result.back_to_back)]
    runs = [own.run for own in result.waits] or ([] if result.paced is None else [result.paced])
    for run in runs:
        label = f"paced {run.rate_hz:g} Hz" if len(runs) == 1 else f"{run.wait} at {run.rate_hz:g} Hz"
        rows += [
            _row(f"{label}: service", run.service),
            _row(f"{label}: lateness", run.lateness),
            _row(f"{label}: response", run.response),
        ]
    facts = "; ".join(f"{name} {value}" for name, value in result.machine.items())
    device = _device_lines(result.device)
    start = f"load with its self-test {result.load_ms:.0f} ms, then the first step {microseconds(result.first_step_us)}"
    notes = [
        grid(("microseconds", "samples", "min", "p50", "p90", "p99", "p99.9", "max"), rows),
        *device,
        f"{start} and {result.warmup} warm-up steps; - means too few samples",
        f"machine: {facts}",
    ]
    if result.samples_per_step > 1:
        notes.append(f"each step takes a block of {result.samples_per_step} samples")
    for run in runs:
        notes += _run_notes(run)
    notes += [f"waiting by {own.run.wait}: {_cost(own)}" for own in result.waits]
    if not runs:
        notes.append("no paced run: it takes --seconds above 0 and a rate, from the bundle's period or --rate HZ")
    return "\n".join(notes)


def waits_compared(waits: tuple[Beside, ...]) -> str:
    """Several ways to wait in a sentence."""
    base, kind = _typical(waits[0].run.response)
    others = [
        f"{own.run.wait} {_typical(own.run.response)[0]:.1f} us, {_typical(own.run.response)[0] / base:.3f} of that"
        for own in waits[1:]
    ]
    return f"{kind} response by {waits[0].run.wait} {base:.1f} us; {'; '.join(others)}"


def bench_advice(bundle: str, whole: Distribution, run: Paced) -> str:
    """Why a paced response is not the back-to-back step, and what to type."""
    step, response, late, service = (_typical(d)[0] for d in (whole, run.response, run.lateness, run.service))
    period_us = 1e6 / run.rate_hz
    if service > _FULL * period_us:  # each step is later than the one before, whatever else there is
        part = "longer than" if service > period_us else "nearly all of"
        most = f"at most about {_round(_FULL * 1e6 / service):,} Hz can be kept"
        takes = f"a step takes {microseconds(service)}, {part} the period of {period_us:.3g} us"
        return f"{takes}: {most}. Type a lower --rate"
    if response < _ALIKE * step:
        return "the paced response and the back-to-back step are about the same here"
    slower = "paced steps are slower than back to back"
    if late > _TIMER_US:
        busy = f"other programs hold the CPU, so that a step begins {microseconds(late)} after it is due"
        return f"{slower}: {busy}. For what else slows this machine down, type: lnn-edge doctor"
    if run.wait != "sleep":  # the CPU is awake when the step is due
        caches = f"what runs between two of them has taken the caches, so that a step takes {microseconds(service)}"
        return f"{slower}: {caches}. For what else slows this machine down, type: lnn-edge doctor"
    rest = f"caches and clocks have gone to rest between two, so that a step takes {microseconds(service)}"
    awake = f"To keep the CPU awake, type: lnn-edge bench {shlex.quote(bundle)} --wait spin"
    return f"{slower}: the system's timer wakes {microseconds(late)} late, and {rest}. {awake}"


def bench_summary(result: BenchResult) -> str:
    """What it comes to, in a sentence."""
    median, name = _typical(result.back_to_back)
    step = f"one step takes {name} {median:.1f} us back to back ({result.back_to_back.samples:,} samples)"
    run = result.paced
    if run is None:
        return f"{step} on {result.backend}"
    response, kind = _typical(run.response)
    how = f"waiting by {run.wait} " if len(result.waits) > 1 else ""
    sees = f"at {run.rate_hz:g} Hz {how}the robot sees {kind} {response:.1f} us"
    most = "" if kind == "max" else f", max {run.response.max_us:.1f} us"
    return f"{step}; {sees}{most} ({run.response.samples:,} samples) on {result.backend}"


def _run_notes(run: Paced) -> list[str]:
    """What of a paced run stands in no table."""
    missed = f"{run.misses} of {run.response.samples} steps missed"
    notes = [f"deadline {run.deadline_us:g} us: {missed}; waiting by {run.wait}"]
    if run.planned > run.response.samples and not run.interrupted:
        left = run.planned - run.response.samples
        notes.append(f"{run.rate_hz:g} Hz cannot be kept: {left:,} of {run.planned:,} steps were due and never run")
    return notes


def _cost(own: Beside) -> str:
    """What a way to wait costs."""
    share = f"{own.core_share:.3f} of a core"
    return share if own.rehearsal is None else f"{share}; {_rehearsed(own.rehearsal)}"


def _rehearsed(counts: RehearsalCounts) -> str:
    """What became of rehearsals."""
    made = f"rehearsed {counts.made:,} times, {counts.skipped:,} skipped, {counts.overran:,} ended late"
    if counts.off is not None:
        return f"{made}, {counts.failed:,} failed; off, as {counts.off}"
    return f"{made}, {counts.failed:,} failed; a lead of {microseconds(counts.lead_us)}"


def _device_lines(device: DeviceFigures | None) -> list[str]:
    """The GPU's share, with what each figure includes: without that, figures of two tools cannot be compared."""
    if device is None:
        return []
    rows = [_row(figure.name, figure.durations) for figure in device.figures]
    return [
        grid(("microseconds, on the device", "samples", "min", "p50", "p90", "p99", "p99.9", "max"), rows),
        *(f"{figure.name}: {figure.includes}" for figure in device.figures),
        (
            f"wait {device.wait}; streams captured as one CUDA graph {device.captured}, fallen back to plain enqueue "
            f"{device.fallbacks}; each step alone, never two in flight as in trtexec"
        ),
    ]


def _row(label: str, d: Distribution) -> tuple[str, ...]:
    picks = ("-" if value is None else f"{value:.1f}" for value in d.percentiles_us.values())
    return (label, f"{d.samples:,}", f"{d.min_us:.1f}", *picks, f"{d.max_us:.1f}")


def _typical(d: Distribution) -> tuple[float, str]:
    """The median, or the longest where there are too few samples for one, and what that is called."""
    median = d.percentiles_us["p50"]
    return (d.max_us, "max") if median is None else (median, "median")


def _round(rate_hz: float) -> int:
    """Two digits: more are not known of a rate that a median gives."""
    return int(float(f"{rate_hz:.2g}"))
