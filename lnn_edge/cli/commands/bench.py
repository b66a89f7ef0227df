"""`lnn-edge bench`: the latency of one step, back to back and at the rate of the control loop."""

from __future__ import annotations

import argparse
import math
import shlex
import time
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from ...errors import BackendError
from ...given_numbers import MOST_STEPS
from ..console import add_json_argument, emit_json, grid, print_result, progress_bar
from ..exit_codes import INTERRUPTED, MISSED, OK
from ..options import BackendChoice, add_backend_arguments, backend_options, number, positive, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...runtime.closed_loop import Step
    from ...runtime.figures.durations import DeviceFigures, Distribution
    from ...runtime.loop.rehearsal import RehearsalCounts
    from ...runtime.loop.waiting import Wait
    from ...runtime.measure.timing import Paced
    from ...runtime.measure.turns import Beside
    from ...runtime.model import Model

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "bench"
HELP = "measure the latency of a step on this machine"
DESCRIPTION = """Load the bundle as a program does, then time the public stream.step on the golden samples:
the first call apart, then back to back after a warm-up, then paced at a rate, where every step is
measured from the moment it was due. Several ways to wait between paced steps take turns and are shown
side by side. Percentiles are printed only where at least ten samples lie
beyond them. A GPU backend adds where the time goes on the device, in trtexec's words, each figure
with what it includes."""
EPILOG = """examples:
  lnn-edge bench gait.lnn
  lnn-edge bench gait.lnn --rate 100 --seconds 60 --max-misses 0
  lnn-edge bench gait.lnn --rate 100 --wait sleep,spin,rehearse
  lnn-edge bench gait.lnn --max-p99-us 200 --json bench.json"""

_WAITS = ("sleep", "spin", "rehearse")  # those of the runtime, which help must not wait for
_RATES_HZ = (1e-3, 1e9)  # beyond them a period is no number of nanoseconds that a clock could wait for
_LONGEST_S = 1e9
_ALIKE = 1.5  # times the back-to-back step: nearer than that, a paced response needs no explanation
_FULL = 0.9  # of a period: with more there is no time left to catch up after a late step
_TIMER_US = 2000.0  # late: more than any timer by itself
_DEVICE_STEPS = 2000  # of each device figure: enough for a p99, and over in a second


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", help="the bundle, NAME.lnn")
    add_backend_arguments(parser)
    parser.add_argument("--steps", type=whole(1, MOST_STEPS), default=20_000, help="steps back to back (default 20000)")
    parser.add_argument(
        "--warmup", type=whole(0, MOST_STEPS), default=1000, help="steps before them that do not count (default 1000)"
    )
    parser.add_argument(
        "--rate",
        type=number(*_RATES_HZ),
        metavar="HZ",
        help="steps per second of the paced run (default: by the period)",
    )
    parser.add_argument(
        "--seconds", type=number(0.0, _LONGEST_S), default=5.0, help="length of the paced run (default 5); 0 for none"
    )
    parser.add_argument(
        "--deadline-us", type=positive, metavar="US", help="longest response that is no miss (default: one period)"
    )
    parser.add_argument(
        "--wait",
        type=_waits,
        default=("sleep",),
        metavar="WAY",
        help="how the paced run waits: sleep, spin or rehearse (default sleep); several, as sleep,spin,rehearse, take "
        "turns and are shown side by side",
    )
    parser.add_argument(
        "--max-p99-us", type=positive, metavar="US", help="exit with 4 if the p99 of the paced response is higher"
    )
    parser.add_argument(
        "--max-misses", type=whole(0, MOST_STEPS), metavar="N", help="exit with 4 if more steps miss the deadline"
    )
    add_json_argument(parser)


def _waits(text: str) -> tuple[Wait, ...]:
    """The type of `--wait`: ways to wait, each once, with commas between them."""
    given = text.split(",")
    for own in given:
        if own not in _WAITS:
            raise argparse.ArgumentTypeError(f"invalid choice: '{own}' (choose from {', '.join(_WAITS)})")
        if given.count(own) > 1:
            raise argparse.ArgumentTypeError(f"'{own}' is there {given.count(own)} times, expected each way once")
    return cast("tuple[Wait, ...]", tuple(given))


