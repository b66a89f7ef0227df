"""Signals while a stream is stepped: `python tests/support/interrupted_steps.py BUNDLE COUNT [SEED]`.

A timer's handler raises after a random number of microseconds. Whenever it comes, the step has happened or it has not.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import time
from collections import Counter

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

    def out_of_time(_number, _frame):
        raise OutOfTimeError

    former = signal.signal(signal.SIGALRM, out_of_time)
    try:
        for k in range(count):
            x = samples[k % 16]
            before, interrupted = standing(stream), _interrupted(stream, x, model, dice.uniform(2e-6, longest))
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
    return seen


def _interrupted(stream, x, model, after_s):
    times = timing(model)
    with contextlib.suppress(OutOfTimeError):  # where it comes between the two lines that handle it
        try:
            signal.setitimer(signal.ITIMER_REAL, after_s)
            stream.step(x, **times)
        except OutOfTimeError:
            return True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
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


if __name__ == "__main__":
    path, count, *seed = sys.argv[1:]
    for options in ({}, {"reuse": True}, {"window": 4, "every": 2}, {"window": 3, "every": 2}):
        seen = hammer(lnn_edge.load(path), int(count) // 4, int(*seed), **options)
        print(f"{options or 'plain'}: " + ", ".join(f"{n} {what}" for what, n in sorted(seen.items())), flush=True)
