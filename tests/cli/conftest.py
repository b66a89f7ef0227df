"""Fixtures of the command line: a directory to work in, and commands in this process or in one of their own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import ROOT
from command_line import TRAIN
from shared_bundles import shared_bundle

from lnn_edge.cli.program import main


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """A working directory with a training script; what the script leaves in this process is removed again."""
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def call(capfd, monkeypatch):
    """Run a command in this process; returns exit code, standard output and standard error."""

    def run(*arguments, stdin: str | bytes = ""):
        data = stdin.encode() if isinstance(stdin, str) else stdin
        with io.TextIOWrapper(io.BytesIO(data)) as lines, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", lines)
            try:
                code = main([str(a) for a in arguments])
            except SystemExit as stop:
                code = stop.code
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def start(environment, warm_device):
    """Start a command as a process with pipes; it is ended with the test. A `cold` one is its own process alone."""
    processes = []

    def run(*arguments, cold=False, **options):
        command = [sys.executable if cold else "python", "-m", "lnn_edge", *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        pipes |= {"env": environment if cold else warm_device}
        processes.append(subprocess.Popen(command, **pipes | options))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(AttributeError, BrokenPipeError):
                pipe.close()


@pytest.fixture(scope="session")
def block_bundle(tmp_path_factory) -> Path:
    """The model of `cfc_bundle`, for blocks of four samples with measured time. Read-only."""
    return shared_bundle(tmp_path_factory, "blocks.lnn")


@pytest.fixture(scope="session")
def bare(tmp_path_factory) -> dict[str, str]:
    """An environment without torch, onnx, ncps and onnxruntime: links to everything else that is installed."""
    target = tmp_path_factory.mktemp("bare")
    for name in ("msgspec", "rich", "numpy", "numpy.libs", "safetensors", "pygments", "markdown_it", "mdurl"):
        for place in sys.path:
            if place.endswith("site-packages") and Path(place, name).exists():
                (target / name).symlink_to(Path(place, name))
                break
    return os.environ | {"PYTHONPATH": f"{ROOT}:{target}"}
