"""How long does an epoch of `LiquidNeuralNetwork.fit` take, compared with the loop over ncps that users write?

Both train the same network on the same data with Adam, clipped gradients and the same batches; the plain loop scales
its data before it starts, as the estimator does. They take turns in one process; the table shows the median time of an
epoch of each, from whole trainings of a few epochs, so that what `fit` does before and after them counts as well, and
the ratio (above 1: the estimator is faster).

    python benchmarks/estimator.py
    python benchmarks/estimator.py --only CfC --runs 11 --json estimator.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from torch import nn

from lnn_edge import LiquidNeuralRegressor

BATCH, STEPS, FEATURES, OUTPUTS, SEQUENCES = 32, 100, 8, 4, 64
KINDS = {"CfC": CfC, "LTC": LTC}


@dataclass(frozen=True)
class Row:
    """One line of the table; times in seconds per epoch."""

    model: str
    ncps_s: float
    estimator_s: float

    @property
    def ratio(self) -> float:
        """How many times as long the plain loop takes."""
        return self.ncps_s / self.estimator_s


def recordings() -> tuple[np.ndarray, np.ndarray]:
    """Sequences (SEQUENCES, STEPS, FEATURES) and a target per step (SEQUENCES, STEPS, OUTPUTS), float32."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SEQUENCES, STEPS, FEATURES)).cumsum(axis=1) / 10
    return x.astype(np.float32), np.tanh(x[..., :OUTPUTS]).astype(np.float32)


def plain_training(kind: str, units: int, epochs: int) -> Callable[[], None]:
    """What a user writes who has ncps and no estimator."""
    x, y = recordings()

    def train() -> None:
        torch.manual_seed(0)
        model = KINDS[kind](FEATURES, AutoNCP(units, OUTPUTS))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        inputs, targets = ((part - part.mean(axis=(0, 1))) / part.std(axis=(0, 1)) for part in (x, y))
        whole = torch.utils.data.TensorDataset(torch.from_numpy(inputs), torch.from_numpy(targets))
        for _ in range(epochs):
            for a, b in torch.utils.data.DataLoader(whole, batch_size=BATCH, shuffle=True):
                loss = nn.functional.mse_loss(model(a)[0], b)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

    return train


def estimator_training(kind: str, units: int, epochs: int) -> Callable[[], None]:
    """The same with the estimator."""
    x, y = recordings()

    def train() -> None:
        model = LiquidNeuralRegressor(units, kind, epochs=epochs, batch_size=BATCH, n_jobs=1, verbose=0, random_state=0)
        model.fit(x, y)

    return train


def name_of(kind: str, units: int) -> str:
    """As the table shows it."""
    return f"{kind}({FEATURES}, AutoNCP({units}, {OUTPUTS}))"


def measure(kind: str, units: int, epochs: int, runs: int) -> Row:
    """Alternate whole trainings and take the median of each."""
    trainings = plain_training(kind, units, epochs), estimator_training(kind, units, epochs)
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(runs + 1):
        for training, found in zip(trainings, times, strict=True):
            started = time.perf_counter()
            training()
            if run:  # the first one warms up
                found.append((time.perf_counter() - started) / epochs)
    return Row(name_of(kind, units), *(statistics.median(found) for found in times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="trainings of each that count (default 7)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of a training (default 3)")
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(f"{'model':<28} {'ncps ms':>8} {'fit ms':>8} {'ratio':>6}   per epoch of {SEQUENCES // BATCH} batches")
    for kind in KINDS:
        for units in (20, 64):
            if arguments.only in name_of(kind, units):
                rows.append(measure(kind, units, arguments.epochs, arguments.runs))
                row = rows[-1]
                print(
                    f"{row.model:<28} {1e3 * row.ncps_s:>8.1f} {1e3 * row.estimator_s:>8.1f} {row.ratio:>6.2f}",
                    flush=True,
                )
    print(
        f"median of {arguments.runs} interleaved trainings of {arguments.epochs} epochs, batches of {BATCH} sequences "
        f"of {STEPS} steps, 1 thread; {platform.processor() or platform.machine()}, torch {torch.__version__}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
