"""What recording costs a loop: a guarded tick with and without `Recorder.put`, call by call in turns, and the writer.

Type: python benchmarks/recording.py [--ticks 20000] [--every-us 0] [--json FILE]

The recorder's thread runs meanwhile, and writes to a disk; where the loop does not pause it holds the interpreter as
well, and the ring may overflow: the last line says how many ticks were dropped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ncps.torch import LTC
from ncps.wirings import AutoNCP

import lnn_edge
from lnn_edge.machine.describe import machine
from lnn_edge.runtime.record.layout import layout_of
from lnn_edge.runtime.record.messages import Messages

PERIOD_S = 0.01


def samples(count: int) -> np.ndarray:
    """Samples of a sensor, slow waves, float32 (count, 20)."""
    t, k = np.arange(count)[:, None], np.arange(20)[None]
    return np.sin(t * (0.01 + 0.003 * k) + k).astype(np.float32)


def bundle(folder: Path) -> lnn_edge.Model:
    """LTC(20, AutoNCP(28, 4)), compiled."""
    torch.manual_seed(0)
    lnn_edge.export_model(LTC(20, AutoNCP(28, 4)), folder / "m.lnn", period_s=PERIOD_S, example=samples(2000))
    return lnn_edge.load(folder / "m.lnn", backend="native")


def in_turns(model: lnn_edge.Model, path: Path, ticks: int, pause_s: float) -> tuple[dict[str, float], str]:
    """Medians and 99th percentiles of bare steps, guarded ticks and puts, microseconds."""
    stream, guarded, xs = model.stream(), model.guarded(), samples(ticks)
    durations, now = np.zeros((3, ticks), np.int64), time.perf_counter_ns
    with lnn_edge.Recorder(path, model, capacity=1 << 16) as recorder:
        for k in range(ticks):
            x = xs[k]
            start = now()
            stream.step(x)
            one = now()
            tick = guarded.tick(x, t_s=k * PERIOD_S)
            two = now()
            recorder.put(tick, mono_ns=two, wall_ns=two)
            durations[:, k] = one - start, two - one, now() - two
            if pause_s:
                time.sleep(pause_s)
    found = {}
    for name, row in zip(("bare step", "guarded tick", "put"), durations / 1e3, strict=True):
        found |= {f"{name}, p50": float(np.median(row)), f"{name}, p99": float(np.quantile(row, 0.99))}
    counts = ", ".join(f"{count:,} {status}" for status, count in guarded.counts.items())
    return (
        found,
        f"{counts}; {recorder.written:,} ticks written, {recorder.dropped:,} dropped, {path.stat().st_size:,} bytes",
    )


def encoding_us(model: lnn_edge.Model) -> float:
    """What the writer takes for a tick, of 128 at once, in which it holds the interpreter: the median of 200."""
    layout = layout_of(model.manifest)
    ticks, messages, durations = np.zeros(128, layout.dtype), Messages(layout), []
    for _ in range(200):
        start = time.perf_counter_ns()
        messages.encode(ticks)
        durations.append(time.perf_counter_ns() - start)
    return float(np.median(durations)) / 128e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ticks", type=int, default=20_000)
    parser.add_argument("--every-us", type=float, default=0.0, help="pause between ticks (default 0: none)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = bundle(Path(folder))
        found, words = in_turns(model, Path(folder) / "m.mcap", arguments.ticks, arguments.every_us / 1e6)
        found["encoding of a tick by the writer, p50"] = encoding_us(model)
    for name, value in found.items():
        print(f"{name:<40} {value:8.2f} us")
    print(words)
    if arguments.json:
        arguments.json.write_text(json.dumps({"microseconds": found, "machine": machine()}, indent=2))


if __name__ == "__main__":
    main()
