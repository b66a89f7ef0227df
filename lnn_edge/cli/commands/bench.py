"""`lnn-edge bench`: the latency of one step, back to back and at the rate of the control loop."""

from __future__ import annotations

import argparse
import math
import time
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from ...errors import BackendError
from ...given_numbers import MOST_STEPS
from ..arguments.backend import BackendChoice, add_backend_arguments, backend_options
from ..arguments.numbers import number, positive, whole
from ..bench_text import BenchResult, bench_advice, bench_summary, bench_text, waits_compared
from ..console import add_json_argument, emit_json, print_result, progress_bar
from ..exit_codes import INTERRUPTED, MISSED, OK

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...runtime.closed_loop import Step
    from ...runtime.figures.durations import DeviceFigures, Distribution
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
    """A model that has done its first step, what that cost on which machine, and what rehearses another."""

    model: Model
    step: Step
    rehearsed: Step | None
    machine: dict[str, str]
    load_ms: float
    first_step_us: float


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
    print_result(bench_text(result), choices.json)
    emit_json(result, choices.json)
    if failed is not None:
        raise failed
    return _verdict(result, choices, interrupted)


def _verdict(result: BenchResult, choices: _Choices, interrupted: bool) -> int:
    """Say last what it comes to, and return the exit code."""
    if interrupted:
        print_result("interrupted: the figures are of the part that ran", choices.json)
        return INTERRUPTED
    if len(result.waits) > 1:
        print_result(waits_compared(result.waits), choices.json)
    elif result.paced is not None:
        print_result(bench_advice(choices.bundle, result.back_to_back, result.paced), choices.json)
    print_result(f"{choices.bundle}: {bench_summary(result)}", choices.json)
    failures = _failures(result, choices)
    for failure in failures:  # last, where the reason of an exit code is looked for
        print_result(f"MISSED: {failure}", choices.json)
    return MISSED if failures else OK


def _load(choices: _Choices) -> _Loaded:
    from ...bundle.directory import read_bundle
    from ...bundle.golden import golden_from_bundle
    from ...machine.describe import machine
    from ...runtime.closed_loop import golden_steps, rehearsed_steps
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
    step, rehearsed = rehearsed_steps(model, golden) if rehearses else (golden_steps(model, golden), None)
    return _Loaded(model, step, rehearsed, machine(), load_ms, first_step(step))


def _result(
    loaded: _Loaded,
    warmup: int,
    whole: Distribution,
    paced: Paced | None,
    device: DeviceFigures | None,
    waits: tuple[Beside, ...],
) -> BenchResult:
    return BenchResult(
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
    sides = [Side(own, loaded.step, way_of(own, timer, rate_hz, loaded.rehearsed)) for own in choices.waits]
    return tuple(in_turns(sides, rate_hz, count, deadline_us=choices.deadline_us, progress=progress, timer=timer))


def _failures(result: BenchResult, choices: _Choices) -> list[str]:
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
