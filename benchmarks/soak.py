"""A loop for as many steps as one has patience for: does memory grow, do ticks get slower, is any lost uncounted?

Without --rate samples follow each other as fast as they are stepped, each through the whole loop: guard, histograms,
sink and, with --record, a recorder. Resident memory is looked at after a tenth of the steps and at the end, and what a
tick took in the first tenth and in the last, and beside each 16th of them a sum in Python that is always the same: it
says how much faster or slower the machine was. With --rate a timer paces the loop: every due tick ran or is counted.

Type: python benchmarks/soak.py BUNDLE [--steps 10000000] [--rate 500 --steps 30000]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

import lnn_edge
from lnn_edge.machine.describe import machine
from lnn_edge.runtime.figures.histogram import Histogram

PAGE = 4096


def resident_mb() -> float:
    """Memory of this process that is in RAM, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def always_the_same() -> int:
    """Some 3 us of Python."""
    total = 0
    for k in range(60):
        total += k
    return total


class Watch:
    """Looks at a tenth of the ticks at the beginning and at the end, from before the guard to behind it."""

    def __init__(self, steps: int) -> None:
        self.tenth, self.last = steps // 10, steps - steps // 10
        self.parts = Histogram(), Histogram()
        self.machine = Histogram(), Histogram()
        self.memory_mb: list[float] = []
        self._ticks = self._began = 0

    def before(self, _x: object) -> None:
        self._began = time.perf_counter_ns()

    def after(self, _tick: object) -> None:
        took = time.perf_counter_ns() - self._began
        if self._ticks < self.tenth or self._ticks >= self.last:
            self._look(took, self._ticks >= self.last)
        if self._ticks in (self.tenth, self.last):
            self.memory_mb.append(resident_mb())
        self._ticks += 1

    def _look(self, took: int, last: bool) -> None:
        self.parts[last].add(took)
        if self._ticks & 15 == 0:
            began = time.perf_counter_ns()
            always_the_same()
            self.machine[last].add(time.perf_counter_ns() - began)


def soak(arguments: argparse.Namespace) -> dict[str, object]:
    model = lnn_edge.load(arguments.bundle, backend=arguments.backend)
    xs = list(np.random.default_rng(0).uniform(-0.3, 0.3, (1024, *model.inputs[0].shape[1:])).astype(np.float32))
    turns = iter(range(sys.maxsize))
    guard = lnn_edge.Guard(dt_from="nominal", pace=(1e-9, 1e9))
    watch = Watch(arguments.steps)
    recorder = lnn_edge.Recorder(arguments.record, model, rotate_bytes=1 << 26) if arguments.record else None
    loop = lnn_edge.Loop(
        model.guarded(guard), lambda: xs[next(turns) & 1023], lambda _entry: None, rate_hz=arguments.rate,
        before=watch.before, after=watch.after, wait=arguments.wait, recorder=recorder, function_limit_s=1.0,
    )  # fmt: skip
    summary = loop.run(arguments.steps)
    first, last, *machines = (part.distribution() for part in (*watch.parts, *watch.machine))
    return {
        "bundle": model.name,
        "backend": model.description,
        "ticks": summary.ticks,
        "left_out": summary.left_out,
        "planned": None if arguments.rate is None else summary.ticks + summary.left_out,
        "by_status": summary.by_status,
        "seconds": summary.seconds,
        "memory_mb": {"after_a_tenth": watch.memory_mb[0], "after_nine": watch.memory_mb[1], "end": resident_mb()},
        "first_tenth_us": None if first is None else first.percentiles_us,
        "last_tenth_us": None if last is None else last.percentiles_us,
        "machine_us": [None if part is None else part.percentiles_us for part in machines],
        "sink": None if summary.sink is None else vars(summary.sink),
        "recorder": None if summary.recorder is None else vars(summary.recorder),
        "machine": machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--backend", default="native", help="default native")
    parser.add_argument("--steps", type=int, default=1_000_000, help="default 1000000")
    parser.add_argument("--rate", type=float, help="steps per second; by default as fast as they go")
    parser.add_argument("--wait", default="sleep", choices=("sleep", "spin", "rehearse"), help="with --rate")
    parser.add_argument("--record", help="record into FILE.mcap and those that follow")
    parser.add_argument("--json", type=argparse.FileType("w"), help="write the figures to a file, or - for the screen")
    arguments = parser.parse_args()
    result = soak(arguments)
    if arguments.json:
        json.dump(result, arguments.json, indent=2)
        return
    for name, value in result.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
