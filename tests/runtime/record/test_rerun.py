"""Recordings opened by Rerun, whose reader is another one than MCAP's own: whole ones, and those that a crash cut.

`make rerun` installs it, two thirds of a gigabyte, and runs these tests; where it is missing they are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bundles import ROOT
from ticks import model_of, record

RERUN = Path(os.environ.get("LNN_EDGE_RERUN", ROOT / "build" / "rerun"))
pytestmark = pytest.mark.skipif(not RERUN.is_dir(), reason="rerun-sdk is not installed. Type: make rerun")

SCRIPT = """
import json, sys
from rerun.chunk import McapReader

rows = []
for chunk in McapReader(sys.argv[1], recover=True).stream():
    batch = chunk.to_record_batch()
    for name in batch.schema.names:
        if name == "lnn_edge.fixed_2:message":
            rows += [row[0] for row in batch.column(name).to_pylist()]
print(json.dumps(rows))
"""


def rows_of(path, home):
    """Messages as Rerun has them; its home is one in which it is told to report nothing to anybody."""
    environment = os.environ | {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "PYTHONPATH": str(RERUN)}
    subprocess.run([RERUN / "rerun_cli" / "rerun", "analytics", "disable"], env=environment, check=True)
    command = [sys.executable, "-c", SCRIPT, path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_rerun_sees_every_number_by_its_name(tmp_path):
    ticks = record(tmp_path / "walk.mcap", model_of("fixed_2"), ["good", "refused", "split"] * 5, state_every=3)
    rows = rows_of(tmp_path / "walk.mcap", tmp_path)
    assert [row["tick"] for row in rows] == list(range(len(ticks)))
    for k, (row, tick) in enumerate(zip(rows, ticks, strict=True)):
        assert row["status"] == {"name": f"STATUS_{tick.status.name}", "value": tick.status.value}
        assert (len(row["h_in"] or []), row["stepped"]) == (0 if k % 3 else 6, tick.stepped)
        x = np.float32([row[name] for name in ("acc_x", "acc_y", "gyro_z")])
        raw = np.float32([row[name] for name in ("walk_raw", "run_raw")])
        if tick.stepped:
            assert (x.tobytes(), raw.tobytes()) == (tick.x.tobytes(), tick.raw.tobytes())
        else:
            assert np.isnan([*x, *raw]).all()


def test_rerun_recovers_what_a_crash_cut(tmp_path):
    record(tmp_path / "walk.mcap", model_of("fixed_2"), ["good"] * 50)
    whole = (tmp_path / "walk.mcap").read_bytes()
    (tmp_path / "cut.mcap").write_bytes(whole[: whole.rindex(b"lnn-edge end") - 20])
    assert [row["tick"] for row in rows_of(tmp_path / "cut.mcap", tmp_path)] == list(range(50))
