"""Helpers of the tests of the command line: a training script, samples as text, kept runs, and a bare interpreter."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
from bundles import INPUTS

import lnn_edge

OUT, KEPT = "y.csv", "run.snapshot"  # of runs that are kept

TRAIN = """
from functools import partial

import torch
from ncps.torch import CfC
from ncps.wirings import AutoNCP

COUNT = 3

def make_model():
    torch.manual_seed(11)
    return CfC(3, AutoNCP(10, 2))

def make_wide():
    return CfC(4, AutoNCP(10, 2))

def make_deep():
    return CfC(3, AutoNCP(12, 2))

def make_chaos():
    torch.manual_seed(0)
    model = CfC(3, 16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10.0)
    return model

def make_list():
    return [1, 2]

def make_fault():
    raise RuntimeError("no data here")

def make_sized(units, batch_first=True):
    return CfC(3, units, batch_first=batch_first)

class Sized(CfC):
    def __init__(self, units, *, scale):
        super().__init__(3, units)

def make_inner():
    return make_sized()

ready = make_model()
four = partial(make_sized, 4)
"""


def samples(count=20, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)


def csv_text(rows, header=INPUTS) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()


def table(text: str) -> tuple[list[str], list[list[str]]]:
    header, *rows = csv.reader(io.StringIO(text))
    return header, rows


def streamed(bundle, xs, **times) -> np.ndarray:
    manifest = Path(bundle, "manifest.json")
    return _model(bundle, manifest.stat().st_mtime_ns, os.environ.get("CC")).stream().run(xs, **times)


@cache
def _model(bundle, changed, compiler):
    """Of a bundle as it stands, with the compiler that there is for a test: each of them would load it again."""
    return lnn_edge.load(bundle)


def bare_call(bare, *arguments):
    """Run a command with the standard library and what `bare` links to, without this interpreter's site-packages."""
    command = [sys.executable, "-S", "-m", "lnn_edge", *map(str, arguments)]
    return subprocess.run(command, env=bare, capture_output=True, text=True, check=False)


def stored(folder) -> dict[str, bytes]:
    """Results and snapshot of a run that is kept in a folder, as far as they are there."""
    return {name: (folder / name).read_bytes() for name in (OUT, KEPT) if (folder / name).exists()}


def refused(call, command, folder, *words):
    """A command that does not go on from a snapshot says so in these words and what to type, and changes nothing."""
    before = stored(folder)
    code, out, err = call(*command)
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    for word in words:
        assert word in last
    assert last.endswith(f"To begin anew, type: rm {folder / KEPT}")
    assert stored(folder) == before
    assert not list(folder.glob("*.mcap"))
