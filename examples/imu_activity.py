"""From recordings to a running model: tell standing, walking, running and badminton apart from a smartwatch's IMU.

Trains a CfC or LTC with NCP wiring, exports it, verifies it, streams the held-out recordings through the bundle sample by
sample, and measures its latency. Type: python examples/imu_activity.py --cell cfc
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP

import lnn_edge
from lnn_edge.runtime.latency import back_to_back, golden_steps
from lnn_edge.bundle import read_bundle
from lnn_edge.golden import decode_golden

DATA = Path(__file__).parent / "data"
CHANNELS = ["acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z"]
ACTIVITIES = ["Standing", "Walking", "Running", "Badminton"]
PERIOD_S = 0.1
UNITS = 24


def load_recordings(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Recordings (40, 100, 6) and the index of each one's activity (40,)."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    samples = np.array([[float(row[name]) for name in CHANNELS] for row in rows], np.float32)
    labels = np.array([ACTIVITIES.index(row["activity"]) for row in rows])
    return samples.reshape(-1, 100, len(CHANNELS)), labels[::100]


def make_cfc() -> CfC:
    return CfC(len(CHANNELS), AutoNCP(UNITS, len(ACTIVITIES)))


def make_ltc() -> LTC:
    return LTC(len(CHANNELS), AutoNCP(UNITS, len(ACTIVITIES)))


def train(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    """Cross-entropy on every output of the second half, so that the answer is ready whenever a recording ends."""
    started = time.monotonic()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=epochs)
    for epoch in range(epochs):
        outputs, _ = model(x)
        late = outputs[:, outputs.shape[1] // 2 :]
        logits = 4.0 * late.reshape(-1, len(ACTIVITIES))  # motor neurons stay near -1..1: sharpen them for the loss
        loss = torch.nn.functional.cross_entropy(logits, y.repeat_interleave(late.shape[1]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if epoch % 10 == 9 or epoch == epochs - 1:
            right = (outputs[:, -1].argmax(dim=1) == y).float().mean()
            left = (time.monotonic() - started) / (epoch + 1) * (epochs - epoch - 1)
            print(f"  epoch {epoch + 1}/{epochs}: loss {loss.item():.3f}, {right:.0%} right, {left:.0f} s left", flush=True)


if __name__ == "__main__":
    cell=sys.argv[1]; seed=int(sys.argv[2]); ep=int(sys.argv[3])
    torch.manual_seed(seed)
    x,y=load_recordings(DATA/"basic_motions_train.csv"); xt,yt=load_recordings(DATA/"basic_motions_test.csv")
    m=make_cfc() if cell=='cfc' else make_ltc()
    if cell=='ltc':
        with torch.no_grad():
            m.rnn_cell.input_w.copy_(torch.from_numpy(1/x.std((0,1)))); m.rnn_cell.input_b.copy_(torch.from_numpy(-x.mean((0,1))/x.std((0,1))))
    t=time.time(); train(m,torch.from_numpy(x),torch.from_numpy(y),ep); print(time.time()-t)
    with torch.no_grad(): o=m(torch.from_numpy(xt))[0]
    print(cell,seed,'test',(o[:,-1].argmax(1).numpy()==yt).sum())
