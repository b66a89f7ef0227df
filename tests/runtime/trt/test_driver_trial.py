"""A driver that crashes, hangs or ends the process that loads it: it does that elsewhere, and is told in words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from fake_tensorrt import forget

from lnn_edge.backends import backend_checks, named_backend
from lnn_edge.cli.program import main
from lnn_edge.runtime.backends.trt import driver_trial
from lnn_edge.runtime.backends.trt.driver_trial import why_the_driver_fails, why_the_import_fails

WORKS = "int cuDriverGetVersion(int *v) { *v = 13000; return 0; } int cuInit(unsigned f) { return 0; }"
CRASH = "*(volatile int *)0 = 1;"
BROKEN = {
    "crashes when it is loaded": (f"__attribute__((constructor)) void f(void) {{ {CRASH} }}", "ended by SIGSEGV"),
    "crashes when it begins": (f"int cuInit(unsigned f) {{ {CRASH} return 0; }}", "ended by SIGSEGV"),
    "talks, and crashes": (
        f'#include <stdio.h>\nint cuInit(unsigned f) {{ puts("alive!"); fflush(stdout); {CRASH} return 0; }}',
        "ended by SIGSEGV",
    ),
    "aborts": ("#include <stdlib.h>\nint cuInit(unsigned f) { abort(); }", "ended by SIGABRT"),
    "ends the process": (
        "#include <stdlib.h>\n__attribute__((constructor)) void f(void) { exit(0); }", "ended with status 0"
    ),
}  # fmt: skip
VERSION = "int cuDriverGetVersion(int *v) { *v = 13000; return 0; }\n"


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A driver of this source, or a file with these bytes, for this process and those that it starts."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")

    def install(source):
        if isinstance(source, bytes):
            (tmp_path / "libcuda.so.1").write_bytes(source)
        else:
            (tmp_path / "driver.c").write_text(source)
            command = ["cc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", tmp_path / "driver.c"]
            subprocess.run(command, check=True)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    why_the_driver_fails.cache_clear()
    yield install
    why_the_driver_fails.cache_clear()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_driver_ends_the_trial_alone(name, driver):
    source, words = BROKEN[name]
    driver(VERSION + source)
    assert why_the_driver_fails().endswith(words)
    assert "libcuda.so.1" in why_the_driver_fails()


@pytest.mark.parametrize("source", [WORKS, "int nothing;", b"no library", b""], ids=["works", "old", "text", "empty"])
def test_what_does_not_crash_is_left_to_cuda(source, driver):
    """It says in words what it finds."""
    driver(source)
    assert why_the_driver_fails() == ""


def test_a_driver_that_hangs(driver, monkeypatch):
    driver("#include <unistd.h>\n" + VERSION + "int cuInit(unsigned f) { sleep(1000); return 0; }")
    monkeypatch.setattr(driver_trial, "_LONGEST_S", 0.5)
    assert why_the_driver_fails() == "the CUDA driver (libcuda.so.1) did not answer within 0.5 s"
    monkeypatch.setattr(subprocess, "run", None)  # it is not asked again
    assert why_the_driver_fails().startswith("the CUDA driver")


@pytest.mark.parametrize("how", ["nowhere", "a frozen program", "no interpreter"])
def test_no_process_is_started(how, driver, monkeypatch, tmp_path):
    driver(WORKS if how != "nowhere" else b"")
    monkeypatch.setattr(subprocess, "run", None)
    if how == "nowhere":
        monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path / 'none'}:")
        monkeypatch.setattr(driver_trial, "_FOLDERS", ())
        monkeypatch.setattr(driver_trial, "_CACHE", tmp_path / "libcuda.so.1")
    elif how == "a frozen program":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        monkeypatch.setattr(sys, "executable", "")
    assert why_the_driver_fails() == ""


@pytest.mark.parametrize("program", [os.devnull, shutil.which("false")])
def test_what_is_no_interpreter_says_nothing_of_the_driver(program, driver, monkeypatch):
    """A server that holds Python inside names itself as `sys.executable`."""
    driver(BROKEN["aborts"][0])
    monkeypatch.setattr(sys, "executable", program)
    assert why_the_driver_fails() == ""


def test_commands_survive_it(driver, cfc_bundle, tmp_path, capfd):
    """In this process: were the driver touched here, the tests would end."""
    driver(BROKEN["crashes when it is loaded"][0])
    assert main(["build", str(cfc_bundle), "--backend", "tensorrt-rtx"]) == 5
    words = "lnn-edge: the CUDA driver (libcuda.so.1) is broken: a process that called it was ended by SIGSEGV. Install"
    assert words in capfd.readouterr().err


class TestImports:
    """Of a library whose builder needs no driver, so that none was tried before."""

    @pytest.fixture
    def module(self, tmp_path, monkeypatch):
        why_the_import_fails.cache_clear()
        monkeypatch.syspath_prepend(tmp_path)
        yield lambda text: (tmp_path / "bindings_of_nobody.py").write_text(text)
        why_the_import_fails.cache_clear()

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("import ctypes; ctypes.string_at(0)", "a process that imported it was ended by SIGSEGV"),
            ("import os; os.abort()", "a process that imported it was ended by SIGABRT"),
            ("import sys; sys.exit(3)", "a process that imported it was ended with status 3"),
            ("raise ImportError('half installed')", ""),
            ("print('hello')", ""),
        ],
    )
    def test_what_ends_the_process_is_told(self, text, words, module):
        module(text)
        assert why_the_import_fails("absent_module", "bindings_of_nobody") == words
        assert "bindings_of_nobody" not in sys.modules

    def test_what_is_imported_is_not_tried(self, monkeypatch):
        monkeypatch.setattr(subprocess, "run", None)
        assert why_the_import_fails("absent_module", "sys") == ""

    def test_commands_survive_it(self, cfc_bundle, tmp_path, monkeypatch, capfd):
        """In this process: were it imported here, the tests would end."""
        for name in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / "tensorrt_rtx.py").write_text("import ctypes; ctypes.string_at(0)")
        monkeypatch.syspath_prepend(tmp_path)
        why_the_import_fails.cache_clear()
        forget()
        arguments = ["--backend", "tensorrt-rtx", "--for", "sm_86", "-o", str(tmp_path / "x")]
        assert main(["build", str(cfc_bundle), *arguments]) == 5
        words = "TensorRT for RTX cannot be imported: a process that imported it was ended by SIGSEGV."
        advice = "pip install --force-reinstall 'lnn-edge[rtx]'"  # without, pip is content with what is there
        assert f"{words} Type: {advice}" in capfd.readouterr().err
        (finding,) = backend_checks(named_backend("tensorrt-rtx"), None).software
        assert (finding.status, finding.found, finding.fix) == ("missing", words, advice)
        why_the_import_fails.cache_clear()
        forget()