class _Choices(Struct, frozen=True):
    """What was typed; `None` where there is no limit, or the bundle's period decides."""

    bundle: str
    runner: BackendChoice
    steps: int
    warmup: int
    rate_hz: float | None
    seconds: float
    deadline_us: float | None
    waits: tuple[Wait, ...]
    max_p99_us: float | None
    max_misses: int | None
    json: str | None


class _Loaded(Struct, frozen=True):
    """A model that has done its first step, what that cost on which machine, and another stream to rehearse with."""

    model: Model
    step: Step
    another: Step | None
    machine: dict[str, str]
    load_ms: float
    first_step_us: float


class _Result(Struct, frozen=True, omit_defaults=True):
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


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    return _bench(_choices(arguments))


def _choices(arguments: argparse.Namespace) -> _Choices:
    return _Choices(
        bundle=arguments.bundle,
        runner=BackendChoice(arguments.backend, arguments.threads, backend_options(arguments.option)),
        steps=arguments.steps,
        warmup=arguments.warmup,
        rate_hz=arguments.rate,
        seconds=arguments.seconds,
        deadline_us=arguments.deadline_us,
        waits=arguments.wait,
        max_p99_us=arguments.max_p99_us,
        max_misses=arguments.max_misses,
        json=arguments.json,
    )


def _bench(choices: _Choices) -> int:
    loaded = _load(choices)
    rate_hz, count = _pace(loaded.model, choices)
    whole, paced, waits, interrupted = _measure(loaded, rate_hz, count, choices)
    device: DeviceFigures | None = None
    failed: BackendError | None = None
    try:
        if not interrupted:
            device = loaded.model.device_figures(min(choices.steps, _DEVICE_STEPS))
    except KeyboardInterrupt:  # what was measured before is kept
        interrupted = True
    except BackendError as error:
        failed = error
    result = _result(loaded, choices.warmup, whole, paced, device, waits)
    print_result(_text(result), choices.json)
    emit_json(result, choices.json)
    if failed is not None:
        raise failed
    return _verdict(result, choices, interrupted)


def _verdict(result: _Result, choices: _Choices, interrupted: bool) -> int:
    """Say last what it comes to, and return the exit code."""
    if interrupted:
        print_result("interrupted: the figures are of the part that ran", choices.json)
        return INTERRUPTED
    if len(result.waits) > 1:
        print_result(_compared(result.waits), choices.json)
    elif result.paced is not None:
        print_result(_why(choices.bundle, result.back_to_back, result.paced), choices.json)
    print_result(f"{choices.bundle}: {_summary(result)}", choices.json)
    failures = _failures(result, choices)
    for failure in failures:  # last, where the reason of an exit code is looked for
        print_result(f"MISSED: {failure}", choices.json)
    return MISSED if failures else OK


def _load(choices: _Choices) -> _Loaded:
    from ...bundle.directory import read_bundle
    from ...bundle.golden import golden_from_bundle
    from ...machine.describe import machine
    from ...runtime.closed_loop import golden_steps
    from ...runtime.loading import load
    from ...runtime.loop.practice import refuse_gpu
    from ...runtime.measure.timing import first_step

    runner, started = choices.runner, time.perf_counter()
    # as a program does it, with the self-test
    bundle = read_bundle(choices.bundle)
    model = load(bundle, backend=runner.name, threads=runner.threads, options=runner.options)
    load_ms = (time.perf_counter() - started) * 1e3
    rehearses, golden = "rehearse" in choices.waits, golden_from_bundle(bundle)
    if rehearses:
        refuse_gpu(model.backend)
    step = golden_steps(model, golden)
    first_us = first_step(step)
    return _Loaded(model, step, golden_steps(model, golden) if rehearses else None, machine(), load_ms, first_us)


