"""Commands that write, under signals: nothing hidden is left, and the exit code says which signal it was."""

from __future__ import annotations

import os
import pkgutil
import re
import signal
import time
from contextlib import suppress
from importlib.machinery import ExtensionFileLoader
from types import ModuleType

import pytest
from bundles import ROOT

from lnn_edge.cli.signals import stoppable
from lnn_edge.files.staging import OLD, PARTIAL, beside

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
NAMES = ["Ctrl-C", "SIGTERM", "SIGHUP"]


def signalled(monkeypatch, number: int, call: str, turn: int = 1) -> None:
    """Send the signal at that call of a function while files are written."""
    turns, usual = [], pkgutil.resolve_name(call)

    def called(*arguments):
        turns.append(1)
        if len(turns) == turn:
            os.kill(os.getpid(), number)
            time.sleep(0)  # the handler runs in here
        return usual(*arguments)

    monkeypatch.setattr(call.replace(":", "."), called)


@pytest.mark.workstation
@pytest.mark.parametrize(
    ("turn", "number", "expected"), [(k, *stop) for k, stop in zip([1, 5, 10], STOPS, strict=True)]
)
def test_a_signal_in_export_leaves_nothing(call, work, short_commands, monkeypatch, number, expected, turn):
    signalled(monkeypatch, number, "lnn_edge.bundle.directory:named_in_errors", turn)
    code, _, err = call("export", "train.py:ready", "m.lnn")
    assert code == expected
    assert err.endswith("\nlnn-edge: interrupted; nothing half-written is left\n")
    assert {name for name in os.listdir(work) if name != "__pycache__"} == {"train.py"}


@pytest.mark.workstation
@pytest.mark.parametrize(("number", "expected"), STOPS, ids=NAMES)
def test_a_signal_in_export_leaves_the_old_bundle(call, work, short_commands, cfc_copy, monkeypatch, number, expected):
    before = (cfc_copy / "manifest.json").read_bytes()
    signalled(monkeypatch, number, "lnn_edge.bundle.directory:named_in_errors", 4)
    code, _, _ = call("export", "train.py:ready", cfc_copy, "--overwrite")
    assert code == expected
    assert (cfc_copy / "manifest.json").read_bytes() == before
    assert {name for name in os.listdir(work) if name != "__pycache__"} == {"train.py", "gait.lnn"}


@pytest.mark.parametrize(("number", "expected"), STOPS, ids=NAMES)
@pytest.mark.parametrize(
    "command",
    [
        ["verify", "BUNDLE", "--json", "v.json"],
        ["inspect", "BUNDLE", "--json", "i.json"],
        ["bench", "BUNDLE", "--steps", 20, "--seconds", 0, "--json", "b.json"],
        pytest.param(["verify", "BUNDLE", "--plot", "e.svg"], marks=pytest.mark.workstation),
    ],
    ids=["verify --json", "inspect", "bench", "verify --plot"],
)
def test_a_signal_while_a_file_is_written_leaves_nothing(
    call, cfc_bundle, tmp_path, monkeypatch, command, number, expected
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lnn_edge.verify.plot.rendered", lambda *_: b"a picture")  # to draw one takes a second
    signalled(monkeypatch, number, "os:fsync")
    code, _, err = call(*(cfc_bundle if part == "BUNDLE" else part for part in command))
    assert (code, err) == (expected, "lnn-edge: interrupted; nothing half-written is left\n")
    assert os.listdir(tmp_path) == []


def test_handlers_are_as_they_were_after_a_command(call, cfc_bundle):
    before = [signal.getsignal(number) for number, _ in STOPS]
    assert call("inspect", cfc_bundle)[0] == 0
    assert [signal.getsignal(number) for number, _ in STOPS] == before


def test_of_two_that_listen_the_inner_one_is_told():
    with stoppable() as outer:
        with stoppable() as inner, suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        assert (inner.exit_code, outer.exit_code, outer.came) == (143, 130, False)
        with suppress(KeyboardInterrupt), stoppable() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        assert (inner.exit_code, outer.exit_code, outer.came) == (143, 143, True)  # it ends what the outer one does
        outer.came = False
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(1)
        assert (inner.exit_code, outer.exit_code) == (143, 129)


@pytest.mark.parametrize("command", ["inspect", "run", "verify"])
def test_the_next_command_sweeps_what_a_kill_left(call, cfc_copy, command):
    left = [beside(cfc_copy.with_name("walk.lnn"), PARTIAL), beside(cfc_copy, OLD)]
    for path in left:
        path.mkdir()
        (path / "model.onnx").write_text("half")
    assert call(command, cfc_copy, stdin="acc_x,acc_y,gyro_z\n0,0,0\n")[0] == 0
    assert os.listdir(cfc_copy.parent) == ["gait.lnn"]


def test_what_a_library_makes_of_a_signal_is_still_an_interruption(call, cfc_bundle, monkeypatch):
    """Native code that is imported when it comes ends with an error of its own, which blames the installation."""

    def interrupted(*_arguments, **_options):
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    monkeypatch.setattr("lnn_edge.runtime.loading.load", interrupted)
    code, _, err = call("run", cfc_bundle)
    assert (code, err) == (129, "lnn-edge: interrupted; nothing half-written is left\n")


def test_nothing_is_raised_while_native_code_is_loaded(monkeypatch):
    """C++ that an exception passes through ends the process: `std::terminate`, and exit code 134."""
    done = []

    def load(_module):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)  # the handler runs in here
        done.append("loaded")

    monkeypatch.setattr("_imp.exec_dynamic", load)
    with suppress(KeyboardInterrupt), stoppable() as stop:
        ExtensionFileLoader("native", "native.so").exec_module(ModuleType("native"))
        done.append("imported")
        time.sleep(60)
    assert (done, stop.came, stop.exit_code) == (["loaded", "imported"], True, 143)


INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupted:
    def find_spec(name, path=None, target=None):
        if name == "lnn_edge.cli.commands":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupted)
sys.argv = ["lnn-edge", "doctor"]
"""


@pytest.mark.parametrize("way", ["python -m lnn_edge", "lnn-edge"])
def test_a_signal_while_the_program_is_imported_is_no_traceback(python, way):
    (place,) = re.findall(r'^lnn-edge = "(.+):main"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    ways = {
        "lnn-edge": f"from {place} import main; sys.exit(main())",
        "python -m lnn_edge": "import runpy; runpy.run_module('lnn_edge', run_name='__main__')",
    }
    done = python("-c", f"{INTERRUPTED_IMPORT}{ways[way]}\n")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "lnn-edge: interrupted; nothing half-written is left\n"


def test_a_second_signal_ends_nothing_with_a_traceback(call, cfc_bundle, monkeypatch):
    def twice(*_arguments, **_options):
        os.kill(os.getpid(), signal.SIGTERM)

    told = []

    def impatient(text):
        told.append(text)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("lnn_edge.runtime.loading.load", twice)
    monkeypatch.setattr("lnn_edge.cli.program.tell", impatient)
    assert call("run", cfc_bundle)[0] == 143
    assert told == ["lnn-edge: interrupted; nothing half-written is left\n"]


@pytest.mark.parametrize(("number", "expected"), STOPS, ids=NAMES)
def test_a_signal_while_help_is_printed_is_no_traceback(call, monkeypatch, number, expected):
    """A pipe that is full, for instance."""
    monkeypatch.setattr("lnn_edge.cli.program.print_text", lambda _: os.kill(os.getpid(), number))
    assert call("run", "--help") == (expected, "", "lnn-edge: interrupted; nothing half-written is left\n")
