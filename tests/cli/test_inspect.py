"""`lnn-edge inspect` as it is typed."""

from __future__ import annotations

import json
import re

import msgspec
from bundles import manifest_of, resign
from old_files import FIXTURES


def test_inspect_shows_the_bundle(call, cfc_bundle):
    code, out, err = call("inspect", cfc_bundle)
    assert (code, err) == (0, "")
    for text in ("gait: fixed time, period 0.02 s", "acc_x", "m/s2", "-8 to 8", "h_in <- h_out", "CfC (default)"):
        assert text in out
    assert out.splitlines()[-1].startswith(f"{cfc_bundle}: valid, ")


def test_inspect_has_a_line_for_each_comparison(call, cfc_bundle):
    out = call("inspect", cfc_bundle)[1]
    assert re.search(
        r"^proof: passed, [\d,]+ closed-loop steps; largest differences:\n  torch stepped vs torch on", out, re.M
    )
    assert re.search(r"^  onnxruntime vs torch float32 +\d\.\de-\d\d$", out, re.M)
    assert re.search(r"^  versions +python 3", out, re.M)


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


def test_inspect_shows_the_step_program(call, ltc_bundle):
    code, out, err = call("inspect", ltc_bundle, "--program")
    assert (code, err) == (0, "")
    assert "  elapsed elapsed = dt * 10\n" in out
    assert "  state   h_in [8] <- rnn.next, at the start 0\n" in out
    assert "rnn.out [2], rnn.next [8] = ltc(input, h_in, elapsed, 8 neurons, 2 motor, " in out
    assert out.splitlines()[-1] == f"{ltc_bundle}: step program valid, files unchanged since export"


def test_inspect_program_as_json(call, cfc_bundle):
    code, out, _ = call("inspect", cfc_bundle, "--program", "--json", "-")
    there = json.loads((cfc_bundle / "step.json").read_text())
    there.pop("schema")
    assert (code, json.loads(out)) == (0, there)


def test_inspect_program_of_a_bundle_from_before(call):
    path = FIXTURES / "bundles" / "fixed.lnn"
    code, out, err = call("inspect", path, "--program")
    assert (code, out) == (6, "")
    assert f"bundle '{path}' has schema 1, which holds no step program. Export it again: lnn-edge export" in err


def test_inspect_says_what_the_dotted_name_of_a_core_is(call, cfc_copy):
    """An estimator's bundle has `branches.0.cores.0`."""
    (core,) = manifest_of(cfc_copy).cores
    assert "is where the core lies in the network" not in call("inspect", cfc_copy)[1]
    resign(cfc_copy, cores=(msgspec.structs.replace(core, name="branches.0.cores.0"),))
    out = call("inspect", cfc_copy)[1]
    assert "\n'branches.0.cores.0' is where the core lies in the network, as in its state_dict\n" in out
