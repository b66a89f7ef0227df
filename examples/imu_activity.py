"""From recordings to a running model: tell standing, walking, running and badminton apart from a smartwatch's IMU.

Trains a CfC or LTC with NCP wiring on the training recordings, exports it, verifies it, streams the held-out recordings
through the bundle sample by sample, and measures its latency. Type: python examples/imu_activity.py --cell cfc
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP

import lnn_edge
from lnn_edge.cli.program import main as lnn_edge_command

DATA = Path(__file__).parent / "data"
CHANNELS = ["acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z"]
ACTIVITIES = ["Standing", "Walking", "Running", "Badminton"]
RATE_HZ = 10
PERIOD_S = 1 / RATE_HZ
SAMPLES = 100  # per recording
WINDOW = 50  # the decision is the largest output, averaged over the last five seconds
EPOCHS = 80


def load_recordings(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Recordings (40, 100, 6) float32 and the index of each one's activity (40,)."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    samples = np.array([[float(row[name]) for name in CHANNELS] for row in rows], np.float32)
    labels = np.array([ACTIVITIES.index(row["activity"]) for row in rows])
    return samples.reshape(-1, SAMPLES, len(CHANNELS)), labels[::SAMPLES]


def make_cfc() -> CfC:
    """20 interneurons and command neurons, 4 motor neurons: one per activity."""
    return CfC(len(CHANNELS), AutoNCP(24, len(ACTIVITIES)))


def make_ltc() -> LTC:
    """The same wiring with the solver-based cell."""
    return LTC(len(CHANNELS), AutoNCP(24, len(ACTIVITIES)))


FACTORIES = {"cfc": make_cfc, "ltc": make_ltc}


def start_from_data(model: torch.nn.Module, x: np.ndarray) -> None:
    """Let an LTC's input mapping start where the data is; it is trained from there. A CfC has no such mapping."""
    if isinstance(model, LTC):
        mean, std = x.mean(axis=(0, 1)), x.std(axis=(0, 1))
        with torch.no_grad():
            model.rnn_cell.input_w.copy_(torch.from_numpy(1.0 / std))
            model.rnn_cell.input_b.copy_(torch.from_numpy(-mean / std))


def running_mean(outputs: torch.Tensor) -> torch.Tensor:
    """Mean of the last `WINDOW` outputs at every step that has so many, (recordings, steps, activities)."""
    sums = torch.nn.functional.pad(outputs.cumsum(dim=1), (0, 0, 1, 0))
    return (sums[:, WINDOW:] - sums[:, :-WINDOW]) / WINDOW


