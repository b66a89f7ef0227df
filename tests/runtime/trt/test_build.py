"""`lnn-edge build` and first loads: progress, Ctrl-C, what is kept and what is built again."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest
from bundles import ROOT
from fake_tensorrt import VERSIONS

import lnn_edge
from lnn_edge.cli.program import main
from lnn_edge.runtime.backends.trt.build_watch import PERCENT, Watch, watched

REPORTING = [version for version in VERSIONS if version != "8.6"]


@pytest.fixture
def build(cfc_bundle, capfd):
    """Run the command in this process; returns exit code, standard output and standard error."""

    def run(*arguments):
        code = main(["build", str(cfc_bundle), "--backend", "tensorrt", *arguments])
        return (code, *capfd.readouterr())

    return run


class Kernels:
    """Holds the build at every kernel until the reader has seen it, so that no report is missed."""

    def __init__(self, fake):
        self.seen, self._next = [], threading.Event()
        fake.world["kernel"] = self._wait

    def _wait(self):
        self._next.clear()
        self._next.wait(10)

    def progress(self, phase, done, total):
        self.seen.append((phase, done, total))
        self._next.set()


@pytest.mark.parametrize("version", VERSIONS)
def test_builds_once(version, gpu, build, tmp_path, caplog):
    fake = gpu(version)
    code, out, _ = build("--json", str(tmp_path / "built.json"))
    assert (code, fake.world["builds"]) == (0, 1)
    assert ": built in " in out
    assert "building an engine for Orin" in caplog.text
    record = json.loads((tmp_path / "built.json").read_text())
    assert record["built"] is True
    code, out, _ = build()
    assert (code, fake.world["builds"]) == (0, 1)
    assert "already built for this device" in out


def test_rebuild(gpu, build):
    fake = gpu("10.3")
    build()
    code, out, _ = build("--rebuild")
    assert (code, fake.world["builds"]) == (0, 2)
    assert ": built in " in out
    assert "refused" not in out


def test_says_why_it_is_built_again(gpu, build):
    gpu("10.3")
    build()
    gpu("10.3", driver=12080)
    _, out, _ = build()
    assert "(the one in the cache was refused: it was built for CUDA driver 12.6, here it is 12.8)" in out


@pytest.mark.parametrize("version", REPORTING)
def test_progress(version, gpu, cfc_bundle, monkeypatch):
    from lnn_edge.backends import backend_class, checked_options, named_backend
    from lnn_edge.bundle.directory import read_bundle

    entry = named_backend("tensorrt")
    kernels = Kernels(gpu(version))
    monkeypatch.setattr("lnn_edge.runtime.backends.trt.build_watch._TICK_S", 0.01)
    prepare = backend_class(entry).prepare
    prepare(read_bundle(cfc_bundle), checked_options(entry, {}), kernels.progress)
    shown = [report for report in kernels.seen if report[0]]
    assert {phase for phase, _, _ in shown} == {"Choosing kernels"}
    percents = [done for _, done, _ in shown]
    assert percents == sorted(percents)
    assert {12, 37, 50, 62, 87} <= set(percents)  # eighths: two steps of four kernels each
    assert {total for _, _, total in shown} == {PERCENT}


def interrupt_while_building(fake, place):
    """Press Ctrl-C once, while TensorRT is at work; the main thread gets it."""

    def press():
        fake.world.pop(place)
        os.kill(os.getpid(), signal.SIGINT)
        threading.current_thread()._watch.stop.wait(10)  # until the main thread asks for the end

    fake.world[place] = press


@pytest.mark.parametrize("version", REPORTING)
def test_ctrl_c_stops_the_build(version, gpu, build, tmp_path, caplog):
    fake = gpu(version)
    interrupt_while_building(fake, "kernel")
    code, out, _ = build()
    assert (code, out) == (130, "")
    assert "waiting for TensorRT to stop the build" in caplog.text
    assert list((tmp_path / "cache").rglob("*.engine")) == []
    assert "builds" not in fake.world
    assert build()[0] == 0  # the lock was given back


def test_ctrl_c_in_8_6_waits_for_the_end_and_keeps_nothing(gpu, build, tmp_path, caplog):
    interrupt_while_building(gpu("8.6"), "building")
    code, out, _ = build()
    assert (code, out) == (130, "")
    assert "press Ctrl-C once more not to wait" in caplog.text
    assert list((tmp_path / "cache").rglob("*.engine")) == []


def test_ctrl_c_twice_does_not_wait(cfc_bundle, tmp_path, python):
    """In a process of its own, with a build that would take a minute and asks for no leave."""
    script = tmp_path / "build.py"
    script.write_text(
        f"""
import os, pathlib, signal, sys, threading, time
sys.path.insert(0, {str(ROOT / "tests" / "support")!r})
import pytest
from fake_tensorrt import install
from lnn_edge.cli.program import main

def press():
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    time.sleep(60)

fake = install(pytest.MonkeyPatch(), "8.6", pathlib.Path({str(tmp_path)!r}))
fake.world["building"] = press
sys.exit(main(["build", {str(cfc_bundle)!r}, "--backend", "tensorrt"]))
"""
    )
    done = python(script, timeout=30)
    assert done.returncode == 130, done.stderr
    assert "press Ctrl-C once more not to wait" in done.stderr
    assert done.stderr.endswith("lnn-edge: interrupted; nothing half-written is left\n")
    assert list((tmp_path / "cache").rglob("*.engine")) == []


def test_load_says_that_it_builds(gpu, cfc_bundle, caplog):
    gpu("10.3")
    lnn_edge.load(cfc_bundle, backend="tensorrt")
    assert "building an engine for Orin with TensorRT 10.3.0; kept for the next time" in caplog.text


class TestWatch:
    def test_nothing_known(self):
        assert (Watch().phase(), Watch().percent()) == ("", 0)

    def test_phases_in_one_another(self):
        watch = Watch()
        watch.start("a", None, 4)
        watch.step("a", 1)
        watch.start("b", "a", 5)
        watch.step("b", 2)
        assert (watch.phase(), watch.percent()) == ("b", 35)
        watch.finish("b")
        watch.step("a", 2)
        assert (watch.phase(), watch.percent()) == ("a", 50)
        watch.finish("a")
        assert (watch.phase(), watch.percent()) == ("", 0)

    def test_phase_that_is_not_known(self):
        watch = Watch()
        watch.start("a", "never seen", 0)
        watch.finish("never seen")
        assert watch.step("never seen", 3)
        assert watch.percent() == 0

    def test_error_in_the_build_is_the_callers(self):
        def work(_watch):
            raise ValueError("as it was")

        with pytest.raises(ValueError, match="as it was"):
            watched(work, lambda *_: None)

    def test_error_in_the_report_ends_the_build(self):
        ended = threading.Event()

        def work(watch):
            watch.stop.wait(10)
            ended.set()

        def report(*_):
            raise OSError("no terminal")

        with pytest.raises(OSError, match="no terminal"):
            watched(work, report)
        assert ended.is_set()
