"""The bundles that most tests share: exported once per run, or taken from a folder where there is no torch.

    python tests/support/shared_bundles.py FOLDER

exports them into a folder that exists, with short proofs: each load of theirs replays 21 samples and not a thousand.
Tests of the device half alone, without torch, find them there by LNN_EDGE_TEST_BUNDLES=FOLDER.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from bundles import INPUTS, small_cfc, small_ltc

from lnn_edge import Feature

_LIMITED = [Feature("acc_x", "m/s2"), Feature("acc_y", "m/s2"), Feature("gyro_z", "rad/s", limits=(-8, 8))]
BUNDLES = {
    "gait.lnn": (small_cfc, {"period_s": 0.02, "inputs": _LIMITED, "outputs": ["walk", "run"]}),
    "drift.lnn": (
        small_ltc,
        {"period_s": 0.1, "time": "measured", "inputs": INPUTS, "outputs": ["left", "right"]},
    ),
    "blocks.lnn": (small_cfc, {"unroll": 4, "time": "measured", "period_s": 0.1, "inputs": INPUTS}),
    "letters.lnn": (small_cfc, {"inputs": ["gr\u00f6\u00dfe", "b", "c"], "outputs": ["g\u00e5", "run"]}),
}


def shared_bundle(factory: pytest.TempPathFactory, name: str) -> Path:
    """One of `BUNDLES`. Read-only: copy it before you change it."""
    folder = os.environ.get("LNN_EDGE_TEST_BUNDLES")
    if folder:
        return Path(folder) / name
    from exports import proven  # which needs torch

    make, options = BUNDLES[name]
    return proven(factory, make, name, short=True, **options)


def main(folder: Path) -> None:
    """Export all of them."""
    from exports import shared_export

    for name, (make, options) in BUNDLES.items():
        print(shared_export(make(), folder / name, overwrite=True, **options))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
