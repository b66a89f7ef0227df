"""What one step costs: torch eager, the public `stream.step`, and the bare session run inside it.

What is compared takes turns, call by call, in one process on one thread, so that differences hold on a noisy machine.
Type: python benchmarks/step_overhead.py
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP

import lnn_edge
from lnn_edge.machine.describe import machine

MODELS = {
    "CfC(6, AutoNCP(24, 4))": lambda: CfC(6, AutoNCP(24, 4)),
    "LTC(6, AutoNCP(24, 4))": lambda: LTC(6, AutoNCP(24, 4)),
    "CfC(20, 64)": lambda: CfC(20, 64),
    "LTC(20, 64)": lambda: LTC(20, 64),
}


def alternating(first: Callable[[], object], second: Callable[[], object], calls: int) -> tuple[float, float, float]:
    """Time two calls in turns: the median of each and of the difference second - first, microseconds.

    Turns of one call each, because a machine's speed drifts over milliseconds by more than what is measured here.
    """
    now = time.perf_counter_ns
    durations = np.zeros((2, calls), np.int64)
    for k in range(calls):
        start = now()
        first()
        middle = now()
        second()
        durations[:, k] = middle - start, now() - middle
    one, two = np.median(durations, axis=1) / 1e3
    return float(one), float(two), float(np.median(durations[1] - durations[0]) / 1e3)


def torch_step(module: torch.nn.Module, inputs: int) -> Callable[[], object]:
    """One step of the layer, called on a sequence of one sample with its own state fed back."""
    x, state = torch.randn(1, 1, inputs), [None]

    def step() -> None:
        with torch.inference_mode():
            _, state[0] = module(x, state[0])

    return step


def measure(name: str, calls: int) -> dict[str, float | str]:
    """Medians for one model: torch against `stream.step`, and `stream.step` against the bare session."""
    torch.manual_seed(0)
    module = MODELS[name]().eval()
    with tempfile.TemporaryDirectory() as folder:
        lnn_edge.export_model(module, Path(folder) / "m.lnn")
        stream = lnn_edge.load(Path(folder) / "m.lnn", backend="onnxruntime").stream(reuse=True)
    x = np.random.default_rng(0).standard_normal(module.input_size).astype(np.float32)
    stepper = stream._mode.stepper  # the session and buffers that stream.step itself uses
    session, binding = stepper._session, stepper._runs[0][0]
    for _ in range(200):
        stream.step(x)
    torch_us, beside_torch_us, _ = alternating(
        torch_step(module, module.input_size), lambda: stream.step(x), calls // 10
    )
    bare = lambda: session.run_with_iobinding(binding)  # noqa: E731 - as long a way to the call as the other
    bare_us, step_us, overhead_us = alternating(bare, lambda: stream.step(x), calls)
    return {
        "model": name,
        "torch_us": torch_us,
        "step_us": step_us,
        "torch_over_step": torch_us / beside_torch_us,
        "bare_us": bare_us,
        "overhead_us": overhead_us,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000, help="calls of each kind (default 20000)")
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--json", type=argparse.FileType("w"), help="write the figures to a file, or - for the screen")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(name, arguments.calls) for name in MODELS if arguments.only in name]
    if arguments.json:
        json.dump({"machine": machine(), "calls": arguments.calls, "rows": rows}, arguments.json, indent=2)
        return
    titles = f"{'torch eager':>12}{'stream.step':>13}{'ratio':>7}{'bare session':>14}{'overhead':>10}"
    print(f"{'one step, microseconds':<26}{titles}")
    for row in rows:
        figures = (
            f"{row['torch_us']:>12.1f}{row['step_us']:>13.1f}{row['torch_over_step']:>6.1f}x{row['bare_us']:>14.1f}"
        )
        print(f"{row['model']:<26}{figures}{row['overhead_us']:>10.1f}")
    print(
        f"medians of {arguments.calls} calls (torch: a tenth), the two compared in turns, one thread; torch runs with"
    )
    print("caches that stream.step has just used, and the other way round, which slows both a little")
    print("; ".join(f"{name} {value}" for name, value in machine().items()), file=sys.stderr)


if __name__ == "__main__":
    main()
