"""Everything hostile that bundles, kills and signals can do, in child processes, with a table of what happened.

    python tests/support/hostile.py FOLDER [--mutations 24000] [--nodes 12000] [--estimators 6000] [--kills 600]
        [--killed-runs 200] [--recorders 200] [--signals 20000]

FOLDER holds the bundles of `shared_bundles.py`; estimators are left out where there is no torch. A case that ends its
process, or does not return within a minute, is counted and named, and the next process goes on behind it. Exit code 1
if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import onnxruntime
from bundles import ROOT

__all__ = ["FILES", "run_cases", "run_killed_runs", "run_kills"]

SUPPORT = ROOT / "tests" / "support"
SCRIPTS = {"estimators": "hostile_estimators.py"}
# Files that older versions wrote: estimators, a checkpoint of a layer, and one of a training run.
FILES = tuple(
    ROOT / "tests" / "fixtures" / f"{name}.safetensors"
    for name in (
        "estimators/classifier",
        "estimators/network",
        "estimators/regressor",
        "checkpoints/layer",
        "training/run",
    )
)
BUNDLES = ("gait.lnn", "drift.lnn", "blocks.lnn")
_CHUNK = 1500  # cases of one process: enough to be worth its imports
_LIMIT_S = 60  # for one case; the slowest take a tenth of a second
_TELL_S = 5.0
_ROWS = ("cases", "refused", "failed its self-test", "ran", "refused by onnxruntime alone", "left as it was", "wrong")


class _Progress:
    """Says on standard error how far it is, every few seconds."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done, self._told = what, total, 0, time.monotonic()
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self._done += 1
            if time.monotonic() > self._told + _TELL_S or self._done == self._total:
                self._told = time.monotonic()
                print(f"{self._what}: {self._done:,} of {self._total:,}", file=sys.stderr, flush=True)


