"""Runs that are killed at random moments, and go on until they are done.

As a program, `killed_runs.py FOLDER COUNT SEED BUNDLE...` kills so many `lnn-edge run --resume`, with gait.lnn,
drift.lnn and blocks.lnn of `shared_bundles.py`, and prints as JSON how often each thing happened; what begins with
"wrong" must not be. The disk is not waited for: a kill loses nothing that was written, and so more of them fall into
the writing.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime  # noqa: F401 - once, and not in each fork

import lnn_edge.cli.feeding.row_run
import lnn_edge.cli.looping.loop_run
import lnn_edge.runtime.backends.ort
import lnn_edge.runtime.loading  # noqa: F401
from lnn_edge.cli.program import main as command
from lnn_edge.runtime.record.snapshot import backend_of_snapshot

__all__ = ["kill_runs"]

_ROWS = 600  # of which a run takes twice as long as of none
_WHOLE = 6  # a run that was killed as often is left to its end
_TIMES = ["--time-column", "t"]
_GOING_ON = ["--on-bad", "skip", "--on-gap", "reset"]
_LOOP = ["--on-fault", "hold"]
RUNS = (
    ("gait", ["--on-bad", "hold", "--format", "jsonl"]),
    ("gait", [*_LOOP, "--on-bad", "hold", "--hold-for", "0.5"]),
    ("gait", ["--window", "7", "--every", "3", *_TIMES, "--reset-column", "who", "--on-bad", "skip"]),
    ("drift", [*_LOOP, *_TIMES, "--on-gap", "reset", "--format", "jsonl"]),
    ("drift", [*_TIMES, *_GOING_ON, "--on-late", "drop"]),
    ("drift", [*_TIMES, "--window", "6", "--every", "2", *_GOING_ON]),
    ("blocks", [*_TIMES, *_GOING_ON, "--reset-column", "who", "--format", "jsonl"]),
)


def _table(rng: random.Random) -> Iterator[str]:
    """Rows with everything that a sensor does: holes, late ones, gaps, recordings."""
    values = np.random.default_rng(rng.randrange(1 << 30)).uniform(-1, 1, (_ROWS, 3)).astype(np.float32)
    yield "t,who,acc_x,acc_y,gyro_z\n"
    now = 0.0
    for k, row in enumerate(values.tolist()):
        now += 0.1 if rng.random() > 0.01 else rng.choice([50.0, -0.3, 0.0])
        cells = [f"{now:.3f}", f"r{k // 150}", *map(repr, row)]
        if rng.random() < 0.02:
            cells[rng.randrange(2, 5)] = rng.choice(["", "nan", "x", "1,2"])
        yield ",".join(cells) + "\n"


def _forked(arguments: list[str]) -> int:
    """Start a command in a fork."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.fsync = lambda _descriptor: None
            for number in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            code = command(arguments)
        finally:
            os._exit(code)
    return child


def _done(arguments: list[str]) -> int:
    """Let a command run to its end; its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(_forked(arguments), 0)[1])


def kill_runs(
    folder: Path, bundles: list[Path], count: int, rng: random.Random, progress: Callable[[], object] = lambda: None
) -> Counter[str]:
    """Kill so many.

    Returns:
        How often each thing happened; each key that begins with "wrong" is a fault.
    """
    happened: Counter[str] = Counter()
    by_name = {bundle.stem: bundle for bundle in bundles}
    number = 0
    while happened["kills"] < count:
        place = folder / str(number)
        place.mkdir()
        name, options = RUNS[number % len(RUNS)]
        (place / "x.csv").write_text("".join(_table(rng)))
        typed = ["run", str(by_name[name]), "--backend", "onnxruntime", "--input", str(place / "x.csv"), *options]
        happened += _one(place, typed, min(_WHOLE, count - happened["kills"]), rng, progress)
        number += 1
    return happened


def _one(place: Path, typed: list[str], most: int, rng: random.Random, progress: Callable[[], object]) -> Counter[str]:
    """One run, killed at most so often, and compared with one that was not killed."""
    happened: Counter[str] = Counter()
    expected, out, kept = place / "expected", place / "out", place / "run.snapshot"
    started = time.monotonic()
    if _done([*typed, "--output", str(expected), "--json", f"{expected}.json"]):
        happened["wrong: a run that fails without any kill"] += 1
    whole_s = time.monotonic() - started
    again = [*typed, "--output", str(out), "--json", f"{out}.json", "--resume", str(kept), "--snapshot-every", "0.002"]
    status = 0
    while not os.path.exists(f"{out}.json"):
        child = _forked(again)
        if happened["kills"] < most:
            time.sleep(rng.uniform(0.3, 1.3) * whole_s)
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            happened["kills"] += 1
            _count(happened, place)
            progress()
        elif os.waitstatus_to_exitcode(status):
            happened[f"wrong: a run ended with {os.waitstatus_to_exitcode(status)}"] += 1
            return happened
    if not os.WIFSIGNALED(status):  # else it was killed behind all that it had to do
        happened["runs done"] += 1
    for end in ("",) if "--on-fault" in typed else ("", ".json"):  # the summary of a loop has times that it took
        same = Path(f"{expected}{end}").read_bytes() == Path(f"{out}{end}").read_bytes()
        happened["results and counts alike" if same else f"wrong: other results in {place}/out{end}"] += 1
    return happened


def _count(happened: Counter[str], place: Path) -> None:
    """What a kill left."""
    kept = place / "run.snapshot"
    left = {"expected", "expected.json", "out", "out.json", "x.csv", kept.name}
    happened["kills that left something to sweep"] += bool(set(os.listdir(place)) - left)
    if not kept.exists():
        happened["kills before the first snapshot"] += 1
        return
    try:
        backend_of_snapshot(kept)
    except (OSError, ValueError) as error:
        happened[f"wrong: a kill left no snapshot, {error}"] += 1
    else:
        happened["snapshots that were read"] += 1
    out = place / "out"
    happened["kills within a line"] += out.exists() and not out.read_bytes().endswith(b"\n")


def main(folder: str, count: str, seed: str, *bundles: str) -> None:
    """See the module's docstring."""
    done = [0]

    def progress() -> None:
        done[0] += 1
        if done[0] % 20 == 0:
            print(f"{done[0]} of {count} kills of runs", file=sys.stderr, flush=True)

    paths = [Path(bundle) for bundle in bundles]
    print(json.dumps(kill_runs(Path(folder), paths, int(count), random.Random(int(seed)), progress)))


if __name__ == "__main__":
    main(*sys.argv[1:])