def _result(
    loaded: _Loaded,
    warmup: int,
    whole: Distribution,
    paced: Paced | None,
    device: DeviceFigures | None,
    waits: tuple[Beside, ...],
) -> _Result:
    return _Result(
        bundle=loaded.model.name,
        samples_per_step=loaded.model.manifest.unroll,
        backend=loaded.model.description,
        machine=loaded.machine,
        load_ms=loaded.load_ms,
        first_step_us=loaded.first_step_us,
        self_test="passed",
        warmup=warmup,
        back_to_back=whole,
        paced=paced,
        device=device,
        waits=waits,
    )


def _pace(model: Model, choices: _Choices) -> tuple[float, int]:
    """Rate and number of steps of the paced run, 0 for none; refuses targets that it could not judge."""
    call_s = (model.time.period_s or 0.0) * model.manifest.unroll
    rate_hz = choices.rate_hz or (1.0 / call_s if call_s else 0.0)
    if rate_hz and not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:  # the bundle's: what is typed is in range
        rate_hz = 0.0
    count = round(rate_hz * choices.seconds)
    if rate_hz and choices.seconds and choices.rate_hz is None:  # a slow loop's one step is worth its wait
        count = max(1, count)
    if count > MOST_STEPS:
        raise ValueError(
            f"a paced run of {count:,} steps is too long, at most {MOST_STEPS:,}. "
            f"Type: --seconds {MOST_STEPS / rate_hz:.3g}, or a lower --rate"
        )
    if count == 0 and choices.rate_hz is not None and choices.seconds:
        raise ValueError(
            f"--seconds {choices.seconds:g} are over before the first step at --rate {rate_hz:g}. "
            f"Type: --seconds {math.ceil(1 / rate_hz)}"
        )
    if count == 0 and (choices.max_p99_us is not None or choices.max_misses is not None):
        raise ValueError("--max-p99-us and --max-misses judge the paced run: pass --rate and --seconds above 0")
    if choices.max_p99_us is not None and count < 1000:
        raise ValueError(
            f"--max-p99-us needs at least 1000 paced steps for a p99, got {count}. "
            f"Type: --seconds {math.ceil(1000 / rate_hz)}"
        )
    return rate_hz, count


def _measure(
    loaded: _Loaded, rate_hz: float, count: int, choices: _Choices
) -> tuple[Distribution, Paced | None, tuple[Beside, ...], bool]:
    """Back to back, paced, several ways to wait, and whether Ctrl-C ended one of them early."""
    from ...runtime.measure.timing import back_to_back, paced

    with progress_bar("bench") as progress:
        whole, interrupted = back_to_back(
            loaded.step, choices.steps, choices.warmup, lambda k: progress("back to back", k, choices.steps)
        )
        if interrupted or not count:
            return whole, None, (), interrupted
        phase, calls = f"paced at {rate_hz:g} Hz", count * len(choices.waits)
        told = lambda k: progress(phase, k, calls)  # noqa: E731 - for two calls
        try:
            first = choices.waits[0]
            if len(choices.waits) == 1 and first != "rehearse":
                run = paced(loaded.step, rate_hz, count, deadline_us=choices.deadline_us, wait=first, progress=told)
                return whole, run, (), run.interrupted
            waits = _beside(loaded, rate_hz, count, choices, told)
        except KeyboardInterrupt:  # before its first step; what was measured back to back is kept
            return whole, None, (), True
    return whole, waits[0].run, waits, waits[0].run.interrupted


def _beside(
    loaded: _Loaded, rate_hz: float, count: int, choices: _Choices, progress: Callable[[int], None]
) -> tuple[Beside, ...]:
    """Each way to wait, in turns."""
    from ...runtime.loop.timer import SystemTimer
    from ...runtime.loop.waiting import way_of
    from ...runtime.measure.turns import Side, in_turns

    timer = SystemTimer()
    sides = [Side(own, loaded.step, way_of(own, timer, rate_hz, loaded.another)) for own in choices.waits]
    return tuple(in_turns(sides, rate_hz, count, deadline_us=choices.deadline_us, progress=progress, timer=timer))


