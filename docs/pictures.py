"""The pictures and tables of the documentation, made anew: what the commands print and draw for one small network.

The figures of `bench` are of one machine at one moment, which it names: make them on one that does nothing else.

    python docs/pictures.py
    python docs/pictures.py --quick --output build/pictures

Needs the extras: pip install '.[export,train,plot]'
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from ncps.torch import CfC
from ncps.wirings import AutoNCP

import lnn_edge
from lnn_edge.cli.program import main as lnn_edge_command

PERIOD_S = 0.02
COLUMNS = ["hip", "knee", "ankle"]


def make_model() -> CfC:
    """A controller of three joints."""
    return CfC(3, AutoNCP(16, 2))


def walk(steps: int = 240) -> np.ndarray:
    """Angles of three joints, radians (steps, 3)."""
    t = np.arange(steps)[:, None] * PERIOD_S
    return np.sin(2 * np.pi * t * [0.5, 0.8, 0.3] + [0.0, 1.0, 2.0]).astype(np.float32)


def train(epochs: int) -> None:
    """Learn the next angles of the first two joints; the weights go into gait.pt, the samples into walk.csv."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, x = make_model(), walk()
    cut = (len(x) - 1) // 30 * 30  # sequences of 30 samples, side by side
    inputs, targets = (torch.from_numpy(own[:cut]).reshape(-1, 30, own.shape[1]) for own in (x[:-1], x[1:, :2]))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(epochs):
        loss = (model(inputs)[0] - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(model.state_dict(), "gait.pt")
    np.savetxt("walk.csv", x, delimiter=",", header=",".join(COLUMNS), comments="", fmt="%.6g")


def printed(*arguments: str) -> str:
    """What a command prints, and what was typed."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        lnn_edge_command([*arguments])
    told = re.sub(r"(kernel|scheduler|load) [^;]*; ", "", out.getvalue())  # of the machine only what figures depend on
    told = told.replace(str(Path.home()), "~")
    return f"$ lnn-edge {' '.join(arguments)}\n{told}"


def tables(seconds: float) -> dict[str, str]:
    """What each command prints about one network, by file name; `seconds` are those of the paced run."""
    names = ["--inputs", ",".join(COLUMNS), "--outputs", "left,right"]
    trained = ["--weights", "gait.pt", "--period-s", str(PERIOD_S), "--example", "walk.csv"]
    other = ["--against", "gait.py:make_model"]
    return {
        "export.txt": printed("export", "gait.py:make_model", "gait.lnn", *trained, *names, "--plot", "proof.png"),
        "verify.txt": printed("verify", "gait.lnn"),
        "verify_untrained.txt": printed("verify", "gait.lnn", *other, "--plot", "proof_untrained.png"),
        "inspect.txt": printed("inspect", "gait.lnn"),
        "bench.txt": printed("bench", "gait.lnn", "--rate", "50", "--seconds", str(seconds)),
        "doctor.txt": printed("doctor"),
    }


def training_pictures(epochs: int) -> None:
    """The losses and the synapses of the estimator on the same samples."""
    x = walk()
    model = lnn_edge.LiquidNeuralRegressor(16, "CfC", epochs=epochs, random_state=0, n_jobs=1, verbose=0)
    model.fit(x[:-1], x[1:, :2])
    model.plot_loss("loss.png")
    model.plot_wiring("wiring.png")


def make(folder: Path, quick: bool) -> None:
    """Make all files in a folder of their own, and put them where they belong."""
    with tempfile.TemporaryDirectory() as made:
        shutil.copy(__file__, Path(made, "gait.py"))  # what is exported is this file's own model
        before = Path.cwd()
        os.chdir(made)
        try:
            train(3 if quick else 60)
            for name, text in tables(0.5 if quick else 20).items():
                Path(name).write_text(text, encoding="utf-8")
            training_pictures(3 if quick else 30)
        finally:
            os.chdir(before)
        for path in sorted(Path(made).iterdir()):
            if path.suffix in (".png", ".txt"):
                shutil.copyfile(path, folder / path.name)
                print(f"saved {folder / path.name}, {os.path.getsize(path) / 1024:.0f} KiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "pictures", help="where they go")
    parser.add_argument("--quick", action="store_true", help="with short trainings, for a look")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    make(arguments.output.resolve(), arguments.quick)


if __name__ == "__main__":
    main()
