"""`lnn-edge bench`: the latency of one step, back to back and at the rate of the control loop."""

from __future__ import annotations

import argparse
import time
from typing import Any

from .console import add_json_argument, emit_json, grid, progress_bar, say
from .options import add_backend_arguments

NAME = "bench"
HELP = "measure the latency of a step on this machine"
DESCRIPTION = """Time the public stream.step on the golden samples: the first call apart, then back to
back after a warm-up, then paced at a rate, where every step is measured from the moment it was
due. Percentiles are printed only where at least ten samples lie beyond them."""
EPILOG = """examples:
  lnn-edge bench gait.lnn
  lnn-edge bench gait.lnn --rate 100 --seconds 60 --max-misses 0
  lnn-edge bench gait.lnn --max-p99-us 200 --json bench.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", help="the bundle, NAME.lnn")
    add_backend_arguments(parser)
    parser.add_argument("--steps", type=int, default=20_000, help="steps back to back (default 20000)")
    parser.add_argument("--warmup", type=int, default=1000, help="steps before them that do not count (default 1000)")
    parser.add_argument("--rate", type=float, metavar="HZ", help="rate of the paced run (default: the model's period)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the paced run (default 5); 0 for none")
    parser.add_argument("--deadline-us", type=float, help="longest response that is no miss (default: one period)")
    parser.add_argument("--wait", default="sleep", help="how the paced run waits: sleep (default) or spin")
    parser.add_argument("--max-p99-us", type=float, help="exit with 4 if the p99 of the paced response is higher")
    parser.add_argument("--max-misses", type=int, help="exit with 4 if more steps miss the deadline")
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.steps < 1 or arguments.warmup < 0 or arguments.seconds < 0:
        raise ValueError("--steps must be at least 1, --warmup and --seconds at least 0")
    model, step, result = _prepare(arguments)
    interrupted = _measure(model, step, result, arguments)
    emit_json(result, arguments)
    say(_text(result), arguments)
    failures = [] if interrupted else _failures(result, arguments)
    for failure in failures:
        say(f"MISSED: {failure}", arguments)
    if interrupted:
        say("interrupted: the figures are of the part that ran", arguments)
        return 130
    say(f"{arguments.bundle}: {_summary(result)}", arguments)
    return 4 if failures else 0


def _prepare(arguments: argparse.Namespace) -> tuple[Any, Any, dict[str, Any]]:
    from ..bundle import read_bundle
    from ..environment import machine
    from ..golden import decode_golden
    from ..runtime.latency import first_step, golden_steps
    from ..runtime.loading import load

    started = time.perf_counter()
    model = load(arguments.bundle, backend=arguments.backend, threads=arguments.threads, self_test=False)
    load_ms = (time.perf_counter() - started) * 1e3
    bundle = read_bundle(arguments.bundle)
    step = golden_steps(model, decode_golden(bundle.files["golden.safetensors"], bundle.manifest))
    first_us = first_step(step)
    from ..runtime.loading import prove_golden

    prove_golden(model, bundle)
    result = {
        "bundle": model.name,
        "backend": model.description,
        "machine": machine(),
        "load_ms": load_ms,
        "first_step_us": first_us,
        "self_test": "passed",
        "warmup": arguments.warmup,
    }
    return model, step, result


def _measure(model: Any, step: Any, result: dict[str, Any], arguments: argparse.Namespace) -> bool:
    """Fill in the runs; whether Ctrl-C ended one early."""
    from ..runtime.latency import back_to_back, paced

    with progress_bar("bench") as progress:
        result["back_to_back"], interrupted = back_to_back(
            step, arguments.steps, arguments.warmup, lambda k: progress("back to back", k, arguments.steps)
        )
        result["paced"] = None
        rate = arguments.rate or (1.0 / model.time.period_s if model.time.period_s else None)
        if interrupted or not arguments.seconds or rate is None:
            return bool(interrupted)
        count = max(1, round(rate * arguments.seconds))
        result["paced"] = paced(
            step,
            rate,
            count,
            deadline_us=arguments.deadline_us,
            wait=arguments.wait,
            progress=lambda k: progress(f"paced at {rate:g} Hz", k, count),
        )
    return bool(result["paced"].interrupted)


def _failures(result: dict[str, Any], arguments: argparse.Namespace) -> list[str]:
    failures = []
    run = result["paced"]
    if (arguments.max_p99_us is not None or arguments.max_misses is not None) and run is None:
        raise ValueError("--max-p99-us and --max-misses judge the paced run: pass --rate and --seconds above 0")
    if arguments.max_p99_us is not None:
        p99 = run.response.percentiles_us["p99"]
        if p99 is None:
            raise ValueError(
                f"--max-p99-us needs at least 1000 paced steps for a p99, got {run.response.samples}. "
                f"Type: --seconds {1000 / run.rate_hz:.0f}"
            )
        if p99 > arguments.max_p99_us:
            failures.append(f"p99 response {p99:.1f} us is above --max-p99-us {arguments.max_p99_us:g}")
    if arguments.max_misses is not None and run.misses > arguments.max_misses:
        failures.append(f"{run.misses} deadline misses are more than --max-misses {arguments.max_misses}")
    return failures


def _text(result: dict[str, Any]) -> str:
    rows = [_row("back to back: service", result["back_to_back"])]
    run = result["paced"]
    if run is not None:
        label = f"paced {run.rate_hz:g} Hz"
        rows += [
            _row(f"{label}: service", run.service),
            _row(f"{label}: lateness", run.lateness),
            _row(f"{label}: response", run.response),
        ]
    facts = "; ".join(f"{name} {value}" for name, value in result["machine"].items())
    start = f"load {result['load_ms']:.0f} ms, first step {result['first_step_us']:.0f} us"
    notes = [
        grid(("microseconds", "samples", "min", "p50", "p90", "p99", "p99.9", "max"), rows),
        f"{start}, then {result['warmup']} warm-up steps; - means too few samples",
        f"machine: {facts}",
    ]
    if run is not None:
        missed = f"{run.misses} of {run.response.samples} steps missed"
        notes.append(f"deadline {run.deadline_us:g} us: {missed}; waiting by {run.wait}")
    else:
        notes.append("no paced run: pass --rate HZ (the bundle has no period)")
    return "\n".join(notes)


def _row(label: str, d: Any) -> tuple[str, ...]:
    picks = ("-" if value is None else f"{value:.1f}" for value in d.percentiles_us.values())
    return (label, f"{d.samples:,}", f"{d.min_us:.1f}", *picks, f"{d.max_us:.1f}")


def _summary(result: dict[str, Any]) -> str:
    whole = result["back_to_back"]
    median = whole.percentiles_us["p50"]
    shown = f"median {median:.1f} us" if median is not None else f"max {whole.max_us:.1f} us"
    return f"one step takes {shown} back to back ({whole.samples:,} samples) on {result['backend']}"
