"""A network with an IMU and a range finder as inputs and two motors as outputs: untrained, to try the robot with.

As a program it writes `walk.npz`, samples as the network takes them, for `lnn-edge export --example`.
"""

import numpy as np
import torch
from ncps.torch import CfC
from torch import nn


class Follow(nn.Module):
    """Shapes (batch, time, 3) and (batch, time, 1) to (batch, time, 2), each -1 to 1; timespans (batch, time)."""

    def __init__(self):
        super().__init__()
        self.rnn = CfC(4, 8, proj_size=2)

    def forward(self, imu, distance, timespans=None):
        y, _ = self.rnn(torch.cat([imu, distance], dim=-1), timespans=timespans)
        return torch.tanh(y)


def make_model():
    torch.manual_seed(0)
    return Follow()


def walk():
    time = np.arange(200)[None, :, None] * 0.02
    imu = np.sin(time * [3.0, 5.0, 7.0]).astype(np.float32)
    return {"imu": imu, "distance": (2.5 + np.cos(time)).astype(np.float32)}


if __name__ == "__main__":
    np.savez("walk.npz", **walk())
