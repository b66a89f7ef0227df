"""What a robot sees of a step at a rate: asleep, asleep with a timer slack of 1 ns, spinning, rehearsed.

All ways of waiting and both backends take turns of half a second in one process, so that other work meets them alike.
Response is from when a step was due to its end; an empty loop shows what the timer alone takes. Beside each median is
its share of the sleeping loop's on the same backend, and the CPU time per time, 1.0 for a whole core.

Type: python benchmarks/rehearsal.py BUNDLE [--rate 100] [--seconds 30]
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import lnn_edge
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.bundle.golden import golden_from_bundle
from lnn_edge.machine.describe import machine
from lnn_edge.machine.timer_slack import timer_slack
from lnn_edge.runtime.closed_loop import Step, rehearsed_steps
from lnn_edge.runtime.loop.realtime import Realtime
from lnn_edge.runtime.loop.timer import SystemTimer
from lnn_edge.runtime.loop.waiting import way_of
from lnn_edge.runtime.measure.turns import Beside, Side, in_turns

WAYS = ("sleep", "sleep, slack 1", "spin", "rehearse")


def sides_of(kind: str, make: Step, rehearse: Step, rate_hz: float, ways: list[str]) -> list[Side]:
    """One side for each way of waiting, of the same step; `rehearse` is what rehearses it."""
    timer = SystemTimer()

    def around(way: str) -> AbstractContextManager[object]:
        return timer_slack(1) if way == "sleep, slack 1" else nullcontext()

    return [
        Side(f"{kind}: {way}", make, way_of(way.partition(",")[0], timer, rate_hz, rehearse), lambda w=way: around(w))  # type: ignore[arg-type, misc]
        for way in ways
    ]


def row(name: str, own: Beside, asleep: Beside) -> dict[str, object]:
    """The figures of one side."""
    response, base = own.run.response.percentiles_us, asleep.run.response.percentiles_us
    return {
        "name": name,
        "samples": own.run.response.samples,
        "response_p50_us": response["p50"],
        "response_p99_us": response["p99"],
        "service_p50_us": own.run.service.percentiles_us["p50"],
        "lateness_p50_us": own.run.lateness.percentiles_us["p50"],
        "of_sleep": (response["p50"] or 0) / (base["p50"] or 1),
        "core_share": own.core_share,
        "rehearsal": None if own.rehearsal is None else vars(own.rehearsal),
    }


def measure(
    bundle: str, rate_hz: float, seconds: float, backends: list[str], ways: list[str]
) -> list[dict[str, object]]:
    """All sides of one bundle."""
    golden = golden_from_bundle(read_bundle(bundle))
    sides = sides_of("empty loop", lambda: None, lambda: None, rate_hz, [w for w in ways if w != "rehearse"])
    for backend in backends:
        model = lnn_edge.load(bundle, backend=backend)
        sides += sides_of(backend, *rehearsed_steps(model, golden), rate_hz, ways)
    results = in_turns(sides, rate_hz, round(rate_hz * seconds), progress=lambda _: None)
    by_name = {side.name: own for side, own in zip(sides, results, strict=True)}
    return [row(name, own, by_name[f"{name.partition(':')[0]}: sleep"]) for name, own in by_name.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="+", help="bundles, NAME.lnn: make demo leaves two in build/")
    parser.add_argument("--rate", type=float, default=100.0, help="steps per second (default 100)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each way of waiting (default 30)")
    parser.add_argument("--backend", nargs="+", default=["onnxruntime", "native"], help="default onnxruntime native")
    parser.add_argument("--wait", nargs="+", default=list(WAYS), choices=WAYS, help="default all")
    parser.add_argument(
        "--realtime", type=int, metavar="PRIORITY", help="of SCHED_FIFO, for all: other work then delays none of them"
    )
    parser.add_argument("--json", type=argparse.FileType("w"), help="write the figures to a file, or - for the screen")
    arguments = parser.parse_args()
    ways = ["sleep", *(way for way in arguments.wait if way != "sleep")]
    settings = Realtime(priority=arguments.realtime, slack_ns=None, garbage="leave", strict=True)
    with settings:
        rows = {
            Path(bundle).name: measure(bundle, arguments.rate, arguments.seconds, arguments.backend, ways)
            for bundle in arguments.bundle
        }
    if arguments.json:
        json.dump({"machine": machine(), "rate_hz": arguments.rate, "bundles": rows}, arguments.json, indent=2)
        return
    for name, own in rows.items():
        print(f"{name} at {arguments.rate:g} Hz{'':<12}{'p50 us':>10}{'p99 us':>10}{'of sleep':>10}{'of a core':>11}")
        for r in own:
            p99 = "-" if r["response_p99_us"] is None else f"{r['response_p99_us']:.1f}"
            figures = f"{r['response_p50_us']:>10.1f}{p99:>10}{r['of_sleep']:>10.3f}{r['core_share']:>11.3f}"
            print(f"  {r['name']:<34}{figures}  {r['rehearsal'] or ''}")
    print("; ".join(f"{name} {value}" for name, value in machine().items()), file=sys.stderr)


if __name__ == "__main__":
    main()