def run_cases(
    kind: str,
    count: int,
    sources: Iterable[Path],
    *,
    seed: int = 18,
    jobs: int = 1,
    environment: Mapping[str, str] | None = None,
) -> Counter[str]:
    """Load so many mutated bundles of a kind of `hostile_bundles.py`, by `python` of an environment if one is given.

    Returns:
        How often each thing happened. What begins with "wrong" ends with the number of its case.
    """
    tell, chunk = _Progress(kind, count), max(1, min(_CHUNK, -(-count // jobs)))
    happened: Counter[str] = Counter()
    with ThreadPoolExecutor(jobs) as pool:
        parts = [range(first, min(first + chunk, count)) for first in range(0, count, chunk)]
        for found in pool.map(lambda part: _run(kind, part, seed, [*sources], tell, environment), parts):
            happened += found
    return happened


def _run(
    kind: str, part: range, seed: int, sources: list[Path], tell: _Progress, environment: Mapping[str, str] | None
) -> Counter[str]:
    happened: Counter[str] = Counter()
    first = part.start
    while first < part.stop:
        for number, what in _lines(kind, range(first, part.stop), seed, sources, environment):
            happened[f"{what} ({kind} {number})" if what.startswith("wrong") else what] += 1
            first = number + 1
            tell()
    return happened


def _lines(
    kind: str, numbers: range, seed: int, sources: list[Path], environment: Mapping[str, str] | None
) -> Iterator[tuple[int, str]]:
    """What each case says, and at last what the process that it ended does."""
    expected = numbers.start
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        arguments = [kind, folder, numbers.start, len(numbers), seed, *sources]
        script = SCRIPTS.get(kind, "hostile_bundles.py")
        python = "python" if environment else sys.executable
        command = [python, str(SUPPORT / script), *map(str, arguments)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment) as process:
            for line in _timely(process):
                number, _, what = line.partition(" ")
                expected = int(number) + 1
                yield int(number), what
            if process.poll() is None:
                process.kill()
                yield expected, f"wrong: did not return within {_LIMIT_S} s"
            elif process.wait() != 0:
                errors.seek(0)
                last = errors.read()[-300:].decode(errors="replace").strip().rpartition("\n")[2]
                yield expected, f"wrong: ended the process, {process.returncode}: {last}"


def _timely(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Lines until there are no more, or none comes in time."""
    assert process.stdout
    text, descriptor = b"", process.stdout.fileno()
    while select.select([descriptor], [], [], _LIMIT_S)[0]:
        data = os.read(descriptor, 1 << 16)
        if not data:
            process.wait()
            return
        *lines, text = (text + data).split(b"\n")
        yield from (line.decode() for line in lines)


def run_kills(count: int, source: Path, *, seed: int = 18) -> Counter[str]:
    """What `killed_writers.py` counts."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(SUPPORT / "killed_writers.py"), str(source), folder, str(count), str(seed)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=60 + count)
    return Counter(json.loads(done.stdout) if done.returncode == 0 else {f"wrong: ended, {done.returncode}": 1})


def run_killed_runs(count: int, bundles: Iterable[Path], *, seed: int = 18) -> Counter[str]:
    """What `killed_runs.py` counts."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(SUPPORT / "killed_runs.py"), folder, str(count), str(seed), *map(str, bundles)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=120 + 5 * count)
    return Counter(json.loads(done.stdout) if done.returncode == 0 else {f"wrong: ended, {done.returncode}": 1})


def run_recorders(count: int, *, seed: int = 18) -> Counter[str]:
    """What `killed_recorders.py` counts."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(SUPPORT / "killed_recorders.py"), folder, str(count), str(seed)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=60 + count)
    return Counter(json.loads(done.stdout) if done.returncode == 0 else {f"wrong: ended, {done.returncode}": 1})


def run_signals(count: int, bundles: Path) -> str:
    """What `interrupted_steps.py` says in its last line, of so many signals inside `step`."""
    script = SUPPORT / "interrupted_steps.py"
    if not script.exists():
        return f"not counted: there is no {script.name}"
    environment = os.environ | {"LNN_EDGE_TEST_BUNDLES": str(bundles)}
    done = subprocess.run(
        [sys.executable, str(script), str(count)], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    last = done.stdout.strip().rpartition("\n")[2]
    return last if done.returncode == 0 else f"wrong: {last} (exit code {done.returncode})"


def table(found: dict[str, Counter[str]]) -> str:
    """The counts of each kind of bundle, as Markdown."""
    lines = [f"| bundles | {' | '.join(_ROWS)} |", f"| --- |{' --- |' * len(_ROWS)}"]
    for kind, happened in found.items():
        counts = happened | {"cases": happened.total(), "wrong": _wrong(happened).total()}
        lines.append(f"| {kind} | {' | '.join(f'{counts.get(row, 0):,}' for row in _ROWS)} |")
    return "\n".join(lines)


def _wrong(happened: Counter[str]) -> Counter[str]:
    return Counter({what: count for what, count in happened.items() if what.startswith("wrong")})


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    usual = {"mutations": 24_000, "nodes": 12_000, "estimators": 6_000}
    usual |= {"kills": 600, "killed-runs": 200, "recorders": 200, "signals": 20_000}
    for name, count in usual.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=18)
    choices = parser.parse_args()
    sources, started = [choices.folder / name for name in BUNDLES], time.monotonic()
    counts = {"unsigned": choices.mutations // 2, "signed": -(-choices.mutations // 2), "nodes": choices.nodes}
    found = {k: run_cases(k, n, sources, seed=choices.seed, jobs=choices.jobs) for k, n in counts.items()}
    if find_spec("torch"):
        found["estimators"] = run_cases("estimators", choices.estimators, FILES, seed=choices.seed, jobs=choices.jobs)
    killed = run_kills(choices.kills, sources[0], seed=choices.seed)
    resumed = run_killed_runs(choices.killed_runs, sources, seed=choices.seed)
    recorders = run_recorders(choices.recorders, seed=choices.seed)
    signalled = run_signals(choices.signals, choices.folder)
    minutes = (time.monotonic() - started) / 60
    print(f"\nonnxruntime {onnxruntime.__version__}, Python {platform.python_version()}, {minutes:.1f} minutes\n")
    print(table(found))
    print("\nkills:", ", ".join(f"{count:,} {what}" for what, count in killed.items()))
    print("runs:", ", ".join(f"{count:,} {what}" for what, count in resumed.items()))
    print("recorders:", ", ".join(f"{count:,} {what}" for what, count in recorders.items()))
    print("signals:", signalled)
    wrong = sum((_wrong(happened) for happened in (*found.values(), killed, resumed, recorders)), Counter())
    for what, count in wrong.items():
        print(f"{count} times {what}")
    return bool(wrong) or signalled.startswith("wrong")


if __name__ == "__main__":
    sys.exit(main())
