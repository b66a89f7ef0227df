"""`lnn-edge inspect` as it is typed."""

from __future__ import annotations

import json


def test_inspect_shows_the_bundle(call, cfc_bundle):
    code, out, err = call("inspect", cfc_bundle)
    assert (code, err) == (0, "")
    for text in ("gait: fixed time, period 0.02 s", "acc_x", "m/s2", "-8 to 8", "h_in <- h_out", "CfC (default)"):
        assert text in out
    assert out.splitlines()[-1].startswith(f"{cfc_bundle}: valid, ")


def test_inspect_shows_measured_time(call, ltc_bundle):
    assert "measured time, period 0.1 s = timespan 1, legal dt 0.005 to 2 s" in call("inspect", ltc_bundle)[1]


def test_inspect_json_is_the_manifest(call, cfc_bundle, tmp_path):
    code, out, err = call("inspect", cfc_bundle, "--json", "-")
    assert code == 0
    assert json.loads(out) == json.loads((cfc_bundle / "manifest.json").read_bytes())
    assert "valid, " in err
    call("inspect", cfc_bundle, "--json", tmp_path / "m.json")
    assert (tmp_path / "m.json").read_text() == out


def test_inspect_of_a_damaged_bundle(call, cfc_copy):
    (cfc_copy / "model.onnx").write_bytes(b"")
    code, out, err = call("inspect", cfc_copy)
    assert (code, out) == (6, "")
    assert "model.onnx has 0 bytes, but the manifest says" in err
