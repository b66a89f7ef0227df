"""A network of one's own, from a plain PyTorch script to a bundle: convolutions, a CfC, and two heads.

A small camera watches a ball that flies about a dark room, and passes behind a wall where it cannot be seen. Each frame
goes through a convolution encoder into a CfC, whose state remembers where the ball was going. One head says where the
ball is, the other whether it can be seen. Nothing here knows of lnn-edge until the model is trained; then one call
exports it, and the frames go through the bundle one by one.

    python examples/own_model.py
    python examples/own_model.py --quick
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from ncps.torch import CfC
from ncps.wirings import AutoNCP
from torch import nn

import lnn_edge

SIZE = 24  # pixels each way
WALL = (9, 15)  # columns that hide the ball
STEPS = 48  # frames per recording
PERIOD_S = 1 / 30
UPDATES, QUICK_UPDATES = 400, 10


def film(rng: np.random.Generator, recordings: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recordings of the ball.

    Returns:
        Frames (recordings, STEPS, 1, SIZE, SIZE) of brightness 0 to about 1, where the ball is (recordings, STEPS, 2)
        in rooms from the left and from the top, and whether it is seen (recordings, STEPS), 0 or 1.
    """
    start, speed = rng.uniform(0, 1, (recordings, 1, 2)), rng.uniform(-0.06, 0.06, (recordings, 1, 2))
    way = start + speed * np.arange(STEPS)[None, :, None]
    place = 1 - np.abs(way % 2 - 1)  # the walls of the room send it back
    pixels = np.arange(SIZE)
    across, down = (np.exp(-0.5 * (pixels - place[..., k : k + 1] * (SIZE - 1)) ** 2) for k in (0, 1))
    frames = down[..., :, None] * across[..., None, :]
    frames[..., WALL[0] : WALL[1]] = 0
    seen = frames.max(axis=(2, 3)) > 0.5
    frames += 0.05 * rng.standard_normal(frames.shape)
    return frames[:, :, None].astype(np.float32), place.astype(np.float32), seen.astype(np.float32)


class Tracker(nn.Module):
    """Frames (batch, time, 1, SIZE, SIZE) to where the ball is (batch, time, 2), and how surely it is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * (SIZE // 4) ** 2, 24), nn.Tanh(),
        )  # fmt: skip
        self.rnn = CfC(24, AutoNCP(40, 12))
        self.place, self.seen = nn.Linear(12, 2), nn.Linear(12, 1)

    def forward(self, frames: torch.Tensor, hx: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        features = self.encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        y, _ = self.rnn(features, hx)
        return {"place": self.place(y), "seen": torch.sigmoid(self.seen(y))}


def train(model: Tracker, rng: np.random.Generator, updates: int) -> None:
    """Where it is matters also while the ball is hidden: that is what the state is for."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=updates)
    started = time.monotonic()
    for k in range(updates):
        frames, place, seen = (torch.from_numpy(part) for part in film(rng, 16))
        found = model(frames)
        off = (found["place"] - place).square().mean()
        loss = off + 0.1 * nn.functional.binary_cross_entropy(found["seen"].squeeze(2), seen)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (k + 1) % max(1, updates // 10) == 0:
            left = (time.monotonic() - started) / (k + 1) * (updates - k - 1)
            print(f"  {k + 1:>4}/{updates}  off by {off.sqrt():.3f} of the room  {left:3.0f} s left", flush=True)


def streamed(bundle: Path, frames: np.ndarray) -> dict[str, np.ndarray]:
    """One recording, frame by frame, as the robot would: by output, (STEPS, ...)."""
    stream = lnn_edge.load(bundle).stream()
    found = [stream.step(frame) for frame in frames]
    return {name: np.stack([step[name] for step in found]) for name in found[0]}


def report(model: Tracker, bundle: Path, recordings: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """How good the deployed model is on recordings it has not seen, and how far it is from torch on the whole."""
    hidden, open_, right, apart = [], [], [], 0.0
    for frames, place, seen in zip(*recordings, strict=True):
        found = streamed(bundle, frames)
        with torch.no_grad():
            whole = model(torch.from_numpy(frames[None]))
        apart = max(apart, *(float(np.abs(found[name] - whole[name][0].numpy()).max()) for name in found))
        off = np.linalg.norm(found["place"] - place, axis=1)[STEPS // 4 :]  # the first frames show no direction yet
        late = seen[STEPS // 4 :] > 0.5
        hidden.append(off[~late])
        open_.append(off[late])
        right.append((found["seen"][:, 0] > 0.5) == (seen > 0.5))
    print(f"  off by           {np.mean(np.concatenate(open_)):.3f} of the room while it can be seen")
    print(f"                   {np.mean(np.concatenate(hidden)):.3f} while it is hidden")
    print(f"  seen or not      {np.mean(right):.1%} right")
    print(f"  bundle and torch {apart:.1e} apart at most, over {len(recordings[0]) * STEPS:,} frames")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("build/own_model"), help="where the bundle goes")
    parser.add_argument("--seed", type=int, default=1, help="seed of the training (default 1)")
    parser.add_argument("--quick", action="store_true", help="train for some seconds only, for a look")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    bundle = arguments.output / "tracker.lnn"

    print("1. train in plain PyTorch", flush=True)
    model = Tracker()
    train(model, rng, updates=QUICK_UPDATES if arguments.quick else UPDATES)
    model.eval()

    print("\n2. export one step and prove it equal to torch", flush=True)
    example = film(rng, 2)[0]
    print(f"saved {lnn_edge.export_model(model, bundle, example=example, period_s=PERIOD_S, overwrite=True)}")

    print("\n3. stream recordings that it has not seen, frame by frame", flush=True)
    report(model, bundle, film(rng, 2 if arguments.quick else 20))
    if arguments.quick:
        print(
            f"\n{QUICK_UPDATES} updates are too few to learn anything: the figures show that every stage runs, and not "
            f"how good such a network gets. For that leave out --quick, which takes {UPDATES} updates."
        )


if __name__ == "__main__":
    main()
