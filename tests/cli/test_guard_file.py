"""A guard in a file, as it is typed."""

from __future__ import annotations

import pytest

import lnn_edge
from lnn_edge import Guard

pytestmark = pytest.mark.workstation


def test_typed(call, tmp_path, short_commands):
    (tmp_path / "m.py").write_text("from bundles import small_cfc as make\n")
    policy, target = tmp_path / "guard.json", tmp_path / "gait.lnn"
    policy.write_text('{"on_gap": "reset", "gap_s": 0.5, "safe": {"output": [0, 1.5]}}')
    code, _, err = call("export", f"{tmp_path}/m.py:make", target, "--period-s", "0.02", "--guard", policy)
    assert code == 0, err
    out = call("inspect", target)[1]
    assert "guard: on_gap reset, gap_s 0.5, safe output=0,1.5\n" in out
    assert lnn_edge.load(target).guarded().guard == Guard(on_gap="reset", gap_s=0.5, safe={"output": (0.0, 1.5)})


@pytest.mark.parametrize("text", ['{"on_gap": "run"}', "[]", '{"more": 1}', '{"warm_up": -1}', "\xff", ""])
def test_a_file_that_holds_none(call, tmp_path, text):
    policy = tmp_path / "guard.json"
    policy.write_text(text, encoding="latin-1")
    (tmp_path / "m.py").write_text("make = None\n")
    code, _, err = call("export", f"{tmp_path}/m.py:make", tmp_path / "x.lnn", "--guard", policy)
    assert code == 2
    assert f"--guard {policy}: " in err
    assert "Expected a JSON object with some of dt_from, first, on_gap" in err