def _failures(result: _Result, choices: _Choices) -> list[str]:
    if not result.waits:
        return [] if result.paced is None else _missed(result.paced, choices, "")
    return [text for own in result.waits for text in _missed(own.run, choices, f" waiting by {own.run.wait}")]


def _missed(run: Paced, choices: _Choices, how: str) -> list[str]:
    failures = []
    if choices.max_p99_us is not None:
        p99 = run.response.percentiles_us["p99"]
        if p99 is None:
            failures.append(f"{run.response.samples} steps{how} are too few for --max-p99-us: the rate cannot be kept")
        elif p99 > choices.max_p99_us:
            failures.append(f"p99 response {p99:.1f} us{how} is above --max-p99-us {choices.max_p99_us:g}")
    misses = run.misses + run.planned - run.response.samples
    if choices.max_misses is not None and misses > choices.max_misses:
        failures.append(f"{misses} deadline misses{how} are more than --max-misses {choices.max_misses}")
    return failures


def _text(result: _Result) -> str:
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
    start = f"load with its self-test {result.load_ms:.0f} ms, then the first step {result.first_step_us:.0f} us"
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
    return f"{made}, {counts.failed:,} failed; a lead of {counts.lead_us:.0f} us"


def _compared(waits: tuple[Beside, ...]) -> str:
    """Several ways to wait in a sentence."""
    base, kind = _typical(waits[0].run.response)
    others = [
        f"{own.run.wait} {_typical(own.run.response)[0]:.1f} us, {_typical(own.run.response)[0] / base:.3f} of that"
        for own in waits[1:]
    ]
    return f"{kind} response by {waits[0].run.wait} {base:.1f} us; {'; '.join(others)}"


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


def _why(bundle: str, whole: Distribution, run: Paced) -> str:
    """Why a paced response is not the back-to-back step, and what to type."""
    step, response, late, service = (_typical(d)[0] for d in (whole, run.response, run.lateness, run.service))
    period_us = 1e6 / run.rate_hz
    if service > _FULL * period_us:  # each step is later than the one before, whatever else there is
        part = "longer than" if service > period_us else "nearly all of"
        most = f"at most about {_round(_FULL * 1e6 / service):,} Hz can be kept"
        return f"a step takes {service:.0f} us, {part} the period of {period_us:.3g} us: {most}. Type a lower --rate"
    if response < _ALIKE * step:
        return "the paced response and the back-to-back step are about the same here"
    slower = "paced steps are slower than back to back"
    if late > _TIMER_US:
        busy = f"other programs hold the CPU, so that a step begins {late:.0f} us after it is due"
        return f"{slower}: {busy}. For what else slows this machine down, type: lnn-edge doctor"
    if run.wait != "sleep":  # the CPU is awake when the step is due
        caches = f"what runs between two of them has taken the caches, so that a step takes {service:.0f} us"
        return f"{slower}: {caches}. For what else slows this machine down, type: lnn-edge doctor"
    rest = f"caches and clocks have gone to rest between two, so that a step takes {service:.0f} us"
    awake = f"To keep the CPU awake, type: lnn-edge bench {shlex.quote(bundle)} --wait spin"
    return f"{slower}: the system's timer wakes {late:.0f} us late, and {rest}. {awake}"


def _round(rate_hz: float) -> int:
    """Two digits: more are not known of a rate that a median gives."""
    return int(float(f"{rate_hz:.2g}"))


def _summary(result: _Result) -> str:
    median, name = _typical(result.back_to_back)
    step = f"one step takes {name} {median:.1f} us back to back ({result.back_to_back.samples:,} samples)"
    run = result.paced
    if run is None:
        return f"{step} on {result.backend}"
    response, kind = _typical(run.response)
    how = f"waiting by {run.wait} " if len(result.waits) > 1 else ""
    sees = f"at {run.rate_hz:g} Hz {how}the robot sees {kind} {response:.1f} us, max {run.response.max_us:.1f} us"
    return f"{step}; {sees} ({run.response.samples:,} samples) on {result.backend}"
