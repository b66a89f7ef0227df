"""`lnn-edge doctor` as it is typed, on a whole machine and on a bare one."""

from __future__ import annotations

import json
import re
import sys

import pytest
import real_rtx
from command_line import bare_call
from second_backend import Second, row

import lnn_edge
from lnn_edge.backend_protocols import BackendChecks
from lnn_edge.backends import BACKENDS, unfinished
from lnn_edge.machine.checks import EXTRAS, Finding, extra_check


@pytest.mark.workstation
@pytest.mark.usefixtures("compiler")
def test_doctor_says_what_is_ready(call):
    code, out, _ = call("doctor")
    assert code == 0
    for what in ("backend onnxruntime", "export", "train", "plot", "record", "cross"):
        assert re.search(rf"^ *{what} +ready", out, flags=re.M)
    assert out.splitlines()[-1] == f"lnn-edge {lnn_edge.__version__}: ready to run bundles on onnxruntime, native"


def test_doctor_json(call):
    code, out, err = call("doctor", "--json", "-")
    result = json.loads(out)
    assert (code, result["ready"]) == (0, True)
    extras = {"export", "train", "plot", "record", "cross"} | ({"TensorRT for RTX"} if real_rtx.is_here() else set())
    assert {f["what"] for f in result["findings"]} == {f"backend {entry.name}" for entry in BACKENDS} | {
        "CPU clock"
    } | extras
    assert "ready to run bundles" in err


def test_doctor_says_what_is_missing_and_what_to_type(bare):
    done = bare_call(bare, "doctor", "--json", "-")
    assert done.returncode == 5, done.stderr
    rows = {f["what"]: (f["status"], f["found"], f["fix"]) for f in json.loads(done.stdout)["findings"]}
    found = "no module onnxruntime; needs base install"
    assert rows["backend onnxruntime"] == ("missing", found, "pip install lnn-edge")
    for extra, packages in {
        "export": "torch, ncps, onnx",
        "train": "scikit-learn, torch, ncps, onnx",
        "plot": "matplotlib",
    }.items():
        found = f"no {packages}; bundles run without"
        assert rows[extra] == ("not needed", found, f"pip install 'lnn-edge[{extra}]'")
    assert re.search(r"^ *export +not needed here +no torch", done.stderr, re.M)
    assert re.search(r"backend onnxruntime +missing +no module onnxruntime; needs base install", done.stderr)
    assert done.stderr.endswith(": no backend is ready; type: pip install lnn-edge\n")


def test_doctor_finds_a_broken_installation(bare, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libonnxruntime.so: cannot open shared object file')")
    broken = bare | {"PYTHONPATH": f"{bare['PYTHONPATH']}:{tmp_path}"}
    done = bare_call(broken, "doctor", "--json", "-")
    result = json.loads(done.stdout)
    assert (done.returncode, result["ready"]) == (5, False)
    assert (
        "cannot open shared object file. It needs: base install"
        in {f["what"]: f["found"] for f in result["findings"]}["backend onnxruntime"]
    )


@pytest.mark.usefixtures("compiler")
def test_doctor_tries_the_compiler(call, tmp_path, monkeypatch):
    """One that is there may lack its headers or its linker."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rows = {f["what"]: f for f in json.loads(call("doctor", "--json", "-")[1])["findings"]}
    assert rows["C compiler"]["status"] == "ready"
    assert re.fullmatch(r"cc: .*, registers of \d+ float32", rows["C compiler"]["found"])
    assert rows["compiled steps"]["status"] == "note"
    assert not list(tmp_path.iterdir())  # it changes nothing
    broken = tmp_path / "cc-of-test"
    broken.write_text("#!/bin/sh\ncase $1 in --version) echo own 1;; *) echo 'error: no stdint.h'; exit 1; esac\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    rows = {f["what"]: f for f in json.loads(call("doctor", "--json", "-")[1])["findings"]}
    assert (rows["backend native"]["status"], rows["backend native"]["fix"]) == ("missing", "see below")
    assert rows["C compiler"]["found"].endswith("(own 1) failed: error: no stdint.h.")
    assert rows["C compiler"]["fix"] == "sudo apt install gcc libc6-dev"


BOARD_LINES = BackendChecks(
    software=(Finding("tool", "ready", "1.0"),),
    device=(Finding("device", "missing", "is not plugged in", "plug it in"),),
)


def test_doctor_shows_what_a_backend_says_of_itself(call, monkeypatch):
    """Any row of the table may have checks; doctor knows none of them by name."""
    monkeypatch.setattr("second_backend.checks", lambda board: BOARD_LINES, raising=False)
    own = row(Second, ("no_such_module",))._replace(checks="second_backend:checks", library="box")
    monkeypatch.setattr("lnn_edge.cli.commands.doctor.BACKENDS", (own, *BACKENDS))
    findings = json.loads(call("doctor", "--json", "-")[1])["findings"]
    names = [f["what"] for f in findings]
    assert names[0] == "backend second"
    said = [name for name in names[len(BACKENDS) + 1 :] if name != "TensorRT for RTX"]  # of another, if it is installed
    assert said[:2] == ["tool", "device"]
    assert (findings[0]["fix"], findings[names.index("device")]["fix"]) == ("see below", "plug it in")


def test_doctor_names_the_library_that_no_extra_brings(call, monkeypatch):
    own = row(Second, ("no_such_module",))._replace(extra="fast", library="box")
    monkeypatch.setattr("lnn_edge.cli.commands.doctor.BACKENDS", (own, *BACKENDS))
    assert json.loads(call("doctor", "--json", "-")[1])["findings"][0]["fix"] == "pip install box 'lnn-edge[fast]'"


@pytest.mark.parametrize(("running", "expected"), [(True, True), (False, False)])
def test_a_backend_says_whether_it_still_works(monkeypatch, running, expected):
    monkeypatch.setattr("second_backend.unfinished", lambda: running, raising=False)
    assert unfinished(row(Second)._replace(unfinished="second_backend:unfinished")) is expected


def test_a_backend_that_was_never_used_is_not_imported_to_be_asked():
    assert unfinished(row(Second)._replace(unfinished="never_imported:unfinished")) is False
    assert "never_imported" not in sys.modules


def test_a_part_of_an_extra_is_missing(monkeypatch):
    """Where some of its packages are there, somebody wants it."""
    monkeypatch.setitem(EXTRAS, "export", (("json", "json"), ("no_such_module", "onnx")))
    assert extra_check("export") == Finding("export", "missing", "no onnx", "pip install 'lnn-edge[export]'")


def test_a_backend_is_not_needed_where_its_hardware_is_not(call, monkeypatch):
    monkeypatch.setattr("second_backend.checks", lambda board: BackendChecks(not_needed="no box here"), raising=False)
    own = row(Second, ("no_such_module",))._replace(checks="second_backend:checks", library="box")
    monkeypatch.setattr("lnn_edge.cli.commands.doctor.BACKENDS", (own, *BACKENDS))
    code, out, _ = call("doctor")
    assert code == 0
    assert re.search(r"^ *backend second +not needed here +no box here; it is for .* -$", out, re.M)


@pytest.mark.parametrize("driver", [True, False])
def test_tensorrt_is_for_computers_with_a_driver(monkeypatch, driver, tmp_path):
    from lnn_edge.runtime.backends.trt import checks

    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    monkeypatch.setattr(checks.shutil, "which", lambda name: None)
    monkeypatch.setattr(checks, "_DRIVER", (str(tmp_path if driver else tmp_path / "none"),))
    assert checks.checks(None) == BackendChecks(not_needed="" if driver else "no NVIDIA driver found here")
