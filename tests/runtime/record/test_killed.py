"""Killed recorders: each leaves a recording that opens up to its last complete chunk, with all that was there."""

from __future__ import annotations

import json
import subprocess
import sys

from bundles import ROOT

KILLS = 20  # `make test-hostile` has 200


def test_what_a_kill_leaves(tmp_path):
    command = [sys.executable, ROOT / "tests" / "support" / "killed_recorders.py", tmp_path, str(KILLS), "23"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    happened = json.loads(done.stdout)
    assert sum(happened.values()) == KILLS
    assert not [what for what in happened if what.startswith("wrong")], happened
