"""Export of large LTCs and of a network for pictures: time, memory and size, each model in a process of its own.

python benchmarks/large_models.py
python benchmarks/large_models.py --only 1200
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

# inputs, neurons, motor neurons: sizes of public projects, and the largest that must export
MODELS = [(20, 128, 4), (128, 64, 10), (64, 100, 10), (153, 512, 154), (1200, 512, 154)]
ATARI = "ConvCfC, 84x84x4 frames"


def large_ltc(inputs: int, neurons: int, motor: int) -> tuple[Any, Any]:
    from ncps.torch import LTC
    from ncps.wirings import AutoNCP

    return LTC(inputs, AutoNCP(neurons, motor)), None


def atari() -> tuple[Any, Any]:
    """The network of ncps' Atari examples: four convolutions over each of four stacked frames, then a CfC."""
    import torch
    from ncps.torch import CfC
    from torch import nn

    class ConvCfC(nn.Module):
        def __init__(self, actions: int) -> None:
            super().__init__()
            channels = (4, 64, 128, 128, 256)
            blocks = [
                nn.Sequential(nn.Conv2d(a, b, 5, padding=2, stride=2), nn.BatchNorm2d(b), nn.ReLU())
                for a, b in pairwise(channels)
            ]
            self.conv_block = nn.Sequential(*blocks)
            self.rnn = CfC(256, 64, batch_first=True, proj_size=actions)

        def forward(self, x: torch.Tensor, hx: Any = None) -> Any:
            batch, steps = x.shape[:2]
            y = self.conv_block(x.view(batch * steps, *x.shape[2:])).mean((-1, -2))
            return self.rnn(y.view(batch, steps, -1), hx)

    return ConvCfC(6).eval(), torch.rand(1, 64, 4, 84, 84)


def measure(*sizes: int) -> dict[str, float]:
    """Export one model in this process."""
    import torch

    import lnn_edge

    torch.manual_seed(0)
    model, example = large_ltc(*sizes) if sizes else atari()
    with tempfile.TemporaryDirectory() as folder:
        started, used = time.perf_counter(), time.process_time()
        report = lnn_edge.export_model(model, Path(folder) / "m.lnn", example=example, period_s=0.1)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
        size = sum(file.stat().st_size for file in (Path(folder) / "m.lnn").iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"s": seconds, "cpu s": cpu, "peak GB": peak, "bundle MB": size / 1e6, "error": report.max_abs_error}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument("--measure", nargs="*", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(*arguments.measure)))
        return
    print(f"{'model':<30}{'s':>8}{'cpu s':>8}{'peak GB':>9}{'bundle MB':>11}{'error':>10}")
    named = {
        f"LTC({inputs}, AutoNCP({neurons}, {motor}))": (inputs, neurons, motor) for inputs, neurons, motor in MODELS
    }
    for name, sizes in (named | {ATARI: ()}).items():
        if arguments.only in name:
            command = [sys.executable, __file__, "--measure", *map(str, sizes)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            row = json.loads(out.splitlines()[-1])
            print(
                f"{name:<30}{row['s']:>8.1f}{row['cpu s']:>8.1f}{row['peak GB']:>9.2f}{row['bundle MB']:>11.1f}"
                f"{row['error']:>10.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