def train(model: torch.nn.Module, x: np.ndarray, y: np.ndarray, epochs: int) -> None:
    """Cross-entropy of the running mean; recordings start anywhere and come with noise and another gain each epoch."""
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    noise = 0.2 * torch.from_numpy(x.std(axis=(0, 1)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=epochs)
    started, length = time.monotonic(), SAMPLES - 30
    for epoch in range(epochs):
        first = int(torch.randint(0, SAMPLES - length, ()))
        gain = 1.0 + 0.3 * (2.0 * torch.rand(len(inputs), 1, len(CHANNELS)) - 1.0)
        seen = inputs[:, first : first + length] * gain + noise * torch.randn(len(inputs), length, len(CHANNELS))
        means = running_mean(model(seen)[0])
        logits = 4.0 * means.reshape(-1, len(ACTIVITIES))  # motor neurons stay near -1..1: sharpen them for the loss
        loss = torch.nn.functional.cross_entropy(logits, labels.repeat_interleave(means.shape[1]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (epoch + 1) % 10 == 0 or epoch == epochs - 1:
            right = (means[:, -1].argmax(dim=1) == labels).float().mean()
            left = (time.monotonic() - started) / (epoch + 1) * (epochs - epoch - 1)
            print(
                f"  epoch {epoch + 1:>3}/{epochs}  loss {loss:.3f}  {right:>4.0%} right  {left:3.0f} s left", flush=True
            )


def decide(stream: lnn_edge.Stream, recording: np.ndarray) -> list[int]:
    """Stream one recording sample by sample; what is decided at the end of each second, from the outputs up to then."""
    stream.reset()
    outputs = np.stack([stream.step(sample) for sample in recording])
    ends = range(RATE_HZ, len(recording) + 1, RATE_HZ)
    return [int(outputs[max(0, end - WINDOW) : end].mean(axis=0).argmax()) for end in ends]


def evaluate(bundle: Path, x: np.ndarray, y: np.ndarray) -> int:
    """Stream every held-out recording, print what was decided for what, and return how many are right at the end."""
    stream = lnn_edge.load(bundle).stream()
    decided = np.array([decide(stream, recording) for recording in x])
    print(f"  {'':<10}" + "".join(f"{name:>11}" for name in ACTIVITIES) + "   <- decided after 10 s")
    for k, name in enumerate(ACTIVITIES):
        print(f"  {name:<10}" + "".join(f"{np.sum(decided[y == k, -1] == j):>11}" for j in range(len(ACTIVITIES))))
    right = (decided == y[:, None]).sum(axis=0)
    print("  seconds of signal   " + "".join(f"{second + 1:>4}" for second in range(len(right))))
    print(f"  right of {len(y):<11}" + "".join(f"{count:>4}" for count in right))
    return int(right[-1])


def heading(number: int, text: str) -> None:
    print(f"\n{number}. {text}", flush=True)


def command(*arguments: str) -> None:
    """Run a command of lnn-edge as it would be typed."""
    print(f"$ lnn-edge {' '.join(arguments)}", flush=True)
    code = lnn_edge_command(arguments)
    if code:
        sys.exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cell", type=str.lower, choices=sorted(FACTORIES), default="cfc", help="which liquid cell (default cfc)"
    )
    parser.add_argument("--output", type=Path, default=Path("build/demo"), help="where bundle and figures go")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"training epochs (default {EPOCHS})")
    parser.add_argument("--seed", type=int, default=1, help="seed of the training (default 1)")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)  # operations this small are slower on two threads than on one
    arguments.output.mkdir(parents=True, exist_ok=True)
    bundle, figures = arguments.output / f"imu_{arguments.cell}.lnn", arguments.output / "bench.json"

    x, y = load_recordings(DATA / "basic_motions_train.csv")
    heading(1, f"train a {arguments.cell.upper()} with AutoNCP wiring on {len(x)} recordings")
    model = FACTORIES[arguments.cell]()
    start_from_data(model, x)
    train(model, x, y, arguments.epochs)

    heading(2, "export one step and prove it equal to torch")
    report = lnn_edge.export_model(
        model,
        bundle,
        example=x,
        period_s=PERIOD_S,
        inputs=CHANNELS,
        outputs=ACTIVITIES,
        overwrite=True,
    )
    print(f"saved {report}")

    heading(3, "verify the bundle again, without torch")
    command("verify", str(bundle))

    held_out, activities = load_recordings(DATA / "basic_motions_test.csv")
    heading(4, f"stream the {len(held_out)} held-out recordings sample by sample, the state kept")
    right = evaluate(bundle, held_out, activities)

    heading(5, "measure its latency")
    command("bench", str(bundle), "--rate", "100", "--seconds", "3", "--json", str(figures))
    measured = json.loads(figures.read_text())

    print(f"\nsummary of {bundle}")
    print(f"  right            {right} of {len(held_out)} held-out recordings, by the mean of the last 5 s of output")
    print(f"  equal to torch   within {report.max_abs_error:.1e} over {report.steps:,} closed-loop steps")
    back, paced = measured["back_to_back"], measured["paced"]
    p50, p99 = (back["percentiles_us"][name] for name in ("p50", "p99"))
    print(f"  one step         {p50:.1f} us median, {p99:.1f} us p99 ({back['samples']:,} steps back to back)")
    response, misses = paced["response"], f"{paced['misses']} of {paced['response']['samples']} deadlines missed"
    print(f"  at 100 Hz        {response['percentiles_us']['p50']:.0f} us median response, {misses}")
    tell_what_to_type_next(bundle)


def tell_what_to_type_next(bundle: Path) -> None:
    """The environment, if nothing has activated it, and commands that show more of the bundle."""
    recordings = near(DATA / "basic_motions_test.csv")
    commands = [] if "VIRTUAL_ENV" in os.environ else [f". {near(Path(sys.prefix, 'bin', 'activate'))}"]
    commands += [
        f"lnn-edge inspect {near(bundle)}",
        f"lnn-edge verify {near(bundle)} --steps 10000",
        f"lnn-edge run {near(bundle)} --input {recordings} --reset-column recording --output decisions.csv",
    ]
    print("\nnext, type")
    for command in commands:
        print(f"  {command}")


def near(path: Path) -> str:
    """A path as one types it here."""
    return os.path.relpath(path) if Path.cwd() in path.resolve().parents else str(path)


if __name__ == "__main__":
    main()
