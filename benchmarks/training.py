"""How fast does `lnn_edge.train.unrolled.layer` train an ncps layer, compared with ncps' own loop over the steps?

An epoch of one batch: forward, a mean squared error, backward, a step of Adam. Both train the same layer on the same
data and take turns in one process, so that whatever else the machine does meets both; the table shows the median time
of each, the ratio (above 1: `unrolled` is faster) and how far gradients are apart, as part of the largest.

    python benchmarks/training.py
    python benchmarks/training.py --threads 1 --threads 2 --runs 40 --json training.json
    python benchmarks/training.py --batch 8 --steps 400 --only CfC
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from torch import nn

from lnn_edge.train.unrolled.layer import unrolled

WARM_UP = 2  # runs before the first that counts
FEATURES = 8


@dataclass(frozen=True)
class Case:
    """A layer of the table, and whether every step has its own time span."""

    name: str
    make: Callable[[], nn.Module]
    spans: bool = False


@dataclass(frozen=True)
class Result:
    """Median milliseconds of an epoch, the ratio of the two, and how far the gradients are apart."""

    name: str
    threads: int
    ncps_ms: float
    unrolled_ms: float
    ratio: float
    gradient_difference: float


CASES = (
    Case("CfC(8, 20)", lambda: CfC(FEATURES, 20)),
    Case("CfC(8, 32)", lambda: CfC(FEATURES, 32)),
    Case("CfC(8, 64)", lambda: CfC(FEATURES, 64)),
    Case("CfC(8, AutoNCP(20, 4))", lambda: CfC(FEATURES, AutoNCP(20, 4))),
    Case("CfC(8, AutoNCP(64, 4))", lambda: CfC(FEATURES, AutoNCP(64, 4))),
    Case("CfC(8, 32, mixed_memory=True)", lambda: CfC(FEATURES, 32, mixed_memory=True)),
    Case("CfC(8, AutoNCP(32, 4), mixed_memory=True)", lambda: CfC(FEATURES, AutoNCP(32, 4), mixed_memory=True)),
    Case("CfC(8, 32, mode='pure')", lambda: CfC(FEATURES, 32, mode="pure")),
    Case("CfC(8, 32, mode='no_gate')", lambda: CfC(FEATURES, 32, mode="no_gate")),
    Case("CfC(8, 32, backbone_layers=2)", lambda: CfC(FEATURES, 32, backbone_layers=2)),
    Case("CfC(8, 32), time spans", lambda: CfC(FEATURES, 32), spans=True),
    Case("CfC(8, AutoNCP(32, 4)), time spans", lambda: CfC(FEATURES, AutoNCP(32, 4)), spans=True),
    Case("LTC(8, 20)", lambda: LTC(FEATURES, 20)),
    Case("LTC(8, 64)", lambda: LTC(FEATURES, 64)),
    Case("LTC(8, AutoNCP(20, 4))", lambda: LTC(FEATURES, AutoNCP(20, 4))),
    Case("LTC(8, AutoNCP(64, 4))", lambda: LTC(FEATURES, AutoNCP(64, 4))),
    Case("LTC(8, AutoNCP(32, 4), mixed_memory=True)", lambda: LTC(FEATURES, AutoNCP(32, 4), mixed_memory=True)),
    Case("LTC(8, AutoNCP(32, 4)), time spans", lambda: LTC(FEATURES, AutoNCP(32, 4)), spans=True),
)


class Trainer:
    """A layer with its optimiser, trained one epoch at a time."""

    def __init__(self, layer: nn.Module, run: Callable[..., torch.Tensor]) -> None:
        self.layer, self._run = layer, run
        self._optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3)

    def gradients(self, data: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        """Of the parameters, without a step of the optimiser."""
        self._backward(data)
        return [p.grad.clone() for p in self.layer.parameters() if p.grad is not None]

    def epoch(self, data: tuple[torch.Tensor, ...]) -> float:
        """Train on the batch; seconds."""
        start = time.perf_counter()
        self._backward(data)
        self._optimiser.step()
        return time.perf_counter() - start

    def _backward(self, data: tuple[torch.Tensor, ...]) -> None:
        x, spans, y = data
        self._optimiser.zero_grad()
        nn.functional.mse_loss(self._run(self.layer, x, spans), y).backward()


def by_ncps(layer: nn.Module, x: torch.Tensor, spans: torch.Tensor | None) -> torch.Tensor:
    """The loop of ncps; with time spans, of which it mixes up the rows, its cell stepped as it should be."""
    if spans is None:
        return layer(x)[0]
    h, outputs = x.new_zeros(len(x), layer.state_size), []
    for t in range(x.shape[1]):
        y, h = layer.rnn_cell.forward(x[:, t], h, spans[:, t : t + 1])
        outputs.append(y)
    return torch.stack(outputs, dim=1)


def by_unrolled(layer: nn.Module, x: torch.Tensor, spans: torch.Tensor | None) -> torch.Tensor:
    """The same with this package."""
    return unrolled(layer, x, timespans=spans)[0]


def measure(case: Case, arguments: argparse.Namespace) -> Result:
    """Train a case both ways, in turns."""
    torch.manual_seed(0)
    layer = case.make()
    x = torch.randn(arguments.batch, arguments.steps, FEATURES)
    spans = torch.rand(arguments.batch, arguments.steps) + 0.5 if case.spans else None
    data = (x, spans, torch.randn_like(by_unrolled(layer, x, spans)))
    trainers = [Trainer(copy.deepcopy(layer), run) for run in (by_ncps, by_unrolled)]
    apart = difference(*(trainer.gradients(data) for trainer in trainers))
    times: list[list[float]] = [[], []]
    for run in range(WARM_UP + arguments.runs):
        for trainer, own in zip(trainers, times, strict=True):
            seconds = trainer.epoch(data)
            if run >= WARM_UP:
                own.append(seconds * 1e3)
    ncps_ms, ours_ms = map(statistics.median, times)
    return Result(case.name, torch.get_num_threads(), ncps_ms, ours_ms, ncps_ms / ours_ms, apart)


def difference(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    """The largest difference of two gradients, as part of the largest entry."""
    largest = max(float(g.abs().max()) for g in first)
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True)) / largest


def main() -> None:
    arguments = _parse_arguments()
    results = []
    for threads in arguments.threads or [1]:
        torch.set_num_threads(threads)
        for case in CASES:
            if not arguments.only or any(part in case.name for part in arguments.only):
                results.append(measure(case, arguments))
                if arguments.json != "-":
                    print_result(results[-1], header=len(results) == 1)
    setting = {"batch": arguments.batch, "steps": arguments.steps, "runs": arguments.runs}
    report = {"machine": describe_machine(), **setting, "results": list(map(asdict, results))}
    if arguments.json == "-":
        print(json.dumps(report, indent=2))
        return
    print(
        f"median of {arguments.runs} interleaved epochs of one batch of {arguments.batch} sequences of "
        f"{arguments.steps} steps; {describe_machine()}"
    )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=2) + "\n")


def describe_machine() -> str:
    """CPU and torch in a line."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"{cpu}, torch {torch.__version__}"


def print_result(result: Result, header: bool) -> None:
    """A line of the table."""
    if header:
        print(f"{'layer':<44} {'threads':>7} {'ncps ms':>8} {'unrolled ms':>12} {'ratio':>6} {'gradients':>10}")
    print(
        f"{result.name:<44} {result.threads:>7} {result.ncps_ms:>8.1f} {result.unrolled_ms:>12.1f} "
        f"{result.ratio:>6.1f} {result.gradient_difference:>10.1e}",
        flush=True,
    )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="sequences at once (default 32)")
    parser.add_argument("--steps", type=int, default=100, help="steps of each (default 100)")
    parser.add_argument("--runs", type=int, default=20, help="epochs timed of each (default 20)")
    parser.add_argument("--threads", type=int, action="append", help="of torch; may be repeated (default 1)")
    parser.add_argument("--only", action="append", metavar="TEXT", help="only the layers whose name holds TEXT")
    parser.add_argument(
        "--json", metavar="FILE", help="also write the results as JSON; - prints it instead of the table"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
