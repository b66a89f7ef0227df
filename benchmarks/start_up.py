"""How long `import lnn_edge` and `lnn-edge --help` take in a fresh process, here and in another checkout, in turns.

Times are those of `python -X importtime` for the package, and of the whole process for the help; a ratio is that of the
medians. With a bundle also what a robot's program needs until it has stepped once on the compiled step, and its memory.
Type: python benchmarks/start_up.py --bundle gait.lnn --against ../lnn-edge-before
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from lnn_edge.machine.describe import machine

HERE = Path(__file__).resolve().parents[1]


def python(root: Path, *arguments: str) -> str:
    """Run a fresh interpreter that finds the package in a checkout; what it says on standard error."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    own = {"env": environment, "cwd": root}  # which `-c` looks in first
    return subprocess.run([sys.executable, *arguments], **own, capture_output=True, text=True, check=True).stderr


def import_ms(root: Path) -> float:
    """What `import lnn_edge` takes with everything below it, milliseconds."""
    lines = python(root, "-X", "importtime", "-c", "import lnn_edge").splitlines()
    own = next(line for line in lines if re.search(r"\| lnn_edge$", line))
    return int(own.split("|")[1]) / 1e3


def help_ms(root: Path) -> float:
    """What `lnn-edge --help` takes from its start to its end, milliseconds."""
    started = time.perf_counter()
    python(root, "-m", "lnn_edge", "--help")
    return (time.perf_counter() - started) * 1e3


STEPPED = """
import sys
import numpy as np
import lnn_edge
model = lnn_edge.load(sys.argv[1], backend="native")
model.stream().step({t.name: np.zeros(t.shape[1:], np.float32) for t in model.inputs})
import resource, time
used = resource.getrusage(resource.RUSAGE_SELF)
print(time.monotonic(), used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
"""


def ready(root: Path, bundle: Path) -> tuple[float, float, float]:
    """What a program takes from its start to its first step: milliseconds, those of a CPU, and MB resident at most."""
    started = time.monotonic()  # one clock for all processes
    ended, seconds, kilobytes = python(root, "-c", STEPPED, str(bundle)).split()
    return (float(ended) - started) * 1e3, float(seconds) * 1e3, int(kilobytes) / 1e3


def show_ready(bundle: Path, roots: list[Path], runs: int) -> dict[str, list[float]]:
    taken = [[ready(root, bundle) for root in roots] for _ in range(runs + 1)][1:]  # the first one compiles
    found = [[statistics.median(own) for own in zip(*of_root, strict=True)] for of_root in zip(*taken, strict=True)]
    shortest = min(own[0][0] for own in taken)
    for where, (ms, cpu, memory) in zip(("here", "there"), found, strict=False):
        print(
            f"from start to the first step of {bundle.name} {where}: {ms:.0f} ms, {cpu:.0f} ms of CPUs, "
            f"{memory:.0f} MB resident (medians of {runs} runs in turns)"
        )
    print(f"the shortest here: {shortest:.0f} ms")
    columns = zip(("median_ms", "median_cpu_ms", "median_resident_mb"), zip(*found, strict=True), strict=True)
    return {name: list(values) for name, values in columns} | {"shortest_ms": [shortest]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout, measured in turns with this one")
    parser.add_argument("--bundle", type=Path, metavar="NAME.lnn", help="also load it and step it once")
    parser.add_argument("--runs", type=int, default=20, help="runs of each (default 20)")
    parser.add_argument("--json", metavar="FILE", help="where the figures go")
    arguments = parser.parse_args()
    roots = [HERE, *([arguments.against.resolve()] if arguments.against else [])]
    result = {"machine": machine(), "runs": arguments.runs, "figures": {}}
    for name, measure in (("import lnn_edge", import_ms), ("lnn-edge --help", help_ms)):
        taken = [[measure(root) for root in roots] for _ in range(arguments.runs + 1)][1:]  # the first one writes .pyc
        medians = [statistics.median(column) for column in zip(*taken, strict=True)]
        ratio = medians[0] / medians[1] if len(medians) > 1 else None
        result["figures"][name] = {"median_ms": medians, "ratio": ratio}
        against = f", {medians[1]:.1f} ms there: ratio {ratio:.2f}" if ratio else ""
        print(f"{name}: {medians[0]:.1f} ms here{against} (medians of {arguments.runs} runs in turns)")
    if arguments.bundle:
        result["ready"] = show_ready(arguments.bundle.resolve(), roots, arguments.runs)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
