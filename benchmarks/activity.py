"""How many of the demo's 40 test recordings does the estimator get right, over several seeds?

`LiquidNeuralClassifier` on the recordings of `examples/data`, with the augmentation of `examples/imu_activity.py`; the
test recordings are only looked at in the end. The exported bundle decides, streamed sample by sample.

    python benchmarks/activity.py
    python benchmarks/activity.py --cell CfC --seeds 3
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path

import numpy as np

import lnn_edge

DATA = Path(__file__).parent.parent / "examples" / "data"
CHANNELS = ["acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z"]
SAMPLES = 100  # per recording
CELLS = {"cfc": "CfC", "ltc": "LTC"}


def recordings(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Recordings (40, SAMPLES, 6) float32 and the activity of each (40,)."""
    with open(DATA / f"basic_motions_{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    x = np.array([[float(row[channel]) for channel in CHANNELS] for row in rows], np.float32)
    return x.reshape(-1, SAMPLES, len(CHANNELS)), np.array([row["activity"] for row in rows[::SAMPLES]])


def deployed(model: lnn_edge.LiquidNeuralClassifier, x: np.ndarray) -> np.ndarray:
    """What the exported bundle decides, from the mean of the outputs of the last steps that the estimator reads."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "activity.lnn"
        model.export(bundle, period_s=0.1)
        model_on_device = lnn_edge.load(bundle)
        answers = np.stack([model_on_device.stream().run(recording)[-1] for recording in x])  # each from its start
    return model.classes_[answers.argmax(axis=1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cell",
        action="append",
        type=lambda cell: CELLS.get(cell.lower(), cell),
        choices=list(CELLS.values()),
        help="which cell (default both)",
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds (default 5)")
    parser.add_argument("--epochs", type=int, default=120, help="epochs of a training (default 120)")
    arguments = parser.parse_args()
    (x, y), (unseen, truth) = recordings("train"), recordings("test")
    print(f"{'cell':<5} {'seed':>4} {'right':>6} {'deployed':>9} {'fit s':>6}   of {len(unseen)} test recordings")
    for cell in arguments.cell or ["CfC", "LTC"]:
        rights = []
        for seed in range(1, arguments.seeds + 1):
            started = time.perf_counter()
            model = lnn_edge.LiquidNeuralClassifier(
                24, cell, epochs=arguments.epochs, batch_size=40, learning_rate=0.02, schedule="one-cycle",
                noise=0.2, gain=0.3, crop=0.7, random_state=seed, n_jobs=1, verbose=0,
            ).fit(x, y)  # fmt: skip
            took = time.perf_counter() - started
            right, same = (int(np.sum(found == truth)) for found in (model.predict(unseen), deployed(model, unseen)))
            rights.append(same)
            print(f"{cell:<5} {seed:>4} {right:>6} {same:>9} {took:>6.0f}", flush=True)
        print(f"{cell:<5} mean {np.mean(rights):>16.1f}", flush=True)


if __name__ == "__main__":
    main()
