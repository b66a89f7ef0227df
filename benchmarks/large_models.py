"""Export of large LTCs: time, memory and size of the bundle, each model in a process of its own.

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
from pathlib import Path

# inputs, neurons, motor neurons: sizes of public projects, and the largest that must export
MODELS = [(20, 128, 4), (128, 64, 10), (64, 100, 10), (153, 512, 154), (1200, 512, 154)]


def measure(inputs: int, neurons: int, motor: int) -> dict[str, float]:
    """Export one model in this process."""
    import torch
    from ncps.torch import LTC
    from ncps.wirings import AutoNCP

    import lnn_edge

    torch.manual_seed(0)
    model = LTC(inputs, AutoNCP(neurons, motor))
    with tempfile.TemporaryDirectory() as folder:
        started, used = time.perf_counter(), time.process_time()
        report = lnn_edge.export_model(model, Path(folder) / "m.lnn", period_s=0.1)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
        size = sum(file.stat().st_size for file in (Path(folder) / "m.lnn").iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"s": seconds, "cpu s": cpu, "peak GB": peak, "bundle MB": size / 1e6, "error": report.max_abs_error}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument("--measure", nargs=3, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    print(f"{'model':<30}{'s':>8}{'cpu s':>8}{'peak GB':>9}{'bundle MB':>11}{'error':>10}")
    for inputs, neurons, motor in MODELS:
        name = f"LTC({inputs}, AutoNCP({neurons}, {motor}))"
        if arguments.only in name:
            command = [sys.executable, __file__, "--measure", str(inputs), str(neurons), str(motor)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            row = json.loads(out.splitlines()[-1])
            print(
                f"{name:<30}{row['s']:>8.1f}{row['cpu s']:>8.1f}{row['peak GB']:>9.2f}{row['bundle MB']:>11.1f}"
                f"{row['error']:>10.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
