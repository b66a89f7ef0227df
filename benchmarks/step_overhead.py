"""What one step costs: torch eager, the public `stream.step`, and the bare session run inside it.

All three run interleaved in one process on one thread, so that the ratios hold on a noisy machine; medians over rounds.
Type: python benchmarks/step_overhead.py
"""

from __future__ import annotations

import argparse
import json
import statistics
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
from lnn_edge.environment import machine

MODELS = {
    "CfC(6, AutoNCP(24, 4))": lambda: CfC(6, AutoNCP(24, 4)),
    "LTC(6, AutoNCP(24, 4))": lambda: LTC(6, AutoNCP(24, 4)),
    "CfC(20, 64)": lambda: CfC(20, 64),
    "LTC(20, 64)": lambda: LTC(20, 64),
}


def per_call_us(call: Callable[[], object], calls: int) -> float:
    """Mean duration of `calls` calls in a row, microseconds."""
    start = time.perf_counter_ns()
    for _ in range(calls):
        call()
    return (time.perf_counter_ns() - start) / calls / 1e3


def torch_step(module: torch.nn.Module, inputs: int) -> Callable[[], object]:
    """One step of the layer, called on a sequence of one sample with its own state fed back."""
    x, state = torch.randn(1, 1, inputs), [None]

    def step() -> None:
        with torch.inference_mode():
            _, state[0] = module(x, state[0])

    return step


def measure(name: str, rounds: int, calls: int) -> dict[str, float | str]:
    """Medians over interleaved rounds."""
    torch.manual_seed(0)
    module = MODELS[name]().eval()
    with tempfile.TemporaryDirectory() as folder:
        lnn_edge.export_model(module, Path(folder) / "m.lnn")
        stream = lnn_edge.load(Path(folder) / "m.lnn").stream()
    inputs = module.input_size
    x = np.random.default_rng(0).standard_normal(inputs).astype(np.float32)
    stepper = stream._stepper  # the session and buffers that stream.step itself uses
    session, binding, step = stepper._session, stepper._bindings[0], stream.step
    contenders = {
        "torch_us": torch_step(module, inputs),
        "step_us": lambda: step(x),
        "bare_us": lambda: session.run_with_iobinding(binding),
    }
    durations: dict[str, list[float]] = {key: [] for key in contenders}
    for _ in range(rounds):
        for key, call in contenders.items():
            per_call_us(call, calls // 10)
            durations[key].append(per_call_us(call, calls))
    medians = {key: statistics.median(values) for key, values in durations.items()}
    pairs = zip(durations["step_us"], durations["bare_us"], strict=True)
    overhead = statistics.median(step - bare for step, bare in pairs)
    return {
        "model": name,
        **medians,
        "overhead_us": overhead,
        "torch_over_step": medians["torch_us"] / medians["step_us"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="interleaved rounds (default 31)")
    parser.add_argument("--calls", type=int, default=500, help="calls per round (default 500)")
    parser.add_argument("--json", type=argparse.FileType("w"), help="write the figures to a file, or - for the screen")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(name, arguments.rounds, arguments.calls) for name in MODELS]
    if arguments.json:
        json.dump({"machine": machine(), "rounds": arguments.rounds, "rows": rows}, arguments.json, indent=2)
        return
    titles = f"{'torch eager':>12}{'stream.step':>13}{'ratio':>7}{'bare session':>14}{'overhead':>10}"
    print(f"{'one step, microseconds':<26}{titles}")
    for row in rows:
        figures = (
            f"{row['torch_us']:>12.1f}{row['step_us']:>13.1f}{row['torch_over_step']:>6.1f}x{row['bare_us']:>14.1f}"
        )
        print(f"{row['model']:<26}{figures}{row['overhead_us']:>10.1f}")
    print(f"medians of {arguments.rounds} interleaved rounds of {arguments.calls} calls, one thread")
    print("; ".join(f"{name} {value}" for name, value in machine().items()), file=sys.stderr)


if __name__ == "__main__":
    main()
