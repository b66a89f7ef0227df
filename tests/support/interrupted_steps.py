"""Signals while a stream is stepped: `python tests/support/interrupted_steps.py COUNT`, in the bundles of the tests.

A timer's handler raises after a random number of microseconds. Whenever it comes, the step has happened or it has not.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from checks import sample, timing
from interruptions import same, standing

import lnn_edge


class OutOfTimeError(Exception):
    """What the handler raises."""


def hammer(model, count, seed=0, **options):
    """Step a stream under `count` timers.

    Returns:
        How many signals came before the step ("before"), after it ("after"), or not while it ran ("missed").

    Raises:
        AssertionError: If a step was done in part, or the stream cannot be stepped any more.
    """
    stream, twin, dice, seen = model.stream(**options), model.stream(**options), random.Random(seed), Counter()
    samples = [sample(model, k) for k in range(16)]
    longest = 1.5 * _step_s(twin, samples, model)
    twin.reset()

    armed = []

    def out_of_time(_number, _frame):
        if armed:  # a signal may reach a thread of the backend, and this one some time after its timer was stopped
            armed.clear()
            raise OutOfTimeError

    collecting = gc.isenabled()
    gc.disable()  # what a handler raises within a callback of the collector, hypothesis' for one, reaches nobody
    former = signal.signal(signal.SIGALRM, out_of_time)
    try:
        for k in range(count):
            x = samples[k % 16]
            before, after_s = standing(stream), dice.uniform(2e-6, longest)
            interrupted = _interrupted(stream, x, model, after_s, armed)
            result = twin.step(x, **timing(model))
            found, after = standing(stream), standing(twin)
            assert found in (before, after), f"signal {k}: the step was done in part"
            moved = found == after
            assert moved or interrupted, f"signal {k}: a step that returned did not happen"
            seen["missed" if not interrupted else "after" if moved else "before"] += 1
            if not moved:
                assert same(stream.step(x, **timing(model)), result), f"signal {k}: the next step is another one"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        if collecting:
            gc.enable()
    return seen


def _interrupted(stream, x, model, after_s, armed):
    """Step with a timer; whether its handler raised."""
    times = timing(model)
    with contextlib.suppress(OutOfTimeError):  # where it comes between the lines that handle it
        try:
            armed.append(True)
            signal.setitimer(signal.ITIMER_REAL, after_s)
            stream.step(x, **times)
        except OutOfTimeError:
            return True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            armed.clear()
        return False
    return True


def _step_s(stream, samples, model):
    for x in samples:
        stream.step(x, **timing(model))
    took = []
    for x in samples:
        start = time.perf_counter()
        stream.step(x, **timing(model))
        took.append(time.perf_counter() - start)
    return float(np.median(took))


KINDS = (
    ("gait", {}),
    ("gait", {"reuse": True}),
    ("gait", {"window": 4, "every": 2}),
    ("gait", {"window": 3, "every": 2}),
    ("drift", {}),
    ("blocks", {}),
)


def main(count: int) -> int:
    folder, seen = Path(os.environ["LNN_EDGE_TEST_BUNDLES"]), Counter()
    for seed, (name, options) in enumerate(KINDS):
        seen += hammer(lnn_edge.load(folder / f"{name}.lnn"), count // len(KINDS), seed, **options)
        print(f"{name} {options or ''}: {sum(seen.values()):,} of {count:,} signals", file=sys.stderr)
    counts = ", ".join(f"{seen[what]:,} {what} a step" for what in ("before", "after"))
    print(f"{sum(seen.values()):,} signals: {counts}, {seen['missed']:,} when none ran; none in between")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
